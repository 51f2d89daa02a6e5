package interceptors_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/balancer"
	"github.com/meshframe/meshframe/interceptors"
	"github.com/meshframe/meshframe/internal/xdstest"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver"
	"github.com/meshframe/meshframe/resolver/watch"
)

// configured waits until calls find their configuration: those of a test that go by
// the clock should not have to wait for it.
func (f *fixture) configured(t *testing.T) {
	t.Helper()
	f.cc.Connect()
	for {
		p, _, changed := f.manager.Target(target).Current()
		if p.Snapshot != nil && p.Snapshot.Err == nil {
			return
		}
		select {
		case <-changed:
		case <-t.Context().Done():
			t.Fatal("there is no configuration")
		}
	}
}

func (f *fixture) state(name string) *snapshot.ClusterState {
	return f.manager.Target(target).Snapshot().Upstream(name).State
}

func finishes() (grpc.CallOption, *atomic.Int32) {
	var n atomic.Int32
	return grpc.OnFinish(func(error) { n.Add(1) }), &n
}

func settle(t *testing.T, f *fixture, n *atomic.Int32) {
	t.Helper()
	for end := time.Now().Add(time.Second); time.Now().Before(end) && (n.Load() == 0 || f.state("c").InUse()); <-time.After(5 * time.Millisecond) {
	}
	if n.Load() != 1 || f.state("c").InUse() {
		t.Errorf("OnFinish %d times, in use %v", n.Load(), f.state("c").InUse())
	}
}

func withPerTry(on string, n uint32, d time.Duration) func(*routev3.Route) {
	return func(r *routev3.Route) {
		retry(on, n)(r)
		r.GetRoute().RetryPolicy.PerTryTimeout = durationpb.New(d)
	}
}

func hang(_ any, ss grpc.ServerStream) error { <-ss.Context().Done(); return ss.Context().Err() }

// Client-streaming RPC with retry policy.
func TestEdgeClientStreaming(t *testing.T) {
	s := xdstest.NewServer(t, xdstest.Echo)
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("unavailable", 1), "c"))
	opt, n := finishes()
	st, err := f.cc.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, "/a.B/C", opt)
	if err != nil {
		t.Fatal(err)
	}
	st.SendMsg(wrapperspb.String("x"))
	st.CloseSend()
	if err := st.RecvMsg(&wrapperspb.StringValue{}); err != nil {
		t.Fatal(err)
	}
	settle(t, f, n)
}

// Zero-message OK stream.
func TestEdgeEmptyStream(t *testing.T) {
	s := xdstest.NewServer(t, func(any, grpc.ServerStream) error { return nil })
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("unavailable", 1), "c"))
	opt, n := finishes()
	st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C", opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := st.RecvMsg(&wrapperspb.StringValue{}); err.Error() != "EOF" {
		t.Fatal(err)
	}
	settle(t, f, n)
}

// Send on mirrored stream after end.
func TestEdgeMirrorPanic(t *testing.T) {
	s := xdstest.NewServer(t, func(any, grpc.ServerStream) error { return status.Error(codes.NotFound, "x") })
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}, "m": {server(t, "m").Addr}}, xdstest.Route(func(r *routev3.Route) {
		r.GetRoute().RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "m"}}
	}, "c"))
	st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C")
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, st.RecvMsg(&wrapperspb.StringValue{}), codes.NotFound)
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("PANIC %v", p)
		}
	}()
	if err := st.SendMsg(wrapperspb.String("x")); err == nil || err.Error() != "EOF" {
		t.Error(err)
	}
}

// Abandoned stream: per-try timeout, then cancel.
func TestEdgeAbandonedPerTry(t *testing.T) {
	s := xdstest.NewServer(t, hang)
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(withPerTry("reset", 1, 50*time.Millisecond), "c"))
	opt, n := finishes()
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := f.cc.NewStream(ctx, bidi, "/a.B/C", opt); err != nil {
		t.Fatal(err)
	}
	<-time.After(150 * time.Millisecond)
	cancel()
	settle(t, f, n)
}

// Abandoned stream: ClientConn closed.
func TestEdgeAbandonedClose(t *testing.T) {
	s := xdstest.NewServer(t, hang)
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("reset", 1), "c"))
	opt, n := finishes()
	if _, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C", opt); err != nil {
		t.Fatal(err)
	}
	f.cc.Close()
	settle(t, f, n)
}

// SendMsg fails locally (too large).
func TestEdgeTooLarge(t *testing.T) {
	s := xdstest.NewServer(t, hang)
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("reset", 1), "c"))
	opt, n := finishes()
	st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C", opt, grpc.MaxCallSendMsgSize(10))
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, st.SendMsg(wrapperspb.String(strings.Repeat("x", 100))), codes.ResourceExhausted)
	settle(t, f, n)
}

// Encode failure.
func TestA6bEncode(t *testing.T) {
	s := xdstest.NewServer(t, hang)
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("reset", 1), "c"))
	opt, n := finishes()
	st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C", opt)
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, st.SendMsg("not a message"), codes.Internal)
	settle(t, f, n)
}

// OnFinish uses the stream.
func TestEdgeOnFinishUsesStream(t *testing.T) {
	s := xdstest.NewServer(t, func(any, grpc.ServerStream) error { return status.Error(codes.NotFound, "x") })
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("unavailable", 1), "c"))
	var st grpc.ClientStream
	st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C", grpc.OnFinish(func(error) { st.Trailer() }))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- st.RecvMsg(&wrapperspb.StringValue{}) }()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
		t.Fatal("deadlock")
	}
}

// Hedged attempts leak pending.
func TestEdgeHedgePending(t *testing.T) {
	lis, _ := net.Listen("tcp", "127.0.0.1:0")
	defer lis.Close()
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {lis.Addr().String()}}, xdstest.Route(func(r *routev3.Route) {
		withPerTry("5xx", 2, 30*time.Millisecond)(r)
		r.GetRoute().HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
	}, "c"))
	f.configured(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err := f.call(ctx)
	wantCode(t, err, codes.DeadlineExceeded)
	if n := f.state("c").Breaker.Pending(); n != 0 {
		t.Errorf("%d pending", n)
	}
}

func gated(t *testing.T, openFor string, probes int) *corev3.Metadata {
	return extension(t, map[string]any{"half_open": map[string]any{"minVolume": 10, "errorPercent": 10, "window": "10s", "openFor": openFor, "probes": probes}})
}

// Gate counts calls that never got a connection as successes.
func TestEdgeGateNoConnection(t *testing.T) {
	lis, _ := net.Listen("tcp", "127.0.0.1:0")
	defer lis.Close()
	f := newFixture(t, nil)
	c := xdstest.Cluster("c")
	c.Metadata = gated(t, "3600s", 1)
	f.Set(c)
	f.Set(xdstest.Endpoints("c", lis.Addr().String()), xdstest.Routes(target, xdstest.Route(nil, "c")), xdstest.Listener(target))
	f.configured(t)
	for range 12 {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		_, _ = f.call(ctx)
		cancel()
	}
	if !f.manager.Target(target).Snapshot().Upstream("c").Gate.Open() {
		t.Error("gate is closed after 12 timeouts")
	}
}

// The breaker of a fallback cluster counts the calls that end there, though
// nothing else of the call asks how it ends.
func TestEdgeGateOfTheFallback(t *testing.T) {
	bad := xdstest.NewServer(t, func(any, grpc.ServerStream) error { return status.Error(codes.Internal, "broken") })
	f := newFixture(t, nil)
	spare := xdstest.Cluster("spare")
	spare.Metadata = gated(t, "3600s", 1)
	f.Set(spare, xdstest.Endpoints("spare", bad.Addr), xdstest.Cluster("c"), xdstest.Endpoints("c"))
	f.Set(xdstest.Routes(target, xdstest.Route(func(r *routev3.Route) {
		r.Metadata = extension(t, map[string]any{"fallback": map[string]any{"cluster": "spare"}})
	}, "c")), xdstest.Listener(target))
	for range 20 {
		_, _ = f.call(t.Context())
	}
	if n := bad.Calls.Load(); n != 10 {
		t.Errorf("server saw %d calls", n)
	}
}

// Hedge bypasses the gate.
func TestEdgeHedgeGate(t *testing.T) {
	bad := xdstest.NewServer(t, func(any, grpc.ServerStream) error { return status.Error(codes.Internal, "broken") })
	f := newFixture(t, nil)
	c := xdstest.Cluster("c")
	c.Metadata = gated(t, "3600s", 1)
	f.Set(c)
	f.Set(xdstest.Endpoints("c", bad.Addr), xdstest.Routes(target, xdstest.Route(func(r *routev3.Route) {
		withPerTry("unavailable", 2, time.Second)(r)
		r.GetRoute().HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
	}, "c")), xdstest.Listener(target))
	for range 20 {
		_, _ = f.call(t.Context())
	}
	if n := bad.Calls.Load(); n != 10 {
		t.Errorf("server saw %d calls", n)
	}
}

// Stream permit leaks when half-open and no hosts.
func TestEdgeGatePermitLeak(t *testing.T) {
	var broken atomic.Bool
	broken.Store(true)
	s := xdstest.NewServer(t, func(srv any, ss grpc.ServerStream) error {
		if broken.Load() {
			return status.Error(codes.Internal, "broken")
		}
		return xdstest.Answer("ok", nil)(srv, ss)
	})
	f := newFixture(t, nil)
	c := xdstest.Cluster("c")
	c.Metadata = gated(t, "0.2s", 1)
	f.Set(c)
	f.serve(map[string][]string{"spare": {server(t, "spare").Addr}})
	f.Set(xdstest.Endpoints("c", s.Addr), xdstest.Routes(target, xdstest.Route(func(r *routev3.Route) {
		r.Metadata = extension(t, map[string]any{"fallback": map[string]any{"cluster": "spare"}})
	}, "c")), xdstest.Listener(target))
	stream := func() (string, error) { return roads["stream"](t.Context(), f.cc, "/a.B/C") }
	for range 11 {
		stream()
	}
	up := func() *snapshot.Upstream { return f.manager.Target(target).Snapshot().Upstream("c") }
	if !up().Gate.Open() {
		t.Fatal("not open")
	}
	f.Set(xdstest.Endpoints("c"))
	for len(up().Hosts) > 0 {
		<-time.After(time.Millisecond)
	}
	<-time.After(300 * time.Millisecond)
	if got, err := stream(); got != "spare" {
		t.Fatal(got, err)
	}
	broken.Store(false)
	f.Set(xdstest.Endpoints("c", s.Addr))
	for len(up().Hosts) == 0 {
		<-time.After(time.Millisecond)
	}
	for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
		if got, _ := stream(); got == "ok" {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	t.Error("the cluster recovered and the gate never closes again")
}

// Fallback to a cluster calls OnFinish twice.
func TestEdgeFallbackOnFinish(t *testing.T) {
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": nil, "spare": {server(t, "spare").Addr}}, xdstest.Route(func(r *routev3.Route) {
		r.Metadata = extension(t, map[string]any{"fallback": map[string]any{"cluster": "spare"}})
	}, "c"))
	var errs []error
	got, err := f.call(t.Context(), grpc.OnFinish(func(err error) { errs = append(errs, err) }))
	if err != nil || got != "spare" || len(errs) != 1 || errs[0] != nil {
		t.Errorf("%q %v; OnFinish %v", got, err, errs)
	}
}

// Fallback function with a mirror.
func TestEdgeFallbackFuncMirror(t *testing.T) {
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": nil, "m": {server(t, "m").Addr}}, xdstest.Route(func(r *routev3.Route) {
		r.Metadata = extension(t, map[string]any{"fallback": map[string]any{"function": "mine"}})
		r.GetRoute().RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "m"}}
	}, "c"))
	tgt := f.manager.Target(target)
	ic := interceptors.NewClient(tgt, interceptors.ClientOptions{Fallbacks: map[string]interceptors.Fallback{"mine": func(_ context.Context, _ string, req, reply any) error {
		if _, ok := req.(*wrapperspb.StringValue); !ok {
			t.Errorf("the fallback got a %T", req)
		}
		return nil
	}}})
	cc, err := grpc.NewClient("mesh:///"+target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithResolvers(resolver.NewBuilder(tgt)), grpc.WithDefaultServiceConfig(balancer.ServiceConfig), grpc.WithChainUnaryInterceptor(ic.Unary()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	var errs []error
	_, err = xdstest.Call(t.Context(), cc, "/a.B/C", grpc.OnFinish(func(err error) { errs = append(errs, err) }))
	if err != nil || len(errs) != 1 || errs[0] != nil {
		t.Error(err, errs)
	}
}

// OnFinish never, when the message cannot be encoded.
func TestEdgeEncodeOnFinish(t *testing.T) {
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {server(t, "c").Addr}, "m": {server(t, "m").Addr}}, xdstest.Route(func(r *routev3.Route) {
		r.GetRoute().RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "m"}}
	}, "c"))
	opt, n := finishes()
	err := f.cc.Invoke(t.Context(), "/a.B/C", "x", &wrapperspb.StringValue{}, opt)
	wantCode(t, err, codes.Internal)
	settle(t, f, n)
}

// TestNoMessage shows that no message at all is sent as an empty one, and that
// what cannot be encoded or decoded is said in gRPC's words, on every route.
func TestNoMessage(t *testing.T) {
	echo := xdstest.NewServer(t, xdstest.Echo)
	mirror := func(r *routev3.Route) {
		r.GetRoute().RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "m"}}
	}
	hedge := func(r *routev3.Route) {
		withPerTry("unavailable", 1, time.Minute)(r)
		r.GetRoute().HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
	}
	for name, edit := range map[string]func(*routev3.Route){"plain": nil, "retry": retry("unavailable", 1), "mirror": mirror, "hedge": hedge} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			f.serve(map[string][]string{"c": {echo.Addr}, "m": {echo.Addr}}, xdstest.Route(edit, "c"))
			got := wrapperspb.String("before")
			if err := f.cc.Invoke(t.Context(), "/a.B/C", nil, got); err != nil || got.GetValue() != "" {
				t.Errorf("unary: %q, %v; want an empty message", got.GetValue(), err)
			}
			wantCode(t, f.cc.Invoke(t.Context(), "/a.B/C", "x", got), codes.Internal, "grpc: error while marshaling: ")
			wantCode(t, f.cc.Invoke(t.Context(), "/a.B/C", nil, nil), codes.Internal, "grpc: failed to unmarshal the received message: ")

			st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C")
			if err != nil {
				t.Fatal(err)
			}
			got = wrapperspb.String("before")
			if err := st.SendMsg(nil); err != nil {
				t.Fatal(err)
			}
			if err := st.RecvMsg(got); err != nil || got.GetValue() != "" {
				t.Errorf("stream: %q, %v; want an empty message", got.GetValue(), err)
			}
			wantCode(t, st.SendMsg("x"), codes.Internal, "grpc: error while marshaling: ")
			f.cc.Close()
		})
	}
}

// Winner of a hedge waits for the loser's backoff.
func TestEdgeHedgeBackoff(t *testing.T) {
	var calls atomic.Int32
	s := xdstest.NewServer(t, func(srv any, ss grpc.ServerStream) error {
		if calls.Add(1) == 1 {
			<-time.After(100 * time.Millisecond)
			ss.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", "3000"))
			return status.Error(codes.Unavailable, "no")
		}
		<-time.After(150 * time.Millisecond)
		return xdstest.Answer("ok", nil)(srv, ss)
	})
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(func(r *routev3.Route) {
		withPerTry("5xx", 3, 50*time.Millisecond)(r)
		r.GetRoute().HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
	}, "c"))
	begin := time.Now()
	got, err := f.call(t.Context())
	if d := time.Since(begin); d > time.Second {
		t.Errorf("%q %v after %v", got, err, d)
	}
}

// Header edit vs cancel race.
func TestEdgeRace(t *testing.T) {
	s := xdstest.NewServer(t, hang)
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(func(r *routev3.Route) {
		r.RequestHeadersToAdd = []*corev3.HeaderValueOption{headerOption("x", "y", corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)}
		r.GetRoute().MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: durationpb.New(5 * time.Second)}
	}, "c"))
	for range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		f.call(ctx)
		cancel()
	}
}

// Status after Header with per-try timeout.
func TestEdgeHeaderStatus(t *testing.T) {
	s := xdstest.NewServer(t, hang)
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(withPerTry("reset", 1, 50*time.Millisecond), "c"))
	st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C")
	if err != nil {
		t.Fatal(err)
	}
	st.Header()
	wantCode(t, st.RecvMsg(&wrapperspb.StringValue{}), codes.DeadlineExceeded)
}

// Empty messages are not bounded.
func TestEdgeEmptyMessages(t *testing.T) {
	s := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
		for {
			if err := ss.RecvMsg(&wrapperspb.StringValue{}); err != nil {
				return err
			}
		}
	})
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("reset", 1), "c"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	st, err := f.cc.NewStream(ctx, bidi, "/a.B/C")
	if err != nil {
		t.Fatal(err)
	}
	for range 100000 {
		if err := st.SendMsg(&wrapperspb.StringValue{}); err != nil {
			t.Fatal(err)
		}
	}
	if n := st.(interface{ Frames() int }).Frames(); n > 60000 {
		t.Errorf("%d messages kept", n)
	}
}

// Idle timeout context stays registered.
func TestEdgeIdleRegistered(t *testing.T) {
	s := xdstest.NewServer(t, xdstest.Echo)
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(func(r *routev3.Route) {
		r.GetRoute().IdleTimeout = durationpb.New(3600 * time.Second)
	}, "c"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	held := &countingContext{Context: ctx}
	for range 50 {
		st, err := f.cc.NewStream(held, bidi, "/a.B/C")
		if err != nil {
			t.Fatal(err)
		}
		st.SendMsg(wrapperspb.String("x"))
		st.CloseSend()
		for err == nil {
			err = st.RecvMsg(&wrapperspb.StringValue{})
		}
	}
	<-time.After(50 * time.Millisecond)
	if n := held.n.Load(); n != 0 {
		t.Errorf("%d still registered", n)
	}
}

// CallCustomCodec is the oldest way to name a codec.
type rawV0 struct{}

func (rawV0) Marshal(v any) ([]byte, error)   { return *(v.(*[]byte)), nil }
func (rawV0) Unmarshal(d []byte, v any) error { *(v.(*[]byte)) = append([]byte(nil), d...); return nil }
func (rawV0) String() string                  { return "raw" }
func TestEdgeCustomCodec(t *testing.T) {
	s := xdstest.NewServer(t, xdstest.Echo)
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("reset", 1), "c"))
	st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C", grpc.CallCustomCodec(rawV0{}))
	if err != nil {
		t.Fatal(err)
	}
	b := []byte{10, 1, 'x'}
	if err := st.SendMsg(&b); err != nil {
		t.Fatal(err)
	}
}

// An inner interceptor that refuses.
func TestEdgeInnerInterceptor(t *testing.T) {
	s := xdstest.NewServer(t, xdstest.Echo)
	f := newFixture(t, nil, grpc.WithChainStreamInterceptor(func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, grpc.Streamer, ...grpc.CallOption) (grpc.ClientStream, error) {
		return nil, status.Error(codes.Unauthenticated, "no token")
	}))
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("reset", 1), "c"))
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	go func() { _, err := f.cc.NewStream(ctx, bidi, "/a.B/C"); done <- err }()
	select {
	case err := <-done:
		wantCode(t, err, codes.Unauthenticated)
	case <-time.After(3 * time.Second):
		t.Fatal("hangs past the caller's deadline")
	}
}

// Header and RecvMsg side by side.
func TestEdgeHeaderBesideRecv(t *testing.T) {
	var calls atomic.Int32
	s := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
		if calls.Add(1) == 1 {
			<-time.After(50 * time.Millisecond)
			return status.Error(codes.Unavailable, "no")
		}
		return hang(nil, ss)
	})
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("unavailable", 3), "c"))
	ctx, cancel := context.WithCancel(t.Context())
	st, err := f.cc.NewStream(ctx, bidi, "/a.B/C")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan bool, 2)
	go func() { st.Header(); done <- true }()
	go func() { st.RecvMsg(&wrapperspb.StringValue{}); done <- true }()
	<-time.After(300 * time.Millisecond)
	if n := calls.Load(); n != 2 {
		t.Errorf("%d attempts, want 2", n)
	}
	cancel()
	<-done
	<-done
}

// Replay deadlock with flow control: the second attempt's server greets before it reads.
func TestEdgeReplayFlowControl(t *testing.T) {
	var calls atomic.Int32
	lis, _ := net.Listen("tcp", "127.0.0.1:0")
	big := wrapperspb.String(strings.Repeat("g", 60<<10))
	srv := grpc.NewServer(grpc.InitialWindowSize(65535), grpc.InitialConnWindowSize(65535), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
		if calls.Add(1) == 1 {
			for range 4 {
				if err := ss.RecvMsg(&wrapperspb.StringValue{}); err != nil {
					return err
				}
			}
			return status.Error(codes.Unavailable, "no")
		}
		for range 10 {
			if err := ss.SendMsg(big); err != nil {
				return err
			}
		}
		for {
			if err := ss.RecvMsg(&wrapperspb.StringValue{}); err != nil {
				return nil
			}
		}
	}))
	go srv.Serve(lis)
	defer srv.Stop()
	f := newFixture(t, nil, grpc.WithInitialWindowSize(65535), grpc.WithInitialConnWindowSize(65535))
	f.serve(map[string][]string{"c": {lis.Addr().String()}}, xdstest.Route(retry("unavailable", 3), "c"))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	st, err := f.cc.NewStream(ctx, bidi, "/a.B/C")
	if err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if err := st.SendMsg(wrapperspb.String(strings.Repeat("x", 60<<10))); err != nil {
			t.Fatal(err)
		}
	}
	st.CloseSend()
	for i := range 10 {
		if err := st.RecvMsg(&wrapperspb.StringValue{}); err != nil {
			t.Fatalf("message %d: %v (attempts %d)", i, err, calls.Load())
		}
	}
}

// Retried after headers.
func TestEdgeRetryAfterHeaders(t *testing.T) {
	s := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
		ss.SendHeader(metadata.Pairs("a", "b"))
		return status.Error(codes.Unavailable, "no")
	})
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("unavailable", 2), "c"))
	st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C")
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, st.RecvMsg(&wrapperspb.StringValue{}), codes.Unavailable)
	if n := s.Calls.Load(); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

var _ = watch.ErrClosed

// Retried streams leave nothing on the caller's context (without it each attempt would stay there).
func TestEdgeRetriedLeaveNothing(t *testing.T) {
	var n atomic.Int32
	s := xdstest.NewServer(t, func(srv any, ss grpc.ServerStream) error {
		if n.Add(1)%2 == 1 {
			return status.Error(codes.Unavailable, "no")
		}
		return xdstest.Echo(srv, ss)
	})
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("unavailable", 2), "c"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	held := &countingContext{Context: ctx}
	for range 20 {
		st, err := f.cc.NewStream(held, bidi, "/a.B/C")
		if err != nil {
			t.Fatal(err)
		}
		st.SendMsg(wrapperspb.String("x"))
		st.CloseSend()
		for err == nil {
			err = st.RecvMsg(&wrapperspb.StringValue{})
		}
		if err.Error() != "EOF" {
			t.Fatal(err)
		}
	}
	<-time.After(50 * time.Millisecond)
	if n := held.n.Load(); n != 0 {
		t.Errorf("%d still registered", n)
	}
}
