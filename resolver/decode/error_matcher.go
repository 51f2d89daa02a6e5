package decode

import (
	"strconv"

	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/meshframe/meshframe/mesh/outlier"
)

var (
	errorMatcherFields    = newFields("error_matcher")
	responseHeadersFields = newFields("headers")
)

// errorStatuses are those that outlier detection takes for errors; nil is every
// 5xx.
func (s *scope) errorStatuses(m *httpv3.HttpProtocolOptions_OutlierDetection) *outlier.StatusSet {
	s.noteRest(m, errorMatcherFields)
	if m.GetErrorMatcher() == nil {
		return nil
	}
	set, err := s.at("error_matcher").statuses(m.GetErrorMatcher())
	if err != nil {
		s.report.notes = append(s.report.notes, err.Error()+": every 5xx counts as an error")
	}
	return set
}

// statuses are the HTTP statuses that a predicate over responses holds for.
// Predicates that look at more than the status cannot be read.
func (s *scope) statuses(m *matcherv3.MatchPredicate) (*outlier.StatusSet, error) {
	holds, err := s.predicate(m, 1)
	if err != nil {
		return nil, err
	}
	set := &outlier.StatusSet{}
	for status := outlier.FirstStatus; status <= outlier.LastStatus; status++ {
		if holds(strconv.Itoa(status)) {
			set.Add(status)
		}
	}
	return set, nil
}

// predicate returns what a predicate says of a status.
func (s *scope) predicate(m *matcherv3.MatchPredicate, depth int) (func(status string) bool, error) {
	if depth > maxPolicyDepth {
		return nil, s.errorf("is nested more than %d deep", maxPolicyDepth)
	}
	if err := s.refuseUnknown(m); err != nil {
		return nil, err
	}
	switch r := m.GetRule().(type) {
	case *matcherv3.MatchPredicate_OrMatch:
		return s.at("or_match").predicates(r.OrMatch, depth, true)
	case *matcherv3.MatchPredicate_AndMatch:
		return s.at("and_match").predicates(r.AndMatch, depth, false)
	case *matcherv3.MatchPredicate_NotMatch:
		inner, err := s.at("not_match").predicate(r.NotMatch, depth+1)
		return func(status string) bool { return !inner(status) }, err
	case *matcherv3.MatchPredicate_AnyMatch:
		return func(string) bool { return r.AnyMatch }, nil
	case *matcherv3.MatchPredicate_HttpResponseHeadersMatch:
		return s.at("http_response_headers_match").statusMatch(r.HttpResponseHeadersMatch)
	case nil:
		return nil, s.errorf("must have a rule")
	default:
		return nil, s.unsupported(m, "rule")
	}
}

// predicates joins predicates: any of them, or all of them.
func (s *scope) predicates(m *matcherv3.MatchPredicate_MatchSet, depth int, anyOf bool) (func(status string) bool, error) {
	err := s.refuseUnknown(m)
	if err != nil {
		return nil, err
	}
	list := make([]func(string) bool, len(m.GetRules()))
	for i, r := range m.GetRules() {
		if list[i], err = s.item("rules", i, "").predicate(r, depth+1); err != nil {
			return nil, err
		}
	}
	return func(status string) bool {
		for _, holds := range list {
			if holds(status) == anyOf {
				return anyOf
			}
		}
		return !anyOf
	}, nil
}

// statusMatch is a condition on the header :status; all of its parts must hold.
func (s *scope) statusMatch(m *matcherv3.HttpHeadersMatch) (func(status string) bool, error) {
	if err := s.refuseRest(m, responseHeadersFields); err != nil {
		return nil, err
	}
	var list []func(string) bool
	for i, h := range m.GetHeaders() {
		at := s.item("headers", i, "")
		match, err := at.header(h)
		if err != nil {
			return nil, err
		}
		if match.Name != ":status" {
			return nil, at.at("name").errorf("%q is not supported: only :status is", match.Name)
		}
		holds := condition(match.StringMatch)
		list = append(list, func(status string) bool { return holds(status) != match.Invert })
	}
	return func(status string) bool {
		for _, holds := range list {
			if !holds(status) {
				return false
			}
		}
		return true
	}, nil
}
