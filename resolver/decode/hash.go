package decode

import (
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

// channelID is the filter state that stands for the channel (gRFC A42).
const channelID = "io.grpc.channel_id"

var (
	hashPolicyFields = newFields("header", "cookie", "connection_properties", "query_parameter", "filter_state", "terminal")
	hashHeaderFields = newFields("header_name", "regex_rewrite")
	hashCookieFields = newFields("name", "ttl", "path", "attributes")
	hashQueryFields  = newFields("name")
	hashStateFields  = newFields("key")
	hashSourceFields = newFields("source_ip")
)

// hashPolicies reads hash_policy. One that can never give a value, such as a
// filter state that nobody sets, is noted and left out.
func (s *scope) hashPolicies(list []*routev3.RouteAction_HashPolicy) ([]snapshot.HashPolicy, error) {
	var out []snapshot.HashPolicy
	for i, m := range list {
		at := s.item("hash_policy", i, "")
		policy, ok, err := at.hashPolicy(m)
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, policy)
		}
	}
	return out, nil
}

func (s *scope) hashPolicy(m *routev3.RouteAction_HashPolicy) (out snapshot.HashPolicy, ok bool, err error) {
	s.noteRest(m, hashPolicyFields)
	out.Terminal = m.GetTerminal()
	switch p := m.GetPolicySpecifier().(type) {
	case *routev3.RouteAction_HashPolicy_Header_:
		err = s.at("header").hashHeader(p.Header, &out)
	case *routev3.RouteAction_HashPolicy_Cookie_:
		err = s.at("cookie").hashCookie(p.Cookie, &out)
	case *routev3.RouteAction_HashPolicy_QueryParameter_:
		s.at("query_parameter").noteRest(p.QueryParameter, hashQueryFields)
		out.Kind, out.Name = snapshot.HashQuery, p.QueryParameter.GetName()
		if out.Name == "" {
			err = s.at("query_parameter.name").errorf("must be set")
		}
	case *routev3.RouteAction_HashPolicy_ConnectionProperties_:
		s.at("connection_properties").noteRest(p.ConnectionProperties, hashSourceFields)
		out.Kind = snapshot.HashSourceIP
		if !p.ConnectionProperties.GetSourceIp() {
			s.at("connection_properties").notef("has no effect without source_ip")
			return out, false, nil
		}
	case *routev3.RouteAction_HashPolicy_FilterState_:
		s.at("filter_state").noteRest(p.FilterState, hashStateFields)
		out.Kind = snapshot.HashChannel
		if p.FilterState.GetKey() != channelID {
			s.at("filter_state").notef("%q is not known and has no effect", p.FilterState.GetKey())
			return out, false, nil
		}
	case nil:
		err = s.errorf("one of header, cookie, connection_properties, query_parameter and filter_state must be set")
	default:
		err = s.unsupported(m, "policy_specifier")
	}
	return out, err == nil, err
}

func (s *scope) hashHeader(m *routev3.RouteAction_HashPolicy_Header, out *snapshot.HashPolicy) (err error) {
	s.noteRest(m, hashHeaderFields)
	out.Kind, out.Name = snapshot.HashHeader, strings.ToLower(m.GetHeaderName())
	if out.Name == "" {
		return s.at("header_name").errorf("must be set")
	}
	if m.GetRegexRewrite() != nil {
		out.Regex, err = s.at("regex_rewrite").regexRewrite(m.GetRegexRewrite())
	}
	return err
}

func (s *scope) hashCookie(m *routev3.RouteAction_HashPolicy_Cookie, out *snapshot.HashPolicy) (err error) {
	s.noteRest(m, hashCookieFields)
	out.Kind, out.Name, out.Path = snapshot.HashCookie, m.GetName(), m.GetPath()
	if err := s.at("name").headerName(out.Name); err != nil {
		return err
	}
	if err := s.at("path").headerValue(out.Path); err != nil {
		return err
	}
	for i, a := range m.GetAttributes() {
		at := s.item("attributes", i, a.GetName())
		at.noteRest(a, cookieAttributeFields)
		if err := at.at("name").headerName(a.GetName()); err != nil {
			return err
		}
		if err := at.at("value").headerValue(a.GetValue()); err != nil {
			return err
		}
		out.Attributes = append(out.Attributes, snapshot.HeaderEdit{Name: a.GetName(), Value: a.GetValue()})
	}
	out.HasTTL = m.GetTtl() != nil
	out.TTL, err = s.at("ttl").duration(m.GetTtl())
	return err
}
