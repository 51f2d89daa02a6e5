package xdsclient

import (
	"context"
	"time"
)

// stream is the state of one open ADS stream: what was said on it. Client.mu
// guards it; answered is set by the receiver only.
type stream struct {
	s        *server
	number   int // counts the streams of the client; fixed at birth
	proto    Protocol
	nodeSent bool
	talks    map[string]*talk // by type URL
	expiries []expiry         // in order of time
	timer    *time.Timer      // for expiries[0]; nil when there is none
	held     bool             // a response is being read, or watchers are waited for
	puzzled  bool             // a response of an unknown type was logged
	answered bool             // there was a response
	retired  bool             // a server before this one has answered
}

// newStream makes a stream. Client.mu is held.
func newStream(s *server, p Protocol) *stream {
	s.c.streams++
	return &stream{s: s, number: s.c.streams, proto: p, talks: map[string]*talk{}}
}

// outcome says how far a stream got that has ended. taken says whether the server
// sent headers. Many send them with their first response only, so a stream that
// was open for long was taken as well.
func (st *stream) outcome(taken bool, lived time.Duration) outcome {
	switch {
	case st.answered:
		return answered
	case taken || lived >= st.s.c.cfg.Backoff.BaseDelay:
		return quiet
	}
	return dead
}

// speaks notes that what is known of a resource is now this server's word.
// Client.mu is held.
func (st *stream) speaks(sub *subscription) { sub.by, sub.heard = st.s, st.number }

// sendAll sends what is to be sent until the stream ends. Errors show up at the
// receiving end, with their cause.
func (st *stream) sendAll(ctx context.Context, w wire) {
	for {
		batch, wait := st.plan(time.Now())
		for _, r := range batch {
			if w.send(r) != nil {
				return
			}
		}
		st.expect(batch)
		if !st.waitForWork(ctx, wait) {
			return
		}
	}
}

// waitForWork waits for a poke or, if wait is not 0, for so long.
func (st *stream) waitForWork(ctx context.Context, wait time.Duration) bool {
	var due <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-st.s.wake:
	case <-due:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// receiveAll handles responses until the stream ends. After each it waits for
// the watchers that were told about it.
func (st *stream) receiveAll(ctx context.Context, w wire) error {
	for {
		r, err := w.recv()
		if err != nil {
			return err
		}
		h := st.handle(r)
		st.s.poke()
		select {
		case <-h.free:
		case <-ctx.Done():
			return ctx.Err()
		}
		st.setHeld(false)
	}
}

func (st *stream) setHeld(held bool) {
	st.s.c.mu.Lock()
	defer st.s.c.mu.Unlock()
	st.held = held
}

// plan returns the messages that are due, and how long until the next one, if
// it has to wait.
func (st *stream) plan(now time.Time) (batch []*request, wait time.Duration) {
	c := st.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	changes := st.s.due || !c.calls.busy() // else more may follow
	st.s.due = false
	for _, e := range c.order {
		t := st.talks[e.url]
		if t == nil {
			if changes {
				batch = st.begin(e, batch)
			}
			continue
		}
		var w time.Duration
		batch, w = st.planReplies(t, now, batch)
		if w > 0 && (wait == 0 || w < wait) {
			wait = w
		}
		if changes {
			batch = st.planChanges(t, batch)
		}
	}
	if len(batch) > 0 && !st.nodeSent {
		batch[0].node, st.nodeSent = st.s.node, true
	}
	return batch, wait
}
