package translate

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

// defaultConnectTimeout is Istio's.
const defaultConnectTimeout = 10 * time.Second

// defaultRingSize is Istio's.
const defaultRingSize = 1024

// balancer chooses the load balancing policy. Where nothing is set it is Istio's for this project's own client, least
// request, and gRPC's for gRPC's own, round robin.
func (t *translation) balancer(m *clusterv3.Cluster, b setting[*networking.LoadBalancerSettings]) {
	if t.client.Kind == Meshframe {
		m.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
	}
	if b.value == nil {
		return
	}
	switch p := b.value.GetLbPolicy().(type) {
	case *networking.LoadBalancerSettings_Simple:
		t.simple(m, b, p.Simple)
	case *networking.LoadBalancerSettings_ConsistentHash:
		t.consistentHash(m, b, p.ConsistentHash)
	}
	if b.value.GetWarmup() != nil || b.value.GetWarmupDurationSecs() != nil {
		t.note(b.rule, b.field+".warmup", Degraded, "new endpoints get their full share of calls at once")
	}
	if b.value.GetLocalityLbSetting() != nil {
		t.note(b.rule, b.field+".localityLbSetting", Degraded, "calls are spread over all localities by the weight of their endpoints")
	}
	if b.value.GetZoneAwareLbSetting() != nil {
		t.note(b.rule, b.field+".zoneAwareLbSetting", Degraded, "calls are spread over all localities by the weight of their endpoints")
	}
}

func (t *translation) simple(m *clusterv3.Cluster, b setting[*networking.LoadBalancerSettings], p networking.LoadBalancerSettings_SimpleLB) {
	field := b.field + ".simple"
	switch p {
	case networking.LoadBalancerSettings_ROUND_ROBIN:
		m.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
	case networking.LoadBalancerSettings_LEAST_REQUEST, networking.LoadBalancerSettings_LEAST_CONN:
		if t.client.Kind == GRPC && !t.client.Implementation.leastRequest() {
			t.note(b.rule, field, Degraded, "round robin is used: this gRPC implementation refuses LEAST_REQUEST")
			return
		}
		m.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
	case networking.LoadBalancerSettings_RANDOM:
		if t.client.Kind == GRPC {
			t.note(b.rule, field, Degraded, "round robin is used: gRPC refuses RANDOM")
			return
		}
		m.LbPolicy = clusterv3.Cluster_RANDOM
	case networking.LoadBalancerSettings_PASSTHROUGH:
		t.note(b.rule, field, Degraded, "the default policy is used: there is no original destination to pass calls through to")
	}
}

// consistentHash sends what a client can hash by: for gRPC's own clients a header, in a ring.
func (t *translation) consistentHash(m *clusterv3.Cluster, b setting[*networking.LoadBalancerSettings], h *networking.LoadBalancerSettings_ConsistentHashLB) {
	field := b.field + ".consistentHash"
	if t.client.Kind == Meshframe {
		t.note(b.rule, field, Degraded, "calls are not bound to endpoints yet: the default policy is used")
		return
	}
	if h.GetHttpHeaderName() == "" || h.GetMaglev() != nil {
		t.note(b.rule, field, Degraded, "calls are not bound to endpoints: gRPC can hash only by a header, and only in a ring")
		return
	}
	size := uint64(defaultRingSize)
	if n := h.GetRingHash().GetMinimumRingSize(); n > 0 {
		size = n
	} else if n := h.GetMinimumRingSize(); n > 0 {
		size = n
	}
	m.LbPolicy = clusterv3.Cluster_RING_HASH
	m.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: &clusterv3.Cluster_RingHashLbConfig{
		MinimumRingSize: wrapperspb.UInt64(size),
	}}
}

// hashed reports whether a policy binds calls to endpoints at all, and for clients that do so the hash policy of the
// routes that lead there.
func (t *translation) hashed(p trafficPolicy) (bound bool, policy []*routev3.RouteAction_HashPolicy) {
	h := p.balancer.value.GetConsistentHash()
	if h == nil || t.client.Kind == Meshframe || h.GetHttpHeaderName() == "" || h.GetMaglev() != nil {
		return false, nil
	}
	return true, []*routev3.RouteAction_HashPolicy{{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
		Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: h.GetHttpHeaderName()},
	}}}
}
