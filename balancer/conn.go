package balancer

import (
	"slices"
	"sync/atomic"
	"time"

	grpcbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	grpcresolver "google.golang.org/grpc/resolver"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// roomInterval is how often an address that may have no further connection now
// looks again: the limit is shared by all channels of the process.
const roomInterval = time.Second

// conn holds the connections to one address, its links. Without limits there is
// one link, which connects again when it is lost. With limits, which the clusters
// that name the address set, picks count the calls on each link, and a link is
// used for one connection only: when that has reached a limit a new link takes its
// place, and the old one is shut down after its last call (docs/decisions/0009).
type conn struct {
	addr     string
	balancer *meshBalancer

	// Shared with picks, which hold no lock; only with limits.
	usage   atomic.Pointer[usage]
	starved atomic.Bool // a call found no link with room and waits for a picker
	waking  atomic.Bool // a pick has asked for a connection, which is not under way yet

	// The rest is guarded by the balancer's mu.
	pool    snapshot.ConnectionPool
	limited bool // the pool limits
	quotas  []quota
	ready   []*link // connected, oldest first
	opening *link   // not connected yet; nil if there is none. Without limits there is either this or one that is ready.
	closing []*link // with calls under way that they end with
	wanted  bool    // another link is to be opened beside those that are ready
	resting bool    // the idle timeout closed the last link: the next call opens one
	state   pick.ConnState
	err     error // why state is Failed
	timer   *time.Timer
}

// link is a connection, or what becomes one. But for calls it is guarded by the
// balancer's mu.
type link struct {
	sub   grpcbalancer.SubConn
	calls tally

	state     pick.ConnState
	err       error     // why state is Failed
	asked     bool      // to connect, since it was last idle
	made      time.Time // when it became ready
	uncounted bool      // it had calls before there were limits, which are not in calls
	followed  bool      // its successor was asked for
	counted   bool      // among the connections of the clusters that limit them
}

// usage is what picks of an address with limits go by. It is immutable.
type usage struct {
	links                          []*link
	maxRequests, maxStreams, early uint32
	idles                          bool // the ends of calls are noted
}

// quota is a cluster that limits its connections.
type quota struct {
	state  *snapshot.ClusterState
	limits *breaker.Limits
}

// demand is what the clusters that name an address ask of its connections; nil is
// nothing. Where they differ the strictest counts.
type demand struct {
	pool   snapshot.ConnectionPool
	quotas []quota
}

// demands are the addresses of all upstreams.
func (b *meshBalancer) demands() map[string]*demand {
	all := map[string]*demand{}
	for _, u := range b.upstreams() {
		limited := limits(u)
		for i := range u.Hosts {
			addr := u.Hosts[i].Address
			d := all[addr]
			if limited {
				d = d.add(u)
			}
			all[addr] = d
		}
	}
	return all
}

// limits reports whether a cluster limits its connections. An aggregate one has
// none of its own.
func limits(u *snapshot.Upstream) bool {
	c := u.Cluster
	return c != nil && c.Discovery != snapshot.Aggregate && (c.Connections.Limits() || c.Limits.MaxConnections != breaker.Unlimited)
}

func (d *demand) add(u *snapshot.Upstream) *demand {
	if d == nil {
		d = &demand{}
	}
	d.pool.Tighten(&u.Cluster.Connections)
	q := quota{u.State, &u.Cluster.Limits}
	if q.limits.MaxConnections != breaker.Unlimited && !q.among(d.quotas) {
		d.quotas = append(d.quotas, q)
	}
	return d
}

// create makes the connection to addr, which stays idle until somebody wants it.
func (b *meshBalancer) create(addr string, d *demand) {
	c := &conn{addr: addr, balancer: b}
	if c.opening = b.newLink(c); c.opening == nil {
		return
	}
	b.conns[addr] = c
	b.configure(c, d)
}

// newLink returns nil if the channel is closing.
func (b *meshBalancer) newLink(c *conn) *link {
	l := &link{calls: tally{born: time.Now()}}
	sub, err := b.cc.NewSubConn(
		[]grpcresolver.Address{{Addr: c.addr}},
		grpcbalancer.NewSubConnOptions{StateListener: func(s grpcbalancer.SubConnState) { b.linkState(c, l, s) }},
	)
	if err != nil {
		return nil
	}
	l.sub = sub
	return l
}

// configure puts limits in force, on the links that there are too.
func (b *meshBalancer) configure(c *conn, d *demand) {
	if d == nil {
		d = &demand{}
	}
	if limited := d.pool.Limits(); limited != c.limited {
		c.limited = limited
		for _, l := range c.ready {
			l.uncounted = true
		}
	}
	c.pool = d.pool
	b.recount(c, d.quotas)
	b.reconcile(c)
}

// recount counts the links for the clusters that limit connections now.
func (b *meshBalancer) recount(c *conn, quotas []quota) {
	for l := range c.links {
		if !l.counted {
			continue
		}
		for _, q := range quotas {
			if !q.among(c.quotas) {
				q.state.Breaker.AddConnection()
			}
		}
		for _, q := range c.quotas {
			if !q.among(quotas) {
				q.state.Breaker.DoneConnection()
			}
		}
	}
	c.quotas = quotas
}

func (q quota) among(list []quota) bool {
	return slices.ContainsFunc(list, func(o quota) bool { return o.state == q.state })
}

// links yields all links.
func (c *conn) links(yield func(*link) bool) {
	for _, l := range slices.Concat(c.ready, c.closing) {
		if !yield(l) {
			return
		}
	}
	if c.opening != nil {
		yield(c.opening)
	}
}

// drop lets go of an address. Calls on its links end first.
func (b *meshBalancer) drop(c *conn) {
	delete(b.conns, c.addr)
	for l := range c.links {
		b.discard(c, l)
	}
	if c.timer != nil {
		c.timer.Stop()
	}
}

// discard shuts a link down. gRPC lets the calls on it end.
func (b *meshBalancer) discard(c *conn, l *link) {
	l.calls.end()
	b.shutdown(l, c.limited && !l.uncounted && l.calls.drained())
	if !l.counted {
		return
	}
	l.counted = false
	for _, q := range c.quotas {
		q.state.Breaker.DoneConnection()
	}
	if b.crowded { // there may be room for one that was refused
		b.crowded = false
		go b.tendAll()
	}
}

// shutdown shuts a link down, which is unused if no call has been given it that has not
// ended; else when each has begun.
func (b *meshBalancer) shutdown(l *link, unused bool) {
	if b.closed || l.state != pick.Ready || unused {
		l.sub.Shutdown()
		return
	}
	b.leaving[l.sub] = time.AfterFunc(leaveDelay, func() {
		b.mu.Lock()
		_, ok := b.leaving[l.sub]
		delete(b.leaving, l.sub)
		b.mu.Unlock()
		if ok {
			l.sub.Shutdown()
		}
	})
}

// open starts a connection, unless there is one that becomes ready. It reports
// whether the limits of some cluster forbid one now.
func (b *meshBalancer) open(c *conn) (refused bool) {
	if c.opening == nil {
		if c.opening = b.newLink(c); c.opening == nil {
			return false
		}
	}
	l := c.opening
	if l.asked || l.state != pick.Idle && l.state != pick.Failed {
		return false
	}
	if !b.admit(c, l) {
		c.wanted, b.crowded = c.wanted || len(c.ready) == 0, true
		return true
	}
	l.asked = true
	if c.limited && l.state == pick.Idle {
		// It will be in a moment. Picks that see it already wait, and do not ask for
		// the connection once more.
		l.state = pick.Connecting
	}
	c.resting = false
	l.sub.Connect()
	return false
}

// admit counts a link for the clusters that limit their connections. The first
// one to an address is admitted in any case, so that none is cut off for what
// others have; that is Envoy's rule.
func (b *meshBalancer) admit(c *conn, l *link) bool {
	if l.counted {
		return true
	}
	first := len(c.ready)+len(c.closing) == 0
	for i, q := range c.quotas {
		switch {
		case first:
			q.state.Breaker.AddConnection()
		case !q.state.Breaker.TryConnection(q.limits):
			for _, q := range c.quotas[:i] {
				q.state.Breaker.DoneConnection()
			}
			return false
		}
	}
	l.counted = true
	return true
}

// linkState notes a link's new state. A failed connection counts as failed until
// it is ready again, so that fail-fast calls fail with its error rather than wait
// out every attempt to connect (as gRPC's round_robin does).
func (b *meshBalancer) linkState(c *conn, l *link, s grpcbalancer.SubConnState) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.conns[c.addr] != c || c.opening != l && !slices.Contains(c.ready, l) {
		return
	}
	switch s.ConnectivityState {
	case connectivity.Ready:
		b.linkReady(c, l)
		return
	case connectivity.TransientFailure:
		l.state, l.err = pick.Failed, s.ConnectionError
	case connectivity.Connecting:
		if l.state != pick.Failed {
			l.state = pick.Connecting
		}
	case connectivity.Idle:
		l.asked = false
		if l.state != pick.Failed {
			l.state = pick.Idle
		}
		b.linkIdle(c, l)
	default:
		return
	}
	b.settle(c)
}

func (b *meshBalancer) linkReady(c *conn, l *link) {
	l.state, l.err, l.made = pick.Ready, nil, time.Now()
	if c.opening == l {
		c.opening, c.wanted = nil, false
		c.ready = append(c.ready, l)
	}
	// Picks are told of the link before starved is taken back: one that finds no
	// room after this has looked at the link, and one that found none before is
	// told by the picker below.
	c.publish()
	starved := c.starved.Swap(false)
	if changed := b.settle(c); starved && !changed { // those who wait get a picker
		b.publish()
	}
}

// linkIdle is for a link that was lost, or may try again.
func (b *meshBalancer) linkIdle(c *conn, l *link) {
	i := slices.Index(c.ready, l)
	if i < 0 {
		return
	}
	c.ready = slices.Delete(slices.Clone(c.ready), i, i+1)
	if c.limited || c.opening != nil {
		b.discard(c, l)
		return
	}
	c.opening = l
}

// tend looks after the links of an address. It is called when a limit may have
// been reached.
func (b *meshBalancer) tend(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.conns[c.addr] != c {
		return
	}
	b.settle(c)
}

func (b *meshBalancer) tendAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	for _, c := range b.conns {
		if c.limited {
			b.settle(c)
		}
	}
}

// wake connects an address for a call.
func (b *meshBalancer) wake(c *conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c.waking.Store(false)
	if b.closed || b.conns[c.addr] != c || len(c.ready) > 0 {
		return
	}
	b.open(c)
	b.settle(c)
}

// settle brings the links in line with the limits, and the pickers with them.
func (b *meshBalancer) settle(c *conn) (changed bool) {
	changed = b.reconcile(c)
	if changed {
		b.connChanged(c.addr)
	}
	return changed
}

// reconcile brings the links of an address in line with its limits, and reports
// whether pickers have to know.
func (b *meshBalancer) reconcile(c *conn) (changed bool) {
	next := b.judge(c)
	c.closing = slices.DeleteFunc(c.closing, func(l *link) bool {
		drained := l.calls.drained()
		if drained {
			b.discard(c, l)
		}
		return drained
	})
	switch {
	case !c.limited:
		b.simplify(c)
	case c.wanted || c.starved.Load():
		if b.open(c) { // other channels do not say when they leave room
			next = earlier(next, time.Now().Add(roomInterval))
		}
	}
	c.setTimer(next)
	c.publish()
	state := c.state
	c.state, c.err = c.connState()
	return c.state != state || c.state == pick.Failed
}

// judge ends the links that have reached a limit, and wants another where all
// others are about to. It returns when to look again.
func (b *meshBalancer) judge(c *conn) (next time.Time) {
	if !c.limited {
		return time.Time{}
	}
	now := time.Now()
	fresh, aging, rested := false, []*link(nil), false
	ready := c.ready
	c.ready = nil
	for _, l := range ready {
		f, at := judge(&c.pool, &l.calls, l.made, now)
		if f == stays && l.uncounted && (c.pool.MaxRequests != 0 || c.pool.MaxStreams != 0) {
			f = ages
		}
		if f >= ends {
			b.endLink(c, l)
			rested = rested || f == rests
			continue
		}
		next = earlier(next, at)
		c.ready = append(c.ready, l)
		if f == ages && !l.followed {
			aging = append(aging, l)
		}
		fresh = fresh || f == stays
	}
	if fresh {
		b.replace(c)
	} else if len(aging) > 0 {
		c.wanted = true
		for _, l := range aging {
			l.followed = true
		}
	}
	if o := c.opening; rested && len(c.ready) == 0 && (o == nil || o.state == pick.Idle && !o.asked) {
		c.resting, c.wanted = true, false
	}
	return next
}

// replace ends the links whose calls were not counted, now that there is one
// whose calls are.
func (b *meshBalancer) replace(c *conn) {
	if c.pool.MaxRequests == 0 && c.pool.MaxStreams == 0 {
		return
	}
	c.ready = slices.DeleteFunc(c.ready, func(l *link) bool {
		if l.uncounted {
			b.endLink(c, l)
		}
		return l.uncounted
	})
}

// endLink ends a link when its calls have. Those that were not counted end too:
// gRPC sees to it.
func (b *meshBalancer) endLink(c *conn, l *link) {
	l.calls.end()
	if l.uncounted || l.calls.drained() {
		b.discard(c, l)
		return
	}
	c.closing = append(c.closing, l)
}

// simplify leaves one link, where there are no limits.
func (b *meshBalancer) simplify(c *conn) {
	c.wanted, c.resting = false, false
	c.starved.Store(false)
	for _, l := range c.ready[min(len(c.ready), 1):] {
		b.endLink(c, l)
	}
	c.ready = c.ready[:min(len(c.ready), 1)]
	switch {
	case len(c.ready) == 0 && c.opening == nil:
		c.opening = b.newLink(c)
	case len(c.ready) > 0 && c.opening != nil:
		b.discard(c, c.opening)
		c.opening = nil
	}
}

// publish tells picks of the links.
func (c *conn) publish() {
	if !c.limited {
		return
	}
	c.usage.Store(&usage{
		links: slices.Clone(c.ready), maxRequests: c.pool.MaxRequests, maxStreams: c.pool.MaxStreams,
		early: early(c.pool.MaxRequests), idles: c.pool.IdleTimeout != 0,
	})
}

// setTimer makes sure that the links are looked after at some time; zero is never.
func (c *conn) setTimer(at time.Time) {
	switch {
	case at.IsZero():
		if c.timer != nil {
			c.timer.Stop()
		}
	case c.timer == nil:
		c.timer = time.AfterFunc(time.Until(at), func() { c.balancer.tend(c) })
	default:
		c.timer.Reset(time.Until(at))
	}
}

// connState is the state of an address as picks should see it.
func (c *conn) connState() (pick.ConnState, error) {
	switch {
	case len(c.ready) > 0:
		return pick.Ready, nil
	case c.opening != nil:
		return c.opening.state, c.opening.err
	}
	return pick.Idle, nil
}

// only is the one link of an address without limits; nil if the channel is closing.
func (c *conn) only() *link {
	if len(c.ready) > 0 {
		return c.ready[0]
	}
	return c.opening
}

// take counts a call on the first link that has room; nil if none has. Then the
// call waits for the next picker, which is published when there is room again.
func (c *conn) take() *link {
	if l := c.tryTake(); l != nil {
		return l
	}
	return c.starve()
}

// starve is take for a call that has found no room.
func (c *conn) starve() *link {
	told := c.starved.Swap(true)
	// A place that was given back before starved was set woke nobody: look again.
	l := c.tryTake()
	switch {
	case told:
	case l == nil:
		go c.balancer.tend(c)
	case c.starved.CompareAndSwap(true, false): // who found it set relies on it
		go c.balancer.feed()
	}
	return l
}

func (c *conn) tryTake() *link {
	u := c.usage.Load()
	for _, l := range u.links {
		total, ok := l.calls.take(u.maxRequests, u.maxStreams)
		if !ok {
			continue
		}
		if u.maxRequests != 0 && (total == u.early || total == u.maxRequests) {
			go c.balancer.tend(c)
		}
		return l
	}
	return nil
}

// done ends a call.
func (c *conn) done(l *link) {
	if c.usage.Load().idles {
		l.calls.touch(time.Now())
	}
	c.given(l.calls.done())
}

// undo takes a call back.
func (c *conn) undo(l *link) { c.given(l.calls.undo()) }

// given is called when a call has given its place on a link back. A link that has
// ended is shut down after the last; on others there is room for calls that wait.
func (c *conn) given(ended, last bool) {
	switch {
	case ended && last:
		go c.balancer.tend(c)
	case !ended && c.starved.Load() && c.starved.CompareAndSwap(true, false):
		go c.balancer.feed()
	}
}

// feed gives calls that wait another pick.
func (b *meshBalancer) feed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed && b.snap != nil {
		b.publish()
	}
}

// bind makes the end of a call that of its place on a link.
func (c *conn) bind(l *link, r grpcbalancer.PickResult) grpcbalancer.PickResult {
	done := r.Done
	r.SubConn, r.Done = l.sub, func(info grpcbalancer.DoneInfo) {
		c.done(l)
		done(info)
	}
	return r
}

// connect asks for a connection for a call.
func (c *conn) connect() {
	if c.waking.CompareAndSwap(false, true) {
		go c.balancer.wake(c)
	}
}
