package translate

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
	"github.com/meshframe/meshframe/xdsserver/support"
)

// Route translates a route configuration (RDS): the routes of one port of one service.
func (w *World) Route(c Client, name string) Result {
	t := w.begin(c)
	none := &routev3.RouteConfiguration{Name: name}
	n, ok := ParseClusterName(name)
	if !ok || n.Subset != "" {
		return t.missing(none)
	}
	s := t.service(n.Host, n.Port)
	if s == nil || s.Port(n.Port) == nil {
		return t.missing(none)
	}
	r := &router{translation: t, service: s, port: *s.Port(n.Port)}
	names := domains(s, n.Port, c.Namespace, t.index.Model.Domain)
	return t.found(&routev3.RouteConfiguration{Name: name, VirtualHosts: r.virtualHosts(names)})
}

// router translates the routes of one port of one service.
type router struct {
	*translation
	service *registry.Service
	port    registry.Port

	rule *config.VirtualService // nil: the default route
}

// candidate is a route before it is known which authorities it is for.
type candidate struct {
	route     *routev3.Route
	authority func(host string) bool // nil: any
	last      bool                   // matches every call
}

// virtualHosts makes one virtual host or, for a client that cannot match by authority, one for each group of names for
// which the same routes apply.
func (r *router) virtualHosts(names []string) []*routev3.VirtualHost {
	candidates := r.candidates()
	var hosts []*routev3.VirtualHost
	groups := map[string]*routev3.VirtualHost{}
	for _, name := range names {
		routes, key := applicable(candidates, name)
		v := groups[key]
		if v == nil {
			v = &routev3.VirtualHost{
				Name:                       net.JoinHostPort(r.service.Host, strconv.FormatUint(uint64(r.port.Number), 10)),
				Routes:                     routes,
				IncludeRequestAttemptCount: true,
			}
			if l := r.hostLimit(r.service, r.port.Number); l != nil {
				v.TypedPerFilterConfig = map[string]*anypb.Any{limitFilterName: packed(localLimit(l))}
			}
			if len(hosts) > 0 {
				v.Name += "#" + strconv.Itoa(len(hosts))
			}
			groups[key] = v
			hosts = append(hosts, v)
		}
		v.Domains = append(v.Domains, name)
	}
	if !r.client.ours() {
		// Some of gRPC's own clients compare capital letters. Whatever they write, they ask for this service alone.
		_, key := applicable(candidates, names[1])
		groups[key].Domains = append(groups[key].Domains, "*")
	}
	return hosts
}

// applicable returns the routes for an authority, up to the first that matches every call, and a key for which ones.
func applicable(candidates []candidate, authority string) (routes []*routev3.Route, key string) {
	for i, c := range candidates {
		if c.authority != nil && !c.authority(authority) {
			continue
		}
		routes = append(routes, c.route)
		key += strconv.Itoa(i) + " "
		if c.last {
			break
		}
	}
	return routes, key
}

// candidates translates the rule for the service or, without one, the default route.
func (r *router) candidates() []candidate {
	r.rule = r.virtualService(r.service.Host)
	if r.rule != nil && opaque(r.port.Protocol) {
		r.note(r.rule.Meta, "spec.http", fmt.Sprintf("it does not apply to port %d of %s, whose protocol is %s", r.port.Number, r.service.Host, r.port.Protocol))
		r.rule = nil
	}
	if r.rule == nil || len(r.rule.Spec.GetHttp()) == 0 {
		r.rule = nil
		return []candidate{r.byDefault()}
	}
	if !slices.ContainsFunc(r.rule.Spec.GetHttp(), r.concerns) { // the rule is as good as none, as in Istio
		r.rule = nil
		return []candidate{r.byDefault()}
	}
	r.uses(r.rule.Meta)
	var list []candidate
	for i, h := range r.rule.Spec.GetHttp() {
		list = append(list, r.httpRoute(h, fmt.Sprintf("spec.http[%d]", i))...)
	}
	return list
}

// concerns reports whether calls of the client, to this port, may take a route: one of its matches is for them.
func (r *router) concerns(h *networking.HTTPRoute) bool {
	return slices.ContainsFunc(matchesOf(h), r.fromHere)
}

// byDefault is the route of a service without rules.
func (r *router) byDefault() candidate {
	out := &routev3.Route{Name: "default", Match: everything()}
	action := &routev3.RouteAction{}
	first := []trafficPolicy{r.send(action, &networking.Destination{Host: r.service.Host, Port: &networking.PortSelector{Number: r.port.Number}})}
	r.forward(out, action, &networking.HTTPRoute{}, first)
	return candidate{last: true, route: out}
}

// httpRoute translates one route of the rule: one candidate for each of its matches that can be true.
func (r *router) httpRoute(h *networking.HTTPRoute, field string) []candidate {
	var list []candidate
	for _, m := range matchesOf(h) {
		list = append(list, r.match(h, m)...)
	}
	if len(list) == 0 {
		return nil
	}
	proto0 := &routev3.Route{Metadata: metadata("istio", object{"config": text(configPath(r.rule.Meta, "virtual-service"))})}
	r.action(proto0, h, field)
	for _, c := range list {
		filled := proto.Clone(proto0).(*routev3.Route)
		filled.Name, filled.Match = c.route.Name, c.route.Match
		proto.Reset(c.route)
		proto.Merge(c.route, filled)
	}
	return list
}

// matchesOf returns the alternatives of a route; a route without any matches every call, and so does a nil match.
func matchesOf(h *networking.HTTPRoute) []*networking.HTTPMatchRequest {
	if len(h.GetMatch()) == 0 {
		return []*networking.HTTPMatchRequest{nil}
	}
	return h.GetMatch()
}

// action writes what becomes of the calls that a route matches.
func (r *router) action(out *routev3.Route, h *networking.HTTPRoute, field string) {
	switch {
	case h.GetDelegate() != nil:
		out.Action = r.refuse(field+".delegate", "there is no VirtualService to delegate to")
	case h.GetRedirect() != nil:
		out.Action = &routev3.Route_Redirect{Redirect: r.redirect(h.GetRedirect())}
		r.headers(out, h.GetHeaders())
		addFault(out, h.GetFault(), nil)
	case h.GetDirectResponse() != nil:
		out.Action = &routev3.Route_DirectResponse{DirectResponse: directResponse(h.GetDirectResponse())}
		r.headers(out, h.GetHeaders())
		addFault(out, h.GetFault(), nil)
	default:
		action := &routev3.RouteAction{}
		r.hostHeader(action, h.GetHeaders())
		r.rewrite(action, h.GetRewrite())
		r.headers(out, h.GetHeaders())
		policies := r.destinations(out, action, h)
		copies := r.mirrors(action, h)
		r.forward(out, action, h, policies)
		if len(action.GetHashPolicy()) == 0 {
			action.HashPolicy = copies // which no other call goes by
		}
	}
}

// refuse is an action that makes calls fail with a text that names the rule.
func (r *router) refuse(field, reason string) *routev3.Route_Route {
	return &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{
		Cluster: RefusedPrefix + r.rule.ID() + ": " + field + ": " + reason,
	}}}
}

// forward writes what holds for calls that are sent somewhere. Of several destinations the policy of the first counts for
// what is said once for a route.
func (r *router) forward(out *routev3.Route, action *routev3.RouteAction, h *networking.HTTPRoute, policies []trafficPolicy) {
	own := policies[0].own
	r.onlyFirst(policies)
	r.timing(action, h.GetTimeout(), own)
	bound := len(action.GetHashPolicy()) > 0
	action.RetryPolicy = r.retry(h.GetRetries(), bound, own.Retry.Value)
	for i := 0; i < len(policies) && !bound; i++ {
		addHash(action, policies[i].elsewhere)
	}
	if r.client.ours() {
		if own.Hedge.Value != nil && own.Hedge.Value.OnPerTryTimeout {
			action.HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
		}
		extend(&out.Metadata, r.routeLimit(own))
	}
	addFault(out, h.GetFault(), own.Fault.Value)
	out.Action = &routev3.Route_Route{Route: action}
}

// addFault writes the fault of a route, which is nil for none. One that answers calls itself has a fault only from the rule
// that delegates to it.
func addFault(out *routev3.Route, f *networking.HTTPFaultInjection, own *config.FaultControl) {
	if f != nil {
		out.TypedPerFilterConfig = map[string]*anypb.Any{faultFilterName: packed(fault(f, own))}
	}
}

// destinations writes where calls go, and returns the policy of each destination.
func (r *router) destinations(out *routev3.Route, action *routev3.RouteAction, h *networking.HTTPRoute) (policies []trafficPolicy) {
	all := h.GetRoute()
	if len(all) == 1 {
		r.headers(out, all[0].GetHeaders())
		if action.GetHostRewriteLiteral() == "" { // the route has the last word, as with several destinations
			r.hostHeader(action, all[0].GetHeaders())
		}
		return []trafficPolicy{r.send(action, all[0].GetDestination())}
	}
	weights := &routev3.WeightedCluster{}
	for _, d := range all {
		if d.GetWeight() == 0 {
			continue
		}
		policies = append(policies, r.send(action, d.GetDestination()))
		w := &routev3.WeightedCluster_ClusterWeight{Name: action.GetCluster(), Weight: wrapperspb.UInt32(uint32(d.GetWeight()))}
		r.headers(w, d.GetHeaders())
		if host := hostHeader(d.GetHeaders()); host != "" && r.client.ours() {
			w.HostRewriteSpecifier = &routev3.WeightedCluster_ClusterWeight_HostRewriteLiteral{HostRewriteLiteral: host}
		}
		weights.Clusters = append(weights.Clusters, w)
	}
	if !r.client.ours() {
		weights.TotalWeight = totalWeight(weights)
	}
	action.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: weights}
	return policies
}

// totalWeight is the sum of the weights. Releases of gRPC of 2022 and before refuse routes whose weights do not add up to
// it, and take it for 100 where it is not written; Envoy and later releases do without.
func totalWeight(w *routev3.WeightedCluster) *wrapperspb.UInt32Value {
	sum := wrapperspb.UInt32(0)
	for _, c := range w.GetClusters() {
		sum.Value += c.GetWeight().GetValue()
	}
	return sum
}

// send writes one destination. When its policy asks for what cannot be done, calls go to a cluster that makes them fail.
func (r *router) send(action *routev3.RouteAction, d *networking.Destination) trafficPolicy {
	n, s := r.target(d, r.port.Number)
	name := n.String()
	p := trafficPolicy{own: noPolicy}
	if s != nil {
		p = r.policyOf(s, n)
		if reason := p.refusal(); reason != "" && !r.client.ours() {
			name = RefusedPrefix + reason
		}
		addHash(action, r.hashed(p))
		p.elsewhere = r.hashedElsewhere(s, n, p.own.Fallback.Value)
	}
	action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: name}
	return p
}

// target returns the cluster that a destination means, and its service; nil when there is none. Without a port it is the
// only one that the service has, else the one that was called.
func (t *translation) target(d *networking.Destination, called uint32) (ClusterName, *registry.Service) {
	n := ClusterName{Host: d.GetHost(), Port: d.GetPort().GetNumber(), Subset: d.GetSubset()}
	s := t.service(n.Host, cmp.Or(n.Port, called))
	switch {
	case n.Port != 0:
	case s != nil && len(s.Ports) == 1:
		n.Port = s.Ports[0].Number
	default:
		n.Port = called
	}
	return n, s
}

// onlyFirst notes what other destinations than the first have of their own where a route can have it only once.
func (r *router) onlyFirst(policies []trafficPolicy) {
	first := policies[0].own
	for _, p := range policies[1:] {
		alone(r, first.Retry, p.own.Retry)
		alone(r, first.Timeouts, p.own.Timeouts)
		alone(r, first.Fault, p.own.Fault)
		if r.client.ours() {
			alone(r, first.Hedge, p.own.Hedge)
			alone(r, first.ClientRateLimit, p.own.ClientRateLimit)
		}
	}
}

func alone[T comparable](r *router, first, other config.Setting[T]) {
	if other.Policy != nil && other.Value != first.Value {
		r.note(other.Policy, other.Field, fmt.Sprintf("it has no effect for calls to %s: of several destinations of a route that of the first counts", r.service.Host))
	}
}

// timing writes deadlines. The caller's own deadline is bounded by the route's as well, where it is bounded at all: xDS
// has the one take the place of the other.
func (r *router) timing(action *routev3.RouteAction, timeout *durationpb.Duration, own *config.Policy) {
	if timeout == nil {
		timeout = durationpb.New(0)
	}
	limits := own.Timeouts.Value
	if limits == nil {
		limits = &config.Timeouts{}
	}
	action.Timeout = timeout
	whole := shorter(timeout.AsDuration(), limits.MaxStreamDuration)
	action.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: r.bound(whole)}
	if limits.MaxGRPCTimeout > 0 {
		action.MaxStreamDuration.GrpcTimeoutHeaderMax = r.bound(shorter(whole, limits.MaxGRPCTimeout))
	}
	if limits.Idle > 0 && r.client.ours() {
		action.IdleTimeout = durationpb.New(limits.Idle)
	}
}

// early is how long before a call its time begins at most where the client is not exact.
const early = 2 * time.Second

// bound writes how long a call may take. A client that is not exact is told more, so that no call ends too soon.
func (r *router) bound(d time.Duration) *durationpb.Duration {
	if d > 0 && d < math.MaxInt64-early && !r.client.knows(support.ExactTimeouts) {
		d += early
	}
	return durationpb.New(d)
}

// shorter returns the shorter of two times of which 0 is none.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// everything is the match of a route that takes every call.
func everything() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}

// lower is how header names go over the wire.
func lower(name string) string { return strings.ToLower(name) }
