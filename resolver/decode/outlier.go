package decode

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/mesh/outlier"
)

// Envoy's defaults.
const (
	defaultOutlierInterval = 10 * time.Second
	defaultBaseEjection    = 30 * time.Second
	defaultMaxEjection     = 300 * time.Second
	defaultEjectionPercent = 10
)

var outlierFields = newFields("consecutive_5xx", "interval", "base_ejection_time", "max_ejection_percent",
	"enforcing_consecutive_5xx", "enforcing_success_rate", "success_rate_minimum_hosts",
	"success_rate_request_volume", "success_rate_stdev_factor", "consecutive_gateway_failure",
	"enforcing_consecutive_gateway_failure", "split_external_local_origin_errors",
	"consecutive_local_origin_failure", "enforcing_consecutive_local_origin_failure",
	"failure_percentage_threshold", "enforcing_failure_percentage", "failure_percentage_minimum_hosts",
	"failure_percentage_request_volume", "max_ejection_time", "max_ejection_time_jitter", "always_eject_one_host",
	// There are no active health checks that could return a host early.
	"successful_active_health_check_uneject_host",
	"enforcing_local_origin_success_rate", "enforcing_failure_percentage_local_origin")

// outlierDetection reads outlier detection with Envoy's defaults; nil means
// off.
func (s *scope) outlierDetection(m *clusterv3.OutlierDetection) (*outlier.Config, error) {
	if m == nil {
		return nil, nil
	}
	s.noteRest(m, outlierFields)
	out := &outlier.Config{
		Consecutive5xx:                 number(m.GetConsecutive_5Xx(), 5),
		ConsecutiveGateway:             number(m.GetConsecutiveGatewayFailure(), 5),
		SplitLocalOrigin:               m.GetSplitExternalLocalOriginErrors(),
		ConsecutiveLocalOrigin:         number(m.GetConsecutiveLocalOriginFailure(), 5),
		AlwaysEjectOne:                 m.GetAlwaysEjectOneHost().GetValue(),
		SuccessRateMinimumHosts:        number(m.GetSuccessRateMinimumHosts(), 5),
		SuccessRateRequestVolume:       number(m.GetSuccessRateRequestVolume(), 100),
		SuccessRateStdevFactor:         number(m.GetSuccessRateStdevFactor(), 1900),
		FailurePercentageMinimumHosts:  number(m.GetFailurePercentageMinimumHosts(), 5),
		FailurePercentageRequestVolume: number(m.GetFailurePercentageRequestVolume(), 50),
	}
	if err := s.ejectionTimes(m, out); err != nil {
		return nil, err
	}
	for _, p := range []struct {
		field string
		value *wrapperspb.UInt32Value
		def   uint32
		into  *uint32
	}{
		{"max_ejection_percent", m.GetMaxEjectionPercent(), defaultEjectionPercent, &out.MaxEjectionPercent},
		{"enforcing_consecutive_5xx", m.GetEnforcingConsecutive_5Xx(), 100, &out.EnforcingConsecutive5xx},
		{"enforcing_consecutive_gateway_failure", m.GetEnforcingConsecutiveGatewayFailure(), 0, &out.EnforcingConsecutiveGateway},
		{"enforcing_consecutive_local_origin_failure", m.GetEnforcingConsecutiveLocalOriginFailure(), 100, &out.EnforcingConsecutiveLocal},
		{"enforcing_success_rate", m.GetEnforcingSuccessRate(), 100, &out.EnforcingSuccessRate},
		{"failure_percentage_threshold", m.GetFailurePercentageThreshold(), 85, &out.FailurePercentageThreshold},
		{"enforcing_failure_percentage", m.GetEnforcingFailurePercentage(), 0, &out.EnforcingFailurePercentage},
		{"enforcing_local_origin_success_rate", m.GetEnforcingLocalOriginSuccessRate(), 100, &out.EnforcingLocalOriginSuccessRate},
		{"enforcing_failure_percentage_local_origin", m.GetEnforcingFailurePercentageLocalOrigin(), 0, &out.EnforcingFailurePercentageLocalOrigin},
	} {
		*p.into = number(p.value, p.def)
		if *p.into > 100 {
			return nil, s.at(p.field).errorf("is %d, must be between 0 and 100", *p.into)
		}
	}
	return out, nil
}

func (s *scope) ejectionTimes(m *clusterv3.OutlierDetection, out *outlier.Config) (err error) {
	if out.Interval, err = s.at("interval").positive(m.GetInterval(), defaultOutlierInterval); err != nil {
		return err
	}
	if out.BaseEjectionTime, err = s.at("base_ejection_time").positive(m.GetBaseEjectionTime(), defaultBaseEjection); err != nil {
		return err
	}
	if out.Jitter, err = s.at("max_ejection_time_jitter").duration(m.GetMaxEjectionTimeJitter()); err != nil {
		return err
	}
	out.MaxEjectionTime, err = s.at("max_ejection_time").positive(m.GetMaxEjectionTime(), max(defaultMaxEjection, out.BaseEjectionTime))
	if err == nil && out.MaxEjectionTime < out.BaseEjectionTime {
		err = s.at("max_ejection_time").errorf("is %v, less than base_ejection_time %v", out.MaxEjectionTime, out.BaseEjectionTime)
	}
	return err
}
