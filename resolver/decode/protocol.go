package decode

import (
	"strconv"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"

	"github.com/meshframe/meshframe/mesh/outlier"
)

// The key of typed_extension_protocol_options that is read.
const httpProtocolOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

var (
	protocolFields        = newFields("outlier_detection", "explicit_http_config", "use_downstream_protocol_config", "auto_config")
	explicitFields        = newFields("http_protocol_options", "http2_protocol_options")
	downstreamFields      = newFields("http_protocol_options", "http2_protocol_options")
	errorMatcherFields    = newFields("error_matcher")
	responseHeadersFields = newFields("headers")
	noFields              = newFields()
)

// protocolOptions reads the options of HTTP upstreams, of which outlier
// detection's error matcher counts. Which protocol they ask for does not matter:
// gRPC is HTTP/2.
func (s *scope) protocolOptions(m *clusterv3.Cluster) (*outlier.StatusSet, error) {
	for name := range m.GetTypedExtensionProtocolOptions() {
		if name != httpProtocolOptions {
			s.at("typed_extension_protocol_options[" + name + "]").notef("is not honoured yet")
		}
	}
	a := m.GetTypedExtensionProtocolOptions()[httpProtocolOptions]
	if a == nil {
		return nil, nil
	}
	at, options := s.at("typed_extension_protocol_options["+httpProtocolOptions+"]"), &httpv3.HttpProtocolOptions{}
	if err := proto.Unmarshal(a.GetValue(), options); err != nil {
		return nil, at.errorf("not a %s: %w", options.ProtoReflect().Descriptor().FullName(), err)
	}
	at.noteRest(options, protocolFields)
	explicit, downstream := options.GetExplicitHttpConfig(), options.GetUseDownstreamProtocolConfig()
	at.at("explicit_http_config").protocol(explicit, explicitFields, explicit)
	at.at("use_downstream_protocol_config").protocol(downstream, downstreamFields, downstream)
	auto := options.GetAutoConfig()
	at.at("auto_config").protocol(auto, downstreamFields, auto)
	detection := options.GetOutlierDetection()
	at = at.at("outlier_detection")
	at.noteRest(detection, errorMatcherFields)
	if detection.GetErrorMatcher() == nil {
		return nil, nil
	}
	set, err := at.at("error_matcher").statuses(detection.GetErrorMatcher())
	if err != nil {
		s.report.notes = append(s.report.notes, err.Error()+": every 5xx counts as an error")
	}
	return set, nil
}

// protocol notes what is asked of the protocol itself.
func (s *scope) protocol(m proto.Message, read fields, options interface {
	GetHttpProtocolOptions() *corev3.Http1ProtocolOptions
	GetHttp2ProtocolOptions() *corev3.Http2ProtocolOptions
},
) {
	s.noteRest(m, read)
	s.at("http_protocol_options").noteRest(options.GetHttpProtocolOptions(), noFields)
	s.at("http2_protocol_options").noteRest(options.GetHttp2ProtocolOptions(), noFields)
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
	switch r := m.GetRule().(type) {
	case *matcherv3.MatchPredicate_OrMatch:
		return s.at("or_match").predicates(r.OrMatch.GetRules(), depth, true)
	case *matcherv3.MatchPredicate_AndMatch:
		return s.at("and_match").predicates(r.AndMatch.GetRules(), depth, false)
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
func (s *scope) predicates(rules []*matcherv3.MatchPredicate, depth int, anyOf bool) (func(status string) bool, error) {
	list := make([]func(string) bool, len(rules))
	for i, r := range rules {
		var err error
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
