package decode

import (
	"slices"

	commonfaultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshframe/meshframe/mesh/fault"
)

// noFault injects nothing. It is what switches a fault off that a broader
// scope configures.
func noFault() *fault.Policy { return &fault.Policy{AbortGRPC: -1} }

var (
	faultFields = newFields("delay", "abort", "max_active_faults", "upstream_cluster", "downstream_nodes", "headers",
		"disable_downstream_cluster_stats")
	faultDelayFields = newFields("fixed_delay", "header_delay", "percentage")
	faultAbortFields = newFields("http_status", "grpc_status", "header_abort", "percentage")
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
	out.Cluster = m.GetUpstreamCluster()
	var err error
	if out.Meets, err = s.faulty(m); err != nil {
		return nil, err
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

// nodeHeader is where a request says which node it comes from.
const nodeHeader = "x-envoy-downstream-service-node"

// faulty reads which requests a fault is for; nil is any.
func (s *scope) faulty(m *faultv3.HTTPFault) (func(header lookup) bool, error) {
	list, err := s.headers("headers", m.GetHeaders())
	if err != nil || len(list) == 0 && len(m.GetDownstreamNodes()) == 0 {
		return nil, err
	}
	meets, nodes := allOf(list), slices.Clone(m.GetDownstreamNodes())
	if len(nodes) == 0 {
		return meets, nil
	}
	return func(header lookup) bool {
		node, ok := header(nodeHeader)
		return ok && slices.Contains(nodes, node) && meets(header)
	}, nil
}

func (s *scope) faultDelay(m *commonfaultv3.FaultDelay, out *fault.Policy) (err error) {
	s.noteRest(m, faultDelayFields)
	switch d := m.GetFaultDelaySecifier().(type) {
	case *commonfaultv3.FaultDelay_FixedDelay:
		out.Delay, err = s.at("fixed_delay").positive(d.FixedDelay, 0)
	case *commonfaultv3.FaultDelay_HeaderDelay_:
		s.at("header_delay").noteRest(d.HeaderDelay, noFields)
		out.HeaderDelay, out.DelayPer = true, perFraction[m.GetPercentage().GetDenominator()]
	default:
		return nil // noted, if it is a kind that is not known
	}
	if err != nil {
		return err
	}
	fraction, err := s.at("percentage").millionths(m.GetPercentage())
	out.DelayFraction = fault.Fraction(fraction)
	return err
}

func (s *scope) faultAbort(m *faultv3.FaultAbort, out *fault.Policy) error {
	s.noteRest(m, faultAbortFields)
	switch e := m.GetErrorType().(type) {
	case *faultv3.FaultAbort_HttpStatus:
		if e.HttpStatus < minStatus || e.HttpStatus > maxStatus {
			return s.at("http_status").errorf("is %d, must be between %d and %d", e.HttpStatus, minStatus, maxStatus)
		}
		out.AbortHTTP = int(e.HttpStatus)
	case *faultv3.FaultAbort_GrpcStatus:
		out.AbortGRPC = int(e.GrpcStatus)
	case *faultv3.FaultAbort_HeaderAbort_:
		s.at("header_abort").noteRest(e.HeaderAbort, noFields)
		out.HeaderAbort, out.AbortPer = true, perFraction[m.GetPercentage().GetDenominator()]
	default:
		return nil // noted, if it is a kind that is not known
	}
	fraction, err := s.at("percentage").millionths(m.GetPercentage())
	out.AbortFraction = fault.Fraction(fraction)
	return err
}

// perFraction is what a percentage that a header asks for is a part of.
var perFraction = map[typev3.FractionalPercent_DenominatorType]uint32{
	typev3.FractionalPercent_HUNDRED:      100,
	typev3.FractionalPercent_TEN_THOUSAND: 10_000,
	typev3.FractionalPercent_MILLION:      million,
}
