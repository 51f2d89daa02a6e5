package interceptors

import (
	"context"
	"sync"
	"time"
)

// epoch is what deadlines are measured from: a duration is a third of the size
// of a time, and keeps its monotonic reading.
var epoch = time.Now()

// forever is the longest time that a call has: it can be added to any other.
const forever = 100 * 365 * 24 * time.Hour

// longest is how long a timer may be set while no call uses it: a record that is
// dropped from the pool lives until the timer of its deadline fires.
const longest = time.Minute

// writable rounds the time that a call has left up to three digits, as C-core does. The
// server gets it as a header, of which a connection remembers each different value: by
// the microsecond they would drive everything else out of its table.
func writable(left time.Duration) time.Duration {
	if left < 100*time.Millisecond {
		return left // gRPC writes it by the nanosecond, whatever it is
	}
	step := time.Millisecond
	for left >= 1000*step {
		step *= 10
	}
	if over := left % step; over > 0 {
		left += step - over
	}
	return left
}

// deadline ends a unary call, whose caller cannot cancel it, at the time that
// the route sets. It is used by one call after another: making a timer and a
// channel for each is most of what a deadline costs. The timer is not stopped
// between calls either, if it fires soon; when it finds that the present call has
// time left, it is set anew.
//
// What is derived from the call's context follows it by AfterFunc, which costs
// less than the children of a context do.
type deadline struct {
	mu    sync.Mutex
	timer *time.Timer
	armed time.Duration // since epoch: when timer fires; 0: not at all
	at    time.Duration // since epoch: when the present call ends; 0: there is none
	far   bool          // the present call has longer than a timer may be set without one
	done  chan struct{}
	err   error // why done is closed

	// What is to be run at the end. One call hardly ever has more than one context
	// derived from its own.
	first  func()
	turn   uint64 // counts those that were first
	others map[*func()]struct{}
}

// begin has l end the call at a time, which is d from now.
func (l *deadline) begin(at, d time.Duration) {
	l.mu.Lock()
	if l.done == nil {
		l.done = make(chan struct{})
	}
	l.at, l.far = at, d > longest
	if l.armed == 0 || l.armed > at {
		l.arm(at, d)
	}
	l.mu.Unlock()
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

// fire ends the present call, if its time has come.
func (l *deadline) fire() {
	l.mu.Lock()
	l.armed = 0
	if l.at == 0 || l.err != nil { // what fired before it was set anew comes, too
		l.mu.Unlock()
		return
	}
	if left := l.at - time.Since(epoch); left > 0 {
		l.arm(l.at, left)
		l.mu.Unlock()
		return
	}
	l.end(context.DeadlineExceeded)
}

// end ends l and runs what follows it. The caller holds mu, which end unlocks.
func (l *deadline) end(err error) {
	l.err = err
	close(l.done)
	first, others := l.first, l.others
	l.first, l.others = nil, nil
	l.mu.Unlock()
	if first != nil {
		first()
	}
	for f := range others {
		(*f)()
	}
}

// release ends the call's use of the deadline and reports whether another may
// use it. Contexts that were derived and not cancelled end with the call.
func (l *deadline) release() (reusable bool) {
	l.mu.Lock()
	l.at = 0
	if l.far {
		l.timer.Stop()
		l.armed = 0
	}
	switch {
	case l.err != nil:
	case l.first != nil || len(l.others) > 0:
		l.end(context.Canceled)
		return false
	default:
		reusable = true
	}
	l.mu.Unlock()
	return reusable
}

// why is the error of the call's context: nil until done is closed.
func (l *deadline) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// afterFunc runs f at the end, as context.AfterFunc does.
func (l *deadline) afterFunc(f func()) (stop func() bool) {
	l.mu.Lock()
	if l.err != nil || l.first != nil {
		l.mu.Unlock()
		return l.afterOthers(f)
	}
	l.first = f
	l.turn++
	turn := l.turn
	l.mu.Unlock()
	return func() bool { return l.drop(turn) }
}

// afterOthers is afterFunc for all but the first; apart from it because here f moves
// to the heap.
func (l *deadline) afterOthers(f func()) (stop func() bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		go f()
		return func() bool { return false }
	}
	if l.others == nil {
		l.others = map[*func()]struct{}{}
	}
	l.others[&f] = struct{}{}
	return func() bool { return l.dropOther(&f) }
}

// drop forgets the one that was first at that turn, and reports whether it was
// still to be run.
func (l *deadline) drop(turn uint64) bool {
	l.mu.Lock()
	dropped := l.first != nil && l.turn == turn
	if dropped {
		l.first = nil
	}
	l.mu.Unlock()
	return dropped
}

func (l *deadline) dropOther(f *func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.others[f]
	delete(l.others, f)
	return ok
}
