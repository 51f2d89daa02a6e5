package interceptors_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/interceptors"
	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/ratelimit"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

func serve(ctx context.Context, s *interceptors.Server, handler grpc.UnaryHandler) error {
	_, err := s.Unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/a.B/C"}, handler)
	return err
}

func ok(context.Context, any) (any, error) { return nil, nil }

func TestServerWithoutPolicies(t *testing.T) {
	s := interceptors.NewServer()
	s.Configure(&snapshot.Listener{})
	if err := serve(t.Context(), s, ok); err != nil {
		t.Error(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = serve(context.Background(), s, ok) }); n > 1 {
		t.Errorf("a server without policies allocates %v times a call", n)
	}
}

func TestServerRefuses(t *testing.T) {
	s := interceptors.NewServer()
	s.Refuse(errors.New("rbac"))
	wantCode(t, serve(t.Context(), s, ok), codes.PermissionDenied, "rbac")
	s.Refuse(nil)
	if err := serve(t.Context(), s, ok); err != nil {
		t.Error(err)
	}
}

func TestServerRateLimit(t *testing.T) {
	s := interceptors.NewServer()
	l := &snapshot.Listener{RateLimit: &ratelimit.Policy{
		Status: 429, Bucket: ratelimit.Bucket{MaxTokens: 2, TokensPerFill: 1, FillInterval: time.Hour}, Enforced: 1_000_000,
	}}
	s.Configure(l)
	for range 2 {
		if err := serve(t.Context(), s, ok); err != nil {
			t.Fatal(err)
		}
	}
	s.Configure(&snapshot.Listener{RateLimit: l.RateLimit, MaxConcurrent: 5}) // keeps the bucket
	wantCode(t, serve(t.Context(), s, ok), codes.ResourceExhausted, "rate limited")
	s.Configure(nil)
	if err := serve(t.Context(), s, ok); err != nil {
		t.Error(err)
	}
}

func TestServerShedsLoad(t *testing.T) {
	s := interceptors.NewServer()
	s.Configure(&snapshot.Listener{MaxConcurrent: 1})
	err := serve(t.Context(), s, func(context.Context, any) (any, error) {
		return nil, serve(t.Context(), s, ok)
	})
	wantCode(t, err, codes.Unavailable, "sheds load")
	if err := serve(t.Context(), s, ok); err != nil {
		t.Errorf("after the first call: %v", err)
	}
}

func TestServerFault(t *testing.T) {
	s := interceptors.NewServer()
	s.Configure(&snapshot.Listener{MaxConcurrent: 1, Fault: &fault.Policy{AbortGRPC: int(codes.DataLoss), AbortFraction: fault.Million, Delay: time.Millisecond, DelayFraction: fault.Million}})
	for range 3 {
		wantCode(t, serve(metadata.NewIncomingContext(t.Context(), metadata.MD{}), s, ok), codes.DataLoss, "fault")
	}
	for _, without := range []fault.Policy{{AbortHTTP: 200}, {AbortGRPC: int(codes.OK)}} { // the handler is not called
		without.AbortFraction = fault.Million
		s.Configure(&snapshot.Listener{Fault: &without})
		wantCode(t, serve(metadata.NewIncomingContext(t.Context(), metadata.MD{}), s, ok), codes.Unknown, "fault")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Configure(&snapshot.Listener{Fault: &fault.Policy{AbortGRPC: -1, Delay: time.Hour, DelayFraction: fault.Million}})
	wantCode(t, serve(ctx, s, ok), codes.Canceled)
}

// incomingStream is a stream as far as Server looks at it.
type incomingStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s incomingStream) Context() context.Context { return s.ctx }

// TestServerFaultsOfRequests plays faults that requests ask for, that are for some
// of them, and of which few may be active, on calls and on streams.
func TestServerFaultsOfRequests(t *testing.T) {
	t.Parallel()
	for road, serve := range map[string]func(context.Context, *interceptors.Server) error{
		"unary": func(ctx context.Context, s *interceptors.Server) error { return serve(ctx, s, ok) },
		"stream": func(ctx context.Context, s *interceptors.Server) error {
			return s.Stream(nil, incomingStream{ctx: ctx}, &grpc.StreamServerInfo{FullMethod: "/a.B/C"}, func(any, grpc.ServerStream) error { return nil })
		},
	} {
		t.Run(road, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				call := func(s *interceptors.Server, headers ...string) (codes.Code, time.Duration) {
					began := time.Now()
					err := serve(metadata.NewIncomingContext(t.Context(), metadata.Pairs(headers...)), s)
					return status.Code(err), time.Since(began)
				}
				s := interceptors.NewServer()
				s.Configure(&snapshot.Listener{Fault: &fault.Policy{
					HeaderDelay: true, DelayFraction: fault.Million, HeaderAbort: true, AbortFraction: fault.Million, AbortGRPC: -1, MaxActive: 2,
				}})
				if code, took := call(s); code != codes.OK || took != 0 {
					t.Errorf("without headers: %v after %v", code, took)
				}
				const delayed, aborted = "x-envoy-fault-delay-request", "x-envoy-fault-abort-request"
				if code, took := call(s, delayed, "3000", aborted, "401"); code != codes.Unauthenticated || took != 3*time.Second {
					t.Errorf("asked for both: %v after %v", code, took)
				}
				var calls sync.WaitGroup
				var waited atomic.Int64
				for range 5 {
					calls.Go(func() {
						if _, took := call(s, delayed, "1000"); took == time.Second {
							waited.Add(1)
						}
					})
				}
				if calls.Wait(); waited.Load() != 2 {
					t.Errorf("%d faults were active at once, want 2", waited.Load())
				}
				abort := fault.Policy{AbortGRPC: int(codes.DataLoss), AbortFraction: fault.Million}
				abort.Meets = func(header func(string) (string, bool)) bool {
					path, _ := header(":path")
					user, _ := header("x-user")
					return path == "/a.B/C" && user == "jason"
				}
				s.Configure(&snapshot.Listener{Fault: &abort})
				if code, _ := call(s, "x-user", "jason"); code != codes.DataLoss {
					t.Errorf("a request that the fault is for: %v", code)
				}
				if code, _ := call(s, "x-user", "ann"); code != codes.OK {
					t.Errorf("another request: %v", code)
				}
				s.Configure(&snapshot.Listener{Fault: &fault.Policy{Cluster: "c", AbortGRPC: 13, AbortFraction: fault.Million}})
				if code, _ := call(s); code != codes.OK {
					t.Errorf("a fault of calls to a cluster: %v", code)
				}
			})
		})
	}
}
