package interceptors_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/internal/xdstest"
)

// TestPermitsAreGivenBack has the only probe that a breaker lets through end in odd
// ways: were its permit kept, no other would ever be let through.
func TestPermitsAreGivenBack(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*routev3.Route){
		"once":  func(*routev3.Route) {},
		"retry": retry("unavailable", 2),
		"hedge": func(r *routev3.Route) {
			withPerTry("unavailable", 2, 10*time.Millisecond)(r)
			r.GetRoute().HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
		},
		"fallback": func(r *routev3.Route) {
			r.Metadata = extension(t, map[string]any{"fallback": map[string]any{"cluster": "spare"}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			onEachRoad(t, func(t *testing.T, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
				oddProbes(t, edit, call)
			})
		})
	}
}

func oddProbes(t *testing.T, edit func(*routev3.Route), call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
	var answer atomic.Value // of grpc.StreamHandler
	broken := grpc.StreamHandler(func(any, grpc.ServerStream) error { return status.Error(codes.Internal, "broken") })
	s := xdstest.NewServer(t, func(srv any, ss grpc.ServerStream) error { return answer.Load().(grpc.StreamHandler)(srv, ss) })
	f := newFixture(t, nil)
	c := xdstest.Cluster("c")
	c.Metadata = gated(t, "0.1s", 1)
	f.Set(c, xdstest.Endpoints("c", s.Addr))
	f.serve(map[string][]string{"spare": {server(t, "spare").Addr}}, xdstest.Route(edit, "c"))
	for name, odd := range map[string]func(ctx context.Context){
		"cancelled": func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			answer.Store(grpc.StreamHandler(func(srv any, ss grpc.ServerStream) error { cancel(); return hang(srv, ss) }))
			_, _ = call(ctx, f, "/a.B/C")
		},
		"cancelled before": func(ctx context.Context) {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			_, _ = call(ctx, f, "/a.B/C")
		},
		"too late": func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			defer cancel()
			answer.Store(grpc.StreamHandler(hang))
			_, _ = call(ctx, f, "/a.B/C")
		},
		"message too large": func(ctx context.Context) { _, _ = call(ctx, f, "/a.B/C", grpc.MaxCallSendMsgSize(1)) },
		"answer too large": func(ctx context.Context) {
			answer.Store(xdstest.Answer("ok", nil))
			_, _ = call(ctx, f, "/a.B/C", grpc.MaxCallRecvMsgSize(1))
		},
		"no codec": func(ctx context.Context) { _, _ = call(ctx, f, "/a.B/C", grpc.CallContentSubtype("none")) },
		"not a message": func(ctx context.Context) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			if st, err := f.cc.NewStream(ctx, bidi, "/a.B/C"); err == nil {
				_ = st.SendMsg(7)
			}
			_ = f.cc.Invoke(ctx, "/a.B/C", 7, &wrapperspb.StringValue{})
		},
		"not looked at": func(ctx context.Context) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			_, _ = f.cc.NewStream(ctx, bidi, "/a.B/C")
		},
	} {
		gate := f.manager.Target(target).Snapshot
		answer.Store(broken)
		for i := 0; i < 12 || !gate().Upstream("c").Gate.Open(); i++ {
			_, _ = call(t.Context(), f, "/a.B/C")
		}
		<-time.After(110 * time.Millisecond) // half open
		odd(t.Context())
		answer.Store(xdstest.Answer("ok", nil))
		for end := time.Now().Add(5 * time.Second); ; <-time.After(20 * time.Millisecond) {
			got, err := call(t.Context(), f, "/a.B/C")
			if got == "ok" {
				break
			}
			if time.Now().After(end) {
				t.Errorf("%s: the breaker lets nothing through any more: %q, %v", name, got, err)
				break
			}
		}
		held(t, f, "c", "spare")
	}
}

// TestStreamsThatLastCloseTheBreaker has a stream that goes on be the only probe that a
// breaker lets through: its first answer is enough, or nobody else would be let through.
func TestStreamsThatLastCloseTheBreaker(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*routev3.Route){
		"once":  func(*routev3.Route) {},
		"retry": retry("unavailable", 2),
	} {
		for what, answered := range map[string]func(grpc.ClientStream) error{
			"header":  func(st grpc.ClientStream) error { _, err := st.Header(); return err },
			"message": func(st grpc.ClientStream) error { return st.RecvMsg(&wrapperspb.StringValue{}) },
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				t.Parallel()
				var broken atomic.Bool
				broken.Store(true)
				s := xdstest.NewServer(t, func(srv any, ss grpc.ServerStream) error {
					if broken.Load() {
						return status.Error(codes.Internal, "broken")
					}
					if method, _ := grpc.MethodFromServerStream(ss); method == "/a.B/Watch" {
						_ = ss.SendMsg(wrapperspb.String("begun"))
						return hang(srv, ss)
					}
					return xdstest.Answer("ok", nil)(srv, ss)
				})
				f := newFixture(t, nil)
				c := xdstest.Cluster("c")
				c.Metadata = gated(t, "0.1s", 1)
				f.Set(c, xdstest.Endpoints("c", s.Addr), xdstest.Routes(target, xdstest.Route(edit, "c")), xdstest.Listener(target))
				gate := func() bool { return f.manager.Target(target).Snapshot().Upstream("c").Gate.Open() }
				for i := 0; i < 12 || !gate(); i++ {
					_, _ = f.call(t.Context())
				}
				broken.Store(false)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				st, err := f.cc.NewStream(ctx, bidi, "/a.B/Watch")
				for ; err != nil; <-time.After(10 * time.Millisecond) {
					st, err = f.cc.NewStream(ctx, bidi, "/a.B/Watch")
				}
				if err := answered(st); err != nil {
					t.Fatal(err)
				}
				if gate() {
					t.Fatal("the stream was answered, and the breaker is open")
				}
				if got, err := f.call(t.Context()); got != "ok" {
					t.Errorf("while the stream goes on: %q, %v", got, err)
				}
			})
		}
	}
}
