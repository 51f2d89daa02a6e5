package interceptors

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/meshframe/meshframe/mesh"
)

// call is the context of one call: the caller's context, the decision, and the
// deadline that the route set. One object carries them all because contexts
// stacked for each would cost an allocation and a look-up step apiece.
type call struct {
	context.Context // the caller's
	mesh.Call

	client *Client
	md     metadata.MD // outgoing metadata, read when the first header matcher asks

	// The deadline of the route, if it ends before the caller's own. Without
	// one, done is nil and the caller's context speaks.
	deadline time.Duration // since epoch
	timer    *deadlineTimer
	done     chan struct{}

	mu    sync.Mutex
	first func() // what to run when the context ends; timer.more has the others
	turn  uint32 // counts what was first
	end   end

	mdRead   bool
	acquired bool // the call holds its cluster
	fault    bool // a fault of this call is active
}

// epoch is what deadlines are measured from: a duration is a third of the size
// of a time, and keeps its monotonic reading.
var epoch = time.Now()

// end says why a context has ended.
type end uint8

const (
	notEnded end = iota
	canceled
	deadlineExceeded
)

func (e end) err() error {
	switch e {
	case canceled:
		return context.Canceled
	case deadlineExceeded:
		return context.DeadlineExceeded
	}
	return nil
}

// Value answers the engine's question for the call.
func (c *call) Value(key any) any {
	if mesh.IsCallKey(key) {
		return &c.Call
	}
	return c.Context.Value(key)
}

// Deadline is the route's or the caller's, whichever comes first.
func (c *call) Deadline() (time.Time, bool) {
	if c.done == nil {
		return c.Context.Deadline()
	}
	return epoch.Add(c.deadline), true
}

// Done is closed at the deadline, when the caller gives up, or when the call
// has ended.
func (c *call) Done() <-chan struct{} {
	if c.done == nil {
		return c.Context.Done()
	}
	return c.done
}

// Err says why Done is closed.
func (c *call) Err() error {
	if c.done == nil {
		return c.Context.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end.err()
}

// AfterFunc runs f in its own goroutine once the context has ended. The
// context package calls it instead of starting a goroutine for each context
// that is derived from this one.
func (c *call) AfterFunc(f func()) (stop func() bool) {
	if c.done == nil {
		return context.AfterFunc(c.Context, f)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.end != notEnded:
		go f()
		return func() bool { return false }
	case c.first == nil:
		c.first = f
		c.turn++
		turn := c.turn
		return func() bool { return c.stopFirst(turn) }
	}
	return c.after(f)
}

// after is AfterFunc for all but the first function. It is a function of its
// own because here f moves to the heap.
func (c *call) after(f func()) (stop func() bool) {
	if c.timer.more == nil {
		c.timer.more = map[*func()]struct{}{}
	}
	c.timer.more[&f] = struct{}{}
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.end != notEnded {
			return false
		}
		_, ok := c.timer.more[&f]
		delete(c.timer.more, &f)
		return ok
	}
}

// stopFirst takes the first function back, unless another is first by now.
func (c *call) stopFirst(turn uint32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.first == nil || c.turn != turn {
		return false
	}
	c.first = nil
	return true
}

// limit gives the call a deadline of its own, d from now, unless the caller's
// comes first.
func (c *call) limit(d time.Duration) {
	deadline := time.Since(epoch) + d
	if own, ok := c.Context.Deadline(); ok && own.Sub(epoch) < deadline {
		return
	}
	c.deadline, c.done = deadline, make(chan struct{})
	c.timer = c.client.timer()
	if c.Context.Done() != nil {
		c.timer.unfollow = follow(c.Context, c)
	}
	c.timer.start(c, d)
}

// follow binds ctx itself: the route's edits replace c.Context.
func follow(ctx context.Context, c *call) func() bool {
	return context.AfterFunc(ctx, func() { c.callerDone(ctx) })
}

func (c *call) callerDone(ctx context.Context) {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		c.cancel(deadlineExceeded)
		return
	}
	c.cancel(canceled)
}

// cancel ends the context, once.
func (c *call) cancel(why end) {
	c.mu.Lock()
	if c.end != notEnded {
		c.mu.Unlock()
		return
	}
	c.end = why
	first, more := c.first, c.timer.more
	c.first, c.timer.more = nil, nil
	close(c.done)
	c.mu.Unlock()
	if first != nil {
		go first()
	}
	for f := range more {
		go (*f)()
	}
}

// release gives back what the call holds: its cluster, its place among the
// pending requests, its fault, its timer.
func (c *call) release() {
	c.donePending()
	if c.acquired {
		c.acquired = false
		c.Decision.Upstream.State.Release()
	}
	c.endFault()
	if c.done == nil {
		return
	}
	reusable := c.timer.stop()
	c.cancel(canceled)
	if reusable {
		c.client.timers.Put(c.timer)
	}
}

// donePending gives back the place among the pending requests.
func (c *call) donePending() {
	if c.Pending {
		c.Pending = false
		c.Decision.Upstream.State.Breaker.DonePending()
	}
}

func (c *call) endFault() {
	if c.fault {
		c.fault = false
		c.Decision.Fault.Done()
	}
}

// Header answers the engine's matchers: what goes out as a header, and the
// headers that gRPC adds by itself. Binary headers never match (gRFC A28).
func (c *call) Header(name string) (string, bool) {
	switch name {
	case "content-type":
		return "application/grpc", true
	case "user-agent":
		return c.client.userAgent, true
	}
	if strings.HasSuffix(name, "-bin") {
		return "", false
	}
	if !c.mdRead {
		c.md, _ = metadata.FromOutgoingContext(c.Context)
		c.mdRead = true
	}
	return joined(name, c.md[name])
}

// deadlineTimer is what a call needs until its deadline only. It is used by one
// call after another: creating a timer for each is a good part of what a
// deadline costs.
type deadlineTimer struct {
	t *time.Timer
	c atomic.Pointer[call]

	unfollow func() bool // stops following the caller's context; nil without one
	more     map[*func()]struct{}
}

func (c *Client) timer() *deadlineTimer {
	t, _ := c.timers.Get().(*deadlineTimer)
	if t == nil {
		t = &deadlineTimer{}
	}
	return t
}

func (t *deadlineTimer) start(c *call, d time.Duration) {
	t.c.Store(c)
	if t.t == nil {
		t.t = time.AfterFunc(d, t.fire)
		return
	}
	t.t.Reset(d)
}

// stop reports whether the timer can be used again: it cannot once it or the
// caller's context has fired, because their functions may still be running.
func (t *deadlineTimer) stop() bool {
	followed := t.unfollow == nil || t.unfollow()
	t.unfollow = nil
	if !t.t.Stop() || !followed {
		return false
	}
	t.c.Store(nil)
	return true
}

func (t *deadlineTimer) fire() {
	if c := t.c.Load(); c != nil {
		c.cancel(deadlineExceeded)
	}
}
