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
	cfg    Config       // fixed at birth
	log    *slog.Logger // fixed at birth
	server *server      // the one in use; fixed at birth
	calls  *calls
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	types  map[string]*typeEntry
	order  []*typeEntry // in order of registration
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
	if c.server, err = newServer(c, cfg.Servers[0]); err != nil {
		cancel()
		return nil, fmt.Errorf("xdsclient: server %q: %w", cfg.Servers[0].URI, err)
	}
	c.calls = newCalls(c.server.flush)
	c.wg.Go(c.calls.run)
	c.wg.Go(func() { c.server.run(ctx) })
	return c, nil
}

// Close ends all watches and the connection, and waits until everything the
// client started has ended. No callback runs after it returns, so it must not
// be called from one. It may be called more than once, and returns nil.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.cancel()
	c.calls.stop()
	c.wg.Wait()
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
	c.server.tellOutage(w)
	if len(sub.watches) == 1 {
		c.touch(sub)
	}
	return func() { c.unwatch(w) }
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

// touch notes that a subscription has begun or ended, and has the server told:
// at once, or after the callbacks that are being made, which may change more.
// Of what the server does not know, it need not be told the end.
func (c *Client) touch(sub *subscription) {
	if !sub.wanted() && !c.server.knows(sub) {
		delete(sub.entry.changed, sub.name)
		sub.entry.drop(sub)
		return
	}
	sub.entry.changed[sub.name] = struct{}{}
	if !c.calls.busy() {
		c.server.poke()
	}
}

// anyWanted reports whether there is a reason to be connected.
func (c *Client) anyWanted() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.order {
		for _, s := range e.subs {
			if s.wanted() {
				return true
			}
		}
	}
	return false
}

// tell pushes a callback to every watch of a resource.
func (c *Client) tell(s *subscription, kind callKind, h *hold) {
	u := Update[any]{Name: s.name, Value: s.value, Version: s.version}
	if s.partial {
		u.Err = s.err
	}
	for _, w := range s.watches {
		c.calls.push(call{w: w, kind: kind, u: u, err: s.err, hold: h})
	}
}
