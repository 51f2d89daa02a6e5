package interceptors

import (
	"context"
	"sync"
	"time"
)

// epoch is what deadlines are measured from: a duration is a third of the size
// of a time, and keeps its monotonic reading.
var epoch = time.Now()

// deadline ends a unary call, whose caller cannot cancel it, at the time that
// the route sets. It is used by one call after another: making a timer, a
// channel and what links derived contexts for each is most of what a deadline
// costs. The timer is not stopped between calls either; when it finds that the
// present call has time left, it is set anew.
//
// deadline is a context by itself, with one context derived from it: ctx, in
// whose place the calls stand for what is derived from them. So those end with
// the error of deadline, and are linked by the context package's own means.
type deadline struct {
	ctx    context.Context
	cancel context.CancelFunc
	end    func() // ends ctx with the error of deadline

	mu    sync.Mutex
	timer *time.Timer
	armed time.Duration // since epoch: when timer fires; 0: not at all
	at    time.Duration // since epoch: when the present call ends; 0: there is none
	done  chan struct{}
	over  bool
}

// deadline returns one that ends at a time, which is d from now.
func (c *Client) deadline(at, d time.Duration) *deadline {
	l, _ := c.deadlines.Get().(*deadline)
	if l == nil {
		l = &deadline{done: make(chan struct{})}
		l.ctx, l.cancel = context.WithCancel(l)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = at
	if l.armed == 0 || l.armed > at {
		l.arm(at, d)
	}
	return l
}

// arm sets the timer. The caller holds mu.
func (l *deadline) arm(at, d time.Duration) {
	l.armed = at
	if l.timer == nil {
		l.timer = time.AfterFunc(d, l.fire)
		return
	}
	l.timer.Reset(d)
}

func (l *deadline) fire() {
	if l.due() {
		l.end()
		l.cancel() // there is nothing left of it
	}
}

// due reports whether the present call has come to its end, and ends l then.
func (l *deadline) due() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = 0
	if l.at == 0 {
		return false
	}
	if left := l.at - time.Since(epoch); left > 0 {
		l.arm(l.at, left)
		return false
	}
	l.over = true
	close(l.done)
	return true
}

// release ends the call's use of the deadline and reports whether another may
// use it.
func (l *deadline) release() (reusable bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = 0
	return !l.over
}

// Deadline is not known to l: calls say theirs.
func (l *deadline) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done is closed when a call has come to its deadline.
func (l *deadline) Done() <-chan struct{} { return l.done }

// Err is DeadlineExceeded once Done is closed.
func (l *deadline) Err() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return context.DeadlineExceeded
	}
	return nil
}

// Value has none.
func (l *deadline) Value(any) any { return nil }

// AfterFunc is how ctx is derived.
func (l *deadline) AfterFunc(f func()) (stop func() bool) {
	l.end = f
	return func() bool { return false } // ctx is never cancelled otherwise
}
