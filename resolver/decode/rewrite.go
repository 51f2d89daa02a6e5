package decode

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

var (
	regexRewriteFields = newFields("pattern", "substitution")
	regexFields        = newFields("regex", "google_re2")
)

// rewrite reads what the upstream sees of a request; nil is no change. An
// authority that cannot be computed refuses the route: under the wrong one the
// upstream would answer for another host.
func (s *scope) rewrite(m *routev3.RouteAction) (*snapshot.Rewrite, error) {
	out := &snapshot.Rewrite{}
	if p := m.GetPrefixRewrite(); p != "" {
		out.HasPrefix, out.Prefix = true, p
	}
	if r := m.GetRegexRewrite(); r != nil {
		if out.HasPrefix {
			return nil, s.errorf("only one of prefix_rewrite and regex_rewrite may be set")
		}
		var err error
		if out.Regex, err = s.at("regex_rewrite").regexRewrite(r); err != nil {
			return nil, err
		}
	}
	switch {
	case m.GetPathRewritePolicy() != nil:
		return nil, s.at("path_rewrite_policy").errorf("is not supported")
	case m.GetPathRewrite() != "":
		return nil, s.at("path_rewrite").errorf("is not supported")
	}
	switch h := m.GetHostRewriteSpecifier().(type) {
	case nil:
	case *routev3.RouteAction_HostRewriteLiteral:
		out.Host = h.HostRewriteLiteral
		if err := s.at("host_rewrite_literal").headerValue(out.Host); err != nil {
			return nil, err
		}
	case *routev3.RouteAction_AutoHostRewrite:
		if h.AutoHostRewrite.GetValue() {
			s.at("auto_host_rewrite").notef("is not honoured yet: the authority stays")
		}
	default:
		return nil, s.unsupported(m, "host_rewrite_specifier")
	}
	if *out == (snapshot.Rewrite{}) {
		return nil, nil
	}
	return out, nil
}

// regexRewrite reads an expression and what replaces each of its matches;
// unlike in matchers it may match any part of its input.
func (s *scope) regexRewrite(m *matcherv3.RegexMatchAndSubstitute) (*snapshot.RegexRewrite, error) {
	s.noteRest(m, regexRewriteFields)
	at := s.at("pattern")
	at.noteRest(m.GetPattern(), regexFields)
	if m.GetPattern().GetRegex() == "" {
		return nil, at.at("regex").errorf("must not be empty")
	}
	re, err := regexp.Compile(m.GetPattern().GetRegex())
	if err != nil {
		return nil, at.at("regex").wrap(err)
	}
	out := &snapshot.RegexRewrite{Pattern: re}
	out.Substitution, err = substitution(m.GetSubstitution(), re.NumSubexp())
	if err != nil {
		return nil, s.at("substitution").wrap(err)
	}
	return out, nil
}

var errBackslash = errors.New(`a backslash must come before a digit or another backslash`)

// substitution turns the syntax of RE2, \1, into that of package regexp, ${1}.
func substitution(re2 string, groups int) (string, error) {
	var b strings.Builder
	for i := 0; i < len(re2); i++ {
		switch c := re2[i]; {
		case c == '$':
			b.WriteString("$$")
		case c != '\\':
			b.WriteByte(c)
		case i+1 < len(re2) && re2[i+1] == '\\':
			b.WriteByte('\\')
			i++
		case i+1 < len(re2) && re2[i+1] >= '0' && re2[i+1] <= '9':
			i++
			if n := int(re2[i] - '0'); n > groups {
				return "", fmt.Errorf(`\%d: the expression has %d groups`, n, groups)
			}
			b.WriteString("${" + re2[i:i+1] + "}")
		default:
			return "", errBackslash
		}
	}
	return b.String(), nil
}
