package watch

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/xdsclient"
)

// Target is one name that calls go to. Its methods are safe for concurrent
// use.
type Target struct {
	m    *Manager
	name string

	current atomic.Pointer[snapshot.Snapshot] // what calls read

	// Guarded by the Manager's mutex.
	users   int
	parting *time.Timer // while nobody uses it

	mu      sync.Mutex
	leases  int
	ended   bool // there is no subscription any more
	linger  *time.Timer
	overdue *time.Timer // while there is no configuration
	client  *xdsclient.Client
	join    *join         // nil while there is no subscription
	err     error         // why there is no snapshot, or why it may be stale
	turns   uint64        // see Published
	changed chan struct{} // closed when any of these changes

	withheld error // what err is not yet: there may be a snapshot in a moment
}

// Published is a snapshot with the engine that decides on it: what a resolver
// hands to a balancer.
type Published struct {
	Engine   *mesh.Engine
	Snapshot *snapshot.Snapshot
	// Turns counts how often hosts were ejected or came back as time passed. What
	// waits for a host looks again when it changes.
	Turns uint64
}

// PublishedKey is the key under which a resolver's attributes carry a
// Published.
type PublishedKey struct{}

// Name returns the target's name, such as "reviews:9080".
func (t *Target) Name() string { return t.name }

// Engine returns the engine that decides for the target.
func (t *Target) Engine() *mesh.Engine { return t.m.cfg.Engine }

// Snapshot returns the newest snapshot, or nil while there is none. It costs
// one atomic load.
func (t *Target) Snapshot() *snapshot.Snapshot { return t.current.Load() }

// Current returns the newest snapshot, the last error since it was published (why
// there is none, or why there may be newer ones; the client's Status tells
// whether that has passed), and a channel that is closed when either changes.
func (t *Target) Current() (Published, error, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Published{Engine: t.m.cfg.Engine, Snapshot: t.current.Load(), Turns: t.turns}, t.err, t.changed
}

// Return gives the target back. When everybody has, it ends after the Manager's
// ReturnLinger, and the next Target of its name is another.
func (t *Target) Return() {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	if t.users--; t.users == 0 && t.m.ctx.Err() == nil {
		t.parting = time.AfterFunc(t.m.cfg.ReturnLinger, func() { t.m.part(t) })
	}
}

// Lease keeps a target subscribed.
type Lease struct {
	t    *Target
	once sync.Once
}

// Acquire subscribes, or joins the subscription that there is.
func (t *Target) Acquire() *Lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.leases++
	if t.linger != nil {
		t.linger.Stop()
		t.linger = nil
	}
	if t.join == nil && !t.ended && t.m.ctx.Err() == nil {
		t.subscribe()
	}
	return &Lease{t: t}
}

// Target returns the leased target.
func (l *Lease) Target() *Target { return l.t }

// Release gives the lease back. The subscription ends when the last lease has
// been back for the Manager's Linger. Release may be called twice.
func (l *Lease) Release() {
	l.once.Do(func() {
		t := l.t
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.leases--; t.leases == 0 && t.join != nil {
			t.linger = time.AfterFunc(t.m.cfg.Linger, t.expire)
		}
	})
}

func (t *Target) subscribe() {
	name := strings.ReplaceAll(t.m.cfg.ListenerTemplate, "%s", t.name)
	if t.current.Load() == nil {
		t.overdue = time.AfterFunc(t.m.cfg.WarmTimeout, t.noteOverdue)
	}
	t.client = t.m.cfg.Client
	if t.m.cfg.ClientOf != nil {
		t.client = t.m.cfg.ClientOf(t.name)
	}
	t.join = newJoin(t, name)
}

// noteOverdue lets fail-fast calls fail when nothing was heard at all.
func (t *Target) noteOverdue() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current.Load() != nil || t.err != nil || t.join == nil {
		return
	}
	err := fmt.Errorf("no configuration after %v", t.m.cfg.WarmTimeout)
	if t.withheld != nil {
		err = fmt.Errorf("%w: %w", err, t.withheld)
	}
	t.setError(err)
}

// expire ends the subscription of a target that nobody borrows.
func (t *Target) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.leases > 0 || t.join == nil {
		return
	}
	t.unsubscribe()
	t.current.Store(nil)
	t.err, t.withheld = nil, nil
	t.m.cfg.Engine.Drop(t.name)
	t.notify()
}

func (t *Target) unsubscribe() {
	t.join.close()
	t.join = nil
	if t.overdue != nil {
		t.overdue.Stop()
	}
}

// end ends the target. What was published stays: a channel that was closed has it
// to decide the calls that it refuses.
func (t *Target) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended = true
	if t.linger != nil {
		t.linger.Stop()
	}
	if t.join != nil {
		t.unsubscribe()
		t.m.cfg.Engine.Drop(t.name)
	}
	t.notify()
}

// close ends the target with its Manager.
func (t *Target) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.linger != nil {
		t.linger.Stop()
	}
	if t.join != nil {
		t.unsubscribe()
	}
	t.setError(ErrClosed)
}

// publish makes s what calls read.
func (t *Target) publish(s *snapshot.Snapshot) {
	if t.overdue != nil {
		t.overdue.Stop()
	}
	t.current.Store(s)
	t.err, t.withheld = nil, nil
	t.notify()
	t.m.noteApplied()
}

// turn tells those who wait for a host that some came back.
func (t *Target) turn() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current.Load() != nil {
		t.turns++
		t.notify()
	}
}

// setError notes err, which takes no snapshot away.
func (t *Target) setError(err error) {
	t.err = err
	t.notify()
}

func (t *Target) notify() {
	close(t.changed)
	t.changed = make(chan struct{})
}
