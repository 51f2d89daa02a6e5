package xdsclient

import "time"

// expiry is when resources, asked for together, count as unanswered. One that is
// given up and asked for again meanwhile is another subscription, with a time of
// its own.
type expiry struct {
	at   time.Time
	subs []*subscription
}

// expect starts the time in which the server has to answer for new names.
func (st *stream) expect(batch []*request) {
	c := st.s.c
	if c.cfg.WatchExpiry < 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	x := expiry{at: time.Now().Add(c.cfg.WatchExpiry)}
	for _, r := range batch {
		for _, n := range r.fresh {
			if sub := c.types[r.typeURL].subs[n]; sub != nil {
				x.subs = append(x.subs, sub)
			}
		}
	}
	if len(x.subs) > 0 {
		st.expiries = append(st.expiries, x)
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
		if x.subs = st.expireAll(x.subs); len(x.subs) > 0 {
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

// expireAll reports those of the resources that were never answered, and returns
// those that get more time. A server that has not said a word takes nothing away
// that was heard elsewhere, and a saved copy can stand in for it.
func (st *stream) expireAll(subs []*subscription) (later []*subscription) {
	for _, sub := range subs {
		switch {
		case sub.entry.subs[sub.name] != sub || sub.heard == st.number:
		case !st.answered && (sub.hasValue || sub.state != Requested):
			later = append(later, sub)
		case !st.answered && st.s.c.keeper.has(sub):
			sub.lapsed = true
			later = append(later, sub)
			st.s.c.keeper.standIn()
		default:
			st.lose(sub, &MissingError{Type: sub.entry.name, Resource: sub.name, Server: st.s.cfg.URI, Expired: true}, nil)
		}
	}
	return later
}
