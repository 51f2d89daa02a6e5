package xdsclient

import "sync"

// calls is the queue of callbacks and the goroutine that makes them, one at a
// time and in order. Its length is bounded by what causes callbacks: one
// response at a time (flow control), and per watch one first value, one saved
// copy, one expiry and one connection failure.
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
