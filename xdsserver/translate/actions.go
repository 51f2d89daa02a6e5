package translate

import (
	"cmp"
	"net/http"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// redirect translates an answer that names another place. gRPC's own clients fail such calls.
func (r *router) redirect(in *networking.HTTPRedirect) *routev3.RedirectAction {
	out := &routev3.RedirectAction{HostRedirect: in.GetAuthority(), PortRedirect: in.GetPort()}
	switch {
	case in.GetUri() != "":
		out.PathRewriteSpecifier = &routev3.RedirectAction_PathRedirect{PathRedirect: in.GetUri()}
	case in.GetPrefixRewrite() != "":
		out.PathRewriteSpecifier = &routev3.RedirectAction_PrefixRewrite{PrefixRewrite: in.GetPrefixRewrite()}
	}
	if in.GetScheme() != "" {
		out.SchemeRewriteSpecifier = &routev3.RedirectAction_SchemeRedirect{SchemeRedirect: in.GetScheme()}
	}
	if d, ok := in.GetRedirectPort().(*networking.HTTPRedirect_DerivePort); ok && d.DerivePort == networking.HTTPRedirect_FROM_REQUEST_PORT {
		out.PortRedirect = r.port.Number
	}
	if p, scheme := out.GetPortRedirect(), cmp.Or(in.GetScheme(), "http"); p == 80 && scheme == "http" || p == 443 && scheme == "https" {
		out.PortRedirect = 0 // it goes without saying, as in Istio
	}
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

// directResponse translates an answer without an upstream. gRPC's own clients fail such calls.
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

// rewrite changes path and authority. gRPC's own clients would send calls as they are made.
func (r *router) rewrite(action *routev3.RouteAction, in *networking.HTTPRewrite) {
	if !r.client.ours() {
		return
	}
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

// mirrors sends copies of calls elsewhere, under an authority that ends in "-shadow", by which a server knows them. gRPC's
// own clients do not, and are not to look for where. It returns by what the copies are bound to endpoints, if by anything:
// a route can have that once, so it is that of the first mirror that has some.
func (r *router) mirrors(action *routev3.RouteAction, h *networking.HTTPRoute) (bound []*routev3.RouteAction_HashPolicy) {
	if !r.client.ours() {
		return nil
	}
	add := func(to *networking.Destination, fraction *typev3.FractionalPercent) {
		var via routev3.RouteAction
		r.send(&via, to)
		if len(bound) == 0 {
			bound = via.GetHashPolicy()
		}
		action.RequestMirrorPolicies = append(action.RequestMirrorPolicies, &routev3.RouteAction_RequestMirrorPolicy{
			Cluster:         via.GetCluster(),
			RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: fraction},
		})
	}
	if to := h.GetMirror(); to != nil {
		add(to, mirrorFraction(h))
	}
	for _, m := range h.GetMirrors() {
		fraction := hundred(100)
		if m.GetPercentage() != nil {
			fraction = percentage(m.GetPercentage())
		}
		add(m.GetDestination(), fraction)
	}
	return bound
}

// mirrorFraction is the share of calls that Istio's older field mirrors: all when nothing is said.
func mirrorFraction(h *networking.HTTPRoute) *typev3.FractionalPercent {
	switch {
	case h.GetMirrorPercentage() != nil:
		return percentage(h.GetMirrorPercentage())
	case h.GetMirrorPercent() != nil:
		return hundred(h.GetMirrorPercent().GetValue())
	default:
		return hundred(100)
	}
}

// headers adds edits of headers to a route or a weighted cluster. gRPC's own clients send and receive headers as they
// are.
func (r *router) headers(out any, in *networking.Headers) {
	if in == nil || !r.client.ours() {
		return
	}
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
		if !isHost(k) {
			add = append(add, &corev3.HeaderValueOption{
				Header:       &corev3.HeaderValue{Key: k, Value: in.GetSet()[k]},
				AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
			})
		}
	}
	for _, k := range sortedKeys(in.GetAdd()) {
		if !isHost(k) {
			add = append(add, &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: k, Value: in.GetAdd()[k]}})
		}
	}
	return add, append(remove, in.GetRemove()...)
}

// isHost says that a header is the authority, which is changed by rewriting only.
func isHost(name string) bool {
	return strings.EqualFold(name, "host") || strings.EqualFold(name, ":authority")
}

// hostHeader is the authority that edits of request headers ask for, "" for none.
func hostHeader(in *networking.Headers) string {
	for _, edits := range []map[string]string{in.GetRequest().GetSet(), in.GetRequest().GetAdd()} {
		for _, k := range sortedKeys(edits) {
			if isHost(k) {
				return edits[k]
			}
		}
	}
	return ""
}

func (r *router) hostHeader(action *routev3.RouteAction, in *networking.Headers) {
	if host := hostHeader(in); host != "" && r.client.ours() {
		action.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: host}
	}
}
