package xdsclient

import (
	"maps"
	"slices"
	"time"
)

// talk is what was said about one type on one stream.
type talk struct {
	entry *typeEntry
	mem   *memory
	nonce string // of the last response

	// version is the one last accepted as a whole (state-of-the-world), as far as
	// this stream knows: none, where the values at hand are not of it.
	version string

	// known are the names the server was last told, first those of the first
	// request of the type: every response of the stream knows of them.
	known map[string]struct{}
	first map[string]struct{}
	names []string // known, sorted; never changed, but replaced

	// changed are the names whose subscription may differ from what the server
	// was told.
	changed map[string]struct{}

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

// begin plans the first request of a type on this stream. There is none without
// names, as that would ask for everything.
func (st *stream) begin(e *typeEntry, batch []*request) []*request {
	names := e.names()
	if len(names) == 0 {
		return batch
	}
	t := &talk{
		entry: e, mem: st.s.remember(e.url), names: names,
		known: map[string]struct{}{}, first: map[string]struct{}{}, changed: map[string]struct{}{},
	}
	st.talks[e.url] = t
	r := &request{typeURL: e.url}
	resume := st.s.c.resumes(st.s)
	for _, n := range names {
		t.known[n], t.first[n] = struct{}{}, struct{}{}
		if !resume || e.subs[n].by != st.s {
			r.fresh = append(r.fresh, n)
		}
	}
	if st.proto == Delta {
		r.subscribe = names
		if resume {
			r.initial = e.initialVersions(st.s)
		}
	} else {
		r.names = names
		if resume && !t.mem.mixed && e.resumable(st.s) {
			t.version = t.mem.accepted[st.proto]
		}
		r.version = t.version
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

// initialVersions are the versions at hand, accepted as a whole by delta from
// this server.
func (e *typeEntry) initialVersions(from *server) map[string]string {
	out := map[string]string{}
	for n, s := range e.subs {
		if s.wanted() && s.from == from && s.acceptedBy == Delta && s.accepted != "" {
			out[n] = s.accepted
		}
	}
	return out
}

// resumable reports whether a server that is still at the version last accepted
// (state-of-the-world) owes nothing: it has answered for each name, and the
// values at hand are of that version, not of another server's or the other
// protocol's.
func (e *typeEntry) resumable(from *server) bool {
	for _, s := range e.subs {
		if s.wanted() && (!s.answeredBy(from) || s.hasValue && (s.from != from || s.acceptedBy != StateOfTheWorld)) {
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
	m.version, m.names = t.version, t.names
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
	for _, n := range slices.Sorted(maps.Keys(t.changed)) {
		sub := e.subs[n]
		_, known := t.known[n]
		switch {
		case sub == nil: // another server has been told its end
		case sub.wanted() && !known:
			if sub.heard == st.number {
				sub.heard = 0 // what was said before it was given up is no answer to this
			}
			t.known[n] = struct{}{}
			r.subscribe = append(r.subscribe, n)
			r.fresh = append(r.fresh, n)
		case !sub.wanted() && known:
			r.unsubscribe = append(r.unsubscribe, n)
			delete(t.known, n)
			delete(t.first, n)
			if !st.s.c.known(sub) {
				e.drop(sub)
			}
		}
	}
	clear(t.changed)
	if len(r.subscribe) == 0 && len(r.unsubscribe) == 0 {
		return batch
	}
	if st.proto == StateOfTheWorld {
		t.names = slices.Sorted(maps.Keys(t.known))
		r.names, r.version, r.nonce = t.names, t.version, t.nonce
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
