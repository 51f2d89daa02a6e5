package interceptors

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/outcome"
)

// TestRequestThatFollowsTheEnd has a server-streaming call end before its request is
// sent. Generated code takes any error of that for the end of the call, so as with
// gRPC there is none, and RecvMsg says how it ended.
func TestRequestThatFollowsTheEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, st := slow(t.Context(), t, 0, func(_ int, s *slowStream) {
			s.header = func() (metadata.MD, error) { return nil, nil }
			s.recv = func() error {
				mesh.CallFrom(s.ctx).Last = outcome.OfGRPC(int32(codes.PermissionDenied))
				return status.Error(codes.PermissionDenied, "not you")
			}
		})
		synctest.Wait()
		if err := st.SendMsg(wrapperspb.String("request")); err != nil {
			t.Errorf("SendMsg: %v", err)
		}
		if err := st.CloseSend(); err != nil {
			t.Errorf("CloseSend: %v", err)
		}
		if err := st.RecvMsg(&wrapperspb.StringValue{}); status.Code(err) != codes.PermissionDenied {
			t.Errorf("RecvMsg: %v", err)
		}
	})
}

// TestNothingWatchesWhatHasEnded has an attempt that a stream was left to end after the
// call, whose caller's context lives on.
func TestNothingWatchesWhatHasEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, st := slow(context.Background(), t, 0, func(_ int, s *slowStream) {
			s.header = func() (metadata.MD, error) {
				<-s.ctx.Done()
				time.Sleep(time.Second)
				return nil, nil
			}
			s.recv = func() error { return status.FromContextError(s.ctx.Err()).Err() }
			s.send = func() error { return status.Error(codes.InvalidArgument, "refused further in") }
		})
		st.Context() // leaves the stream to the attempt
		if err := st.SendMsg(wrapperspb.String("no")); status.Code(err) != codes.InvalidArgument {
			t.Errorf("SendMsg: %v", err)
		}
		time.Sleep(2 * time.Second)
		s := st.(*retriedStream)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.unwatch != nil {
			s.unwatch()
			t.Error("something waits for the end of the context")
		}
	})
}

// pausing is a context that has no end, and one question for it wait.
type pausing struct {
	context.Context

	once        sync.Once
	asked, goOn chan struct{}
}

func (c *pausing) Err() error {
	c.once.Do(func() {
		close(c.asked)
		<-c.goOn
	})
	return nil
}

// TestPickedOfACommittedStreamIsFinal is for the race detector: what sessions read once
// there are headers is not written any more, though the attempt wins only then.
func TestPickedOfACommittedStreamIsFinal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx := &pausing{Context: context.Background(), asked: make(chan struct{}), goOn: make(chan struct{})}
		ctx.once.Do(func() {}) // not yet
		answers := make(chan struct{})
		c, st := slow(ctx, t, 0, func(_ int, s *slowStream) {
			s.header = func() (metadata.MD, error) { <-answers; return metadata.MD{}, nil }
			s.recv = func() error { return status.Error(codes.Canceled, "over") }
		})
		st.Context() // leaves the stream to the attempt
		synctest.Wait()
		ctx.once = sync.Once{}
		close(answers)
		<-ctx.asked // the headers are there, and the attempt is about to win
		if _, err := st.Header(); err != nil {
			t.Fatal(err)
		}
		close(ctx.goOn)
		if c.Picked != nil {
			t.Error("picked")
		}
		time.Sleep(time.Second) // no lock before it has won
		_ = st.RecvMsg(&wrapperspb.StringValue{})
	})
}
