package xdsclient

import (
	"slices"
	"sync"
	"sync/atomic"
)

// calls is the queue of callbacks and the goroutine that makes them, one at a
// time and in order. Its length is bounded by what causes callbacks: one
// response at a time (flow control), and per watch one first value, one expiry
// and one connection failure.
type calls struct {
	// settled runs after each batch of callbacks.
	settled func()
	done    chan struct{} // closed when run has ended

	mu      sync.Mutex
	cond    sync.Cond
	queue   []call
	running bool // a batch is being made
	closed  bool
}

// call is one callback that is due.
type call struct {
	w    *watch
	kind callKind
	u    Update[any]
	err  error // of Missing and Error
	hold *hold // nil: no response waits for this call
}

type callKind uint8

const (
	callUpdate callKind = iota
	callMissing
	callError
	callOutage // an Error about the connection
)

func newCalls(settled func()) *calls {
	q := &calls{settled: settled, done: make(chan struct{})}
	q.cond.L = &q.mu
	return q
}

// push appends a callback. After stop it does nothing.
func (q *calls) push(c call) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return
	}
	if c.hold != nil {
		c.hold.add()
	}
	q.queue = append(q.queue, c)
	q.cond.Signal()
}

// busy reports whether callbacks are due or running.
func (q *calls) busy() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.running || len(q.queue) > 0
}

// stop ends run after the callback that is running, and waits for it.
func (q *calls) stop() {
	q.mu.Lock()
	q.closed = true
	q.queue = nil
	q.cond.Signal()
	q.mu.Unlock()
	<-q.done
}

// run makes the callbacks until stop.
func (q *calls) run() {
	defer close(q.done)
	for {
		batch, ok := q.next()
		if !ok {
			return
		}
		for i := range batch {
			if q.isClosed() {
				return
			}
			batch[i].make()
			batch[i] = call{}
		}
		q.rest(batch)
	}
}

// next waits for callbacks and takes all of them.
func (q *calls) next() (batch []call, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.queue) == 0 && !q.closed {
		q.cond.Wait()
	}
	batch, q.queue = q.queue, nil
	q.running = true
	return batch, !q.closed
}

// maxReuse is the longest queue whose memory is kept.
const maxReuse = 1024

// rest ends a batch, and gives its slice back for reuse.
func (q *calls) rest(batch []call) {
	q.mu.Lock()
	if q.queue == nil && cap(batch) <= maxReuse {
		q.queue = batch[:0]
	}
	q.running = false
	q.mu.Unlock()
	q.settled()
}

func (q *calls) isClosed() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.closed
}

// make makes the callback, unless its watch has been cancelled.
func (c *call) make() {
	if c.kind == callOutage {
		c.w.outageDue.Store(false)
	}
	done, ok := c.w.begin(c.hold)
	if !ok {
		return
	}
	switch c.kind {
	case callUpdate:
		c.w.to.update(c.u, done)
	case callMissing:
		c.w.to.missing(c.w.sub.name, c.err, done)
	case callError, callOutage:
		c.w.to.failed(c.w.sub.name, c.err, done)
	}
}

// watch is one call of Watch.
type watch struct {
	sub *subscription
	to  anyWatcher

	told      *ServerError // guarded by Client.mu: the outage last reported
	outageDue atomic.Bool  // a callOutage is in the queue: no second one

	mu        sync.Mutex
	cancelled bool
	pending   []*hold // of callbacks whose done was not called yet
}

func nothing() {}

// begin registers a callback that is about to start and returns its done. It
// answers false when the watch has been cancelled.
func (w *watch) begin(h *hold) (done func(), ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.cancelled && h != nil:
		h.release()
		return nil, false
	case w.cancelled:
		return nil, false
	case h == nil:
		return nothing, true
	}
	w.pending = append(w.pending, h)
	var called atomic.Bool
	return func() {
		if called.CompareAndSwap(false, true) {
			w.end(h)
		}
	}, true
}

// end is what a done function does.
func (w *watch) end(h *hold) {
	w.mu.Lock()
	i := slices.Index(w.pending, h)
	if i >= 0 {
		w.pending = slices.Delete(w.pending, i, i+1)
	}
	w.mu.Unlock()
	if i >= 0 { // else cancel has released it
		h.release()
	}
}

// cancel stops callbacks from beginning, and answers for those whose done is
// outstanding. It reports whether it was the first to do so.
func (w *watch) cancel() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cancelled {
		return false
	}
	w.cancelled = true
	for _, h := range w.pending {
		h.release()
	}
	w.pending = nil
	return true
}

// hold keeps the next response from being read until the callbacks of the
// previous one are done.
type hold struct {
	n    atomic.Int64
	free chan struct{} // closed when n falls to 0
}

// newHold returns a hold with one share, that of the caller.
func newHold() *hold {
	h := &hold{free: make(chan struct{})}
	h.add()
	return h
}

func (h *hold) add() { h.n.Add(1) }

func (h *hold) release() {
	if h.n.Add(-1) == 0 {
		close(h.free)
	}
}
