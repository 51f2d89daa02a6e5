package mesh

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// Options configure an Engine. The zero Options are good.
type Options struct {
	// Rand is the source of all random choices; it must be safe for concurrent
	// use. Default math/rand/v2.Uint64.
	Rand func() uint64
}

// Engine owns the snapshots of all targets and the live state of their
// clusters. Make it with New.
type Engine struct {
	rnd    func() uint64
	states *snapshot.States

	mu      sync.Mutex // not taken on the path of a call
	targets map[string]*target
}

// target is what the engine holds of one target.
type target struct {
	live *snapshot.Live

	mu      sync.Mutex // one Apply at a time
	current *snapshot.Snapshot
	dropped bool
}

// New returns an empty engine.
func New(o Options) *Engine {
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	return &Engine{rnd: o.Rand, states: snapshot.NewStates(o.Rand), targets: map[string]*target{}}
}

// Rand is the engine's random source, for pickers, backoffs and faults.
func (e *Engine) Rand() uint64 { return e.rnd() }

// Apply joins an update into the target's next snapshot and returns it. What
// did not change since the previous snapshot is reused; what was refused keeps
// its last good version. Updates of one target are applied one after the
// other. Call Tick afterwards: outlier detection may have something to
// schedule.
func (e *Engine) Apply(u *snapshot.Update) *snapshot.Snapshot {
	t := e.lockTarget(u.Target)
	defer t.mu.Unlock()
	prev := t.current
	t.current = snapshot.Build(prev, u, e.states, t.live)
	snapshot.Release(prev, t.current, e.states)
	return t.current
}

// lockTarget returns the target of a name, locked and not dropped.
func (e *Engine) lockTarget(name string) *target {
	for {
		e.mu.Lock()
		t, ok := e.targets[name]
		if !ok {
			t = &target{live: snapshot.NewLive(e.rnd)}
			e.targets[name] = t
		}
		e.mu.Unlock()
		t.mu.Lock()
		if !t.dropped {
			return t
		}
		t.mu.Unlock()
	}
}

// Drop forgets a target. The state of clusters that no other target names is
// freed as soon as no call uses it.
func (e *Engine) Drop(name string) {
	e.mu.Lock()
	t, ok := e.targets[name]
	delete(e.targets, name)
	e.mu.Unlock()
	if !ok {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dropped = true
	snapshot.Release(t.current, nil, e.states)
	t.current = nil
}

// Tick does what is due at now: the sweeps of outlier detection. It returns
// when to call it again, zero if nothing is scheduled, and whether a host was
// ejected or taken back (pickers see that by themselves).
func (e *Engine) Tick(now time.Time) (next time.Time, changed bool) {
	return e.states.Sweep(now)
}

// Report takes the outcome of an attempt on u.Hosts[host]. It costs next to
// nothing for clusters without outlier detection.
func (e *Engine) Report(u *snapshot.Upstream, host int, a *outcome.Attempt, now time.Time) {
	u.Report(host, a, now)
}

// ReportGood is Report for an attempt that the server answered with OK, as nearly all
// are.
func (e *Engine) ReportGood(u *snapshot.Upstream, host int) { u.ReportGood(host) }

// Clusters is the number of clusters whose live state the engine holds.
func (e *Engine) Clusters() int { return e.states.Len() }

// Status is a copy of the live state of the clusters that a target names, sorted
// by name. It takes a lock that calls do not.
func (e *Engine) Status() []snapshot.ClusterStatus { return e.states.Status() }
