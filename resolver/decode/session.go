package decode

import (
	sessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// statefulSession reads the filter that keeps clients on a host (gRFC A55). Its
// calls go to any host for now, which is noted: sessions are configured at
// clusters only.
func (s *scope) statefulSession(a *anypb.Any) error {
	if a.GetTypeUrl() == typeStatefulSession {
		m := &sessionv3.StatefulSession{}
		if err := proto.Unmarshal(a.GetValue(), m); err != nil {
			return s.errorf("not a StatefulSession: %w", err)
		}
		s.sessionState(m)
		return nil
	}
	m := &sessionv3.StatefulSessionPerRoute{}
	if err := proto.Unmarshal(a.GetValue(), m); err != nil {
		return s.errorf("not a StatefulSessionPerRoute: %w", err)
	}
	s.at("stateful_session").sessionState(m.GetStatefulSession())
	return nil
}

func (s *scope) sessionState(m *sessionv3.StatefulSession) {
	if m.GetSessionState() != nil {
		s.at("session_state").notef("is not honoured yet: clients are not kept on a host")
	}
}
