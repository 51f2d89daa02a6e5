package balancer

import (
	"testing"
	"testing/synctest"

	grpcbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// oneStream is a balancer with one address, whose only connection so far is ready and
// has room for one call.
func oneStream() (*meshBalancer, *channel, *conn) {
	cc := &channel{}
	b := builder{}.Build(cc, grpcbalancer.BuildOptions{}).(*meshBalancer)
	b.snap = &snapshot.Snapshot{}
	b.create("a", &demand{pool: snapshot.ConnectionPool{MaxStreams: 1}})
	c := b.conns["a"]
	b.open(c)
	cc.made[0].tell(grpcbalancer.SubConnState{ConnectivityState: connectivity.Ready})
	return b, cc, c
}

// TestACallThatFoundRoomLeavesNobodyWaiting has a place be given back just before a
// call says that it waits for one: it takes the place. The call after it finds no room,
// and must be given a connection of its own.
func TestACallThatFoundRoomLeavesNobodyWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, cc, c := oneStream()
		defer b.Close()
		if c.starve() == nil {
			t.Fatal("there is room")
		}
		synctest.Wait()
		if c.take() != nil {
			t.Fatal("there is no room")
		}
		synctest.Wait()
		if len(cc.made) != 2 || cc.made[1].connects != 1 {
			t.Errorf("%d connections", len(cc.made))
		}
	})
}

// TestACallBesideOneThatFoundRoomIsFed has a call wait because another has said that
// it does so, which then finds room after all.
func TestACallBesideOneThatFoundRoomIsFed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b, cc, c := oneStream()
		defer b.Close()
		before := cc.updates.Load()
		if c.starve() == nil {
			t.Fatal("there is room")
		}
		synctest.Wait()
		if cc.updates.Load() == before || c.starved.Load() {
			t.Error("who relied on the first waits for ever")
		}
	})
}

// TestAnAttemptWhoseConnectionIsGoneReachedNobody has gRPC find a connection gone that a
// call was given. Until it is given another, a call is under way nowhere.
func TestAnAttemptWhoseConnectionIsGoneReachedNobody(t *testing.T) {
	t.Parallel()
	b, cc := crowd(t, 1)
	defer b.Close()
	cc.made[0].tell(grpcbalancer.SubConnState{ConnectivityState: connectivity.Ready})
	b.mu.Lock()
	p := newPicker(b).few[0].picker
	b.mu.Unlock()
	call := mesh.Call{Observe: true, Attempting: &mesh.Attempting{}}
	call.Decision.Upstream = p.up
	r, err := p.pick(&call)
	if err != nil || call.Picked == nil || call.Attempting.Host.Load() == nil {
		t.Fatalf("picked %v: %v", call.Picked, err)
	}
	r.Done(grpcbalancer.DoneInfo{})
	if call.Picked != nil || call.Attempting.Host.Load() != nil {
		t.Errorf("the call reached %v and is under way at %v", call.Picked, call.Attempting.Host.Load())
	}
}
