package decode

import (
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	leastrequestv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	roundrobinv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	wrrlocalityv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

const (
	defaultChoiceCount = 2
	// maxPolicyDepth bounds how deep load-balancing policies may nest, as gRFC
	// A52 does.
	maxPolicyDepth = 16
)

const (
	typePolicies     = typePrefix + "envoy.extensions.load_balancing_policies."
	typeRoundRobin   = typePolicies + "round_robin.v3.RoundRobin"
	typeRandom       = typePolicies + "random.v3.Random"
	typeLeastRequest = typePolicies + "least_request.v3.LeastRequest"
	typeWRRLocality  = typePolicies + "wrr_locality.v3.WrrLocality"
)

// degraded are the policies that are served round robin: the calls arrive, and
// what the policy adds is lost.
var degraded = map[string]bool{
	typePolicies + "ring_hash.v3.RingHash":                                            true,
	typePolicies + "maglev.v3.Maglev":                                                 true,
	typePolicies + "pick_first.v3.PickFirst":                                          true,
	typePolicies + "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin": true,
}

var (
	leastRequestFields = newFields("choice_count")
	wrrLocalityFields  = newFields("endpoint_picking_policy")
	noFields           = newFields()
)

// loadBalancing reads load_balancing_policy, or the older lb_policy in its
// absence.
func (s *scope) loadBalancing(m *clusterv3.Cluster, out *snapshot.Cluster) (err error) {
	if p := m.GetLoadBalancingPolicy(); p != nil {
		out.LB, err = s.at("load_balancing_policy").policies(p, 1)
		return err
	}
	out.LB = pick.Config{Policy: pick.RoundRobin, ChoiceCount: defaultChoiceCount}
	switch m.GetLbPolicy() {
	case clusterv3.Cluster_ROUND_ROBIN:
		s.at("round_robin_lb_config").noteRest(m.GetRoundRobinLbConfig(), noFields)
	case clusterv3.Cluster_LEAST_REQUEST:
		out.LB.Policy = pick.LeastRequest
		at := s.at("least_request_lb_config")
		at.noteRest(m.GetLeastRequestLbConfig(), leastRequestFields)
		out.LB.ChoiceCount, err = at.choiceCount(m.GetLeastRequestLbConfig().GetChoiceCount())
	case clusterv3.Cluster_RANDOM:
		out.LB.Policy = pick.Random
	case clusterv3.Cluster_RING_HASH, clusterv3.Cluster_MAGLEV:
		s.at("lb_policy").notef("%v is not honoured yet: round robin is used, without affinity", m.GetLbPolicy())
	default:
		err = s.at("lb_policy").errorf("%v is not supported", m.GetLbPolicy())
	}
	return err
}

// policies takes the first policy that is known, as gRFC A52 asks; one that can
// only be approximated is taken if there is no other.
func (s *scope) policies(m *clusterv3.LoadBalancingPolicy, depth int) (pick.Config, error) {
	if depth > maxPolicyDepth {
		return pick.Config{}, s.errorf("is nested more than %d deep", maxPolicyDepth)
	}
	fallback, fallbackAt := "", s
	for i, p := range m.GetPolicies() {
		a := p.GetTypedExtensionConfig().GetTypedConfig()
		at := s.item("policies", i, p.GetTypedExtensionConfig().GetName())
		out, known, err := at.policy(a, depth)
		if known || err != nil {
			return out, err
		}
		if fallback == "" && degraded[a.GetTypeUrl()] {
			fallback, fallbackAt = a.GetTypeUrl(), at
		}
	}
	if fallback == "" {
		return pick.Config{}, s.at("policies").errorf("none of them is supported")
	}
	fallbackAt.notef("%s is not honoured yet: round robin is used", strings.TrimPrefix(fallback, typePrefix))
	return pick.Config{Policy: pick.RoundRobin, ChoiceCount: defaultChoiceCount}, nil
}

func (s *scope) policy(a *anypb.Any, depth int) (out pick.Config, known bool, err error) {
	out.ChoiceCount = defaultChoiceCount
	switch a.GetTypeUrl() {
	case typeRoundRobin:
		out.Policy = pick.RoundRobin
		err = s.policyOptions(a, &roundrobinv3.RoundRobin{}, noFields)
	case typeRandom:
		out.Policy = pick.Random
		err = s.policyOptions(a, &randomv3.Random{}, noFields)
	case typeLeastRequest:
		out.Policy = pick.LeastRequest
		m := &leastrequestv3.LeastRequest{}
		if err = s.policyOptions(a, m, leastRequestFields); err == nil {
			out.ChoiceCount, err = s.choiceCount(m.GetChoiceCount())
		}
	case typeWRRLocality:
		m := &wrrlocalityv3.WrrLocality{}
		if err = s.policyOptions(a, m, wrrLocalityFields); err == nil {
			out, err = s.at("endpoint_picking_policy").policies(m.GetEndpointPickingPolicy(), depth+1)
		}
	default:
		return out, false, nil
	}
	return out, true, err
}

// policyOptions unmarshals the configuration of a policy and notes what is not
// honoured of it.
func (s *scope) policyOptions(a *anypb.Any, m proto.Message, read fields) error {
	if err := proto.Unmarshal(a.GetValue(), m); err != nil {
		return s.errorf("not a %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	s.noteRest(m, read)
	return nil
}

func (s *scope) choiceCount(v *wrapperspb.UInt32Value) (uint32, error) {
	n := number(v, defaultChoiceCount)
	if n < 2 {
		return 0, s.at("choice_count").errorf("is %d, must be at least 2", n)
	}
	return n, nil
}
