package translate

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

// match translates one match of a route into the candidates that stand for it: none when it can never be true for this
// client, several when the client has no single matcher for it.
func (r *router) match(h *networking.HTTPRoute, m *networking.HTTPMatchRequest) []candidate {
	name := h.GetName()
	if m == nil {
		return []candidate{{route: &routev3.Route{Name: name, Match: everything()}, last: true}}
	}
	if !r.fromHere(m) {
		return nil
	}
	if m.GetName() != "" {
		name = strings.TrimPrefix(name+"."+m.GetName(), ".")
	}
	if len(m.GetQueryParams()) > 0 { // gRPC calls have no query
		return nil
	}
	path := pathMatch(m)
	if r.client.ours() {
		path.Headers = envoyHeaders(m)
		return []candidate{{route: &routev3.Route{Name: name, Match: path}, last: isEverything(path)}}
	}
	return grpcMatch(name, path, m)
}

// fromHere evaluates what the control plane knows about the client.
func (r *router) fromHere(m *networking.HTTPMatchRequest) bool {
	return contains(r.client.Labels, m.GetSourceLabels()) &&
		(m.GetSourceNamespace() == "" || m.GetSourceNamespace() == r.client.Namespace) &&
		(m.GetPort() == 0 || m.GetPort() == r.port.Number) &&
		(len(m.GetGateways()) == 0 || slices.Contains(m.GetGateways(), "mesh"))
}

func pathMatch(m *networking.HTTPMatchRequest) *routev3.RouteMatch {
	out := everything()
	out.CaseSensitive = wrapperspb.Bool(!m.GetIgnoreUriCase())
	switch u := m.GetUri().GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		out.PathSpecifier = &routev3.RouteMatch_Path{Path: u.Exact}
	case *networking.StringMatch_Prefix:
		out.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: u.Prefix}
	case *networking.StringMatch_Regex:
		out.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: u.Regex}}
	}
	return out
}

// isEverything reports whether a match takes every call.
func isEverything(m *routev3.RouteMatch) bool {
	p, ok := m.GetPathSpecifier().(*routev3.RouteMatch_Prefix)
	return ok && (p.Prefix == "/" || p.Prefix == "") && len(m.GetHeaders()) == 0
}

// envoyHeaders translates everything but the path for clients that match as Envoy does.
func envoyHeaders(m *networking.HTTPMatchRequest) []*routev3.HeaderMatcher {
	var list []*routev3.HeaderMatcher
	for _, k := range sortedKeys(m.GetHeaders()) {
		list = append(list, envoyHeader(lower(k), m.GetHeaders()[k]))
	}
	for _, k := range sortedKeys(m.GetWithoutHeaders()) {
		h := envoyHeader(lower(k), m.GetWithoutHeaders()[k])
		h.InvertMatch = true
		// Absent is not the value: the condition holds.
		h.TreatMissingHeaderAsEmpty = !isPresence(m.GetWithoutHeaders()[k])
		list = append(list, h)
	}
	slices.SortStableFunc(list, func(a, b *routev3.HeaderMatcher) int { return cmp.Compare(a.GetName(), b.GetName()) })
	for _, p := range pseudoHeaders(m) {
		if p.match != nil {
			list = append(list, envoyHeader(p.name, p.match))
		}
	}
	return list
}

type pseudoHeader struct {
	name  string
	match *networking.StringMatch
}

func pseudoHeaders(m *networking.HTTPMatchRequest) []pseudoHeader {
	return []pseudoHeader{{":method", m.GetMethod()}, {":authority", m.GetAuthority()}, {":scheme", m.GetScheme()}}
}

// isPresence reports whether a match only asks for the header to be there.
func isPresence(m *networking.StringMatch) bool { return m.GetMatchType() == nil }

func envoyHeader(name string, m *networking.StringMatch) *routev3.HeaderMatcher {
	out := &routev3.HeaderMatcher{Name: name}
	s := &matcherv3.StringMatcher{}
	switch v := m.GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		s.MatchPattern = &matcherv3.StringMatcher_Exact{Exact: v.Exact}
	case *networking.StringMatch_Prefix:
		s.MatchPattern = &matcherv3.StringMatcher_Prefix{Prefix: v.Prefix}
	case *networking.StringMatch_Regex:
		s.MatchPattern = &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: v.Regex}}
	default:
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}
		return out
	}
	out.HeaderMatchSpecifier = &routev3.HeaderMatcher_StringMatch{StringMatch: s}
	return out
}

// grpcMatch translates everything but the path for gRPC's own clients. They match metadata only: what a gRPC call is
// known to be (method POST, scheme http) is evaluated here, and authorities by the virtual host that they are in. A
// header that is absent never matches there, not even inverted, so that "not this value" becomes two routes.
func grpcMatch(name string, path *routev3.RouteMatch, m *networking.HTTPMatchRequest) []candidate {
	if !matches(m.GetMethod(), "POST") || !matches(m.GetScheme(), "http") {
		return nil
	}
	for _, k := range sortedKeys(m.GetHeaders()) {
		if unseen(lower(k)) { // the match is never true
			return nil
		}
		path.Headers = append(path.Headers, grpcHeader(lower(k), m.GetHeaders()[k]))
	}
	variants := []*routev3.RouteMatch{path}
	for _, k := range sortedKeys(m.GetWithoutHeaders()) {
		if unseen(lower(k)) { // the condition always holds
			continue
		}
		variants = without(variants, lower(k), m.GetWithoutHeaders()[k])
	}
	list := make([]candidate, len(variants))
	for i, v := range variants {
		list[i] = candidate{route: &routev3.Route{Name: name, Match: v}, last: m.GetAuthority() == nil && isEverything(v)}
		if a := m.GetAuthority(); a != nil {
			list[i].authority = func(host string) bool { return matches(a, host) }
		}
	}
	return list
}

// unseen says that gRPC clients do not offer a header to their matchers.
func unseen(name string) bool {
	return name == "user-agent" || name == "te" || strings.HasPrefix(name, "grpc-") || strings.HasSuffix(name, "-bin")
}

// without adds the condition that a header does not match to each variant.
func without(variants []*routev3.RouteMatch, name string, m *networking.StringMatch) []*routev3.RouteMatch {
	absent := &routev3.HeaderMatcher{
		Name: name, InvertMatch: true,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
	}
	var list []*routev3.RouteMatch
	for _, v := range variants {
		if !matches(m, "") { // an absent header counts as empty
			gone := proto.Clone(v).(*routev3.RouteMatch)
			gone.Headers = append(gone.Headers, absent)
			list = append(list, gone)
		}
		if !isPresence(m) {
			other := grpcHeader(name, m)
			other.InvertMatch = true
			v.Headers = append(v.Headers, other)
			list = append(list, v)
		}
	}
	return list
}

// grpcHeader uses the matchers that every gRPC release knows: string_match is refused by those of 2022 and before.
func grpcHeader(name string, m *networking.StringMatch) *routev3.HeaderMatcher {
	out := &routev3.HeaderMatcher{Name: name}
	switch v := m.GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_ExactMatch{ExactMatch: v.Exact}
	case *networking.StringMatch_Prefix:
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_PrefixMatch{PrefixMatch: v.Prefix}
	case *networking.StringMatch_Regex:
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_SafeRegexMatch{SafeRegexMatch: &matcherv3.RegexMatcher{Regex: v.Regex}}
	default:
		out.HeaderMatchSpecifier = &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}
	}
	return out
}

// matches evaluates a match of a value that is known here. No match asks for nothing.
func matches(m *networking.StringMatch, value string) bool {
	switch v := m.GetMatchType().(type) {
	case *networking.StringMatch_Exact:
		return value == v.Exact
	case *networking.StringMatch_Prefix:
		return strings.HasPrefix(value, v.Prefix)
	case *networking.StringMatch_Regex:
		re, err := regexp.Compile("^(?:" + v.Regex + ")$")
		return err == nil && re.MatchString(value)
	default:
		return m == nil || value != ""
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
