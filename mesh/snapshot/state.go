package snapshot

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/mirror"
	"github.com/meshframe/meshframe/mesh/outlier"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/stripe"
)

// HostState is the live state of one endpoint of a cluster. It must not be
// copied.
type HostState struct {
	pick.HostState
	outlier outlier.Host
	refs    int // uses by upstreams; guarded by States.mu
}

// ClusterState is the live state of a cluster, shared by all targets of an
// engine and kept across snapshots. It must not be copied.
type ClusterState struct {
	Name    string
	Breaker breaker.State
	// Mirrored counts the copies of calls that were sent to the cluster.
	Mirrored mirror.Stats

	calls    stripe.Gauge
	rotation pick.State
	detector *outlier.Detector

	// followers are the aggregate clusters that have hosts of this one.
	followers atomic.Pointer[[]*ClusterState]

	// Guarded by States.mu.
	hosts    map[string]*HostState // by address
	refs     int                   // uses by upstreams
	halfOpen breaker.HalfOpen      // what gate goes by
	gate     *breaker.Gate
}

// Acquire notes a call that holds a decision for the cluster; Release ends it. The
// call has what else it counts counted at the same place.
func (s *ClusterState) Acquire() (at stripe.Place) {
	at = stripe.Here()
	s.calls.Begin(at)
	return at
}

// Release ends what Acquire began.
func (s *ClusterState) Release(at stripe.Place) { s.calls.End(at) }

// InUse reports whether any call holds a decision for the cluster.
func (s *ClusterState) InUse() bool { return s.calls.Load() > 0 }

// Ejected is the number of hosts that outlier detection keeps out now.
func (s *ClusterState) Ejected() int { return s.detector.Ejected() }

// changed tells the pickers that have the cluster's hosts of an ejection.
func (s *ClusterState) changed() {
	s.rotation.Changed()
	if followers := s.followers.Load(); followers != nil {
		for _, f := range *followers {
			f.rotation.Changed()
		}
	}
}

// follow notes an aggregate cluster that uses the hosts, once for each time.
func (s *ClusterState) follow(aggregate *ClusterState) {
	var list []*ClusterState
	if old := s.followers.Load(); old != nil {
		list = slices.Clone(*old)
	}
	list = append(list, aggregate)
	s.followers.Store(&list)
}

// unfollow undoes one follow.
func (s *ClusterState) unfollow(aggregate *ClusterState) {
	list := slices.Clone(*s.followers.Load())
	i := slices.Index(list, aggregate)
	list = slices.Delete(list, i, i+1)
	s.followers.Store(&list)
}

// gateOf returns the gate for a configuration: the one that was there, if it is
// configured so.
func (s *ClusterState) gateOf(c *breaker.HalfOpen) *breaker.Gate {
	switch {
	case c == nil:
		s.gate = nil
	case s.gate == nil || s.halfOpen != *c:
		s.halfOpen, s.gate = *c, breaker.NewGate(c)
	}
	return s.gate
}

// busy reports whether the state holds anything that a call will give back.
func (s *ClusterState) busy() bool {
	return s.InUse() || s.Breaker.Requests() > 0 || s.Breaker.Pending() > 0 || s.Breaker.Retries() > 0 ||
		s.Breaker.Connections() > 0
}

// States holds the live state of all clusters by name. A state lives as long as
// a snapshot names its cluster, or a call uses it. States is safe for
// concurrent use.
type States struct {
	rnd func() uint64

	mu       sync.Mutex
	clusters map[string]*ClusterState
	orphans  map[string]*ClusterState // no longer named, still used by calls
}

// NewStates returns an empty set of states that draws from rnd.
func NewStates(rnd func() uint64) *States {
	return &States{rnd: rnd, clusters: map[string]*ClusterState{}, orphans: map[string]*ClusterState{}}
}

// Sweep does what outlier detection has due at now, for all clusters. It
// returns when to call it again (zero: nothing is scheduled) and whether a host
// was ejected or taken back.
func (s *States) Sweep(now time.Time) (next time.Time, changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.collect()
	for _, c := range s.clusters {
		at, moved := c.detector.Sweep(now)
		changed = changed || moved
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next, changed
}

// Len is the number of clusters whose state is held.
func (s *States) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.collect()
	return len(s.clusters) + len(s.orphans)
}

// collect frees the states that only calls kept, once those have ended.
func (s *States) collect() {
	for name, c := range s.orphans {
		if !c.busy() {
			delete(s.orphans, name)
		}
	}
}

// retain attaches the live state to an upstream that enters a snapshot.
func (s *States) retain(u *Upstream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cluster(u.Name)
	c.refs++
	u.State = c
	if u.Cluster != nil {
		u.Gate = c.gateOf(u.Cluster.HalfOpen)
	}
	if u.owners != nil { // the hosts have the state that their own clusters hold
		for _, owner := range u.distinctOwners() {
			owner.State.follow(c)
		}
		return
	}
	for i := range u.Hosts {
		u.Hosts[i].State = s.host(c, u.Hosts[i].Address)
	}
	if u.Cluster != nil {
		c.detector.Configure(u.Cluster.Outlier)
	}
}

// release detaches an upstream that has left its target's snapshot.
func (s *States) release(u *Upstream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.collect()
	c := u.State
	if u.owners != nil {
		for _, owner := range u.distinctOwners() {
			owner.State.unfollow(c)
		}
	} else {
		s.releaseHosts(u)
	}
	if c.refs--; c.refs > 0 {
		return
	}
	delete(s.clusters, u.Name)
	if c.busy() {
		s.orphans[u.Name] = c
	}
}

func (s *States) releaseHosts(u *Upstream) {
	for i := range u.Hosts {
		h := u.Hosts[i].State
		if h.refs--; h.refs == 0 {
			u.State.detector.Remove(&h.outlier)
			delete(u.State.hosts, u.Hosts[i].Address)
		}
	}
}

func (s *States) cluster(name string) *ClusterState {
	if c, ok := s.clusters[name]; ok {
		return c
	}
	c, ok := s.orphans[name]
	if ok {
		delete(s.orphans, name)
	} else {
		c = &ClusterState{Name: name, hosts: map[string]*HostState{}}
		c.rotation.Seed(s.rnd() >> 32) // room to count on
		c.detector = outlier.NewDetector(s.rnd, c.changed)
	}
	s.clusters[name] = c
	return c
}

func (s *States) host(c *ClusterState, address string) *HostState {
	h, ok := c.hosts[address]
	if !ok {
		h = &HostState{}
		c.hosts[address] = h
		c.detector.Add(&h.outlier, &h.Ejected)
	}
	h.refs++
	return h
}
