package translate

import (
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
	"github.com/meshframe/meshframe/xdsserver/support"
)

// hashesBy reports whether the client can bind calls to endpoints by a hash: gRPC's own can by a header, in a ring, if
// they are not too old.
func (t *translation) hashesBy(h *networking.LoadBalancerSettings_ConsistentHashLB) bool {
	return t.client.ours() || t.client.knows(support.RingHash) && h.GetHttpHeaderName() != "" && h.GetMaglev() == nil
}

// hashed returns by what the calls under a policy are bound to endpoints; nil when they are not.
func (t *translation) hashed(p trafficPolicy) *routev3.RouteAction_HashPolicy {
	h := p.balancer.value.GetConsistentHash()
	if own := p.own.LoadBalancer.Value; h == nil || !t.hashesBy(h) || own != nil && own.Policy != "" {
		return nil
	}
	switch k := h.GetHashKey().(type) {
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
			Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: k.HttpHeaderName},
		}}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpCookie:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Cookie_{Cookie: cookie(k.HttpCookie)}}
	case *networking.LoadBalancerSettings_ConsistentHashLB_UseSourceIp:
		if !k.UseSourceIp {
			return nil
		}
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_ConnectionProperties_{
			ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
		}}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpQueryParameterName:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_QueryParameter_{
			QueryParameter: &routev3.RouteAction_HashPolicy_QueryParameter{Name: k.HttpQueryParameterName},
		}}
	default:
		return nil
	}
}

// hashedElsewhere returns by what the calls that fall back from a cluster are bound to endpoints; nil when they are not.
func (t *translation) hashedElsewhere(s *registry.Service, n ClusterName, f *config.Fallback) *routev3.RouteAction_HashPolicy {
	if f == nil || f.Destination == nil || !t.client.ours() {
		return nil
	}
	to, other := t.fallbackTarget(s, n, f.Destination)
	if other == nil {
		return nil
	}
	return t.hashed(t.policyOf(other, to))
}

func cookie(in *networking.LoadBalancerSettings_ConsistentHashLB_HTTPCookie) *routev3.RouteAction_HashPolicy_Cookie {
	out := &routev3.RouteAction_HashPolicy_Cookie{Name: in.GetName(), Ttl: in.GetTtl(), Path: in.GetPath()}
	for _, a := range in.GetAttributes() {
		out.Attributes = append(out.Attributes, &routev3.RouteAction_HashPolicy_CookieAttribute{Name: a.GetName(), Value: a.GetValue()})
	}
	return out
}

// addHash adds a hash policy to those of a route, which the destinations have in common: each contributes its own once.
func addHash(action *routev3.RouteAction, h *routev3.RouteAction_HashPolicy) {
	same := func(o *routev3.RouteAction_HashPolicy) bool { return proto.Equal(o, h) }
	if h != nil && !slices.ContainsFunc(action.GetHashPolicy(), same) {
		action.HashPolicy = append(action.HashPolicy, h)
	}
}
