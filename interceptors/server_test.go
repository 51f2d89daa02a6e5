package interceptors_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

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
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Configure(&snapshot.Listener{Fault: &fault.Policy{AbortGRPC: -1, Delay: time.Hour, DelayFraction: fault.Million}})
	wantCode(t, serve(ctx, s, ok), codes.Canceled)
}
