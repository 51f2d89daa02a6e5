package interceptors_test

import (
	"testing"

	sessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	headerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/header/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/internal/xdstest"
)

// TestSessionOfACommittedStream binds the client of a stream that is left to an
// attempt before a server has answered.
func TestSessionOfACommittedStream(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {server(t, "a").Addr}}, xdstest.Route(retry("unavailable", 3), "c"))
	f.Set(withSessions(t, &sessionv3.StatefulSession{SessionState: sessionState(&headerv3.HeaderBasedSessionState{Name: "x-host"})}))
	bound := 0
	for range 20 {
		st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C")
		if err != nil {
			t.Fatal(err)
		}
		st.Context()
		if err := st.SendMsg(wrapperspb.String("hello")); err != nil {
			t.Fatal(err)
		}
		_ = st.CloseSend()
		md, err := st.Header()
		if err != nil {
			t.Fatal(err)
		}
		var got wrapperspb.StringValue
		for st.RecvMsg(&got) == nil {
		}
		switch {
		case len(md["x-host"]) == 1:
			bound++
		case bound > 0:
			t.Fatalf("headers %v", md)
		}
	}
	if bound == 0 {
		t.Fatal("no stream was bound")
	}
}
