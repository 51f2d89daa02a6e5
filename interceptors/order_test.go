package interceptors_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/internal/xdstest"
	"github.com/meshframe/meshframe/resolver/watch"
)

// greet sends headers at once, and nothing else.
func greet(_ any, ss grpc.ServerStream) error {
	if err := ss.SendHeader(metadata.Pairs("who", "greeter")); err != nil {
		return err
	}
	return hang(nil, ss)
}

// heldSender says that it has a message, which it sends when release is closed.
type heldSender struct {
	grpc.ClientStream
	has     chan<- struct{}
	release <-chan struct{}
}

func (s heldSender) SendMsg(m any) error {
	close(s.has)
	<-s.release
	return s.ClientStream.SendMsg(m)
}

// TestRefusalOfTheAnsweredIsHeardBySender sends what is too large on a hedged stream
// that is answered, or left to its attempt, before the attempt's SendMsg has looked
// at the message.
func TestRefusalOfTheAnsweredIsHeardBySender(t *testing.T) {
	t.Parallel()
	for name, decide := range map[string]func(grpc.ClientStream){
		"answered": func(st grpc.ClientStream) { _, _ = st.Header() },
		"left":     func(st grpc.ClientStream) { st.Context() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			has, release := make(chan struct{}), make(chan struct{})
			s := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
				if name == "answered" {
					<-has
					return greet(nil, ss)
				}
				return hang(nil, ss)
			})
			f := newFixture(t, nil, grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
				inner, err := streamer(ctx, desc, cc, method, opts...)
				return heldSender{inner, has, release}, err
			}))
			f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(func(r *routev3.Route) {
				withPerTry("unavailable", 1, time.Minute)(r)
				r.GetRoute().HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
			}, "c"))
			opt, n := finishes()
			st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C", opt, grpc.MaxCallSendMsgSize(10))
			if err != nil {
				t.Fatal(err)
			}
			sent := make(chan error, 1)
			go func() { sent <- st.SendMsg(wrapperspb.String(strings.Repeat("x", 20))) }()
			<-has
			decide(st)
			select {
			case err := <-sent:
				sent <- err // said before the message was looked at
			case <-time.After(20 * time.Millisecond):
			}
			close(release)
			wantCode(t, <-sent, codes.ResourceExhausted)
			wantCode(t, st.RecvMsg(&wrapperspb.StringValue{}), codes.ResourceExhausted)
			settle(t, f, n)
		})
	}
}

// TestUnencodableEndsAMirroredStream sends what is no message on a stream of which a
// copy is made.
func TestUnencodableEndsAMirroredStream(t *testing.T) {
	t.Parallel()
	for _, retries := range []bool{false, true} {
		f := newFixture(t, nil)
		s := xdstest.NewServer(t, hang)
		f.serve(map[string][]string{"c": {s.Addr}, "m": {s.Addr}}, xdstest.Route(func(r *routev3.Route) {
			if retries {
				retry("unavailable", 1)(r)
			}
			r.GetRoute().RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "m"}}
		}, "c"))
		opt, n := finishes()
		st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C", opt)
		if err != nil {
			t.Fatal(err)
		}
		wantCode(t, st.SendMsg("not a message"), codes.Internal, "grpc: error while marshaling")
		settle(t, f, n)
	}
}

// slowCodec says no to a message when it is told to.
type slowCodec struct{ release <-chan struct{} }

func (c slowCodec) Name() string { return "slow" }

func (c slowCodec) Marshal(any) (mem.BufferSlice, error) {
	<-c.release
	return nil, errors.New("no")
}

func (c slowCodec) Unmarshal(mem.BufferSlice, any) error { return nil }

// TestUnencodableOnAnAnsweredStream has a stream be answered while it is found out that
// its message cannot be encoded.
func TestUnencodableOnAnAnsweredStream(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {xdstest.NewServer(t, greet).Addr}}, xdstest.Route(retry("unavailable", 1), "c"))
	release := make(chan struct{})
	ends := make(chan error, 2)
	var header metadata.MD
	st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C", grpc.ForceCodecV2(slowCodec{release}), grpc.Header(&header),
		grpc.OnFinish(func(err error) { ends <- err }))
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() { sent <- st.SendMsg(wrapperspb.String("hello")) }()
	if _, err := st.Header(); err != nil {
		t.Fatal(err)
	}
	close(release)
	wantCode(t, <-sent, codes.Internal, "no")
	if len(header.Get("who")) != 1 {
		t.Errorf("the caller's option has the headers %v", header)
	}
	wantCode(t, <-ends, codes.Internal, "no")
	wantCode(t, st.RecvMsg(&wrapperspb.StringValue{}), codes.Internal, "no")
}

// TestAWaitingCallOutlivesAnIdleChannel has the channel go idle, and its subscription
// end, before the first configuration is there.
func TestAWaitingCallOutlivesAnIdleChannel(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *watch.Config) { c.Linger = time.Millisecond }, grpc.WithIdleTimeout(200*time.Millisecond))
	s := server(t, "ok")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	answer := make(chan error, 1)
	go func() {
		_, err := f.call(ctx, grpc.WaitForReady(true))
		answer <- err
	}()
	_, _, expired := f.manager.Target(target).Current()
	for _, idle := range []bool{false, true} { // it wakes for the call, and goes idle
		for state := f.cc.GetState(); (state == connectivity.Idle) != idle && f.cc.WaitForStateChange(ctx, state); {
			state = f.cc.GetState()
		}
	}
	select {
	case <-expired:
	case <-ctx.Done():
	}
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(nil, "c"))
	if err := <-answer; err != nil {
		t.Errorf("a call that waits for ready: %v", err)
	}
}

// TestACallThatPausesIsNotPending has a unary call pause after an attempt that was given
// no connection.
func TestACallThatPausesIsNotPending(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {goneAddress(t)}}, xdstest.Route(func(r *routev3.Route) {
		retry("unavailable,connect-failure", 1)(r)
		r.GetRoute().RetryPolicy.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: durationpb.New(time.Hour), MaxInterval: durationpb.New(time.Hour)}
	}, "c"))
	f.configured(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = f.call(ctx)
	}()
	b := &f.state("c").Breaker
	for b.Retries() == 0 && ctx.Err() == nil {
		<-time.After(time.Millisecond)
	}
	if n := b.Pending(); n != 0 || b.Retries() != 1 {
		t.Errorf("%d calls wait for a connection, and there are %d retries", n, b.Retries())
	}
	cancel()
	<-ended
}

// TestNobodyIsBlamedForWhatNobodyGot has gRPC find out as it sends that the only host did
// not look at the stream, which it opens once more: there is nobody then.
func TestNobodyIsBlamedForWhatNobodyGot(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*routev3.Route){"once": func(*routev3.Route) {}, "retry": retry("resource-exhausted", 1)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, nil)
			c := xdstest.Cluster("c")
			c.OutlierDetection = &clusterv3.OutlierDetection{}
			f.Set(c, xdstest.Endpoints("c", leaver(t)))
			f.serve(nil, xdstest.Route(edit, "c"))
			opt, n := finishes()
			st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C", opt)
			if err != nil {
				t.Fatal(err)
			}
			for f.cc.GetState() == connectivity.Ready {
				f.cc.WaitForStateChange(t.Context(), connectivity.Ready)
			}
			_ = st.SendMsg(wrapperspb.String("hello"))
			wantCode(t, st.RecvMsg(&wrapperspb.StringValue{}), codes.Unavailable)
			settle(t, f, n)
		})
	}
}
