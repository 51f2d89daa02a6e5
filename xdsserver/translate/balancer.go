package translate

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/support"
)

const (
	defaultRingSize = 1024    // Istio's
	maxRingSize     = 8 << 20 // Envoy's
	maxAggression   = 1000    // more is a step
)

// balancer writes how endpoints are chosen.
func (t *translation) balancer(m *clusterv3.Cluster, p trafficPolicy) {
	m.LbPolicy = t.policy(p)
	switch m.GetLbPolicy() {
	case clusterv3.Cluster_ROUND_ROBIN:
		if b := t.balancesBy(p); b != nil {
			m.LoadBalancingPolicy = t.utilization(p, b)
		} else if s := t.slowStartConfig(p); s != nil {
			m.LbConfig = &clusterv3.Cluster_RoundRobinLbConfig_{RoundRobinLbConfig: &clusterv3.Cluster_RoundRobinLbConfig{SlowStartConfig: s}}
		}
	case clusterv3.Cluster_LEAST_REQUEST:
		t.leastRequest(m, p)
	case clusterv3.Cluster_RING_HASH:
		m.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: &clusterv3.Cluster_RingHashLbConfig{
			MinimumRingSize: wrapperspb.UInt64(ringSize(p.balancer.value.GetConsistentHash())),
		}}
	case clusterv3.Cluster_MAGLEV:
		m.LbConfig = &clusterv3.Cluster_MaglevLbConfig_{MaglevLbConfig: &clusterv3.Cluster_MaglevLbConfig{
			TableSize: wrapperspb.UInt64(p.balancer.value.GetConsistentHash().GetMaglev().GetTableSize()),
		}}
	}
	if t.client.ours() {
		m.CommonLbConfig = commonLB(p)
	}
}

// policy returns the load balancing policy that the client is to use. Where nothing is set it is Istio's for this
// project's own clients, least request, and gRPC's for gRPC's own, round robin.
func (t *translation) policy(p trafficPolicy) clusterv3.Cluster_LbPolicy {
	if own := p.own.LoadBalancer.Value; own != nil && own.Policy != "" {
		return t.ownPolicy(own.Policy)
	}
	if h := p.balancer.value.GetConsistentHash(); h != nil {
		switch {
		case !t.hashesBy(h):
			return t.policyUnlessSet()
		case h.GetMaglev() != nil:
			return clusterv3.Cluster_MAGLEV
		default:
			return clusterv3.Cluster_RING_HASH
		}
	}
	if p.balancer.value.GetBackendUtilization() != nil {
		return clusterv3.Cluster_ROUND_ROBIN // with weights, see balancesBy
	}
	switch p.balancer.value.GetSimple() {
	case networking.LoadBalancerSettings_ROUND_ROBIN:
		return clusterv3.Cluster_ROUND_ROBIN
	case networking.LoadBalancerSettings_LEAST_REQUEST, networking.LoadBalancerSettings_LEAST_CONN:
		return t.ownPolicy(config.LeastRequest)
	case networking.LoadBalancerSettings_RANDOM:
		return t.ownPolicy(config.Random)
	default:
		return t.policyUnlessSet()
	}
}

func (t *translation) policyUnlessSet() clusterv3.Cluster_LbPolicy {
	if t.client.ours() {
		return clusterv3.Cluster_LEAST_REQUEST
	}
	return clusterv3.Cluster_ROUND_ROBIN
}

// ownPolicy returns the policy of a name that MeshPolicies have; round robin for one that the client would refuse. That
// of PEAK_EWMA is in the metadata.
func (t *translation) ownPolicy(name string) clusterv3.Cluster_LbPolicy {
	switch {
	case name == config.LeastRequest && t.client.knows(support.LeastRequest), name == config.PeakEWMA && t.client.ours():
		return clusterv3.Cluster_LEAST_REQUEST
	case name == config.Random && t.client.ours():
		return clusterv3.Cluster_RANDOM
	default:
		return clusterv3.Cluster_ROUND_ROBIN
	}
}

func (t *translation) leastRequest(m *clusterv3.Cluster, p trafficPolicy) {
	c := &clusterv3.Cluster_LeastRequestLbConfig{SlowStartConfig: t.slowStartConfig(p)}
	own := p.own.LoadBalancer.Value
	if own != nil {
		c.ChoiceCount = wrapperspb.UInt32(own.ChoiceCount)
		if own.ActiveRequestBias != nil && t.client.ours() {
			c.ActiveRequestBias = &corev3.RuntimeDouble{DefaultValue: *own.ActiveRequestBias}
		}
	}
	if own != nil || c.GetSlowStartConfig() != nil {
		m.LbConfig = &clusterv3.Cluster_LeastRequestLbConfig_{LeastRequestLbConfig: c}
	}
}

func ringSize(h *networking.LoadBalancerSettings_ConsistentHashLB) uint64 {
	size := uint64(defaultRingSize)
	if n := h.GetRingHash().GetMinimumRingSize(); n > 0 {
		size = n
	} else if n := h.GetMinimumRingSize(); n > 0 {
		size = n
	}
	return min(size, maxRingSize)
}

// commonLB writes below which share of healthy endpoints all are used, and whether localities have weights of their own.
func commonLB(p trafficPolicy) *clusterv3.Cluster_CommonLbConfig {
	panics := float64(max(p.outlier.value.GetMinHealthPercent(), 0))
	if own := p.own.LoadBalancer.Value; own != nil && own.PanicThreshold != nil {
		panics = *own.PanicThreshold
	}
	out := &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: panics}}
	if len(p.localities().GetDistribute()) > 0 {
		out.LocalityConfigSpecifier = &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig_{
			LocalityWeightedLbConfig: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig{},
		}
	}
	return out
}

// warmup raises the share of new endpoints.
type warmup struct {
	window                     time.Duration
	aggression, minimumPercent float64
	standard                   bool // of a DestinationRule
}

// slowStart returns how endpoints begin; nil is with their full share.
func (p *trafficPolicy) slowStart() *warmup {
	if own := p.own.LoadBalancer.Value; own != nil && own.SlowStart != nil {
		return &warmup{own.SlowStart.Window, own.SlowStart.Aggression, own.SlowStart.MinimumPercent, false}
	}
	out := &warmup{aggression: 1, minimumPercent: 10, standard: true}
	out.window = p.balancer.value.GetWarmupDurationSecs().AsDuration()
	if w := p.balancer.value.GetWarmup(); w != nil {
		out.window = w.GetDuration().AsDuration()
		if w.GetAggression() != nil {
			out.aggression = min(w.GetAggression().GetValue(), maxAggression)
		}
		if w.GetMinimumPercent() != nil {
			out.minimumPercent = w.GetMinimumPercent().GetValue()
		}
	}
	if out.window <= 0 {
		return nil
	}
	return out
}

// slowStartField reports whether the load balancing policy has a standard field for a slow start.
func (t *translation) slowStartField(p trafficPolicy) bool {
	policy := t.policy(p)
	return policy == clusterv3.Cluster_ROUND_ROBIN || policy == clusterv3.Cluster_LEAST_REQUEST
}

func (t *translation) slowStartConfig(p trafficPolicy) *clusterv3.Cluster_SlowStartConfig {
	w := p.slowStart()
	if w == nil || !w.standard || !t.client.ours() {
		return nil
	}
	return &clusterv3.Cluster_SlowStartConfig{
		SlowStartWindow:  durationpb.New(w.window),
		Aggression:       &corev3.RuntimeDouble{DefaultValue: w.aggression},
		MinWeightPercent: &typev3.Percent{Value: w.minimumPercent},
	}
}

func (w *warmup) fields() object {
	return object{"window": span(w.window), "aggression": number(w.aggression), "minWeightPercent": number(w.minimumPercent)}
}
