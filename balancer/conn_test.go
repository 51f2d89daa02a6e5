package balancer

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	grpcbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	grpcresolver "google.golang.org/grpc/resolver"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// channel is a channel of gRPC that does nothing.
type channel struct {
	grpcbalancer.ClientConn

	made    []*subConn
	updates atomic.Int64
	updated chan struct{} // one slot; nil: nobody waits
}

type subConn struct {
	grpcbalancer.SubConn

	tell       func(grpcbalancer.SubConnState)
	connects   int
	closed     atomic.Int32 // how often
	onShutdown func()       // nil is nothing
}

func (c *channel) NewSubConn(_ []grpcresolver.Address, o grpcbalancer.NewSubConnOptions) (grpcbalancer.SubConn, error) {
	s := &subConn{tell: o.StateListener}
	c.made = append(c.made, s)
	return s, nil
}

func (c *channel) UpdateState(grpcbalancer.State) {
	c.updates.Add(1)
	select {
	case c.updated <- struct{}{}:
	default:
	}
}

func (s *subConn) Connect() { s.connects++ }

func (s *subConn) Shutdown() {
	s.closed.Add(1)
	if s.onShutdown != nil {
		s.onShutdown()
	}
}

// TestCloseEndsEverything holds that nothing is left of an address: connections,
// places among limits, the timer.
func TestCloseEndsEverything(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*meshBalancer, *conn){
		"the channel": func(b *meshBalancer, _ *conn) { b.Close() },
		"the address": func(b *meshBalancer, c *conn) {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.drop(c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { closes(t, end) })
		})
	}
}

func closes(t *testing.T, end func(*meshBalancer, *conn)) {
	t.Helper()
	cc := &channel{}
	b := builder{}.Build(cc, grpcbalancer.BuildOptions{}).(*meshBalancer)
	state := &snapshot.ClusterState{}
	d := &demand{
		pool:   snapshot.ConnectionPool{MaxDuration: time.Hour, MaxRequests: 2},
		quotas: []quota{{state, &breaker.Limits{MaxConnections: 5}}},
	}
	b.create("a", d)
	c := b.conns["a"]
	b.open(c)
	cc.made[0].tell(grpcbalancer.SubConnState{ConnectivityState: connectivity.Ready})
	for range 2 {
		if c.take() == nil {
			t.Fatal("a call of two is refused")
		}
		synctest.Wait() // its connection is looked after
	}
	if state.Breaker.Connections() != 2 || len(c.closing) != 1 || c.opening == nil {
		t.Fatalf("%d connections, %d with calls that end", state.Breaker.Connections(), len(c.closing))
	}
	cc.made[1].tell(grpcbalancer.SubConnState{ConnectivityState: connectivity.Ready})
	end(b, c)
	if c.timer == nil || c.timer.Stop() {
		t.Error("the timer runs on")
	}
	if state.Breaker.Connections() != 0 {
		t.Errorf("%d connections are counted", state.Breaker.Connections())
	}
	time.Sleep(leaveDelay)
	synctest.Wait()
	for i, s := range cc.made {
		if s.closed.Load() != 1 {
			t.Errorf("connection %d was closed %d times", i, s.closed.Load())
		}
	}
	if len(b.leaving) != 0 {
		t.Errorf("%d connections are to be closed", len(b.leaving))
	}
}

// TestPlainConnectionsAreKept holds that without limits one SubConn is used again
// and again.
func TestPlainConnectionsAreKept(t *testing.T) {
	t.Parallel()
	cc := &channel{}
	b := builder{}.Build(cc, grpcbalancer.BuildOptions{}).(*meshBalancer)
	b.create("a", nil)
	c := b.conns["a"]
	for i := range 3 {
		b.open(c)
		b.open(c) // asked once
		for _, s := range []connectivity.State{connectivity.Connecting, connectivity.Ready, connectivity.Idle} {
			cc.made[0].tell(grpcbalancer.SubConnState{ConnectivityState: s})
		}
		if s := cc.made[0]; len(cc.made) != 1 || s.connects != i+1 || s.closed.Load() != 0 || c.only() == nil || c.usage.Load() != nil {
			t.Fatalf("%d connections; of the first %+v", len(cc.made), s)
		}
	}
}

// TestAPickBesideANewConnectionFindsIt has a pick come while a connection that is
// ready takes the place of another. It must not wait for a picker that nobody owes
// it.
func TestAPickBesideANewConnectionFindsIt(t *testing.T) {
	t.Parallel()
	cc := &channel{}
	b := builder{}.Build(cc, grpcbalancer.BuildOptions{}).(*meshBalancer)
	b.create("a", nil)
	c := b.conns["a"]
	b.open(c)
	cc.made[0].tell(grpcbalancer.SubConnState{ConnectivityState: connectivity.Ready})
	b.configure(c, &demand{pool: snapshot.ConnectionPool{MaxRequests: 10}}) // the first was not counted
	var got *link
	last := &link{sub: &subConn{onShutdown: func() { got = c.take() }}, state: pick.Ready} // whose calls have ended
	last.calls.end()
	c.closing = append(c.closing, last)
	cc.made[1].tell(grpcbalancer.SubConnState{ConnectivityState: connectivity.Ready})
	if got == nil || got.sub != cc.made[1] {
		t.Errorf("the pick got %v", got)
	}
	b.Close()
	if cc.made[0].closed.Load() != 1 {
		t.Errorf("the first connection was closed %d times", cc.made[0].closed.Load())
	}
}

// TestCallsBeginOnAConnectionThatGoes has a call be given a connection just before the
// address goes: that is closed when the call has begun on it, and no later than the channel.
func TestCallsBeginOnAConnectionThatGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, closed := range []bool{false, true} {
			cc := &channel{}
			b := builder{}.Build(cc, grpcbalancer.BuildOptions{}).(*meshBalancer)
			b.create("a", nil)
			b.open(b.conns["a"])
			cc.made[0].tell(grpcbalancer.SubConnState{ConnectivityState: connectivity.Ready})
			b.mu.Lock()
			b.drop(b.conns["a"])
			b.mu.Unlock()
			time.Sleep(leaveDelay - time.Nanosecond)
			if cc.made[0].closed.Load() != 0 {
				t.Error("the connection is closed at once")
			}
			if closed {
				b.Close()
			} else {
				time.Sleep(time.Nanosecond)
				synctest.Wait()
			}
			if cc.made[0].closed.Load() != 1 {
				t.Errorf("the connection was closed %d times, at the end of the channel %v", cc.made[0].closed.Load(), closed)
			}
			b.Close()
			time.Sleep(leaveDelay)
			if cc.made[0].closed.Load() != 1 || len(b.leaving) != 0 {
				t.Errorf("the connection was closed %d times in all", cc.made[0].closed.Load())
			}
		}
	})
}
