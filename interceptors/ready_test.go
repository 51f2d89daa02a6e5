package interceptors_test

import (
	"context"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshframe/meshframe/internal/xdstest"
)

// TestWaitForReadyBeforeAFallback makes calls that wait for ready where there is a
// fallback: they wait for a host, and fall back when the time of an attempt is over.
func TestWaitForReadyBeforeAFallback(t *testing.T) {
	t.Parallel()
	onEachRoad(t, func(t *testing.T, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
		f := newFixture(t, nil)
		spare := server(t, "spare")
		f.serve(map[string][]string{"c": nil, "spare": {spare.Addr}}, xdstest.Route(func(r *routev3.Route) {
			r.Match.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/tried."}
			r.Metadata = extension(t, map[string]any{"fallback": map[string]any{"cluster": "spare"}})
			retry("5xx", 1)(r)
			r.GetRoute().RetryPolicy.PerTryTimeout = durationpb.New(200 * time.Millisecond)
		}, "c"), xdstest.Route(func(r *routev3.Route) {
			r.Metadata = extension(t, map[string]any{"fallback": map[string]any{"cluster": "spare"}})
		}, "c"))

		if got, err := call(t.Context(), f, "/a.B/C"); got != "spare" {
			t.Fatalf("a call that does not wait: %q, %v", got, err)
		}
		if got, err := call(t.Context(), f, "/tried.B/C", grpc.WaitForReady(true)); got != "spare" {
			t.Errorf("when the time of its attempts is over: %q, %v", got, err)
		}
		before := spare.Calls.Load()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := call(ctx, f, "/a.B/C", grpc.WaitForReady(true))
		wantCode(t, err, codes.DeadlineExceeded)
		answer := make(chan string, 1)
		go func() {
			got, err := call(t.Context(), f, "/a.B/C", grpc.WaitForReady(true))
			if err != nil {
				t.Error(err)
			}
			answer <- got
		}()
		f.Set(xdstest.Endpoints("c", server(t, "c").Addr))
		if got := <-answer; got != "c" || spare.Calls.Load() != before {
			t.Errorf("a call that waited: %q; the fallback got %d calls more", got, spare.Calls.Load()-before)
		}
	})
}

// TestIdleStreamDoesNotFallBack has a stream wait for a host until it has stood still
// for too long.
func TestIdleStreamDoesNotFallBack(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*routev3.Route){"once": func(*routev3.Route) {}, "retry": retry("5xx", 1)} {
		f := newFixture(t, nil)
		f.serve(map[string][]string{"c": nil}, xdstest.Route(func(r *routev3.Route) {
			r.Metadata = extension(t, map[string]any{"fallback": map[string]any{"grpc": map[string]any{"code": 9, "message": "fallback"}}})
			r.GetRoute().IdleTimeout = durationpb.New(20 * time.Millisecond)
			edit(r)
		}, "c"))
		ends := make(chan error, 10)
		_, err := roads["stream"](t.Context(), f.cc, "/a.B/C", grpc.WaitForReady(true), grpc.OnFinish(func(err error) { ends <- err }))
		wantCode(t, err, codes.DeadlineExceeded, "idle")
		if end := <-ends; status.Code(end) != codes.DeadlineExceeded || len(ends) > 0 {
			t.Errorf("%s: OnFinish(%v), and %d times more", name, end, len(ends))
		}
	}
}
