package xdsclient

import (
	"slices"
	"sync"
	"sync/atomic"
)

// watch is one call of Watch.
type watch struct {
	sub *subscription
	to  anyWatcher

	told      *outage     // guarded by Client.mu: the outage last reported
	outageDue atomic.Bool // a callOutage is in the queue: no second one

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
