package translate

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	cswrrv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3"
	commonlbv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	roundrobinv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	wrrlocalityv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/wrr_locality/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/meshframe/meshframe/xdsserver/support"
)

// balancesBy returns the settings by which endpoints get calls by their utilization; nil is by something else.
func (t *translation) balancesBy(p trafficPolicy) *networking.LoadBalancerSettings_BackendUtilizationLB {
	if own := p.own.LoadBalancer.Value; own != nil && own.Policy != "" || !t.client.knows(support.Utilization) {
		return nil
	}
	return p.balancer.value.GetBackendUtilization()
}

// utilization writes the policy that weighs endpoints by what they report of their load, within the weights of their
// localities. Clients that do not know it after all take the next of the list.
func (t *translation) utilization(p trafficPolicy, b *networking.LoadBalancerSettings_BackendUtilizationLB) *clusterv3.LoadBalancingPolicy {
	m := &cswrrv3.ClientSideWeightedRoundRobin{
		BlackoutPeriod: b.GetWeightStabilizationPeriod(), WeightExpirationPeriod: b.GetWeightExpirationPeriod(), WeightUpdatePeriod: b.GetWeightUpdatePeriod(),
		ErrorUtilizationPenalty: wrapperspb.Float(float32(b.GetErrorUtilizationPenaltyPercent()) / 100), // Envoy's default is 1, Istio's 0
	}
	if s := t.slowStartConfig(p); s != nil {
		m.SlowStartConfig = &commonlbv3.SlowStartConfig{SlowStartWindow: s.GetSlowStartWindow(), Aggression: s.GetAggression(), MinWeightPercent: s.GetMinWeightPercent()}
	}
	if t.client.ours() {
		m.MetricNamesForComputingUtilization = b.GetMetricNamesForComputingUtilization()
	} else {
		unlikeUnset(m)
	}
	roundRobin := listed("envoy.load_balancing_policies.round_robin", &roundrobinv3.RoundRobin{})
	return &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{
		listed("envoy.load_balancing_policies.wrr_locality", &wrrlocalityv3.WrrLocality{
			EndpointPickingPolicy: &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{
				listed("envoy.load_balancing_policies.client_side_weighted_round_robin", m), roundRobin,
			}},
		}),
		roundRobin,
	}}
}

// unlikeUnset makes zeros the next that there is: grpc-go takes 0 for what is not set.
func unlikeUnset(m *cswrrv3.ClientSideWeightedRoundRobin) {
	if m.BlackoutPeriod != nil && m.GetBlackoutPeriod().AsDuration() == 0 {
		m.BlackoutPeriod = durationpb.New(time.Nanosecond)
	}
	if m.GetErrorUtilizationPenalty().GetValue() == 0 {
		m.ErrorUtilizationPenalty = wrapperspb.Float(1e-9)
	}
}

func listed(name string, m proto.Message) *clusterv3.LoadBalancingPolicy_Policy {
	return &clusterv3.LoadBalancingPolicy_Policy{TypedExtensionConfig: &corev3.TypedExtensionConfig{Name: name, TypedConfig: packed(m)}}
}
