package decode

import (
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	sessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	cookiev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/cookie/v3"
	headerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/header/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

const (
	typeSessions      = typePrefix + "envoy.extensions.http.stateful_session."
	typeCookieSession = typeSessions + "cookie.v3.CookieBasedSessionState"
	typeHeaderSession = typeSessions + "header.v3.HeaderBasedSessionState"
)

var (
	sessionFields         = newFields("session_state", "strict", "stat_prefix", "status_on_strict_destination_not_found")
	sessionPerRouteFields = newFields("disabled", "stateful_session")
	cookieSessionFields   = newFields("cookie")
	headerSessionFields   = newFields("name")
	cookieFields          = newFields("name", "ttl", "path", "attributes")
	cookieAttributeFields = newFields("name", "value")
)

// statusUnavailable is the status of a call whose host is gone, if none is set.
const statusUnavailable = 503

// noSession keeps nobody anywhere. It is what switches sessions off that a
// broader scope configures.
func noSession() *snapshot.Session { return &snapshot.Session{} }

// statefulSession reads the filter that keeps clients on a host (gRFC A55), or
// what a route wants of it.
func (s *scope) statefulSession(a *anypb.Any) (*snapshot.Session, error) {
	if a.GetTypeUrl() == typeStatefulSession {
		m := &sessionv3.StatefulSession{}
		if err := proto.Unmarshal(a.GetValue(), m); err != nil {
			return nil, s.errorf("not a StatefulSession: %w", err)
		}
		return s.session(m)
	}
	m := &sessionv3.StatefulSessionPerRoute{}
	if err := proto.Unmarshal(a.GetValue(), m); err != nil {
		return nil, s.errorf("not a StatefulSessionPerRoute: %w", err)
	}
	s.noteRest(m, sessionPerRouteFields)
	switch o := m.GetOverride().(type) {
	case *sessionv3.StatefulSessionPerRoute_StatefulSession:
		return s.at("stateful_session").session(o.StatefulSession)
	case *sessionv3.StatefulSessionPerRoute_Disabled:
		if !o.Disabled {
			return nil, s.at("disabled").errorf("must be true, or not be set")
		}
		return noSession(), nil
	default:
		return nil, nil // nothing of its own
	}
}

func (s *scope) session(m *sessionv3.StatefulSession) (*snapshot.Session, error) {
	s.noteRest(m, sessionFields)
	if m.GetSessionState() == nil {
		return noSession(), nil
	}
	out, err := s.at("session_state").sessionState(m.GetSessionState())
	if err != nil {
		return nil, err
	}
	out.Strict = m.GetStrict()
	if status := m.GetStatusOnStrictDestinationNotFound(); out.Strict && status != 0 && status != statusUnavailable {
		s.at("status_on_strict_destination_not_found").notef("is not honoured: the status is %d", statusUnavailable)
	}
	return out, nil
}

func (s *scope) sessionState(c *corev3.TypedExtensionConfig) (*snapshot.Session, error) {
	s.noteRest(c, extensionFields)
	a, at := c.GetTypedConfig(), s.at("typed_config")
	switch a.GetTypeUrl() {
	case typeCookieSession:
		m := &cookiev3.CookieBasedSessionState{}
		if err := proto.Unmarshal(a.GetValue(), m); err != nil {
			return nil, at.errorf("not a CookieBasedSessionState: %w", err)
		}
		at.noteRest(m, cookieSessionFields)
		return at.at("cookie").sessionCookie(m)
	case typeHeaderSession:
		m := &headerv3.HeaderBasedSessionState{}
		if err := proto.Unmarshal(a.GetValue(), m); err != nil {
			return nil, at.errorf("not a HeaderBasedSessionState: %w", err)
		}
		at.noteRest(m, headerSessionFields)
		if m.GetName() == "" {
			return nil, at.at("name").errorf("must be set")
		}
		return &snapshot.Session{Header: strings.ToLower(m.GetName())}, nil
	default:
		s.notef("%s is not honoured yet: clients are not kept on a host", bareType(a))
		return noSession(), nil
	}
}

func (s *scope) sessionCookie(m *cookiev3.CookieBasedSessionState) (*snapshot.Session, error) {
	c := m.GetCookie()
	s.noteRest(c, cookieFields)
	if c.GetName() == "" {
		return nil, s.at("name").errorf("must be set")
	}
	ttl, err := s.at("ttl").duration(c.GetTtl())
	if err != nil {
		return nil, err
	}
	out := &snapshot.Session{Cookie: c.GetName(), Path: c.GetPath(), TTL: ttl}
	for i, a := range c.GetAttributes() {
		at := s.item("attributes", i, a.GetName())
		at.noteRest(a, cookieAttributeFields)
		for _, text := range []string{a.GetName(), a.GetValue()} {
			if err := at.headerValue(text); err != nil {
				return nil, err
			}
		}
		out.Attributes = append(out.Attributes, snapshot.HeaderEdit{Name: a.GetName(), Value: a.GetValue()})
	}
	for field, text := range map[string]string{"name": out.Cookie, "path": out.Path} {
		if err := s.at(field).headerValue(text); err != nil {
			return nil, err
		}
	}
	return out, nil
}
