package xdsclient

import (
	"bytes"
	"errors"
	"hash/maphash"
	"slices"
	"strings"
	"time"
)

// typeEntry is what the client knows of one resource type. Client.mu guards
// the maps and what they hold.
type typeEntry struct {
	anyType // fixed at birth

	subs map[string]*subscription
	// byBody finds resources by the hash of their bytes, so that in the
	// state-of-the-world protocol, which repeats every resource without its
	// name, an unchanged one need not be decoded.
	byBody map[uint64]*subscription
}

func newTypeEntry(t anyType) *typeEntry {
	if t.name == "" {
		t.name = t.url[strings.LastIndexAny(t.url, "./")+1:]
	}
	return &typeEntry{
		anyType: t,
		subs:    map[string]*subscription{},
		byBody:  map[uint64]*subscription{},
	}
}

// subscription is one resource that is, or is about to be, subscribed to. It
// lives as long as a server believes in it: without watches until the
// unsubscription goes out, so that a new watch in between finds the value that
// the server will not send again.
type subscription struct {
	entry   *typeEntry // fixed at birth
	name    string     // fixed at birth
	watches []*watch

	state   ResourceState
	updated time.Time
	by      *server // whose word state is; nil: nobody's, so far
	heard   int     // the number of the stream that it came by; 0: it was given up there since

	// The value at hand.
	value    any
	hasValue bool
	body     []byte  // what value was decoded from
	version  string  // the version of value
	from     *server // who sent it; nil if stale
	stale    bool    // it is a saved copy that no server has confirmed
	taken    time.Time

	// accepted is version if value is the whole of it, else "", and acceptedBy
	// the protocol it came by: the other one does not know it.
	accepted   string
	acceptedBy Protocol

	// err is why state is Refused or Missing. It belongs to value if partial.
	err     error
	partial bool
	refused digest // of the body that was refused; zero unless state is Refused

	kept   bool // a deletion was ignored
	lapsed bool // unanswered for too long; a saved copy is to stand in
	round  int  // the last response that mentioned it
}

// wanted reports whether anyone watches.
func (s *subscription) wanted() bool { return len(s.watches) > 0 }

// answeredBy reports whether a server, the last to speak of the resource, has
// said what it knows of it.
func (s *subscription) answeredBy(from *server) bool {
	if s.by != from {
		return false
	}
	if m, ok := errors.AsType[*MissingError](s.err); ok && s.state == Missing {
		return !m.Expired
	}
	return s.state != Requested
}

// holds reports whether the value at hand is fine and was decoded from body.
func (s *subscription) holds(body []byte) bool {
	return s.hasValue && s.state == Accepted && bytes.Equal(s.body, body)
}

// refuses reports whether body is what was refused last.
func (s *subscription) refuses(body []byte) bool {
	return s.refused.size == len(body)+1 && s.refused == digestOf(body)
}

// digest tells bodies apart of which there is nothing to keep: what a server sends
// that is refused may be of any size.
type digest struct {
	hash uint64
	size int // one more than that of the body
}

// digestOf is zero without a body.
func digestOf(body []byte) digest {
	if body == nil {
		return digest{}
	}
	return digest{maphash.Bytes(seed, body), len(body) + 1}
}

var seed = maphash.MakeSeed()

// setValue replaces the value at hand, which was taken at a certain time. Without
// a server it is a saved copy.
func (s *subscription) setValue(v any, body []byte, version string, from *server, taken time.Time) {
	s.clearValue()
	s.value, s.body, s.version, s.hasValue = v, body, version, true
	s.from, s.stale, s.taken = from, from == nil, taken
	s.entry.byBody[maphash.Bytes(seed, body)] = s
}

// clearValue forgets the value at hand.
func (s *subscription) clearValue() {
	if !s.hasValue {
		return
	}
	if h := maphash.Bytes(seed, s.body); s.entry.byBody[h] == s {
		delete(s.entry.byBody, h)
	}
	s.value, s.body, s.version, s.hasValue = nil, nil, "", false
	s.from, s.stale, s.taken, s.accepted = nil, false, time.Time{}, ""
}

// find returns the resource whose good value was decoded from body, or nil.
func (e *typeEntry) find(body []byte) *subscription {
	if s := e.byBody[maphash.Bytes(seed, body)]; s != nil && s.holds(body) {
		return s
	}
	return nil
}

// drop forgets a resource.
func (e *typeEntry) drop(s *subscription) {
	s.clearValue()
	delete(e.subs, s.name)
}

// names returns the watched names, sorted.
func (e *typeEntry) names() []string {
	names := make([]string, 0, len(e.subs))
	for n, s := range e.subs {
		if s.wanted() {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// update is the value at hand as watchers are told it.
func (s *subscription) update() Update[any] {
	u := Update[any]{Name: s.name, Value: s.value, Version: s.version, Stale: s.stale}
	if s.partial {
		u.Err = s.err
	}
	return u
}

// news are the callbacks that tell a watch what is known of the resource.
func (s *subscription) news(w *watch) []call {
	var out []call
	if s.hasValue {
		out = append(out, call{w: w, kind: callUpdate, u: s.update()})
	}
	switch {
	case s.state == Missing:
		out = append(out, call{w: w, kind: callMissing, err: s.err})
	case s.state == Refused && !s.partial:
		out = append(out, call{w: w, kind: callError, err: s.err})
	}
	return out
}
