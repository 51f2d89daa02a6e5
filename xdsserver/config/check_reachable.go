package config

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	networking "istio.io/api/networking/v1alpha3"
)

// maxBroad bounds how many matches, places and selectors each later one is compared with. Those past it are only compared
// with their equals, if at all.
const maxBroad = 1000

// reach is what the routes so far take.
type reach struct {
	everything int // the route that takes every request; -1 is none
	seen       map[string]int
	broad      []broad // matches that may take requests of others
}

type broad struct {
	route int
	match *networking.HTTPMatchRequest
}

// checkReachable warns about routes that no request can reach, because the first route that fits is taken.
func checkReachable(r *reader, routes []*networking.HTTPRoute) {
	taken := &reach{everything: -1, seen: map[string]int{}}
	for i, route := range routes {
		path := element("spec.http", i)
		switch {
		case taken.everything >= 0 && len(routes[taken.everything].Match) == 0:
			r.warnf(path, "never used: http[%d] has no match and takes every request", taken.everything)
		case taken.everything >= 0:
			r.warnf(path, "never used: http[%d] takes every request", taken.everything)
		case len(route.Match) == 0:
			taken.everything = i
		default:
			taken.check(r, path, i, route.Match)
		}
	}
}

func (t *reach) check(r *reader, path string, index int, matches []*networking.HTTPMatchRequest) {
	for j, m := range matches {
		key := matchKey(m)
		if first, ok := t.seen[key]; ok {
			if first != index {
				r.warnf(element(field(path, "match"), j), "never used: http[%d] matches the same requests", first)
			}
			continue
		}
		t.seen[key] = index
		if k := slices.IndexFunc(t.broad, func(b broad) bool { return b.route != index && takesAll(b.match, m) }); k >= 0 {
			r.warnf(element(field(path, "match"), j), "never used: http[%d] takes all requests that it matches", t.broad[k].route)
			continue
		}
		if takesAll(m, &networking.HTTPMatchRequest{}) {
			t.everything = index
		}
		if m.GetUri().GetExact() == "" && len(t.broad) < maxBroad {
			t.broad = append(t.broad, broad{index, m})
		}
	}
}

// checkReachableTLS is checkReachable for TLS routes, which always have matches.
func checkReachableTLS(r *reader, routes []*networking.TLSRoute) {
	seen := equals{}
	for i, route := range routes {
		for j, m := range route.Match {
			seen.check(r, "spec.tls", i, j, m)
		}
	}
}

// checkReachableTCP is checkReachable for TCP routes.
func checkReachableTCP(r *reader, routes []*networking.TCPRoute) {
	everything, seen := -1, equals{}
	for i, route := range routes {
		if everything >= 0 {
			r.warnf(element("spec.tcp", i), "never used: tcp[%d] has no match and takes every connection", everything)
			continue
		}
		if len(route.Match) == 0 {
			everything = i
		}
		for j, m := range route.Match {
			seen.check(r, "spec.tcp", i, j, m)
		}
	}
}

// equals are matches by what they match, with the route that has each first.
type equals map[string]int

func (e equals) check(r *reader, path string, route, match int, m proto.Message) {
	b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(m) // it was read from text and can be written
	if first, ok := e[string(b)]; ok {
		r.warnf(element(field(element(path, route), "match"), match), "never used: %s[%d] matches the same connections", strings.TrimPrefix(path, "spec."), first)
		return
	}
	e[string(b)] = route
}

// takesAll reports whether every request that a narrow match takes is taken by a wide one. It may miss some, as where a
// regular expression is wider than another.
func takesAll(wide, narrow *networking.HTTPMatchRequest) bool {
	same := func(a, b *networking.StringMatch) bool { return a == nil || b != nil && proto.Equal(a, b) }
	among := func(a, b map[string]*networking.StringMatch) bool {
		for k, v := range a {
			if other, ok := b[k]; !ok || !proto.Equal(v, other) {
				return false
			}
		}
		return true
	}
	return coversPath(wide, narrow) &&
		same(wide.Method, narrow.Method) && same(wide.Scheme, narrow.Scheme) && same(wide.Authority, narrow.Authority) &&
		among(wide.Headers, narrow.Headers) && among(wide.WithoutHeaders, narrow.WithoutHeaders) && among(wide.QueryParams, narrow.QueryParams) &&
		(wide.Port == 0 || wide.Port == narrow.Port) &&
		(wide.SourceNamespace == "" || wide.SourceNamespace == narrow.SourceNamespace) &&
		coversLabels(wide.SourceLabels, narrow.SourceLabels) && coversGateways(wide.Gateways, narrow.Gateways)
}

func coversPath(wide, narrow *networking.HTTPMatchRequest) bool {
	fold := func(s string) string {
		if wide.IgnoreUriCase {
			return strings.ToLower(s)
		}
		return s
	}
	switch w := wide.GetUri().GetMatchType().(type) {
	case nil:
		return true
	case *networking.StringMatch_Prefix:
		if w.Prefix == "/" {
			return true // every path begins so
		}
		if narrow.IgnoreUriCase && !wide.IgnoreUriCase {
			return false
		}
		switch n := narrow.GetUri().GetMatchType().(type) {
		case *networking.StringMatch_Prefix:
			return strings.HasPrefix(fold(n.Prefix), fold(w.Prefix))
		case *networking.StringMatch_Exact:
			return strings.HasPrefix(fold(n.Exact), fold(w.Prefix))
		}
		return false
	default:
		return proto.Equal(wide.Uri, narrow.Uri) && (wide.IgnoreUriCase || !narrow.IgnoreUriCase)
	}
}

func coversLabels(wide, narrow map[string]string) bool {
	for k, v := range maps.All(wide) {
		if other, ok := narrow[k]; !ok || other != v {
			return false
		}
	}
	return true
}

// coversGateways compares lists of gateways. None is those of the rule, and each one written is among them.
func coversGateways(wide, narrow []string) bool {
	return len(wide) == 0 || len(narrow) > 0 && !slices.ContainsFunc(narrow, func(g string) bool { return !slices.Contains(wide, g) })
}

// matchKey is equal for matches that match the same.
func matchKey(m *networking.HTTPMatchRequest) string {
	m = proto.CloneOf(m)
	m.Name, m.StatPrefix = "", ""
	b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(m) // it was read from text and can be written
	return string(b)
}
