package interceptors_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/internal/xdstest"
)

var bidi = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// collect answers a stream with what it received, in one message, after failing
// so many attempts at the given message.
func collect(fail *atomic.Int32, at int) grpc.StreamHandler {
	return func(_ any, ss grpc.ServerStream) error {
		var got []string
		for {
			if len(got) == at && fail.Add(-1) >= 0 {
				return status.Error(codes.Unavailable, "not now")
			}
			var m wrapperspb.StringValue
			err := ss.RecvMsg(&m)
			if errors.Is(err, io.EOF) {
				ss.SetTrailer(metadata.Pairs("who", "winner"))
				return ss.SendMsg(wrapperspb.String(strings.Join(got, " ")))
			}
			if err != nil {
				return err
			}
			got = append(got, m.GetValue())
		}
	}
}

func sendAll(t *testing.T, st grpc.ClientStream, n int) string {
	t.Helper()
	var want []string
	for i := range n {
		m := strconv.Itoa(i)
		want = append(want, m)
		if err := st.SendMsg(wrapperspb.String(m)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if err := st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	return strings.Join(want, " ")
}

func TestStreamIsReplayed(t *testing.T) {
	t.Parallel()
	for _, at := range []int{0, 3, 10} {
		t.Run(strconv.Itoa(at), func(t *testing.T) {
			t.Parallel()
			var fail atomic.Int32
			fail.Store(2)
			s := xdstest.NewServer(t, collect(&fail, at))
			f := newFixture(t, nil)
			f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("unavailable", 3), "c"))
			var finished atomic.Int32
			var trailer metadata.MD
			st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C", grpc.OnFinish(func(err error) {
				if err != nil {
					t.Errorf("OnFinish got %v", err)
				}
				finished.Add(1)
			}), grpc.Trailer(&trailer))
			if err != nil {
				t.Fatal(err)
			}
			want := sendAll(t, st, 10)
			var got wrapperspb.StringValue
			if err := st.RecvMsg(&got); err != nil || got.GetValue() != want {
				t.Fatalf("got %q, %v; want %q", got.GetValue(), err, want)
			}
			if err := st.RecvMsg(&got); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			if n := s.Calls.Load(); n != 3 {
				t.Errorf("%d attempts, want 3", n)
			}
			if finished.Load() != 1 || len(trailer.Get("who")) != 1 || len(st.Trailer().Get("who")) != 1 {
				t.Errorf("OnFinish %d times, trailer %v and %v", finished.Load(), trailer, st.Trailer())
			}
			if f.manager.Target(target).Snapshot().Upstreams[0].State.InUse() {
				t.Error("the cluster is in use after the stream has ended")
			}
		})
	}
}

func TestStreamIsNotReplayedAfterAnAnswer(t *testing.T) {
	t.Parallel()
	s := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
		if err := ss.SendMsg(wrapperspb.String("one")); err != nil {
			return err
		}
		return status.Error(codes.Unavailable, "then no more")
	})
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("unavailable", 3), "c"))
	st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C")
	if err != nil {
		t.Fatal(err)
	}
	var got wrapperspb.StringValue
	if err := st.RecvMsg(&got); err != nil || got.GetValue() != "one" {
		t.Fatalf("got %q, %v", got.GetValue(), err)
	}
	wantCode(t, st.RecvMsg(&got), codes.Unavailable, "then no more")
	if n := s.Calls.Load(); n != 1 {
		t.Errorf("%d attempts", n)
	}
}

func TestStreamHeaderRetries(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	s := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
		n := calls.Add(1)
		if n < 3 {
			return status.Error(codes.Unavailable, "not now")
		}
		return ss.SendHeader(metadata.Pairs("attempt", strconv.Itoa(int(n))))
	})
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("unavailable", 3), "c"))
	st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C")
	if err != nil {
		t.Fatal(err)
	}
	md, err := st.Header()
	if err != nil || len(md.Get("attempt")) != 1 || md.Get("attempt")[0] != "3" {
		t.Fatalf("got %v, %v", md, err)
	}
	if err := st.RecvMsg(&wrapperspb.StringValue{}); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// TestReplayIsBounded checks that a stream which sends much keeps little.
func TestReplayIsBounded(t *testing.T) {
	t.Parallel()
	var fail atomic.Int32
	s := xdstest.NewServer(t, collect(&fail, -1))
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("unavailable", 3), "c"))
	st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C")
	if err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("x", 100<<10)
	for range 20 {
		if err := st.SendMsg(wrapperspb.String(big)); err != nil {
			t.Fatal(err)
		}
	}
	if n := st.(interface{ Kept() int }).Kept(); n != 0 {
		t.Errorf("%d bytes are kept of a stream that can no longer be retried", n)
	}
	s.Stop()
	for err == nil {
		err = st.RecvMsg(&wrapperspb.StringValue{})
	}
	wantCode(t, err, codes.Unavailable)
}

func TestPerTryTimeoutOfAStream(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	s := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
		if calls.Add(1) < 3 {
			<-ss.Context().Done()
			return ss.Context().Err()
		}
		if err := ss.SendMsg(wrapperspb.String("first")); err != nil {
			return err
		}
		<-ss.Context().Done() // the per-try timeout ends with the first answer
		return ss.Context().Err()
	})
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(func(r *routev3.Route) {
		retry("reset", 3)(r)
		r.GetRoute().RetryPolicy.PerTryTimeout = durationpb.New(50 * time.Millisecond)
	}, "c"))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	st, err := f.cc.NewStream(ctx, bidi, "/a.B/C")
	if err != nil {
		t.Fatal(err)
	}
	var got wrapperspb.StringValue
	if err := st.RecvMsg(&got); err != nil || got.GetValue() != "first" {
		t.Fatalf("got %q, %v", got.GetValue(), err)
	}
	late := make(chan error, 1)
	go func() { late <- st.RecvMsg(&got) }()
	select {
	case err := <-late:
		t.Fatalf("the stream ended with %v after its first answer", err)
	case <-time.After(150 * time.Millisecond):
	}
	cancel()
	wantCode(t, <-late, codes.Canceled)
}

func TestStreamRetriesEnd(t *testing.T) {
	t.Parallel()
	s := xdstest.NewServer(t, func(any, grpc.ServerStream) error { return status.Error(codes.Unavailable, "never") })
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("unavailable", 2), "c"))
	finished := make(chan error, 2)
	st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C", grpc.OnFinish(func(err error) { finished <- err }))
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, st.RecvMsg(&wrapperspb.StringValue{}), codes.Unavailable, "never")
	wantCode(t, <-finished, codes.Unavailable)
	if n := s.Calls.Load(); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
	if err := st.SendMsg(wrapperspb.String("late")); !errors.Is(err, io.EOF) {
		t.Errorf("sending on a stream that ended: %v, want EOF", err)
	}
}

// TestStreamsLeaveNothing opens many streams under one context that lives on.
func TestStreamsLeaveNothing(t *testing.T) {
	t.Parallel()
	s := xdstest.NewServer(t, xdstest.Echo)
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("unavailable", 2), "c"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	held := &countingContext{Context: ctx}
	for range 50 {
		st, err := f.cc.NewStream(held, bidi, "/a.B/C")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(st.SendMsg(wrapperspb.String("x")), st.CloseSend()); err != nil {
			t.Fatal(err)
		}
		for err == nil {
			err = st.RecvMsg(&wrapperspb.StringValue{})
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	if n := held.n.Load(); n != 0 {
		t.Errorf("%d functions still wait for the caller's context", n)
	}
}

// countingContext counts what waits for its end.
type countingContext struct {
	context.Context
	n atomic.Int64
}

func (c *countingContext) Value(any) any { return nil } // no standard context underneath

func (c *countingContext) AfterFunc(f func()) func() bool {
	c.n.Add(1)
	stop := context.AfterFunc(c.Context, f)
	return func() bool {
		c.n.Add(-1)
		return stop()
	}
}

// TestAbandonedStream checks that a stream which nobody receives from ends with
// its context.
func TestAbandonedStream(t *testing.T) {
	t.Parallel()
	s := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error { <-ss.Context().Done(); return ss.Context().Err() })
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("unavailable", 2), "c"))
	ctx, cancel := context.WithCancel(t.Context())
	finished := make(chan error, 2)
	if _, err := f.cc.NewStream(ctx, bidi, "/a.B/C", grpc.OnFinish(func(err error) { finished <- err })); err != nil {
		t.Fatal(err)
	}
	cancel()
	wantCode(t, <-finished, codes.Canceled)
	if f.manager.Target(target).Snapshot().Upstreams[0].State.InUse() {
		t.Error("the cluster is in use after the stream was abandoned")
	}
}

// TestRefusalIsHeardBySender sends what is too large on a hedged stream, whose race
// its end decides before the attempt's SendMsg has returned.
func TestRefusalIsHeardBySender(t *testing.T) {
	t.Parallel()
	s := xdstest.NewServer(t, hang)
	sent := make(chan struct{})
	f := newFixture(t, nil, grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		inner, err := streamer(ctx, desc, cc, method, opts...)
		return lateSender{inner, sent}, err
	}))
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(func(r *routev3.Route) {
		withPerTry("unavailable", 1, time.Minute)(r)
		r.GetRoute().HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
	}, "c"))
	st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C", grpc.MaxCallSendMsgSize(10))
	if err != nil {
		t.Fatal(err)
	}
	err = st.SendMsg(wrapperspb.String(strings.Repeat("x", 20)))
	close(sent)
	wantCode(t, err, codes.ResourceExhausted)
	wantCode(t, st.RecvMsg(&wrapperspb.StringValue{}), codes.ResourceExhausted)
}

// lateSender returns from SendMsg so late that a caller who does not wait for it has
// sent by then.
type lateSender struct {
	grpc.ClientStream
	sent chan struct{}
}

func (s lateSender) SendMsg(m any) error {
	err := s.ClientStream.SendMsg(m)
	select {
	case <-s.sent:
	case <-time.After(20 * time.Millisecond):
	}
	return err
}

// TestHeadersThatAskForARetry shows that headers which ask for a retry are no
// answer by themselves, and no failure either.
func TestHeadersThatAskForARetry(t *testing.T) {
	t.Parallel()
	for name, desc := range map[string]*grpc.StreamDesc{"both ways": bidi, "client's": {ClientStreams: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			s := xdstest.NewServer(t, func(srv any, ss grpc.ServerStream) error {
				if err := ss.SendHeader(metadata.Pairs("x-again", "yes")); err != nil {
					return err
				}
				if calls.Add(1) == 1 {
					return status.Error(codes.NotFound, "again")
				}
				return xdstest.Answer("answer", nil)(srv, ss)
			})
			f := newFixture(t, nil)
			f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(func(r *routev3.Route) {
				retry("retriable-headers", 3)(r)
				r.GetRoute().RetryPolicy.RetriableHeaders = []*routev3.HeaderMatcher{{Name: "x-again"}}
			}, "c"))
			opt, n := finishes()
			st, err := f.cc.NewStream(t.Context(), desc, "/a.B/C", opt)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(st.SendMsg(wrapperspb.String("x")), st.CloseSend()); err != nil {
				t.Fatal(err)
			}
			var got wrapperspb.StringValue
			if err := st.RecvMsg(&got); err != nil || got.GetValue() != "answer" {
				t.Fatalf("got %q, %v", got.GetValue(), err)
			}
			if desc == bidi {
				if err := st.RecvMsg(&got); !errors.Is(err, io.EOF) {
					t.Fatal(err)
				}
			}
			if n.Load() != 1 || calls.Load() != 2 || f.state("c").InUse() {
				t.Errorf("OnFinish %d times, %d attempts, in use %v", n.Load(), calls.Load(), f.state("c").InUse())
			}
		})
	}
}
