package interceptors

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/retry"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// routed is a call with a retry policy.
func routed(ctx context.Context, p *retry.Policy) *call {
	c := newCall(ctx)
	c.Decision.Retry = p
	c.Decision.Upstream = &snapshot.Upstream{State: &snapshot.ClusterState{}, Cluster: &snapshot.Cluster{Limits: breaker.Limits{MaxRetries: 3}}}
	return c
}

// TestPerTryTimeoutByTheServersWord has the server say first that the deadline of
// an attempt has passed, before the timer of this side has ended its context.
func TestPerTryTimeoutByTheServersWord(t *testing.T) {
	for name, test := range map[string]struct {
		after, timeout time.Duration // of the server's word, of the call
		want           int
	}{
		"the attempt's deadline":            {time.Second, time.Hour, 3},
		"the server's own, which is sooner": {time.Second / 2, time.Hour, 1},
		"the call's deadline":               {time.Second, time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := routed(t.Context(), &retry.Policy{On: outcome.Reset, NumRetries: 2, PerTryTimeout: time.Second})
				c.limit(test.timeout)
				attempts := 0
				u := unary{call: c, invoker: func(context.Context, string, any, any, *grpc.ClientConn, ...grpc.CallOption) error {
					attempts++
					time.Sleep(test.after)
					return status.Error(codes.DeadlineExceeded, "said by the server")
				}}
				if err := u.run(); status.Code(err) != codes.DeadlineExceeded || attempts != test.want {
					t.Errorf("%v after %d attempts, want %d", err, attempts, test.want)
				}
				c.release()
			})
		})
	}
}

// TestOverdueGoesByTheClock shows that no timer has to fire for it.
func TestOverdueGoesByTheClock(t *testing.T) {
	c := newCall(t.Context())
	if now := time.Now(); !c.overdue(now) || c.overdue(now.Add(time.Hour)) {
		t.Error("a deadline that has passed has not, or one that has not has")
	}
}

// recorded is a stream that notes what is sent, whatever its context says.
type recorded struct {
	grpc.ClientStream
	sent, closed int
}

func (r *recorded) SendMsg(any) error { r.sent++; return nil }

func (r *recorded) CloseSend() error { r.closed++; return nil }

// TestNothingIsSentOnceTheCallerHasGivenUp sends at once after the caller's
// context has ended, which reaches the call's own only a moment later.
func TestNothingIsSentOnceTheCallerHasGivenUp(t *testing.T) {
	for name, wrap := range map[string]func(*call, grpc.ClientStream) grpc.ClientStream{
		"retried": func(c *call, under grpc.ClientStream) grpc.ClientStream {
			s := &retriedStream{}
			s.call, s.decided = c, make(chan struct{})
			s.decide(&attempt{stream: under}, nil)
			return s
		},
		"not retried": func(c *call, under grpc.ClientStream) grpc.ClientStream { return &promptStream{under, c} },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c := newCall(ctx)
			c.limit(time.Hour)
			under := &recorded{}
			s := wrap(c, under)
			if err := s.SendMsg(&frame{}); err != nil || under.sent != 1 {
				t.Fatalf("sent %d messages: %v", under.sent, err)
			}
			cancel()
			err := s.SendMsg(&frame{})
			if !errors.Is(err, io.EOF) || s.CloseSend() != nil || under.sent != 1 || under.closed != 0 {
				t.Errorf("sent %d messages and %d ends: %v", under.sent, under.closed, err)
			}
			c.release()
		})
	}
}
