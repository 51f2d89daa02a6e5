package interceptors_test

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	sessionv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	cookiev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/cookie/v3"
	headerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/header/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/type/http/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/internal/xdstest"
)

const sessionFilter = "envoy.filters.http.stateful_session"

// withSessions is a listener whose filters begin with one for sessions by cookie.
func withSessions(t *testing.T, s *sessionv3.StatefulSession) *listenerv3.Listener {
	t.Helper()
	l := xdstest.Listener(target)
	hcm := &hcmv3.HttpConnectionManager{}
	if err := l.GetApiListener().GetApiListener().UnmarshalTo(hcm); err != nil {
		t.Fatal(err)
	}
	hcm.HttpFilters = append([]*hcmv3.HttpFilter{{
		Name: sessionFilter, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: xdstest.Any(s)},
	}}, hcm.GetHttpFilters()...)
	l.ApiListener.ApiListener = xdstest.Any(hcm)
	return l
}

func sessionState(m proto.Message) *corev3.TypedExtensionConfig {
	return &corev3.TypedExtensionConfig{Name: "state", TypedConfig: xdstest.Any(m)}
}

// TestSessionsOfAnyControlPlane makes calls by the filter for sessions: bound by
// cookies as the library and as Envoy write them, by a header on a route that
// has its own session, and not at all on one that has none.
func TestSessionsOfAnyControlPlane(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	a, b := server(t, "a"), server(t, "b")
	path := func(prefix string, s *sessionv3.StatefulSessionPerRoute) *routev3.Route {
		return xdstest.Route(func(r *routev3.Route) {
			r.Match = &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: prefix}}
			if s != nil {
				r.TypedPerFilterConfig = map[string]*anypb.Any{sessionFilter: xdstest.Any(s)}
			}
		}, "c")
	}
	strict := &sessionv3.StatefulSession{SessionState: sessionState(&headerv3.HeaderBasedSessionState{Name: "x-host"}), Strict: true}
	f.serve(map[string][]string{"c": {a.Addr, b.Addr}},
		path("/own", &sessionv3.StatefulSessionPerRoute{Override: &sessionv3.StatefulSessionPerRoute_StatefulSession{StatefulSession: strict}}),
		path("/off", &sessionv3.StatefulSessionPerRoute{Override: &sessionv3.StatefulSessionPerRoute_Disabled{Disabled: true}}),
		path("/", nil))
	f.Set(withSessions(t, &sessionv3.StatefulSession{SessionState: sessionState(&cookiev3.CookieBasedSessionState{
		Cookie: &httpv3.Cookie{Name: "sid", Path: "/shop"},
	})}))
	call := func(method string, headers ...string) (string, metadata.MD, error) {
		var md metadata.MD
		ctx := metadata.AppendToOutgoingContext(t.Context(), headers...)
		got, err := xdstest.Call(ctx, f.cc, method, grpc.Header(&md))
		return got, md, err
	}
	bound := func(method, want string, headers ...string) {
		t.Helper()
		for range 6 {
			got, md, err := call(method, headers...)
			if err != nil || got != want {
				t.Fatalf("%s with %q: %q, %v; want %q", method, headers, got, err, want)
			}
			if cookie := md.Get("set-cookie"); len(cookie) > 0 {
				t.Fatalf("%s with %q: bound anew by %q", method, headers, cookie)
			}
		}
	}
	var cookie string
	f.until(t, func(string, error) bool { // until the listener with the filter is there
		_, md, err := call("/shop.Reviews/Get")
		_, shop, shopErr := call("/shop/Get")
		if err != nil || shopErr != nil {
			return false
		}
		if len(md.Get("set-cookie")) > 0 {
			t.Fatal("a cookie for a path that it is not for")
		}
		cookie = strings.Join(shop.Get("set-cookie"), ",")
		return cookie != ""
	})
	first, _, _ := strings.Cut(cookie, ";")
	name, value, _ := strings.Cut(first, "=")
	raw, err := base64.StdEncoding.DecodeString(strings.Trim(value, `"`))
	if name != "sid" || err != nil || !strings.HasSuffix(cookie, "; Path=/shop; HttpOnly") {
		t.Fatalf("set-cookie: %s", cookie)
	}
	home := "a"
	if strings.HasSuffix(string(raw), b.Addr) {
		home = "b"
	}
	bound("/shop/Get", home, "cookie", first)
	// As Envoy writes it, before and since 1.25.
	bound("/shop/Get", "a", "cookie", "sid="+base64.StdEncoding.EncodeToString([]byte(a.Addr)))
	message := append([]byte{0x0a, byte(len(b.Addr))}, b.Addr...)
	bound("/shop/Get", "b", "cookie", `x=y; sid="`+base64.StdEncoding.EncodeToString(append(message, 0x10, 0x2a))+`"`)
	// By the header, strictly: a host that is gone is not replaced.
	_, md, err := call("/own.Reviews/Get")
	if err != nil || len(md.Get("x-host")) != 1 {
		t.Fatalf("headers %v, %v", md, err)
	}
	bound("/own.Reviews/Get", "b", "x-host", base64.StdEncoding.EncodeToString([]byte(b.Addr)))
	_, _, err = call("/own.Reviews/Get", "x-host", base64.StdEncoding.EncodeToString([]byte("10.0.0.9:80")))
	wantCode(t, err, codes.Unavailable)
	// Streams have the same.
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-host", base64.StdEncoding.EncodeToString([]byte(a.Addr)))
	for range 4 {
		wantStream(ctx, t, f, "/own.Reviews/Get", "a")
	}
	// Off: calls go anywhere, and nothing is said.
	seen := map[string]bool{}
	for range 20 {
		got, md, err := call("/off.Reviews/Get", "cookie", first)
		if err != nil || len(md.Get("set-cookie"))+len(md.Get("x-host")) > 0 {
			t.Fatalf("off: headers %v, %v", md, err)
		}
		seen[got] = true
	}
	if len(seen) != 2 {
		t.Errorf("off: calls went to %v", seen)
	}
}

func wantStream(ctx context.Context, t *testing.T, f *fixture, method, want string) {
	t.Helper()
	st, err := f.cc.NewStream(ctx, bidi, method)
	if err != nil {
		t.Fatal(err)
	}
	var got wrapperspb.StringValue
	if err := errors.Join(st.SendMsg(wrapperspb.String("hello")), st.CloseSend(), st.RecvMsg(&got)); err != nil || got.GetValue() != want {
		t.Fatalf("%s: %q, %v; want %q", method, got.GetValue(), err, want)
	}
	if err := st.RecvMsg(&got); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}
