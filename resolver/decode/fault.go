package decode

import (
	"maps"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshframe/meshframe/mesh/fault"
)

// faultFilter is the usual name of the fault filter.
const faultFilter = "envoy.filters.http.fault"

const (
	typePrefix       = "type.googleapis.com/"
	typeFault        = typePrefix + "envoy.extensions.filters.http.fault.v3.HTTPFault"
	typeRouter       = typePrefix + "envoy.extensions.filters.http.router.v3.Router"
	typeFilterConfig = typePrefix + "envoy.config.route.v3.FilterConfig"
)

// noFault injects nothing. It is what switches a fault off that a broader
// scope configures.
func noFault() *fault.Policy { return &fault.Policy{AbortGRPC: -1} }

var (
	faultFields = newFields("delay", "abort", "max_active_faults", "upstream_cluster", "downstream_nodes", "headers",
		"disable_downstream_cluster_stats")
	faultDelayFields = newFields("fixed_delay", "percentage")
	faultAbortFields = newFields("http_status", "grpc_status", "percentage")
)

// faultFilterConfig reads the configuration of the fault filter.
func (s *scope) faultFilterConfig(a *anypb.Any) (*fault.Policy, error) {
	m := &faultv3.HTTPFault{}
	if err := proto.Unmarshal(a.GetValue(), m); err != nil {
		return nil, s.errorf("not a %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return s.fault(m)
}

func (s *scope) fault(m *faultv3.HTTPFault) (*fault.Policy, error) {
	out := noFault()
	s.noteRest(m, faultFields)
	if narrow := narrowed(m); narrow != "" {
		// Without its condition the fault would hit calls that it is not meant for.
		s.at(narrow).notef("is not honoured yet, so no fault is injected")
		return out, nil
	}
	if d := m.GetDelay(); d != nil {
		if err := s.at("delay").faultDelay(d, out); err != nil {
			return nil, err
		}
	}
	if a := m.GetAbort(); a != nil {
		if err := s.at("abort").faultAbort(a, out); err != nil {
			return nil, err
		}
	}
	out.MaxActive = m.GetMaxActiveFaults().GetValue()
	if m.GetMaxActiveFaults() != nil && out.MaxActive == 0 {
		return noFault(), nil // a limit of no active faults, not no limit
	}
	return out, nil
}

// narrowed names the field that limits a fault to some requests, if there is
// one.
func narrowed(m *faultv3.HTTPFault) string {
	switch {
	case len(m.GetHeaders()) > 0:
		return "headers"
	case m.GetUpstreamCluster() != "":
		return "upstream_cluster"
	case len(m.GetDownstreamNodes()) > 0:
		return "downstream_nodes"
	}
	return ""
}

func (s *scope) faultDelay(m *commonfaultv3.FaultDelay, out *fault.Policy) error {
	s.noteRest(m, faultDelayFields)
	d, ok := m.GetFaultDelaySecifier().(*commonfaultv3.FaultDelay_FixedDelay)
	if !ok {
		return nil // header_delay: noted, and nothing without the header
	}
	delay, err := s.at("fixed_delay").positive(d.FixedDelay, 0)
	if err != nil {
		return err
	}
	fraction, err := s.at("percentage").millionths(m.GetPercentage())
	if err != nil {
		return err
	}
	out.Delay, out.DelayFraction = delay, fault.Fraction(fraction)
	return nil
}

func (s *scope) faultAbort(m *faultv3.FaultAbort, out *fault.Policy) error {
	s.noteRest(m, faultAbortFields)
	switch e := m.GetErrorType().(type) {
	case *faultv3.FaultAbort_HttpStatus:
		if e.HttpStatus < 200 || e.HttpStatus > 599 {
			return s.at("http_status").errorf("is %d, must be between 200 and 599", e.HttpStatus)
		}
		out.AbortHTTP = int(e.HttpStatus)
	case *faultv3.FaultAbort_GrpcStatus:
		out.AbortGRPC = int(e.GrpcStatus)
	default:
		return nil // header_abort: noted, and nothing without the header
	}
	fraction, err := s.at("percentage").millionths(m.GetPercentage())
	out.AbortFraction = fault.Fraction(fraction)
	return err
}

// perFilter reads a typed_per_filter_config and returns the fault policy in
// it, or nil. The fault filter is recognised by the type of its configuration,
// because its name is known to the listener only. Configuration of other
// filters is noted: it has an effect only where the listener has the filter,
// and a listener with a filter that may not be skipped is refused.
func (s *scope) perFilter(configs map[string]*anypb.Any) (*fault.Policy, error) {
	var out *fault.Policy
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		at := s.at("typed_per_filter_config[" + name + "]")
		p, err := at.filterConfig(name, configs[name])
		if err != nil {
			return nil, err
		}
		switch {
		case p == nil:
		case out != nil:
			at.notef("a second fault filter is not honoured")
		default:
			out = p
		}
	}
	return out, nil
}

// filterConfig reads the configuration of one filter, which may be wrapped in
// a FilterConfig. It returns nil for filters other than fault.
func (s *scope) filterConfig(name string, a *anypb.Any) (*fault.Policy, error) {
	if a.GetTypeUrl() != typeFilterConfig {
		return s.bareFilterConfig(a)
	}
	wrapped := &routev3.FilterConfig{}
	if err := proto.Unmarshal(a.GetValue(), wrapped); err != nil {
		return nil, s.errorf("not a FilterConfig: %w", err)
	}
	inner := wrapped.GetConfig()
	if wrapped.GetDisabled() && (name == faultFilter || inner.GetTypeUrl() == typeFault) {
		return noFault(), nil
	}
	if inner == nil {
		return nil, nil // enabled or disabled without configuration: nothing that we would run
	}
	return s.at("config").bareFilterConfig(inner)
}

// bareType is the name of the message in an Any.
func bareType(a *anypb.Any) string { return strings.TrimPrefix(a.GetTypeUrl(), typePrefix) }

func (s *scope) bareFilterConfig(a *anypb.Any) (*fault.Policy, error) {
	if a.GetTypeUrl() == typeFault {
		return s.faultFilterConfig(a)
	}
	s.notef("%s is not honoured yet", bareType(a))
	return nil, nil
}
