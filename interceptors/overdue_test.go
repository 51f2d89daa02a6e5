package interceptors

import (
	"context"
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
				c.endAfter(test.timeout, false)
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
