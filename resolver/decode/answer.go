package decode

import (
	"math"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

var (
	redirectFields = newFields("https_redirect", "scheme_redirect", "host_redirect", "port_redirect", "path_redirect",
		"prefix_rewrite", "regex_rewrite", "response_code", "strip_query")
	directResponseFields = newFields("status", "body")
)

var redirectStatus = map[routev3.RedirectAction_RedirectResponseCode]int{
	routev3.RedirectAction_MOVED_PERMANENTLY:  301,
	routev3.RedirectAction_FOUND:              302,
	routev3.RedirectAction_SEE_OTHER:          303,
	routev3.RedirectAction_TEMPORARY_REDIRECT: 307,
	routev3.RedirectAction_PERMANENT_REDIRECT: 308,
}

func (s *scope) redirect(m *routev3.RedirectAction) (*snapshot.Redirect, error) {
	s.noteRest(m, redirectFields)
	status, known := redirectStatus[m.GetResponseCode()]
	if !known {
		return nil, s.at("response_code").errorf("%d is not known", m.GetResponseCode())
	}
	out := &snapshot.Redirect{
		Status: status, Scheme: m.GetSchemeRedirect(), Host: m.GetHostRedirect(), Port: m.GetPortRedirect(),
		Path: m.GetPathRedirect(), DropQuery: m.GetStripQuery(),
	}
	if m.GetHttpsRedirect() {
		out.Scheme = "https"
	}
	if out.Port > math.MaxUint16 {
		return nil, s.at("port_redirect").errorf("is %d, must be at most %d", out.Port, math.MaxUint16)
	}
	switch p := m.GetPathRewriteSpecifier().(type) {
	case *routev3.RedirectAction_PrefixRewrite:
		out.Rewrite = &snapshot.Rewrite{HasPrefix: true, Prefix: p.PrefixRewrite}
	case *routev3.RedirectAction_RegexRewrite:
		regex, err := s.at("regex_rewrite").regexRewrite(p.RegexRewrite)
		if err != nil {
			return nil, err
		}
		out.Rewrite = &snapshot.Rewrite{Regex: regex}
	}
	if err := s.headerValue(out.Scheme + out.Host + out.Path); err != nil {
		return nil, err
	}
	return out, nil
}

// Statuses that an answer may have.
const (
	minStatus = 200
	maxStatus = 599
)

// directResponse reads an answer; its body must be in the resource itself.
func (s *scope) directResponse(m *routev3.DirectResponseAction) (*snapshot.DirectResponse, error) {
	s.noteRest(m, directResponseFields)
	if m.GetStatus() < minStatus || m.GetStatus() > maxStatus {
		return nil, s.at("status").errorf("is %d, must be between %d and %d", m.GetStatus(), minStatus, maxStatus)
	}
	out := &snapshot.DirectResponse{Status: int(m.GetStatus())}
	at := s.at("body")
	at.noteRest(m.GetBody(), dataSourceFields)
	switch b := m.GetBody().GetSpecifier().(type) {
	case nil:
	case *corev3.DataSource_InlineString:
		out.Body = b.InlineString
	case *corev3.DataSource_InlineBytes:
		out.Body = string(b.InlineBytes)
	default:
		return nil, at.unsupported(m.GetBody(), "specifier")
	}
	return out, nil
}

var dataSourceFields = newFields("inline_string", "inline_bytes", "filename", "environment_variable")
