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
