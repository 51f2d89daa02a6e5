// Package balancer is the gRPC balancer "meshframe": it keeps one connection
// for each endpoint of the snapshot, or several where a cluster limits what a
// connection serves, and lets mesh/pick choose among the endpoints. No algorithm
// lives here. In the flow it stands between the decision, which the client
// interceptor carries in the call's context, and the attempt.
//
// This package makes no promise of a stable API.
package balancer

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	grpcbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/watch"
)

// Name is the balancer's name in gRPC's registry and in service configs.
const Name = "meshframe"

// ServiceConfig is a gRPC service config that selects this balancer.
const ServiceConfig = `{"loadBalancingConfig":[{"` + Name + `":{}}]}`

// retireInterval is how often connections of clusters that left the snapshot
// are looked at: they stay until the calls that were decided for them end.
const retireInterval = time.Second

// leaveDelay is how long a connection that is not wanted any more stays open: a call that was
// given it just before has not begun on it, and gRPC would have the call wait for all that
// were there first.
const leaveDelay = time.Second

// Pickers may not know of the state of a connection for longestPause at most;
// those that cost next to nothing know at once.
const shortestPause, longestPause = 2 * time.Millisecond, 100 * time.Millisecond

func init() { grpcbalancer.Register(builder{}) }

type builder struct{}

func (builder) Name() string { return Name }

func (builder) Build(cc grpcbalancer.ClientConn, _ grpcbalancer.BuildOptions) grpcbalancer.Balancer {
	return &meshBalancer{cc: cc, conns: map[string]*conn{}, leaving: map[grpcbalancer.SubConn]*time.Timer{}, stale: map[string]struct{}{}}
}

// meshBalancer owns the connections of one channel.
type meshBalancer struct {
	cc grpcbalancer.ClientConn

	mu      sync.Mutex
	closed  bool
	engine  *mesh.Engine
	snap    *snapshot.Snapshot
	conns   map[string]*conn                     // by address
	leaving map[grpcbalancer.SubConn]*time.Timer // no longer among conns
	retired []*snapshot.Upstream
	timer   *time.Timer
	pickers map[*snapshot.ClusterState]*clusterPicker
	crowded bool // a connection was refused for the limits of its clusters

	// Addresses whose state the pickers do not know yet, and when they are told.
	stale map[string]struct{}
	pace  *time.Timer // runs while there are stale ones; nil if it does not
	told  time.Time   // when pickers were last made for stale ones
	pause time.Duration

	observers sync.Pool
}

// UpdateClientConnState takes the snapshot that the resolver published.
func (b *meshBalancer) UpdateClientConnState(s grpcbalancer.ClientConnState) error {
	p, ok := s.ResolverState.Attributes.Value(watch.PublishedKey{}).(watch.Published)
	if !ok {
		return grpcbalancer.ErrBadResolverState
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.retire(p.Snapshot)
	b.engine, b.snap = p.Engine, p.Snapshot
	b.rebuild()
	return nil
}

// ResolverError keeps what was good; without any configuration calls fail with
// err.
func (b *meshBalancer) ResolverError(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.snap != nil {
		return
	}
	b.cc.UpdateState(grpcbalancer.State{ConnectivityState: connectivity.TransientFailure, Picker: errorPicker{err}})
}

// UpdateSubConnState is not called: every SubConn has its own listener.
func (b *meshBalancer) UpdateSubConnState(grpcbalancer.SubConn, grpcbalancer.SubConnState) {}

// ExitIdle starts the connections that are wanted.
func (b *meshBalancer) ExitIdle() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range b.pickers {
		for _, i := range p.picker.Wants() {
			if c := b.conns[p.up.Hosts[i].Address]; c != nil {
				c.resting = false
			}
		}
		b.connect(p)
	}
}

// Close shuts the connections down; calls on them end first.
func (b *meshBalancer) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	if b.timer != nil {
		b.timer.Stop()
	}
	if b.pace != nil {
		b.pace.Stop()
	}
	for _, c := range b.conns {
		b.drop(c)
	}
	for sub, timer := range b.leaving {
		timer.Stop()
		sub.Shutdown()
	}
	clear(b.leaving)
}

// retire remembers the upstreams that next no longer has and that calls still
// hold, and forgets those that came back or fell out of use.
func (b *meshBalancer) retire(next *snapshot.Snapshot) {
	old := b.retired
	if b.snap != nil {
		old = append(slices.Clone(old), b.snap.Upstreams...)
	}
	b.retired = slices.DeleteFunc(slices.Clone(old), func(u *snapshot.Upstream) bool {
		return !u.State.InUse() || slices.ContainsFunc(next.Upstreams, func(n *snapshot.Upstream) bool { return n.State == u.State })
	})
}

// rebuild reconciles the connections with the upstreams and publishes a picker.
func (b *meshBalancer) rebuild() {
	known := b.demands()
	for addr, c := range b.conns {
		if _, ok := known[addr]; !ok {
			b.drop(c)
		}
	}
	for addr, d := range known {
		switch c := b.conns[addr]; {
		case c == nil:
			b.create(addr, d)
		case d != nil || c.limited || c.quotas != nil:
			b.configure(c, d)
		}
	}
	if len(b.retired) > 0 && b.timer == nil {
		b.timer = time.AfterFunc(retireInterval, b.sweep)
	}
	clear(b.stale)
	b.pickers = make(map[*snapshot.ClusterState]*clusterPicker, len(b.snap.Upstreams)+len(b.retired))
	for _, u := range b.upstreams() {
		b.pickers[u.State] = b.newClusterPicker(u)
	}
	b.publish()
}

func (b *meshBalancer) upstreams() []*snapshot.Upstream {
	if len(b.retired) == 0 {
		return b.snap.Upstreams
	}
	return append(slices.Clone(b.snap.Upstreams), b.retired...)
}

// adopt makes the hosts of u available to the calls that were decided for it.
// The snapshot that it is of may come later, or may have come and gone before
// this channel was there, or while it was idle.
func (b *meshBalancer) adopt(u *snapshot.Upstream) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.pickers[u.State] != nil {
		return
	}
	b.retired = append(b.retired, u)
	b.rebuild()
}

// sweep drops retired upstreams whose last call has ended.
func (b *meshBalancer) sweep() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.timer = nil
	if b.closed {
		return
	}
	b.retire(b.snap)
	b.rebuild()
}

// connect starts the connections that the picker wants before a call asks for
// them. Those that rest are left to its picks.
func (b *meshBalancer) connect(p *clusterPicker) {
	for _, i := range p.picker.Wants() {
		switch c := b.conns[p.up.Hosts[i].Address]; {
		case c == nil || len(c.ready) > 0:
		case c.resting:
			p.rest(i)
		default:
			b.open(c)
		}
	}
}

// connChanged sees to it that the pickers of the upstreams that name addr learn
// of its state: at once, or soon if they were made a short time ago. A picker
// costs in proportion to its hosts, so that one for each change while thousands
// of hosts are connected would cost minutes.
func (b *meshBalancer) connChanged(addr string) {
	b.stale[addr] = struct{}{}
	if b.pace != nil {
		return
	}
	if wait := b.pause - time.Since(b.told); wait > 0 && b.pause >= shortestPause {
		b.pace = time.AfterFunc(wait, b.catchUp)
		return
	}
	b.renew()
}

// catchUp is renew after a pause.
func (b *meshBalancer) catchUp() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pace = nil
	if !b.closed && len(b.stale) > 0 {
		b.renew()
	}
}

// renew makes the pickers of the upstreams that name stale addresses anew. The
// pause that follows is so long that a fifth of the time goes into pickers.
func (b *meshBalancer) renew() {
	began := time.Now()
	pickers := make(map[*snapshot.ClusterState]*clusterPicker, len(b.pickers))
	for s, p := range b.pickers {
		if slices.ContainsFunc(p.up.Hosts, func(h snapshot.Host) bool { _, ok := b.stale[h.Address]; return ok }) {
			p = b.newClusterPicker(p.up)
		}
		pickers[s] = p
	}
	clear(b.stale)
	b.pickers = pickers
	b.publish()
	b.told = time.Now()
	b.pause = min(4*b.told.Sub(began), longestPause)
}

// publish hands gRPC a picker over the present pickers of the clusters. The
// channel is ready if any cluster has a ready connection.
func (b *meshBalancer) publish() {
	b.cc.UpdateState(grpcbalancer.State{
		ConnectivityState: b.connectivity(),
		Picker:            newPicker(b),
	})
}

func (b *meshBalancer) connectivity() connectivity.State {
	state := connectivity.TransientFailure
	for _, c := range b.conns {
		switch {
		case c.state == pick.Ready:
			return connectivity.Ready
		case c.state == pick.Connecting || c.state == pick.Idle && c.opening != nil && c.opening.asked:
			state = connectivity.Connecting
		case c.state == pick.Idle && state != connectivity.Connecting:
			state = connectivity.Idle
		}
	}
	return state
}

func (b *meshBalancer) newClusterPicker(u *snapshot.Upstream) *clusterPicker {
	p := &clusterPicker{engine: b.engine, up: u, hosts: make([]host, len(u.Hosts)), observers: &b.observers}
	states := make([]pick.ConnState, len(u.Hosts))
	var failures []error
	for i := range u.Hosts {
		c := b.conns[u.Hosts[i].Address]
		if c == nil || !c.limited && c.only() == nil {
			states[i] = pick.Failed
			continue
		}
		states[i] = c.state
		if c.limited {
			p.hosts[i].conn = c
		} else {
			p.hosts[i].sub = c.only().sub
		}
		p.hosts[i].done = p.doneFunc(i)
		if owner := u.Owner(i); owner != u {
			p.hosts[i].owner = owner
		}
		if c.err != nil && len(failures) == 0 {
			failures = append(failures, fmt.Errorf("%s: %w", u.Hosts[i].Address, c.err))
		}
	}
	p.picker = u.NewPicker(states)
	if u.Cluster != nil {
		p.measures = u.Cluster.LB.Times()
		p.weighs = u.Cluster.LB.Utilization != nil
		p.timed = p.measures || p.weighs || u.Cluster.LB.SlowStart != nil || u.Cluster.Limits.BudgetInterval > 0
	}
	p.setErrors(errors.Join(failures...))
	b.connect(p)
	return p
}
