package interceptors

import (
	"context"
	"sync"
	"time"
)

// epoch is what deadlines are measured from: a duration is a third of the size
// of a time, and keeps its monotonic reading.
var epoch = time.Now()

// deadline ends a call whose caller cannot cancel it at the time that the route
// sets. One call after another uses it, with its channel and its timer: making
// both for each is a good part of what a deadline costs. The timer is not
// stopped between calls either; when it finds that the present call has time
// left, it is set anew.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	armed time.Duration // since epoch: when timer fires; 0: not at all
	at    time.Duration // since epoch: when the present call ends; 0: there is none
	done  chan struct{} // closed only once the deadline is of no more use
	err   error
	first func() // what to run at the end; more has the others
	turn  uint32 // counts what was first, in all calls
	more  map[*func()]struct{}
}

// deadline returns one that ends at a time, which is d from now.
func (c *Client) deadline(at, d time.Duration) *deadline {
	l, _ := c.deadlines.Get().(*deadline)
	if l == nil {
		l = &deadline{done: make(chan struct{})}
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
	l.mu.Lock()
	defer l.mu.Unlock()
	l.armed = 0
	if l.at == 0 {
		return
	}
	if left := l.at - time.Since(epoch); left > 0 {
		l.arm(l.at, left)
		return
	}
	l.end(context.DeadlineExceeded)
}

// end ends the context, once. The caller holds mu.
func (l *deadline) end(err error) {
	if l.err != nil {
		return
	}
	l.err = err
	close(l.done)
	if l.first != nil {
		go l.first()
	}
	for f := range l.more {
		go (*f)()
	}
	l.first, l.more = nil, nil
}

// release ends the call's use of the deadline. If nothing hangs on it any more,
// and nobody will look at it (the caller says so with unseen), it reports that
// another call may use it; else it ends what hangs on it.
func (l *deadline) release(unseen bool) (reusable bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at = 0
	if unseen && l.err == nil && l.first == nil && len(l.more) == 0 {
		return true
	}
	l.timer.Stop()
	l.end(context.Canceled)
	return false
}

func (l *deadline) ended() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// afterFunc runs f in its own goroutine once the context has ended.
func (l *deadline) afterFunc(f func()) (stop func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.err != nil:
		go f()
		return func() bool { return false }
	case l.first == nil:
		l.first = f
		l.turn++
		turn := l.turn
		return func() bool { return l.stopFirst(turn) }
	}
	return l.after(f)
}

// after is afterFunc for all but the first function. It is a function of its
// own because here f moves to the heap.
func (l *deadline) after(f func()) (stop func() bool) {
	if l.more == nil {
		l.more = map[*func()]struct{}{}
	}
	l.more[&f] = struct{}{}
	return func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		_, ok := l.more[&f]
		delete(l.more, &f)
		return ok
	}
}

// stopFirst takes the first function back, unless another is first by now: the
// contexts of the standard library may ask twice, and late.
func (l *deadline) stopFirst(turn uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.first == nil || l.turn != turn {
		return false
	}
	l.first = nil
	return true
}
