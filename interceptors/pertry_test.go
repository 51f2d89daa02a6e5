package interceptors_test

import (
	"context"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshframe/meshframe/internal/xdstest"
)

// TestFallbackAfterAnAttemptOutOfTime falls back when the time of an attempt is over,
// whose timer may still be at work. The race detector looks on.
func TestFallbackAfterAnAttemptOutOfTime(t *testing.T) {
	t.Parallel()
	gone := goneAddress(t)
	spare := server(t, "spare")
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {gone}, "spare": {spare.Addr}}, xdstest.Route(func(r *routev3.Route) {
		r.Metadata = extension(t, map[string]any{"fallback": map[string]any{"cluster": "spare"}})
		r.RequestHeadersToRemove = []string{"x-other"}
		r.GetRoute().RetryPolicy = &routev3.RetryPolicy{PerTryTimeout: durationpb.New(2 * time.Millisecond)}
	}, "c"), xdstest.Route(nil, "spare"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 200 {
		if got, err := f.call(ctx, grpc.WaitForReady(true)); err == nil && got != "spare" {
			t.Fatalf("got %q", got)
		}
	}
}
