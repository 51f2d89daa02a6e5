package interceptors

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
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/retry"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// slowStream is an attempt whose events come when a test wants them.
type slowStream struct {
	grpc.ClientStream // nil

	ctx    context.Context
	header func() (metadata.MD, error)
	recv   func() error
	send   func() error
}

func (s *slowStream) Header() (metadata.MD, error) { return s.header() }

func (s *slowStream) RecvMsg(any) error { return s.recv() }

func (s *slowStream) SendMsg(any) error { return s.send() }

func (s *slowStream) Context() context.Context { return s.ctx }

func (s *slowStream) Trailer() metadata.MD { return nil }

// slow opens a stream with retries. Each attempt is reported as ended so long
// after its context is.
func slow(ctx context.Context, t *testing.T, ends time.Duration, attempt func(n int, s *slowStream), opts ...grpc.CallOption) (*call, grpc.ClientStream) {
	t.Helper()
	cc, err := grpc.NewClient("passthrough:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	c := newCall(ctx)
	c.Decision.Retry = &retry.Policy{On: outcome.GRPCUnavailable, NumRetries: 1, PerTryTimeout: time.Minute}
	c.Decision.Upstream = &snapshot.Upstream{State: &snapshot.ClusterState{}, Cluster: &snapshot.Cluster{Limits: breaker.NoLimits}}
	n := 0
	streamer := func(ctx context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		for _, o := range opts {
			if o, ok := o.(grpc.OnFinishCallOption); ok {
				context.AfterFunc(ctx, func() {
					time.Sleep(ends)
					o.OnFinish(status.FromContextError(ctx.Err()).Err())
				})
			}
		}
		s := &slowStream{ctx: ctx}
		n++
		attempt(n, s)
		return s, nil
	}
	st, err := c.newRetriedStream(outgoing{ctx: ctx, method: "/a.B/C", opts: opts}, nil, &grpc.StreamDesc{ServerStreams: true}, cc, streamer)
	if err != nil {
		t.Fatal(err)
	}
	return c, st
}

// TestStreamAnsweredTooLateEnds has the headers arrive after the per-try timeout
// and after the caller has given up.
func TestStreamAnsweredTooLateEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 61*time.Second)
		defer cancel()
		_, st := slow(ctx, t, 0, func(_ int, s *slowStream) {
			s.header = func() (metadata.MD, error) {
				time.Sleep(2 * time.Minute)
				return metadata.MD{}, nil
			}
		})
		err := st.RecvMsg(&wrapperspb.StringValue{})
		if status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("the stream ended with %v", err)
		}
	})
}

// TestStreamIsNotLeftToWhatFailed commits the stream while an attempt that has
// failed is not at its end yet.
func TestStreamIsNotLeftToWhatFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		_, st := slow(ctx, t, time.Second, func(n int, s *slowStream) {
			s.header = func() (metadata.MD, error) { return nil, nil }
			s.recv = func() error {
				mesh.CallFrom(s.ctx).Last = outcome.OfGRPC(int32(codes.Unavailable))
				return status.Error(codes.Unavailable, "refused further in")
			}
			if n == 2 {
				s.header = func() (metadata.MD, error) { return metadata.MD{}, nil }
				s.recv = func() error { return nil }
			}
		})
		synctest.Wait()
		if st.Trailer() != nil { // commits, if it can
			t.Error("a trailer")
		}
		if err := st.RecvMsg(&wrapperspb.StringValue{}); err != nil {
			t.Errorf("the stream was left to an attempt that ended with %v", err)
		}
		cancel()
		time.Sleep(2 * time.Second)
	})
}

// TestStreamAnsweredAfterTheEnd is for the race detector: what the caller's
// options read is not written any more once they were called.
func TestStreamAnsweredAfterTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var c *call
		ended := make(chan struct{})
		c, st := slow(ctx, t, 0, func(_ int, s *slowStream) {
			s.header = func() (metadata.MD, error) {
				time.Sleep(2 * time.Second)
				return metadata.MD{}, nil
			}
		}, grpc.OnFinish(func(error) {
			if c.Picked != nil {
				t.Error("picked")
			}
			close(ended)
		}))
		st.Context() // leaves the stream to the attempt
		cancel()
		<-ended
		time.Sleep(3 * time.Second)
	})
}

// TestStreamEndsByTheCallsDeadline has the call's deadline pass between the
// per-try timeout, which cancels the last attempt, and the end of that attempt.
func TestStreamEndsByTheCallsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute+time.Second)
		defer cancel()
		_, st := slow(ctx, t, 2*time.Second, func(_ int, s *slowStream) {
			s.header = func() (metadata.MD, error) { <-s.ctx.Done(); return nil, nil }
			s.recv = func() error { return status.FromContextError(s.ctx.Err()).Err() }
		})
		if err := st.RecvMsg(&wrapperspb.StringValue{}); status.Code(err) != codes.DeadlineExceeded {
			t.Errorf("received %v", err)
		}
	})
}

// tardyContext has ended before its Done says so, as any context has to those
// whose parent it is.
type tardyContext struct {
	context.Context

	ended atomic.Bool
	done  chan struct{}
}

func (c *tardyContext) Done() <-chan struct{} { return c.done }

func (c *tardyContext) Err() error {
	if c.ended.Load() {
		return context.DeadlineExceeded
	}
	return nil
}

// TestIdleTimeoutLeavesTheEndToTheCall has the idle timeout fire when the call has
// ended by its deadline, and its attempts have not heard of that yet.
func TestIdleTimeoutLeavesTheEndToTheCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := &tardyContext{Context: t.Context(), done: make(chan struct{})}
		own, idle := withIdleTimeout(ctx, time.Second)
		defer idle.stop()
		ctx.ended.Store(true)
		time.Sleep(2 * time.Second)
		close(ctx.done)
		<-own.Done()
		if err := own.Err(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the attempts end with %v", err)
		}
	})
}

// TestAttemptsKeepTheirContext has the context of an attempt looked at when the call
// has another: its timer may fire as it is cancelled.
func TestAttemptsKeepTheirContext(t *testing.T) {
	t.Parallel()
	type key struct{}
	for _, limit := range []bool{false, true} {
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "first"))
		defer cancel()
		if limit {
			ctx = context.WithoutCancel(ctx)
		}
		c := newCall(ctx)
		c.Decision.Upstream = &snapshot.Upstream{State: &snapshot.ClusterState{}, Cluster: &snapshot.Cluster{Limits: breaker.NoLimits}}
		c.Decision.Retry = &retry.Policy{PerTryTimeout: time.Minute}
		c.endAfter(time.Hour, false)
		if limit != (c.at != 0) {
			t.Fatal("the call has another kind of deadline")
		}
		attempts := make(chan context.Context, 1)
		u := unary{call: c, invoker: func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
			attempts <- ctx
			return nil
		}}
		if err := u.try(); err != nil {
			t.Fatal(err)
		}
		seen := <-attempts
		var done sync.WaitGroup
		done.Go(func() {
			other := c.anew(context.WithValue(c.Context, key{}, "second"))
			if got := other.Value(key{}); got != "second" || mesh.CallFrom(other) != &c.Call {
				t.Errorf("limit %v: attempts to come have %v", limit, got)
			}
		})
		if got := seen.Value(key{}); got != "first" || mesh.CallFrom(seen) != &c.Call {
			t.Errorf("limit %v: the attempt's context has %v", limit, got)
		}
		done.Wait()
		if got := seen.Value(key{}); got != "first" {
			t.Errorf("limit %v: the attempt's context has %v", limit, got)
		}
		c.release()
	}
}
