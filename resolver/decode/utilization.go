package decode

import (
	"time"

	cswrrv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3"

	"github.com/meshframe/meshframe/mesh/pick"
)

// The defaults of ClientSideWeightedRoundRobin, and its shortest update period:
// shorter ones are that long.
const (
	defaultBlackout         = 10 * time.Second
	defaultWeightExpiration = 3 * time.Minute
	defaultWeightUpdate     = time.Second
	shortestWeightUpdate    = 100 * time.Millisecond
	defaultErrorPenalty     = 1
)

var utilizationFields = newFields("blackout_period", "weight_expiration_period", "weight_update_period", "error_utilization_penalty",
	"metric_names_for_computing_utilization", "slow_start_config", "enable_oob_load_report")

// utilization reads the policy that weighs hosts by what they report of their load
// (gRFC A58).
func (s *scope) utilization(m *cswrrv3.ClientSideWeightedRoundRobin, out *pick.Config) (err error) {
	u := &pick.Utilization{
		Blackout: defaultBlackout, Expiration: defaultWeightExpiration, ErrorPenalty: defaultErrorPenalty,
		Metrics: m.GetMetricNamesForComputingUtilization(),
	}
	out.Policy, out.Utilization = pick.ClientSideWeightedRoundRobin, u
	if m.GetBlackoutPeriod() != nil {
		if u.Blackout, err = s.at("blackout_period").duration(m.GetBlackoutPeriod()); err != nil {
			return err
		}
	}
	if u.Expiration, err = s.at("weight_expiration_period").positive(m.GetWeightExpirationPeriod(), defaultWeightExpiration); err != nil {
		return err
	}
	u.Update = defaultWeightUpdate
	if m.GetWeightUpdatePeriod() != nil {
		if u.Update, err = s.at("weight_update_period").duration(m.GetWeightUpdatePeriod()); err != nil {
			return err
		}
		u.Update = max(u.Update, shortestWeightUpdate)
	}
	if p := m.GetErrorUtilizationPenalty(); p != nil {
		if u.ErrorPenalty = float64(p.GetValue()); !(u.ErrorPenalty >= 0) { // written so that NaN is refused
			return s.at("error_utilization_penalty").errorf("is %v, must not be negative", u.ErrorPenalty)
		}
	}
	if m.GetEnableOobLoadReport().GetValue() {
		s.at("enable_oob_load_report").notef("is not honoured yet: what counts is what hosts report at the end of calls")
	}
	out.SlowStart, err = s.slowStart(m.GetSlowStartConfig())
	return err
}
