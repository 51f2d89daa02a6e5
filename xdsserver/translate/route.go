package translate

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
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
			if len(hosts) > 0 {
				v.Name += "#" + strconv.Itoa(len(hosts))
			}
			groups[key] = v
			hosts = append(hosts, v)
		}
		v.Domains = append(v.Domains, name)
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
		r.note(r.rule.Meta, "spec.http", Degraded, fmt.Sprintf("it does not apply to port %d of %s, whose protocol is %s", r.port.Number, r.service.Host, r.port.Protocol))
		r.rule = nil
	}
	if r.rule == nil || len(r.rule.Spec.GetHttp()) == 0 {
		r.rule = nil
		return []candidate{r.fallback()}
	}
	var list []candidate
	for i, h := range r.rule.Spec.GetHttp() {
		list = append(list, r.httpRoute(h, fmt.Sprintf("spec.http[%d]", i))...)
	}
	return list
}

// fallback is the route of a service without rules.
func (r *router) fallback() candidate {
	action := &routev3.RouteAction{}
	p := r.send(action, &networking.Destination{Host: r.service.Host, Port: &networking.PortSelector{Number: r.port.Number}})
	r.timing(action, nil, nil, p)
	return candidate{
		last:  true,
		route: &routev3.Route{Name: "default", Match: everything(), Action: &routev3.Route_Route{Route: action}},
	}
}

// httpRoute translates one route of the rule: one candidate for each of its matches that can be true.
func (r *router) httpRoute(h *networking.HTTPRoute, field string) []candidate {
	var list []candidate
	for i, m := range matchesOf(h) {
		list = append(list, r.match(h, m, field, i)...)
	}
	if len(list) == 0 {
		return nil
	}
	proto0 := &routev3.Route{Metadata: metadata("istio", "config", configPath(r.rule.Meta, "virtual-service"))}
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
		reason := "delegation to another VirtualService is not supported yet"
		r.note(r.rule.Meta, field+".delegate", Rejected, reason)
		out.Action = r.refuse(field+".delegate", reason)
		return
	case h.GetRedirect() != nil:
		r.note(r.rule.Meta, field+".redirect", Rejected, "calls fail: gRPC does not follow redirects")
		out.Action = &routev3.Route_Redirect{Redirect: redirect(h.GetRedirect())}
		return
	case h.GetDirectResponse() != nil:
		r.note(r.rule.Meta, field+".directResponse", Rejected, "calls fail, without the status and body of the response")
		out.Action = &routev3.Route_DirectResponse{DirectResponse: directResponse(h.GetDirectResponse())}
		return
	}
	action := &routev3.RouteAction{}
	p := r.destinations(out, action, h, field)
	r.timing(action, h.GetTimeout(), h.GetRetries(), p)
	r.retryNotes(h.GetRetries(), field)
	r.rewrite(action, h.GetRewrite(), field)
	r.mirrors(action, h, field)
	r.headers(out, h.GetHeaders(), field)
	if h.GetCorsPolicy() != nil {
		r.note(r.rule.Meta, field+".corsPolicy", Degraded, "it is left out: gRPC refuses all routes of the service over it")
	}
	if f := h.GetFault(); f != nil {
		out.TypedPerFilterConfig = map[string]*anypb.Any{faultFilterName: packed(r.fault(f, field))}
	}
	out.Action = &routev3.Route_Route{Route: action}
}

// refuse is an action that makes calls fail with a text that names the rule.
func (r *router) refuse(field, reason string) *routev3.Route_Route {
	return &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{
		Cluster: RefusedPrefix + r.rule.ID() + ": " + field + ": " + reason,
	}}}
}

// destinations writes where calls go, and returns the policy of the first destination, whose affinity counts.
func (r *router) destinations(out *routev3.Route, action *routev3.RouteAction, h *networking.HTTPRoute, field string) trafficPolicy {
	list := h.GetRoute()
	if len(list) == 1 {
		r.headers(out, list[0].GetHeaders(), field+".route[0]")
		return r.send(action, list[0].GetDestination())
	}
	weighted := &routev3.WeightedCluster{}
	var first trafficPolicy
	for i, d := range list {
		if d.GetWeight() == 0 {
			continue
		}
		var to routev3.RouteAction
		p := r.send(&to, d.GetDestination())
		if len(weighted.GetClusters()) == 0 {
			first, action.HashPolicy = p, to.GetHashPolicy()
		}
		w := &routev3.WeightedCluster_ClusterWeight{Name: to.GetCluster(), Weight: wrapperspb.UInt32(uint32(d.GetWeight()))}
		r.headers(w, d.GetHeaders(), fmt.Sprintf("%s.route[%d]", field, i))
		weighted.Clusters = append(weighted.Clusters, w)
	}
	action.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: weighted}
	return first
}

// send writes one destination. When its policy asks for what cannot be done, calls go to a cluster that makes them fail.
func (r *router) send(action *routev3.RouteAction, d *networking.Destination) trafficPolicy {
	n := ClusterName{Host: d.GetHost(), Port: d.GetPort().GetNumber(), Subset: d.GetSubset()}
	s := r.translation.service(n.Host, cmp.Or(n.Port, r.port.Number))
	switch {
	case n.Port != 0:
	case s != nil && len(s.Ports) == 1:
		n.Port = s.Ports[0].Number
	default:
		n.Port = r.port.Number
	}
	name := n.String()
	var p trafficPolicy
	if s != nil {
		dest := r.translation.destination(s)
		_, sub, _ := dest.subsetLabels(n.Subset)
		p = dest.policyFor(n.Port, sub)
		if reason := p.refusal(); reason != "" {
			r.note(p.tls.rule, p.tls.field, Rejected, "calls fail: TLS is not supported yet, and plaintext would break what the rule asks for")
			if r.client.Kind == GRPC {
				name = RefusedPrefix + reason
			}
		}
		_, action.HashPolicy = r.hashed(p)
	}
	action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: name}
	return p
}

// timing writes deadline and retries.
func (r *router) timing(action *routev3.RouteAction, timeout *durationpb.Duration, retries *networking.HTTPRetry, p trafficPolicy) {
	if timeout == nil {
		timeout = durationpb.New(0)
	}
	action.Timeout = timeout
	action.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: timeout}
	bound, _ := r.hashed(p)
	action.RetryPolicy = r.retry(retries, bound)
}

func redirect(in *networking.HTTPRedirect) *routev3.RedirectAction {
	out := &routev3.RedirectAction{HostRedirect: in.GetAuthority()}
	switch {
	case in.GetUri() != "":
		out.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: in.GetUri()}
	case in.GetPrefixRewrite() != "":
		out.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: in.GetPrefixRewrite()}
	}
	if in.GetScheme() != "" {
		out.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: in.GetScheme()}
	}
	out.PortRedirect = in.GetPort()
	switch in.GetRedirectCode() {
	case 0, http.StatusMovedPermanently:
		out.ResponseCode = routev3.RedirectAction_MOVED_PERMANENTLY
	case http.StatusFound:
		out.ResponseCode = routev3.RedirectAction_FOUND
	case http.StatusSeeOther:
		out.ResponseCode = routev3.RedirectAction_SEE_OTHER
	case http.StatusTemporaryRedirect:
		out.ResponseCode = routev3.RedirectAction_TEMPORARY_REDIRECT
	case http.StatusPermanentRedirect:
		out.ResponseCode = routev3.RedirectAction_PERMANENT_REDIRECT
	}
	return out
}

func directResponse(in *networking.HTTPDirectResponse) *routev3.DirectResponseAction {
	out := &routev3.DirectResponseAction{Status: in.GetStatus()}
	switch b := in.GetBody().GetSpecifier().(type) {
	case *networking.HTTPBody_String_:
		out.Body = &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: b.String_}}
	case *networking.HTTPBody_Bytes:
		out.Body = &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b.Bytes}}
	}
	return out
}

func (r *router) rewrite(action *routev3.RouteAction, in *networking.HTTPRewrite, field string) {
	if in == nil {
		return
	}
	r.note(r.rule.Meta, field+".rewrite", Degraded, "calls are sent with the path and authority that they were made with")
	switch {
	case in.GetUriRegexRewrite() != nil:
		action.RegexRewrite = &matcherv3.RegexMatchAndSubstitute{
			Pattern:      &matcherv3.RegexMatcher{Regex: in.GetUriRegexRewrite().GetMatch()},
			Substitution: in.GetUriRegexRewrite().GetRewrite(),
		}
	case in.GetUri() != "":
		action.PrefixRewrite = in.GetUri()
	}
	if in.GetAuthority() != "" {
		action.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: in.GetAuthority()}
	}
}

func (r *router) mirrors(action *routev3.RouteAction, h *networking.HTTPRoute, field string) {
	add := func(to *networking.Destination, fraction *corev3.RuntimeFractionalPercent) {
		var via routev3.RouteAction
		r.send(&via, to)
		action.RequestMirrorPolicies = append(action.RequestMirrorPolicies, &routev3.RouteAction_RequestMirrorPolicy{
			Cluster:                       via.GetCluster(),
			RuntimeFraction:               fraction,
			TraceSampled:                  wrapperspb.Bool(false),
			DisableShadowHostSuffixAppend: true,
		})
	}
	if to := h.GetMirror(); to != nil {
		r.note(r.rule.Meta, field+".mirror", Degraded, "calls are not mirrored")
		add(to, &corev3.RuntimeFractionalPercent{DefaultValue: mirrorFraction(h)})
	}
	for i, m := range h.GetMirrors() {
		r.note(r.rule.Meta, fmt.Sprintf("%s.mirrors[%d]", field, i), Degraded, "calls are not mirrored")
		f := hundred(100)
		if m.GetPercentage() != nil {
			f = percentage(m.GetPercentage())
		}
		add(m.GetDestination(), &corev3.RuntimeFractionalPercent{DefaultValue: f})
	}
}

// headerCarrier is a message that headers to add and remove can be written to.
type headerCarrier interface{ proto.Message }

func (r *router) headers(out headerCarrier, in *networking.Headers, field string) {
	if in == nil {
		return
	}
	r.note(r.rule.Meta, field+".headers", Degraded, "headers are sent and received as they are")
	reqAdd, reqRemove := headerOperations(in.GetRequest())
	respAdd, respRemove := headerOperations(in.GetResponse())
	switch o := out.(type) {
	case *routev3.Route:
		o.RequestHeadersToAdd = append(o.RequestHeadersToAdd, reqAdd...)
		o.RequestHeadersToRemove = append(o.RequestHeadersToRemove, reqRemove...)
		o.ResponseHeadersToAdd = append(o.ResponseHeadersToAdd, respAdd...)
		o.ResponseHeadersToRemove = append(o.ResponseHeadersToRemove, respRemove...)
	case *routev3.WeightedCluster_ClusterWeight:
		o.RequestHeadersToAdd, o.RequestHeadersToRemove = reqAdd, reqRemove
		o.ResponseHeadersToAdd, o.ResponseHeadersToRemove = respAdd, respRemove
	}
}

func headerOperations(in *networking.Headers_HeaderOperations) (add []*corev3.HeaderValueOption, remove []string) {
	for _, k := range sortedKeys(in.GetSet()) {
		add = append(add, &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: k, Value: in.GetSet()[k]},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		})
	}
	for _, k := range sortedKeys(in.GetAdd()) {
		add = append(add, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: k, Value: in.GetAdd()[k]}})
	}
	return add, slices.Clone(in.GetRemove())
}

// everything is the match of a route that takes every call.
func everything() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}

// lower is how header names go over the wire.
func lower(name string) string { return strings.ToLower(name) }
