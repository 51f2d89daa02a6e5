package xdsclient

import "time"

// expiry is when a set of names, asked for together, counts as unanswered.
type expiry struct {
	at    time.Time
	entry *typeEntry
	names []string
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
// not read, or the server has yet to take over, it is given more time.
func (st *stream) expire() {
	c := st.s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	st.timer = nil
	if st.s.stream != st || c.closed {
		return
	}
	now := time.Now()
	if st.held || st.s != c.inCharge() {
		st.postpone()
	}
	for len(st.expiries) > 0 && !st.expiries[0].at.After(now) {
		x := st.expiries[0]
		st.expiries = st.expiries[1:]
		if x.names = st.expireNames(x); len(x.names) > 0 {
			x.at = now.Add(c.cfg.WatchExpiry)
			st.expiries = append(st.expiries, x)
		}
	}
	st.startExpiry()
}

// postpone gives the server all of its time again. Client.mu is held.
func (st *stream) postpone() {
	at := time.Now().Add(st.s.c.cfg.WatchExpiry)
	for i := range st.expiries {
		st.expiries[i].at = at
	}
}

// expireNames reports those of the names that were never answered, and returns
// those that get more time. A server that has not said a word takes nothing away
// that was heard elsewhere, and a saved copy can stand in for it.
func (st *stream) expireNames(x expiry) (later []string) {
	for _, n := range x.names {
		sub := x.entry.subs[n]
		switch {
		case sub == nil || sub.heard == st.number:
		case !st.answered && (sub.hasValue || sub.state != Requested):
			later = append(later, n)
		case !st.answered && st.s.c.keeper.has(sub):
			sub.lapsed = true
			later = append(later, n)
			st.s.c.keeper.standIn()
		default:
			st.lose(sub, &MissingError{Type: x.entry.name, Resource: n, Server: st.s.cfg.URI, Expired: true}, nil)
		}
	}
	return later
}
