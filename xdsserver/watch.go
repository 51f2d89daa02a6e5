package xdsserver

import (
	"slices"

	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
)

// watch is what one stream subscribes to of one type. go-control-plane opens a watch with each request and takes one
// response from it; it opens it again when the client has acknowledged that. A watch of a session lives as long as its
// stream and is only parked in between, so that an acknowledgement costs the same however much is subscribed to; a watch
// that was made by Cache.CreateWatch or CreateDeltaWatch lives for one response.
//
// Everything in it is guarded by the cache's mutex.
type watch struct {
	cache *Cache
	table *table
	proto protocol
	peers *stream // the other types of the same stream; nil outside of a session

	links    []*link
	byName   map[string]*link // of links; nil outside of a session, but for wildcards
	dirty    []*link          // with something that the client should hear
	wildcard bool

	open   bool // go-control-plane waits for a response
	queued bool // a token is on its way: the response will be taken
}

// protocol is the difference between the two protocols.
type protocol interface {
	// stale says whether the client should hear about a link now.
	stale(l *link) bool
	// blocked says whether the client must not hear of anything for now.
	blocked() bool
	// enqueue passes a token to go-control-plane and reports whether there was room for it. It never blocks.
	enqueue() bool
	// freeze makes the response of a token that is on its way, because its watch ends now.
	freeze()
}

// stream is the watches of one stream in order of rank.
type stream struct{ watches []*watch }

func (w *watch) init(c *Cache, p protocol, key tableKey) {
	w.cache, w.proto = c, p
	c.mu.Lock()
	w.table = c.table(key)
	c.mu.Unlock()
}

// openOnce opens a watch for one response, with everything that go-control-plane knows about the subscription.
func (w *watch) openOnce(sub cache.Subscription) (cancel func()) {
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	known := sub.ReturnedResources()
	names := sub.SubscribedResources()
	w.links = make([]*link, 0, len(names))
	if sub.IsWildcard() {
		w.byName = make(map[string]*link, len(names))
	}
	for name := range names {
		w.link(w.table.entry(name), known[name]).named = true
	}
	w.setWildcard(sub.IsWildcard(), known)
	w.open = true
	w.fire()
	return w.closeOnce
}

// closeOnce ends a watch that was opened by openOnce.
func (w *watch) closeOnce() {
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	if w.queued {
		w.proto.freeze()
	}
	w.close()
}

// close removes the watch from the cache.
func (w *watch) close() {
	w.open = false
	w.setWildcard(false, nil)
	for _, l := range w.links {
		w.detach(l)
	}
	w.links, w.byName, w.dirty = nil, nil, nil
}

// setWildcard subscribes to everything that there is and will be, or no longer.
func (w *watch) setWildcard(on bool, known map[string]string) {
	switch {
	case on && !w.wildcard:
		w.table.wildcard = append(w.table.wildcard, w)
		for _, e := range w.table.entries {
			if e.cur != nil && w.byName[e.name] == nil {
				w.link(e, known[e.name])
			}
		}
		// What the client has and the cache has not, it should hear of.
		for name, version := range known {
			if e := w.table.entries[name]; (e == nil || e.cur == nil) && w.byName[name] == nil {
				w.link(w.table.entry(name), version)
			}
		}
	case !on && w.wildcard:
		i := slices.Index(w.table.wildcard, w)
		w.table.wildcard = slices.Delete(w.table.wildcard, i, i+1)
		for _, l := range slices.Clone(w.links) {
			if !l.named {
				w.unlink(l)
			}
		}
	}
	w.wildcard = on
}

// link subscribes the watch to an entry, of which the client has the given version.
func (w *watch) link(e *entry, known string) *link {
	l := w.newLink(e, known)
	l.mark()
	return l
}

func (w *watch) newLink(e *entry, known string) *link {
	l := &link{watch: w, entry: e, pos: len(e.links), at: len(w.links), sent: known}
	e.links = append(e.links, l)
	w.links = append(w.links, l)
	if w.byName != nil {
		w.byName[e.name] = l
	}
	return l
}

// unlink ends the subscription of a link.
func (w *watch) unlink(l *link) {
	w.detach(l)
	last := w.links[len(w.links)-1]
	w.links[l.at], last.at = last, l.at
	w.links = w.links[:len(w.links)-1]
	if w.byName != nil {
		delete(w.byName, l.entry.name)
	}
	if l.dirty {
		i := slices.Index(w.dirty, l)
		w.dirty = slices.Delete(w.dirty, i, i+1)
	}
}

// detach takes a link out of its entry.
func (w *watch) detach(l *link) {
	e := l.entry
	last := e.links[len(e.links)-1]
	e.links[l.pos], last.pos = last, l.pos
	e.links[len(e.links)-1] = nil
	e.links = e.links[:len(e.links)-1]
	e.table.tidy(e)
}

// held reports whether the client must not hear of the link for now.
func (l *link) held() bool { return l.entry.held && l.prior }

// told notes that the client is sent a version.
func (l *link) told(version string) { l.sent, l.prior = version, false }

// mark notes that the client should hear about the link, if so, and reports whether that is news.
func (l *link) mark() bool {
	w := l.watch
	if l.dirty || !w.proto.stale(l) {
		return false
	}
	l.dirty = true
	w.dirty = append(w.dirty, l)
	return true
}

// clean forgets all marks: the client is about to hear of everything.
func (w *watch) clean() {
	for _, l := range w.dirty {
		l.dirty = false
	}
	clear(w.dirty)
	w.dirty = w.dirty[:0]
}

// refresh forgets marks that changes since have made void.
func (w *watch) refresh() {
	w.dirty = slices.DeleteFunc(w.dirty, func(l *link) bool {
		l.dirty = w.proto.stale(l)
		return !l.dirty
	})
}

// fire lets go-control-plane take a response if it waits for one, there is something to say, and it is this type's turn.
func (w *watch) fire() {
	if !w.open || w.queued || len(w.dirty) == 0 || w.peers.before(w) || w.proto.blocked() {
		return
	}
	w.queued = w.proto.enqueue()
}

// before reports whether a type that has to go first still has something to send: it waits for the client to
// acknowledge what it was sent before.
func (s *stream) before(w *watch) bool {
	if s == nil {
		return false
	}
	for _, o := range s.watches {
		if o.table.rank < w.table.rank && len(o.dirty) > 0 && !o.queued && !o.proto.blocked() {
			return true
		}
	}
	return false
}

// fireAll fires the watches of a stream in their order.
func (s *stream) fireAll() {
	if s == nil {
		return
	}
	for _, w := range s.watches {
		w.fire()
	}
}

// add puts a watch into its place.
func (s *stream) add(w *watch) {
	i, _ := slices.BinarySearchFunc(s.watches, w, func(a, b *watch) int { return a.table.rank - b.table.rank })
	s.watches = slices.Insert(s.watches, i, w)
	w.peers = s
}

// versions is what the client has of everything that the watch is linked to.
func (w *watch) versions() map[string]string {
	m := make(map[string]string, len(w.links))
	for _, l := range w.links {
		if l.sent != "" {
			m[l.entry.name] = l.sent
		}
	}
	return m
}

// reopen opens a parked watch for the next response. In between the subscription changed as update says.
func (w *watch) reopen(update func()) {
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	update()
	w.refresh()
	w.open = true
	w.peers.fireAll()
}

// park keeps a watch from answering until it is opened again.
func (w *watch) park() {
	w.cache.mu.Lock()
	w.open = false
	w.cache.mu.Unlock()
}

// subscribe links names that the watch is not linked to yet. known is the version that the client has of each.
func (w *watch) subscribe(names []string, known func(name string) string) {
	for _, name := range names {
		l := w.byName[name]
		if l == nil {
			version := known(name)
			l = w.newLink(w.table.entry(name), version)
			l.prior = version != ""
			l.mark()
		}
		l.named = true
	}
}

// unsubscribe ends the subscription to names.
func (w *watch) unsubscribe(names []string) {
	for _, name := range names {
		l := w.byName[name]
		if l == nil {
			continue
		}
		if l.named = false; !w.wildcard {
			w.unlink(l)
			continue
		}
		l.sent = "" // the protocol asks for the resource, or for news that it is gone
		l.mark()
	}
}

// rebase makes the watch one of another table, which has the same names with what the stream should see from now on.
func (w *watch) rebase(t *table) {
	wildcard := w.wildcard
	w.setWildcard(false, nil)
	for _, l := range w.links {
		w.detach(l)
		l.entry = t.entry(l.entry.name)
		l.pos = len(l.entry.links)
		l.entry.links = append(l.entry.links, l)
		l.mark()
	}
	w.table = t
	w.setWildcard(wildcard, nil)
	w.refresh()
}

// wildcardName is how a client names everything.
const wildcardName = "*"
