package xdsclient

import (
	"context"
	"maps"
	"slices"
	"time"
)

// stream is the state of one open ADS stream: what was said on it. Client.mu
// guards it, except for answered, which belongs to the receiver.
type stream struct {
	s        *server
	proto    Protocol
	nodeSent bool
	talks    map[string]*talk // by type URL
	expiries []expiry         // in order of time
	timer    *time.Timer      // for expiries[0]; nil when there is none
	held     bool             // watchers are being waited for
	puzzled  bool             // a response of an unknown type was logged
	answered bool
}

// talk is what was said about one type on one stream.
type talk struct {
	entry *typeEntry
	mem   *memory
	nonce string // of the last response

	// known are the names the server was last told, first those of the first
	// request of the type: every response of the stream knows of them.
	known map[string]struct{}
	first map[string]struct{}

	// replies are the ACKs and NACKs to be sent, oldest first.
	replies []reply

	// unsure is true (state-of-the-world) when names were changed and nothing
	// accepted was sent since: if a response crossed the request on its way,
	// the server has ignored it for its stale nonce.
	unsure bool
}

// reply is an ACK, or a NACK if refusal is not empty.
type reply struct {
	nonce   string
	version string // of the response
	refusal string
	waiting bool // held back by pacing
}

// maxReplies bounds the replies that wait for a server that sends but does not
// read; the oldest are given up.
const maxReplies = 64

// nackInterval is the least time between two identical NACKs of a type.
const nackInterval = time.Second

// expiry is when a set of names, asked for together, counts as unanswered.
type expiry struct {
	at    time.Time
	entry *typeEntry
	names []string
}

func newStream(s *server, p Protocol) *stream {
	return &stream{s: s, proto: p, talks: map[string]*talk{}}
}

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
		st.answered = true
		h := st.handle(r)
		st.s.poke()
		st.setHeld(true)
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

// begin plans the first request of a type on this stream. There is none without
// names, as that would ask for everything.
func (st *stream) begin(e *typeEntry, batch []*request) []*request {
	e.dropUnwanted()
	names := e.names()
	if len(names) == 0 {
		return batch
	}
	t := &talk{entry: e, mem: st.s.remember(e.url), known: map[string]struct{}{}, first: map[string]struct{}{}}
	st.talks[e.url] = t
	r := &request{typeURL: e.url}
	for _, n := range names {
		t.known[n], t.first[n] = struct{}{}, struct{}{}
		if e.subs[n].state == Requested {
			r.fresh = append(r.fresh, n)
		}
	}
	if st.proto == Delta {
		r.subscribe, r.initial = names, e.initialVersions()
	} else {
		r.names = names
		if e.allAnswered() {
			r.version = t.mem.accepted[st.proto]
		}
	}
	return append(batch, r)
}

// remember returns the memory of a type.
func (s *server) remember(url string) *memory {
	m := s.memory[url]
	if m == nil {
		m = &memory{}
		s.memory[url] = m
	}
	return m
}

// initialVersions are the versions at hand, accepted as a whole by delta.
func (e *typeEntry) initialVersions() map[string]string {
	out := map[string]string{}
	for n, s := range e.subs {
		if s.wanted() && s.hasValue && s.acceptedBy == Delta && s.accepted != "" {
			out[n] = s.accepted
		}
	}
	return out
}

// allAnswered reports whether the server has answered for each name, so that it
// owes nothing if its version is still the one last accepted.
func (e *typeEntry) allAnswered() bool {
	for _, s := range e.subs {
		if s.wanted() && !s.answered() {
			return false
		}
	}
	return true
}

// planReplies plans the ACKs and NACKs of a type.
func (st *stream) planReplies(t *talk, now time.Time, batch []*request) (_ []*request, wait time.Duration) {
	for len(t.replies) > 0 {
		r := &t.replies[0]
		if r.refusal != "" {
			if wait = t.mem.pause(r.refusal, now); wait > 0 {
				r.waiting = true
				break
			}
			t.mem.nack = NACKStatus{Version: r.version, Nonce: r.nonce, Detail: r.refusal, At: now, Count: t.mem.nack.Count + 1}
		}
		batch = append(batch, st.replyRequests(t, r)...)
		t.replies = slices.Delete(t.replies, 0, 1)
	}
	return batch, wait
}

// pause is how long a NACK has to wait.
func (m *memory) pause(detail string, now time.Time) time.Duration {
	if m.nack.Detail != detail {
		return 0
	}
	return m.nack.At.Add(nackInterval).Sub(now)
}

// replyRequests turns a reply into messages. Some servers look no further than
// the error of a NACK, so in state-of-the-world it repeats the names last sent,
// and names that may have been missed are sent again after it.
func (st *stream) replyRequests(t *talk, r *reply) []*request {
	m := &request{typeURL: t.entry.url, nonce: r.nonce, refusal: r.refusal}
	if st.proto == Delta {
		return []*request{m}
	}
	m.version, m.names = t.mem.accepted[st.proto], slices.Sorted(maps.Keys(t.known))
	if r.refusal == "" {
		m.version = r.version
	}
	again := t.unsure && r.refusal != ""
	t.unsure = false
	if !again {
		return []*request{m}
	}
	return []*request{m, {typeURL: m.typeURL, nonce: m.nonce, version: m.version, names: m.names}}
}

// planChanges plans the message that tells which subscriptions have begun and
// ended, if any have.
func (st *stream) planChanges(t *talk, batch []*request) []*request {
	e := t.entry
	r := &request{typeURL: e.url}
	for _, n := range slices.Sorted(maps.Keys(e.changed)) {
		sub := e.subs[n]
		_, known := t.known[n]
		switch {
		case sub.wanted() && !known:
			t.known[n] = struct{}{}
			r.subscribe = append(r.subscribe, n)
			r.fresh = append(r.fresh, n)
		case !sub.wanted():
			if known {
				r.unsubscribe = append(r.unsubscribe, n)
			}
			delete(t.known, n)
			delete(t.first, n)
			e.drop(sub)
		}
	}
	clear(e.changed)
	if len(r.subscribe) == 0 && len(r.unsubscribe) == 0 {
		return batch
	}
	if st.proto == StateOfTheWorld {
		r.names, r.version, r.nonce = slices.Sorted(maps.Keys(t.known)), t.mem.accepted[st.proto], t.nonce
		t.unsure = true
	}
	return append(batch, r)
}

// queueReply appends a reply. A NACK that is held back gives way to it: it is of
// no interest any more.
func (t *talk) queueReply(r reply) {
	if n := len(t.replies); n > 0 && (t.replies[0].waiting || n == maxReplies) {
		t.replies = slices.Delete(t.replies, 0, 1)
	}
	t.replies = append(t.replies, r)
}

// expect starts the time in which the server has to answer for new names.
func (st *stream) expect(batch []*request) {
	c := st.s.c
	if c.cfg.WatchExpiry < 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	at := time.Now().Add(c.cfg.WatchExpiry)
	for _, r := range batch {
		if len(r.fresh) > 0 {
			st.expiries = append(st.expiries, expiry{at, c.types[r.typeURL], r.fresh})
		}
	}
	st.startExpiry()
}

// startExpiry sets the timer for the first expiry. Client.mu is held.
func (st *stream) startExpiry() {
	if st.timer == nil && len(st.expiries) > 0 && st.s.stream == st {
		st.timer = time.AfterFunc(time.Until(st.expiries[0].at), st.expire)
	}
}

// stopExpiry ends all expiries. Client.mu is held.
func (st *stream) stopExpiry() {
	if st.timer != nil {
		st.timer.Stop()
	}
	st.expiries = nil
}

// expire reports names that were never answered. While the client itself does
// not read, the server is given more time.
func (st *stream) expire() {
	c := st.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	st.timer = nil
	if st.s.stream != st || c.closed {
		return
	}
	now := time.Now()
	if st.held {
		for i := range st.expiries {
			st.expiries[i].at = now.Add(c.cfg.WatchExpiry)
		}
	}
	for len(st.expiries) > 0 && !st.expiries[0].at.After(now) {
		st.expireNames(st.expiries[0], now)
		st.expiries = st.expiries[1:]
	}
	st.startExpiry()
}

func (st *stream) expireNames(x expiry, now time.Time) {
	for _, n := range x.names {
		sub := x.entry.subs[n]
		if sub == nil || sub.state != Requested {
			continue
		}
		sub.state, sub.updated = Missing, now
		sub.err = &MissingError{Type: x.entry.name, Resource: n, Server: st.s.cfg.URI, Expired: true}
		st.s.c.tell(sub, callMissing, nil)
	}
}
