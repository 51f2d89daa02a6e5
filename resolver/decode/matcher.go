package decode

import (
	"regexp"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/meshframe/meshframe/mesh/route"
)

var routeMatchFields = newFields("prefix", "path", "safe_regex", "path_separated_prefix",
	"case_sensitive", "headers", "query_parameters", "runtime_fraction", "grpc")

// match reads the condition of a route. Any part that cannot be read makes the
// whole condition unknown.
func (s *scope) match(m *routev3.RouteMatch) (route.Match, error) {
	if m == nil {
		return route.Match{}, s.errorf("must be set")
	}
	if err := s.refuseRest(m, routeMatchFields); err != nil {
		return route.Match{}, err
	}
	out, err := s.pathMatch(m)
	if err != nil {
		return route.Match{}, err
	}
	for i, h := range m.GetHeaders() {
		hm, err := s.item("headers", i, h.GetName()).header(h)
		if err != nil {
			return route.Match{}, err
		}
		out.Headers = append(out.Headers, hm)
	}
	if g := m.GetGrpc(); g != nil {
		if err := s.at("grpc").refuseUnknown(g); err != nil {
			return route.Match{}, err
		}
		out.Headers = append(out.Headers, grpcOnly)
	}
	for i, q := range m.GetQueryParameters() {
		qm, err := s.item("query_parameters", i, q.GetName()).query(q)
		if err != nil {
			return route.Match{}, err
		}
		out.Query = append(out.Query, qm)
	}
	out.Fraction, out.HasFraction, err = s.at("runtime_fraction").runtimeFraction(m.GetRuntimeFraction())
	return out, err
}

// grpcOnly is RouteMatch.grpc: what makes a request a gRPC request.
var grpcOnly = route.HeaderMatch{
	Name:        "content-type",
	StringMatch: route.StringMatch{Kind: route.StringPrefix, Value: "application/grpc"},
}

func (s *scope) pathMatch(m *routev3.RouteMatch) (route.Match, error) {
	out := route.Match{IgnoreCase: m.GetCaseSensitive() != nil && !m.GetCaseSensitive().GetValue()}
	switch p := m.GetPathSpecifier().(type) {
	case *routev3.RouteMatch_Prefix:
		out.Path, out.Value = route.PathPrefix, p.Prefix
	case *routev3.RouteMatch_Path:
		out.Path, out.Value = route.PathExact, p.Path
	case *routev3.RouteMatch_PathSeparatedPrefix:
		out.Path, out.Value = route.PathSeparatedPrefix, p.PathSeparatedPrefix
		if !separable(p.PathSeparatedPrefix) {
			return out, s.at("path_separated_prefix").errorf("%q must begin with a slash, must not end in one, and has no query or fragment", p.PathSeparatedPrefix)
		}
	case *routev3.RouteMatch_SafeRegex:
		out.Path, out.IgnoreCase = route.PathRegex, false
		var err error
		out.Regex, err = s.at("safe_regex").regex(p.SafeRegex)
		return out, err
	default:
		return out, s.errorf("one of prefix, path, safe_regex and path_separated_prefix must be set")
	}
	return out, nil
}

func separable(prefix string) bool {
	return len(prefix) > 1 && prefix[0] == '/' && !strings.HasSuffix(prefix, "/") && !strings.ContainsAny(prefix, "?#")
}

// regex compiles an RE2 expression that must match the whole of its input.
func (s *scope) regex(m *matcherv3.RegexMatcher) (*regexp.Regexp, error) {
	if m.GetRegex() == "" {
		return nil, s.at("regex").errorf("must not be empty")
	}
	re, err := route.Anchor(m.GetRegex())
	if err != nil {
		return nil, s.at("regex").wrap(err)
	}
	return re, s.refuseUnknown(m)
}

func (s *scope) runtimeFraction(f *corev3.RuntimeFractionalPercent) (fraction uint32, has bool, err error) {
	if f == nil {
		return 0, false, nil
	}
	s.noteRest(f, runtimeFractionFields)
	if f.GetDefaultValue() == nil {
		return 0, true, s.at("default_value").errorf("must be set")
	}
	fraction, err = s.at("default_value").millionths(f.GetDefaultValue())
	return fraction, true, err
}

var runtimeFractionFields = newFields("default_value")

// header reads a header matcher. A matcher without any condition asks for the
// header to be present, as in Envoy.
func (s *scope) header(m *routev3.HeaderMatcher) (route.HeaderMatch, error) {
	out := route.HeaderMatch{
		Name:                strings.ToLower(m.GetName()),
		Invert:              m.GetInvertMatch(),
		TreatMissingAsEmpty: m.GetTreatMissingHeaderAsEmpty(),
	}
	if out.Name == "" {
		return out, s.at("name").errorf("must be set")
	}
	if err := s.refuseRest(m, headerFields); err != nil {
		return out, err
	}
	var err error
	switch c := m.GetHeaderMatchSpecifier().(type) {
	case nil:
		out.Kind = route.StringPresent
	case *routev3.HeaderMatcher_PresentMatch:
		out.Kind = route.StringPresent
		out.Invert = out.Invert != !c.PresentMatch
	case *routev3.HeaderMatcher_StringMatch:
		out.StringMatch, err = s.at("string_match").stringMatch(c.StringMatch)
	case *routev3.HeaderMatcher_ExactMatch:
		out.Kind, out.Value = route.StringExact, c.ExactMatch
	case *routev3.HeaderMatcher_PrefixMatch:
		out.StringMatch, err = s.at("prefix_match").part(route.StringPrefix, c.PrefixMatch)
	case *routev3.HeaderMatcher_SuffixMatch:
		out.StringMatch, err = s.at("suffix_match").part(route.StringSuffix, c.SuffixMatch)
	case *routev3.HeaderMatcher_ContainsMatch:
		out.StringMatch, err = s.at("contains_match").part(route.StringContains, c.ContainsMatch)
	case *routev3.HeaderMatcher_SafeRegexMatch:
		out.Kind = route.StringRegex
		out.Regex, err = s.at("safe_regex_match").regex(c.SafeRegexMatch)
	case *routev3.HeaderMatcher_RangeMatch:
		out.Kind, out.Low, out.High = route.StringRange, c.RangeMatch.GetStart(), c.RangeMatch.GetEnd()
		err = s.at("range_match").refuseUnknown(c.RangeMatch)
	default:
		err = s.unsupported(m, "header_match_specifier")
	}
	return out, err
}

var headerFields = newFields("name", "invert_match", "treat_missing_header_as_empty", "present_match",
	"string_match", "exact_match", "prefix_match", "suffix_match", "contains_match", "safe_regex_match", "range_match")

// headers reads a list of header matchers.
func (s *scope) headers(field string, list []*routev3.HeaderMatcher) ([]route.HeaderMatch, error) {
	var out []route.HeaderMatch
	for i, m := range list {
		match, err := s.item(field, i, m.GetName()).header(m)
		if err != nil {
			return nil, err
		}
		out = append(out, match)
	}
	return out, nil
}

// lookup finds a header of a request, pseudo headers too.
type lookup = func(name string) (value string, ok bool)

// found lets a lookup answer the matchers of routes.
type found lookup

// Header returns the value.
func (f found) Header(name string) (value string, ok bool) { return f(name) }

// allOf makes a condition on a request of matchers that must all hold.
func allOf(list []route.HeaderMatch) func(header lookup) bool {
	table := route.Compile([]route.Match{{Headers: list}})
	return func(header lookup) bool {
		value := func(name string) string {
			v, _ := header(name)
			return v
		}
		return table.Find(&route.Request{
			Headers: found(header), Path: value(":path"), Method: value(":method"), Authority: value(":authority"), Scheme: value(":scheme"),
		}, nil) == 0
	}
}

// anyOf makes a condition on a request of matchers of which one must hold.
func anyOf(list []route.HeaderMatch) func(header lookup) bool {
	var each []func(header lookup) bool
	for _, m := range list {
		each = append(each, allOf([]route.HeaderMatch{m}))
	}
	return func(header lookup) bool {
		return slices.ContainsFunc(each, func(holds func(lookup) bool) bool { return holds(header) })
	}
}

func (s *scope) stringMatch(m *matcherv3.StringMatcher) (route.StringMatch, error) {
	var out route.StringMatch
	err := s.refuseUnknown(m)
	if err != nil {
		return out, err
	}
	switch c := m.GetMatchPattern().(type) {
	case *matcherv3.StringMatcher_Exact:
		out.Kind, out.Value = route.StringExact, c.Exact
	case *matcherv3.StringMatcher_Prefix:
		out, err = s.at("prefix").part(route.StringPrefix, c.Prefix)
	case *matcherv3.StringMatcher_Suffix:
		out, err = s.at("suffix").part(route.StringSuffix, c.Suffix)
	case *matcherv3.StringMatcher_Contains:
		out, err = s.at("contains").part(route.StringContains, c.Contains)
	case *matcherv3.StringMatcher_SafeRegex:
		out.Kind = route.StringRegex
		out.Regex, err = s.at("safe_regex").regex(c.SafeRegex)
		return out, err // ignore_case has no effect on expressions
	case nil:
		err = s.errorf("one of exact, prefix, suffix, contains and safe_regex must be set")
	default:
		err = s.unsupported(m, "match_pattern")
	}
	out.IgnoreCase = m.GetIgnoreCase()
	return out, err
}

// part is a match of a part of a string, which must not be empty: every string
// has that.
func (s *scope) part(kind route.StringKind, value string) (route.StringMatch, error) {
	if value == "" {
		return route.StringMatch{}, s.errorf("must not be empty")
	}
	return route.StringMatch{Kind: kind, Value: value}, nil
}

func (s *scope) query(m *routev3.QueryParameterMatcher) (route.QueryMatch, error) {
	out := route.QueryMatch{Name: m.GetName()}
	if out.Name == "" {
		return out, s.at("name").errorf("must be set")
	}
	err := s.refuseUnknown(m)
	if err != nil {
		return out, err
	}
	switch c := m.GetQueryParameterMatchSpecifier().(type) {
	case nil:
		out.Kind = route.StringPresent
	case *routev3.QueryParameterMatcher_PresentMatch:
		out.Kind = route.StringPresent
		if !c.PresentMatch {
			err = s.at("present_match").errorf("false is not supported")
		}
	case *routev3.QueryParameterMatcher_StringMatch:
		out.StringMatch, err = s.at("string_match").stringMatch(c.StringMatch)
	default:
		err = s.unsupported(m, "query_parameter_match_specifier")
	}
	return out, err
}
