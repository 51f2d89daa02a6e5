package xdsclient

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// reading is one resource of a response on its way to the subscription.
type reading struct {
	received
	sub     *subscription // nil: unknown yet, or nobody asked
	same    bool          // the bytes are those of the last reading
	decoded Decoded[any]
}

// handle reads a response, tells the watchers and queues the reply. The hold
// that it returns is free when every watcher is done.
func (st *stream) handle(r *response) *hold {
	h := newHold()
	defer h.release()
	st.setHeld(true)
	st.s.c.reading.Lock()
	defer st.s.c.reading.Unlock()
	t, list := st.look(r)
	if t == nil {
		return h
	}
	for i := range list {
		if list[i].needsDecode() {
			list[i].decode(t.entry, st.s.c.log)
		}
	}
	st.apply(t, r, list, h)
	return h
}

// look finds the subscriptions that a response is about, as far as it can tell
// without decoding. It answers nil when the type was not asked for on this
// stream, as a reply would subscribe to it, and when a server before this one
// has answered, even if it cannot be reached any more: then this one is asked
// anew.
func (st *stream) look(r *response) (*talk, []reading) {
	c := st.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	st.answered = true
	if st.retired || st.s.index > c.level {
		return nil, nil
	}
	st.s.answered()
	t := st.talks[r.typeURL]
	if t == nil {
		if !st.puzzled {
			st.puzzled = true
			c.log.Warn("xds response of a type that was not asked for", "server", st.s.cfg.URI, "type", r.typeURL)
		}
		return nil, nil
	}
	c.takeOver(st.s)
	t.nonce = r.nonce
	list := make([]reading, len(r.resources))
	for i, got := range r.resources {
		list[i].received = got
		switch {
		case got.err != nil || got.absent:
		case got.name == "":
			if sub := t.entry.find(got.body); sub != nil {
				list[i].name, list[i].sub, list[i].same = sub.name, sub, true
			}
		default:
			if sub := t.entry.subs[got.name]; sub != nil {
				list[i].sub, list[i].same = sub, sub.holds(got.body) || sub.refuses(got.body)
			}
		}
	}
	return t, list
}

var errNameless = errors.New("the resource has no name")

// needsDecode is true for new bytes of a resource that is, or may be, watched.
func (rd *reading) needsDecode() bool {
	return !rd.same && !rd.absent && rd.err == nil && (rd.name == "" || rd.sub != nil)
}

// decode decodes the resource, and checks that it is what it is called.
func (rd *reading) decode(e *typeEntry, log *slog.Logger) {
	d := decodeSafely(e, rd.name, rd.body, log)
	switch {
	case rd.name == "" && d.Name == "":
		d.Usable = false
		if d.Err == nil {
			d.Err = errNameless
		}
	case rd.name == "":
		rd.name = d.Name
	case d.Name != "" && d.Name != rd.name:
		d = Decoded[any]{Err: fmt.Errorf("the resource inside is named %q", d.Name)}
	}
	if !d.Usable && d.Err == nil {
		d.Err = errors.New("refused without a reason")
	}
	rd.decoded = d
}

// decodeSafely decodes a resource; a decoder that panics refuses it.
func decodeSafely(e *typeEntry, name string, body []byte, log *slog.Logger) (d Decoded[any]) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("xds decoder panicked", "type", e.name, "resource", name, "panic", p, "stack", string(debug.Stack()))
			d = Decoded[any]{Err: fmt.Errorf("decoder panicked: %v", p)}
		}
	}()
	return e.decode(name, body)
}

// apply gives the resources to their subscriptions and queues the reply.
func (st *stream) apply(t *talk, r *response, list []reading, h *hold) {
	st.s.c.mu.Lock()
	defer st.s.c.mu.Unlock()
	st.s.c.round++
	a := applying{st: st, t: t, r: r, h: h, now: time.Now()}
	for i := range list {
		a.resource(&list[i])
	}
	for _, f := range r.failures {
		a.failure(f)
	}
	for _, n := range r.removed {
		a.remove(n, nil)
	}
	if st.proto == StateOfTheWorld && t.entry.fullState && !a.nameless {
		a.removeAbsent()
	}
	a.reply()
}

// applying is one response being applied; Client.mu is held.
type applying struct {
	st       *stream
	t        *talk
	r        *response
	h        *hold
	now      time.Time
	nameless bool // a resource could not be told by name: who is absent is unknown
	refusals []refusal
}

type refusal struct{ name, reason string }

// resource applies one resource.
func (a *applying) resource(rd *reading) {
	if rd.name == "" {
		a.nameless = true
		a.refuse("(resource without a name)", rd.reason())
		return
	}
	sub := a.t.entry.subs[rd.name]
	if sub == nil { // nobody asked
		return
	}
	sub.round = a.st.s.c.round
	switch {
	case rd.absent:
		a.heartbeat(sub, rd)
	case rd.err != nil:
		a.refused(sub, rd, rd.err)
	case sub.holds(rd.body):
		sub.version, sub.kept = rd.version, false
		sub.from = a.st.s
		a.st.speaks(sub)
		a.accepted(sub, rd.version)
	case sub.refuses(rd.body):
		a.st.speaks(sub)
		a.refuse(sub.name, errors.Unwrap(sub.err))
	case rd.same || rd.sub == nil && !rd.decodedNow():
		// The subscription was replaced while the resource was decoded; the
		// server will be asked again.
	case !rd.decoded.Usable:
		a.refused(sub, rd, rd.decoded.Err)
	default:
		a.accept(sub, rd)
	}
}

// reason is why a resource without a name is refused.
func (rd *reading) reason() error {
	for _, err := range []error{rd.err, rd.decoded.Err} {
		if err != nil {
			return err
		}
	}
	return errNameless
}

// decodedNow reports whether the resource was decoded in this response.
func (rd *reading) decodedNow() bool { return rd.decoded.Usable || rd.decoded.Err != nil }

// accept takes a new value, or the usable part of it.
func (a *applying) accept(sub *subscription, rd *reading) {
	sub.setValue(rd.decoded.Value, rd.body, rd.version, a.st.s, a.now)
	sub.updated, sub.kept = a.now, false
	a.st.speaks(sub)
	if err := rd.decoded.Err; err != nil {
		sub.state, sub.partial, sub.refused = Refused, true, digestOf(rd.body)
		sub.err = a.refusedError(sub, rd, err)
		a.refuse(sub.name, err)
	} else {
		sub.state, sub.partial, sub.refused, sub.err = Accepted, false, digest{}, nil
		a.accepted(sub, rd.version)
		a.st.s.c.keeper.keep(sub)
	}
	a.st.s.c.tell(sub, callUpdate, a.h)
}

// accepted notes a version that was accepted as a whole.
func (a *applying) accepted(sub *subscription, version string) {
	sub.accepted, sub.acceptedBy = version, a.st.proto
}

// refused keeps the last good value.
func (a *applying) refused(sub *subscription, rd *reading, err error) {
	sub.state, sub.partial, sub.refused = Refused, false, digestOf(rd.body)
	sub.updated, sub.err = a.now, a.refusedError(sub, rd, err)
	a.st.speaks(sub)
	a.refuse(sub.name, err)
	a.st.s.c.tell(sub, callError, a.h)
	a.st.s.c.keeper.standIn()
}

func (a *applying) refusedError(sub *subscription, rd *reading, err error) error {
	return &RefusedError{Type: sub.entry.name, Resource: sub.name, Version: rd.version, Server: a.st.s.cfg.URI, Err: err}
}

// heartbeat takes a resource without a body: it renews a value.
func (a *applying) heartbeat(sub *subscription, rd *reading) {
	if sub.hasValue {
		a.st.speaks(sub)
		return
	}
	a.refused(sub, rd, errors.New("the resource has no body"))
}

// failure applies the server's own error about a resource (gRFC A88).
func (a *applying) failure(f failure) {
	sub := a.t.entry.subs[f.name]
	if sub == nil {
		return
	}
	sub.round = a.st.s.c.round
	switch f.err.Code() {
	case codes.OK: // says nothing
	case codes.NotFound:
		a.remove(f.name, f.err.Err())
	default:
		err := &ServerError{Server: a.st.s.cfg.URI, Type: sub.entry.name, Resource: sub.name, Err: f.err.Err()}
		if sub.state == Refused && sub.err.Error() == err.Error() {
			a.st.speaks(sub)
			return
		}
		sub.state, sub.partial, sub.refused = Refused, false, digest{}
		sub.updated, sub.err = a.now, err
		a.st.speaks(sub)
		a.st.s.c.tell(sub, callError, a.h)
		a.st.s.c.keeper.standIn()
	}
}

// remove takes a resource away, as the server has it no more.
func (a *applying) remove(name string, err error) {
	sub := a.t.entry.subs[name]
	if sub == nil {
		return
	}
	if sub.state == Missing && sub.answeredBy(a.st.s) {
		a.st.speaks(sub)
		return
	}
	if a.st.lose(sub, &MissingError{Type: sub.entry.name, Resource: name, Server: a.st.s.cfg.URI, Err: err}, a.h) {
		a.st.s.c.keeper.discard(sub)
	}
}

// lose takes a resource away that a server does not have, and tells the
// watchers unless they know. It answers false if what others said of it is kept.
// Client.mu is held.
func (st *stream) lose(sub *subscription, err *MissingError, h *hold) bool {
	s := st.s
	st.speaks(sub)
	sub.lapsed = false
	if sub.hasValue && s.cfg.IgnoreResourceDeletion {
		if !sub.kept {
			s.c.log.Warn("xds resource deleted by the server; kept, as ignore_resource_deletion is set",
				"server", s.cfg.URI, "type", sub.entry.name, "resource", sub.name)
		}
		sub.kept = true
		return false
	}
	told := sub.state == Missing
	sub.clearValue()
	sub.state, sub.partial, sub.refused, sub.updated, sub.err = Missing, false, digest{}, time.Now(), err
	if !told {
		s.c.tell(sub, callMissing, h)
	}
	return true
}

// removeAbsent removes the resources that a full-state response leaves out, if
// the server must have known that they were asked for: it was told at the
// beginning of the stream, or has answered on it.
func (a *applying) removeAbsent() {
	var gone []string
	for n := range a.t.known {
		sub := a.t.entry.subs[n]
		if sub == nil || sub.round == a.st.s.c.round {
			continue
		}
		if _, first := a.t.first[n]; first || sub.heard == a.st.number && sub.answeredBy(a.st.s) {
			gone = append(gone, n)
		}
	}
	slices.Sort(gone)
	for _, n := range gone {
		a.remove(n, nil)
	}
}

func (a *applying) refuse(name string, reason error) {
	a.refusals = append(a.refusals, refusal{name, reason.Error()})
}

// reply queues the ACK or NACK.
func (a *applying) reply() {
	re := reply{nonce: a.r.nonce, version: a.r.version}
	if len(a.refusals) == 0 {
		a.t.mem.accepted[a.st.proto], a.t.mem.mixed = a.r.version, false
		a.t.version = a.r.version
	} else {
		a.t.mem.mixed = true
		re.refusal = detail(a.refusals)
		if re.refusal != a.t.mem.nack.Detail {
			a.st.s.c.log.Warn("xds response refused", "server", a.st.s.cfg.URI, "type", a.t.entry.name,
				"version", a.r.version, "nonce", a.r.nonce, "detail", re.refusal)
		}
	}
	a.t.queueReply(re)
}

// maxDetail bounds the text of a NACK, in bytes.
const maxDetail = 16 << 10

// detail is the text of a NACK: "name: reason" for each resource, by name, so
// that the same refusals always read the same.
func detail(list []refusal) string {
	slices.SortFunc(list, func(a, b refusal) int { return strings.Compare(a.name+a.reason, b.name+b.reason) })
	var b strings.Builder
	for i, r := range list {
		line := r.name + ": " + r.reason
		line = strings.ToValidUTF8(line[:min(len(line), maxDetail)], "\uFFFD")
		if i > 0 && b.Len()+len(line) > maxDetail {
			fmt.Fprintf(&b, "; and %d more", len(list)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(line)
	}
	return b.String()
}
