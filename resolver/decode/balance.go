package decode

import (
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	cswrrv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3"
	commonlbv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastrequestv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	overridehostv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/override_host/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	subsettingv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random_subsetting/v3"
	roundrobinv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	wrrlocalityv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

const (
	defaultChoiceCount = 2
	maxChoiceCount     = 100 // of pick.Config
	// maxPolicyDepth bounds how deep load-balancing policies may nest, as gRFC
	// A52 does.
	maxPolicyDepth = 16
	// Envoy's defaults.
	defaultAggression       = 1
	defaultMinWeightPercent = 10
)

const (
	typePolicies     = typePrefix + "envoy.extensions.load_balancing_policies."
	typeRoundRobin   = typePolicies + "round_robin.v3.RoundRobin"
	typeRandom       = typePolicies + "random.v3.Random"
	typeLeastRequest = typePolicies + "least_request.v3.LeastRequest"
	typeRingHash     = typePolicies + "ring_hash.v3.RingHash"
	typeMaglev       = typePolicies + "maglev.v3.Maglev"
	typeWRRLocality  = typePolicies + "wrr_locality.v3.WrrLocality"
	typeSubsetting   = typePolicies + "random_subsetting.v3.RandomSubsetting"
	typeOverrideHost = typePolicies + "override_host.v3.OverrideHost"
	typeProvided     = typePolicies + "cluster_provided.v3.ClusterProvided"
	typeUtilization  = typePolicies + "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin"
)

// degraded are the policies that are served round robin: the calls arrive, and
// what the policy adds is lost.
var degraded = map[string]bool{
	typePolicies + "pick_first.v3.PickFirst": true,
}

var (
	policyListFields    = newFields("policies")
	policyEntryFields   = newFields("typed_extension_config")
	roundRobinFields    = newFields("slow_start_config", "locality_lb_config")
	randomFields        = newFields("locality_lb_config")
	leastRequestFields  = newFields("choice_count", "active_request_bias", "slow_start_config", "locality_lb_config")
	wrrLocalityFields   = newFields("endpoint_picking_policy")
	subsettingFields    = newFields("subset_size", "child_policy")
	overrideHostFields  = newFields("override_host_sources", "fallback_policy")
	slowStartFields     = newFields("slow_start_window", "aggression", "min_weight_percent")
	runtimeDoubleFields = newFields("default_value")
	localityLBFields    = newFields("locality_weighted_lb_config")
)

// plainBalancing is round robin.
func plainBalancing() pick.Config {
	return pick.Config{Policy: pick.RoundRobin, ChoiceCount: defaultChoiceCount}
}

// loadBalancing reads load_balancing_policy, or the older lb_policy in its
// absence. The latter weighs localities always but where it hashes, as in gRPC:
// control planes that write for gRPC do not ask for it. An aggregate cluster without
// a policy of its own gets none, and has that of the clusters behind it.
func (s *scope) loadBalancing(m *clusterv3.Cluster, out *snapshot.Cluster) (err error) {
	switch {
	case m.GetLoadBalancingPolicy() != nil:
		out.LB, err = s.at("load_balancing_policy").policies(m.GetLoadBalancingPolicy(), 1)
	case out.Discovery == snapshot.Aggregate:
		if m.GetLbPolicy() != clusterv3.Cluster_CLUSTER_PROVIDED {
			s.at("lb_policy").notef("has no effect: the clusters of the aggregate have their own")
		}
	default:
		out.LB, err = s.lbPolicy(m)
	}
	switch none := out.LB == (pick.Config{}); {
	case err != nil:
		return err
	case none && out.Discovery == snapshot.Aggregate:
		s.aggregateLB(m, out)
		return nil
	case none:
		out.LB = plainBalancing()
	}
	return s.commonLB(m, out)
}

func (s *scope) lbPolicy(m *clusterv3.Cluster) (pick.Config, error) {
	out := plainBalancing()
	out.LocalityWeighted = true
	var err error
	switch m.GetLbPolicy() {
	case clusterv3.Cluster_ROUND_ROBIN:
		at, c := s.at("round_robin_lb_config"), m.GetRoundRobinLbConfig()
		at.noteRest(c, roundRobinFields)
		out.SlowStart, err = at.slowStart(c.GetSlowStartConfig())
	case clusterv3.Cluster_LEAST_REQUEST:
		at, c := s.at("least_request_lb_config"), m.GetLeastRequestLbConfig()
		at.noteRest(c, leastRequestFields)
		err = at.leastRequest(c.GetChoiceCount(), c.GetActiveRequestBias(), &out)
		if err == nil {
			out.SlowStart, err = at.slowStart(c.GetSlowStartConfig())
		}
	case clusterv3.Cluster_RANDOM:
		out.Policy = pick.Random
	case clusterv3.Cluster_RING_HASH:
		out.LocalityWeighted = false
		err = s.ringHashLBConfig(m.GetRingHashLbConfig(), &out)
	case clusterv3.Cluster_MAGLEV:
		out.LocalityWeighted = false
		at := s.at("maglev_lb_config")
		at.noteRest(m.GetMaglevLbConfig(), maglevFields)
		err = at.maglev(m.GetMaglevLbConfig().GetTableSize(), &out)
	default:
		err = s.at("lb_policy").errorf("%v is not supported", m.GetLbPolicy())
	}
	return out, err
}

// policies takes the first policy that is known, as gRFC A52 asks; one that can
// only be approximated is taken if there is no other.
func (s *scope) policies(m *clusterv3.LoadBalancingPolicy, depth int) (pick.Config, error) {
	if depth > maxPolicyDepth {
		return pick.Config{}, s.errorf("is nested more than %d deep", maxPolicyDepth)
	}
	s.noteRest(m, policyListFields)
	fallback, fallbackAt := "", s
	for i, p := range m.GetPolicies() {
		a := p.GetTypedExtensionConfig().GetTypedConfig()
		at := s.item("policies", i, p.GetTypedExtensionConfig().GetName())
		at.noteRest(p, policyEntryFields)
		at.noteRest(p.GetTypedExtensionConfig(), extensionFields)
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
	return plainBalancing(), nil
}

func (s *scope) policy(a *anypb.Any, depth int) (out pick.Config, known bool, err error) {
	out, known = plainBalancing(), true
	switch a.GetTypeUrl() {
	case typeRoundRobin:
		m := &roundrobinv3.RoundRobin{}
		if err = s.policyOptions(a, m, roundRobinFields); err == nil {
			err = s.common(m.GetSlowStartConfig(), m.GetLocalityLbConfig(), &out)
		}
	case typeRandom:
		out.Policy = pick.Random
		m := &randomv3.Random{}
		if err = s.policyOptions(a, m, randomFields); err == nil {
			err = s.common(nil, m.GetLocalityLbConfig(), &out)
		}
	case typeLeastRequest:
		m := &leastrequestv3.LeastRequest{}
		if err = s.policyOptions(a, m, leastRequestFields); err == nil {
			err = s.leastRequest(m.GetChoiceCount(), m.GetActiveRequestBias(), &out)
		}
		if err == nil {
			err = s.common(m.GetSlowStartConfig(), m.GetLocalityLbConfig(), &out)
		}
	case typeUtilization:
		m := &cswrrv3.ClientSideWeightedRoundRobin{}
		if err = s.policyOptions(a, m, utilizationFields); err == nil {
			err = s.utilization(m, &out)
		}
	case typeRingHash:
		err = s.ringHashPolicy(a, &out)
	case typeMaglev:
		err = s.maglevPolicy(a, &out)
	case typeProvided: // what an aggregate cluster asks for
		out = pick.Config{}
		if len(a.GetValue()) > 0 {
			s.notef("has settings, of which none is known")
		}
	default:
		return s.wrapper(a, depth)
	}
	return out, known, err
}

// wrapper reads the policies that stand before another one.
func (s *scope) wrapper(a *anypb.Any, depth int) (out pick.Config, known bool, err error) {
	switch a.GetTypeUrl() {
	case typeWRRLocality:
		m := &wrrlocalityv3.WrrLocality{}
		if err = s.policyOptions(a, m, wrrLocalityFields); err == nil {
			out, err = s.at("endpoint_picking_policy").policies(m.GetEndpointPickingPolicy(), depth+1)
			out.LocalityWeighted = true
		}
	case typeSubsetting:
		m := &subsettingv3.RandomSubsetting{}
		if err = s.policyOptions(a, m, subsettingFields); err == nil {
			out, err = s.subsetting(m, depth)
		}
	case typeOverrideHost:
		m := &overridehostv3.OverrideHost{}
		if err = s.policyOptions(a, m, overrideHostFields); err == nil {
			// Its headers hold bare addresses, and nothing binds clients to them:
			// that is no session.
			s.at("override_host_sources").notef("is not honoured yet: the fallback policy chooses every host")
			out, err = s.at("fallback_policy").policies(m.GetFallbackPolicy(), depth+1)
		}
	default:
		return out, false, nil
	}
	return out, true, err
}

// subsetting reads the policy that uses a part of the hosts (gRFC A68).
func (s *scope) subsetting(m *subsettingv3.RandomSubsetting, depth int) (pick.Config, error) {
	if m.GetSubsetSize().GetValue() == 0 {
		return pick.Config{}, s.at("subset_size").errorf("must be positive")
	}
	out, err := s.at("child_policy").policies(m.GetChildPolicy(), depth+1)
	out.SubsetSize = m.GetSubsetSize().GetValue()
	return out, err
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

// common reads what the policies that do not hash have in common.
func (s *scope) common(start *commonlbv3.SlowStartConfig, l *commonlbv3.LocalityLbConfig, out *pick.Config) (err error) {
	at := s.at("locality_lb_config")
	at.noteRest(l, localityLBFields)
	at.at("locality_weighted_lb_config").noteRest(l.GetLocalityWeightedLbConfig(), noFields)
	out.LocalityWeighted = l.GetLocalityWeightedLbConfig() != nil
	if start != nil {
		out.SlowStart, err = s.slowStart(start)
	}
	return err
}

func (s *scope) leastRequest(choices *wrapperspb.UInt32Value, bias *corev3.RuntimeDouble, out *pick.Config) error {
	out.Policy = pick.LeastRequest
	out.ChoiceCount = number(choices, defaultChoiceCount)
	at := s.at("choice_count")
	switch n := out.ChoiceCount; {
	case n < defaultChoiceCount:
		return at.errorf("is %d, must be at least %d", n, defaultChoiceCount)
	case n > maxChoiceCount:
		at.notef("is %d: %d hosts are compared", n, maxChoiceCount)
		out.ChoiceCount = maxChoiceCount
	}
	if bias == nil {
		return nil
	}
	at = s.at("active_request_bias")
	at.noteRest(bias, runtimeDoubleFields)
	out.HasActiveRequestBias, out.ActiveRequestBias = true, bias.GetDefaultValue()
	if !(out.ActiveRequestBias >= 0) { // written so that NaN is refused
		return at.errorf("is %v, must not be negative", out.ActiveRequestBias)
	}
	return nil
}

// slowStartConfig is that of a cluster and that of a policy, which are alike.
type slowStartConfig interface {
	proto.Message
	GetSlowStartWindow() *durationpb.Duration
	GetAggression() *corev3.RuntimeDouble
	GetMinWeightPercent() *typev3.Percent
}

// slowStart reads slow_start_config; nil is off.
func (s *scope) slowStart(m slowStartConfig) (*pick.SlowStart, error) {
	if !m.ProtoReflect().IsValid() {
		return nil, nil
	}
	at := s.at("slow_start_config")
	at.noteRest(m, slowStartFields)
	window, err := at.at("slow_start_window").duration(m.GetSlowStartWindow())
	if err != nil || window == 0 {
		return nil, err
	}
	out := &pick.SlowStart{Window: window, Aggression: defaultAggression, MinWeightPercent: defaultMinWeightPercent}
	if a := m.GetAggression(); a != nil {
		at.at("aggression").noteRest(a, runtimeDoubleFields)
		if out.Aggression = a.GetDefaultValue(); !(out.Aggression > 0) {
			return nil, at.at("aggression").errorf("is %v, must be positive", out.Aggression)
		}
	}
	if p := m.GetMinWeightPercent(); p != nil {
		if out.MinWeightPercent, err = at.at("min_weight_percent").exactPercent(p); err != nil {
			return nil, err
		}
	}
	return out, nil
}
