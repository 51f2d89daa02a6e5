package interceptors_test

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/interceptors"
	"github.com/meshframe/meshframe/internal/xdstest"
)

// asked is a server that refuses all calls and keeps the headers of each.
type asked struct {
	*xdstest.Server

	mu   sync.Mutex
	seen [][]string
}

func newAsked(t *testing.T) *asked {
	a := &asked{}
	a.Server = xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(ss.Context())
		var own []string
		for name, values := range md {
			if strings.HasPrefix(name, "x-") || name == "end-user" {
				own = append(own, name+": "+strings.Join(values, "|"))
			}
		}
		slices.Sort(own)
		a.mu.Lock()
		a.seen = append(a.seen, own)
		a.mu.Unlock()
		return status.Error(codes.Unavailable, "not now")
	})
	return a
}

// take returns the headers of the attempts since the last time.
func (a *asked) take() [][]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	seen := a.seen
	a.seen = nil
	return seen
}

// TestAskingLeavesTheCallersMetadata shows that headers by which a call asks for
// something are found however they were written, match routes, are kept from the
// server, and stay in what the caller has.
func TestAskingLeavesTheCallersMetadata(t *testing.T) {
	t.Parallel()
	s := newAsked(t)
	f := newFixtureOf(t, xdstest.NewControlPlane(t), nil, interceptors.ClientOptions{EnvoyRequestHeaders: true})
	matched := xdstest.Route(func(r *routev3.Route) {
		r.Match.Headers = []*routev3.HeaderMatcher{{Name: "x-envoy-max-retries", HeaderMatchSpecifier: &routev3.HeaderMatcher_ExactMatch{ExactMatch: "3"}}}
		retry("cancelled", 1)(r)
	}, "c")
	f.serve(map[string][]string{"c": {s.Addr}}, matched, xdstest.Route(func(r *routev3.Route) {
		r.Action = &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 404}}
	}))
	md := metadata.MD{"X-Envoy-Max-Retries": {"3"}, "End-User": {"jason"}, "x-more": {"a", "b"}}
	ctx := metadata.NewOutgoingContext(t.Context(), md)
	ctx = metadata.AppendToOutgoingContext(ctx, "x-envoy-retry-on", "gateway-error", "X-Envoy-Retry-On", "reset", "x-last", "z")

	want := []string{"end-user: jason", "x-last: z", "x-more: a|b"}
	for name, call := range map[string]func() error{
		"unary": func() error {
			_, err := f.call(ctx)
			return err
		},
		"stream": func() error {
			st, err := f.cc.NewStream(ctx, bidi, "/a.B/C")
			if err != nil {
				return err
			}
			return st.RecvMsg(&wrapperspb.StringValue{})
		},
	} {
		wantCode(t, call(), codes.Unavailable, "not now")
		if diff := cmp.Diff([][]string{want, want, want, want}, s.take()); diff != "" {
			t.Errorf("%s: attempts seen (-want +got):\n%s", name, diff)
		}
	}
	own := metadata.MD{"X-Envoy-Max-Retries": {"3"}, "End-User": {"jason"}, "x-more": {"a", "b"}}
	if diff := cmp.Diff(own, md); diff != "" {
		t.Errorf("the caller's metadata (-want +got):\n%s", diff)
	}
	sent, _ := metadata.FromOutgoingContext(ctx)
	if got := slices.Sorted(maps.Keys(sent)); len(got) != 5 {
		t.Errorf("the caller's context has %v", got)
	}
	if f.manager.Target(target).Snapshot().Upstreams[0].State.InUse() {
		t.Error("the cluster is in use after the calls have ended")
	}
}

// TestAskedByEdits shows that retries may be asked for by a route, whose timeout
// comes too late and is sent, as by Envoy.
func TestAskedByEdits(t *testing.T) {
	t.Parallel()
	s := newAsked(t)
	f := newFixtureOf(t, xdstest.NewControlPlane(t), nil, interceptors.ClientOptions{EnvoyRequestHeaders: true})
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(func(r *routev3.Route) {
		for name, value := range map[string]string{
			"x-envoy-retry-grpc-on": "unavailable", "x-envoy-max-retries": "2", "x-envoy-upstream-rq-timeout-ms": "1",
			"x-envoy-upstream-rq-per-try-timeout-ms": "1", "x-route": "yes",
		} {
			r.RequestHeadersToAdd = append(r.RequestHeadersToAdd, headerOption(name, value, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD))
		}
	}, "c"))
	sent := []string{"x-envoy-upstream-rq-timeout-ms: 1", "x-route: yes"}
	_, err := f.call(t.Context())
	wantCode(t, err, codes.Unavailable, "not now")
	if diff := cmp.Diff([][]string{sent, sent, sent}, s.take()); diff != "" {
		t.Errorf("attempts seen (-want +got):\n%s", diff)
	}
	// The numbers of the call and of the route are one header, which is no number.
	_, err = f.call(metadata.AppendToOutgoingContext(t.Context(), "x-envoy-max-retries", "1"))
	wantCode(t, err, codes.Unavailable, "not now")
	if diff := cmp.Diff([][]string{sent, sent}, s.take()); diff != "" {
		t.Errorf("attempts seen (-want +got):\n%s", diff)
	}
}
