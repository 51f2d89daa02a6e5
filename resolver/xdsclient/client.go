package xdsclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"unicode/utf8"
)

// Client is an ADS client. Its methods may be called concurrently.
type Client struct {
	cfg     Config       // fixed at birth
	log     *slog.Logger // fixed at birth
	servers []*server    // in order of preference; fixed at birth
	keeper  *keeper      // nil: nothing is saved; fixed at birth
	calls   *calls
	cancel  context.CancelFunc
	wg      sync.WaitGroup

	// reading is held while a response, or what was saved, is decoded and
	// applied: resources change at one server's word at a time. It is taken
	// before mu.
	reading sync.Mutex

	mu         sync.Mutex
	closed     bool
	types      map[string]*typeEntry
	order      []*typeEntry // in order of registration
	level      int          // servers[:level+1] are asked, the last is in charge
	lastOutage *outage      // nil once a server has answered
	streams    int          // counts streams
	round      int          // counts responses
}

// New makes a client. It does not connect before the first Watch, but must be
// closed in any case.
func New(cfg Config) (*Client, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &Client{cfg: cfg, log: cfg.Logger, cancel: cancel, types: map[string]*typeEntry{}}
	if err := c.addServers(); err != nil {
		cancel()
		return nil, err
	}
	c.calls = newCalls(c.flush)
	c.wg.Go(c.calls.run)
	if cfg.Cache != nil {
		c.keeper = newKeeper(c, cfg.Cache)
		c.wg.Go(func() { c.keeper.restoreAll(ctx) })
		c.wg.Go(func() { c.keeper.saveAll(ctx) })
	}
	for _, s := range c.servers {
		c.wg.Go(func() { s.run(ctx) })
	}
	return c, nil
}

// addServers makes the servers, none of which is connected yet.
func (c *Client) addServers() error {
	for i, cfg := range c.cfg.Servers {
		s, err := newServer(c, i, cfg)
		if err != nil {
			for _, s := range c.servers {
				s.disconnect()
			}
			return fmt.Errorf("xdsclient: server %q: %w", cfg.URI, err)
		}
		c.servers = append(c.servers, s)
	}
	return nil
}

// Close ends all watches and the connections, and waits until everything the
// client started has ended; what Config.Cache has not been given yet is saved
// last. No callback runs after it returns, so it must not be called from one. It
// may be called more than once, and returns nil.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.calls.stop()
	c.wg.Wait()
	if c.keeper != nil {
		c.keeper.save()
	}
	return nil
}

// watch is Watch without its type parameter.
func (c *Client) watch(t anyType, name string, to anyWatcher) (cancel func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return func() {}
	}
	entry, err := c.register(t, name)
	if err != nil {
		return c.refuseWatch(name, to, err)
	}
	sub := entry.subs[name]
	if sub == nil {
		sub = &subscription{entry: entry, name: name}
		entry.subs[name] = sub
	}
	w := &watch{sub: sub, to: to}
	sub.watches = append(sub.watches, w)
	for _, call := range sub.news(w) {
		c.calls.push(call)
	}
	c.watchInOutage(w)
	if len(sub.watches) == 1 {
		c.touch(sub)
	}
	return func() { c.unwatch(w) }
}

// watchInOutage has the next server asked if those that were asked cannot be
// reached, which a new watch need not find out for itself, or tells the watch.
func (c *Client) watchInOutage(w *watch) {
	if c.outage() == nil || !w.sub.cached() && c.askNext() {
		return
	}
	if !c.keeper.standIn() {
		c.tellOutage(w, c.outage())
	}
}

// register returns the entry of a resource type, and makes it on first use.
func (c *Client) register(t anyType, name string) (*typeEntry, error) {
	switch {
	case t.url == "" || !utf8.ValidString(t.url):
		return nil, fmt.Errorf("type URL %q is empty or not UTF-8", t.url)
	case name == "" || !utf8.ValidString(name):
		return nil, fmt.Errorf("resource name %q is empty or not UTF-8", name)
	}
	entry := c.types[t.url]
	if entry == nil {
		entry = newTypeEntry(t)
		c.types[t.url] = entry
		c.order = append(c.order, entry)
	}
	if entry.id != t.id {
		return nil, errors.New("type URL " + t.url + " is in use with another ResourceType")
	}
	return entry, nil
}

// refuseWatch answers a Watch that can never be served.
func (c *Client) refuseWatch(name string, to anyWatcher, err error) (cancel func()) {
	w := &watch{sub: &subscription{name: name}, to: to}
	c.calls.push(call{w: w, kind: callError, err: fmt.Errorf("xdsclient: cannot watch: %w", err)})
	return func() { w.cancel() }
}

// unwatch is what a cancel function does.
func (c *Client) unwatch(w *watch) {
	if !w.cancel() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	sub := w.sub
	sub.watches = slices.DeleteFunc(sub.watches, func(o *watch) bool { return o == w })
	if !sub.wanted() {
		c.touch(sub)
	}
}

// touch notes that a subscription has begun or ended, and has the servers told:
// at once, or after the callbacks that are being made, which may change more.
// Of what no server knows, none need be told the end.
func (c *Client) touch(sub *subscription) {
	known := c.known(sub)
	for _, s := range c.servers {
		if t := s.talk(sub.entry); t != nil && (known || sub.wanted()) {
			t.changed[sub.name] = struct{}{}
		} else if t != nil {
			delete(t.changed, sub.name)
		}
	}
	if !known && !sub.wanted() {
		sub.entry.drop(sub)
		return
	}
	if !c.calls.busy() {
		for _, s := range c.servers[:c.level+1] {
			s.poke()
		}
	}
}

// known reports whether a server was asked for a resource on an open stream.
func (c *Client) known(sub *subscription) bool {
	return slices.ContainsFunc(c.servers, func(s *server) bool { return s.knows(sub) })
}

// flush has changed subscriptions sent, even while callbacks are being made.
func (c *Client) flush() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.servers[:c.level+1] {
		s.due = true
		s.poke()
	}
}

// tell pushes a callback to every watch of a resource.
func (c *Client) tell(s *subscription, kind callKind, h *hold) {
	for _, w := range s.watches {
		c.calls.push(call{w: w, kind: kind, u: s.update(), err: s.err, hold: h})
	}
}
