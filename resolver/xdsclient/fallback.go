package xdsclient

import (
	"context"
	"strings"
)

// Fallback servers (gRFC A71). Client.level counts how far down the list of
// servers the client had to go: those up to it are asked, each keeps trying on
// its own, and the last of them is in charge. It goes up by one when the server
// in charge cannot be reached and a watched resource is not cached, and back as
// soon as a server above it has answered.

// cached reports whether the client can do without a server for this resource:
// it has a value from one, or knows that there is none. A saved copy does not
// count: any server is better.
func (s *subscription) cached() bool {
	return s.hasValue && !s.stale || s.state == Missing
}

// anyUncached reports whether a watched resource is not cached. Client.mu is
// held.
func (c *Client) anyUncached() bool {
	for _, e := range c.order {
		for _, s := range e.subs {
			if s.wanted() && !s.cached() {
				return true
			}
		}
	}
	return false
}

// lacks is anyUncached for those who do not hold Client.mu.
func (c *Client) lacks() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.anyUncached()
}

// anyWanted reports whether there is a reason to be connected. Client.mu is
// held.
func (c *Client) anyWanted() bool {
	for _, e := range c.order {
		for _, s := range e.subs {
			if s.wanted() {
				return true
			}
		}
	}
	return false
}

// inCharge is the server whose word counts. Client.mu is held.
func (c *Client) inCharge() *server { return c.servers[c.level] }

// out reports whether the last attempt to talk to the server has failed, and
// none has succeeded so far. Client.mu is held.
func (s *server) out() bool { return s.stream == nil && s.outage != nil }

// shift begins the time in which a server is asked, if it is needed now. The
// context ends when it is not any more.
func (c *Client) shift(ctx context.Context, s *server) (shift context.Context, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.index > c.level || !c.anyWanted() {
		return nil, false
	}
	shift, s.leave = context.WithCancel(ctx)
	return shift, true
}

// stays reports whether a server has a reason to open another stream. Where
// nothing is watched any more, servers in reserve without a stream are given up
// and failures forgotten, so that the next watch begins at the top of the list.
func (c *Client) stays(s *server) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.anyWanted() {
		return s.index <= c.level
	}
	s.outage = nil
	for c.level > 0 && c.inCharge().stream == nil {
		c.inCharge().retire()
		c.level--
	}
	return false
}

// down notes that a server could not be reached: the next one is asked, or the
// watchers are told.
func (c *Client) down(s *server, err *ServerError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.index > c.level {
		return
	}
	if s.outage == nil || s.outage.Error() != err.Error() {
		s.outage = err
	}
	if s == c.inCharge() && c.anyUncached() && c.askNext() {
		return
	}
	c.report()
}

// askNext puts the next server in charge. It answers false after the last one.
// Client.mu is held.
func (c *Client) askNext() bool {
	if c.level+1 == len(c.servers) {
		return false
	}
	failed := c.inCharge()
	c.level++
	next := c.inCharge()
	next.outage = nil
	c.log.Warn("xds server is not available; asking the next", "server", failed.cfg.URI, "next", next.cfg.URI)
	next.poke()
	return true
}

// resumes reports whether a server may be told which versions are at hand, so
// that it says nothing if they are the latest. Not if it has to speak: to take
// over, or to be believed when it is silent about what others said. Client.mu is
// held.
func (c *Client) resumes(s *server) bool {
	if s != c.inCharge() {
		return false
	}
	for _, e := range c.order {
		for _, sub := range e.subs {
			if sub.wanted() && sub.hasValue && sub.by != s {
				return false
			}
		}
	}
	return true
}

// takeOver puts a server that has answered in charge, and gives up those after
// it. What they said stays until this one has said otherwise. Client.mu is held.
func (c *Client) takeOver(s *server) {
	if s.index >= c.level {
		return
	}
	c.log.Info("xds server has answered; leaving the one asked instead", "server", s.cfg.URI, "left", c.inCharge().cfg.URI)
	for _, o := range c.servers[s.index+1 : c.level+1] {
		o.retire()
	}
	c.level = s.index
	s.stream.postpone()
}

// retire ends a server's shift. Client.mu is held.
func (s *server) retire() {
	s.leave()
	s.outage = nil
	if s.stream != nil {
		s.stream.retired = true
	}
}

// outage is a failure that watchers are told once.
type outage struct{ err error }

// outage returns the failure of the moment: nil unless the server in charge,
// and with it every one before it, cannot be reached. Client.mu is held.
func (c *Client) outage() *outage {
	if !c.inCharge().out() {
		return nil
	}
	var list outageError
	for _, s := range c.servers[:c.level+1] {
		if s.outage != nil {
			list = append(list, s.outage)
		}
	}
	var err error = list
	if len(list) == 1 {
		err = list[0]
	}
	if c.lastOutage == nil || c.lastOutage.err.Error() != err.Error() {
		c.lastOutage = &outage{err}
	}
	return c.lastOutage
}

// outageError lists the servers that cannot be reached, in order of preference.
type outageError []*ServerError

func (e outageError) Error() string {
	var all []string
	for _, s := range e {
		all = append(all, s.Error())
	}
	return strings.Join(all, "; ")
}

func (e outageError) Unwrap() []error {
	var all []error
	for _, s := range e {
		all = append(all, s)
	}
	return all
}

// report has every watch told of the outage, if there is one: after saved
// copies, where there are any. Client.mu is held.
func (c *Client) report() {
	if o := c.outage(); o != nil && !c.keeper.standIn() {
		c.tellAll(o)
	}
}

// tellAll tells every watch about an outage. Client.mu is held.
func (c *Client) tellAll(o *outage) {
	for _, e := range c.order {
		for _, name := range e.names() {
			for _, w := range e.subs[name].watches {
				c.tellOutage(w, o)
			}
		}
	}
}

// tellOutage tells one watch about an outage that it was not told. Client.mu is
// held.
func (c *Client) tellOutage(w *watch, o *outage) {
	if w.told == o || !w.outageDue.CompareAndSwap(false, true) {
		return
	}
	w.told = o
	c.calls.push(call{w: w, kind: callOutage, err: o.err})
}
