package xdsserver

import "slices"

// watch is what one stream subscribes to of one type. go-control-plane opens a watch with each request, takes at most
// one response from it and cancels it before the next. Here it is one watch from the first request to the end of the
// stream, which is parked in between, so that an acknowledgement costs the same however much is subscribed to.
//
// Everything in it is guarded by the cache's mutex.
type watch struct {
	cache *Cache
	table *table
	proto protocol
	peers *stream // the other types of the same stream; nil outside of a session

	links    []*link
	byName   map[string]*link // of links
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
}

// stream is the watches of one stream in order of rank.
type stream struct{ watches []*watch }

// begin makes it the watch of a table.
func (w *watch) begin(c *Cache, p protocol, key tableKey) {
	w.cache, w.proto, w.table, w.byName = c, p, c.table(key), map[string]*link{}
}

// tell tells whoever is interested about names that are added before, and of those that are removed after fn is done.
func tell(i interest, typeURL string, added, removed []string, fn func()) {
	if i != nil && len(added) > 0 {
		i.wanted(typeURL, added)
	}
	fn()
	if i != nil && len(removed) > 0 {
		i.unwanted(typeURL, removed, false)
	}
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
func (w *watch) link(e *entry, known string) { w.newLink(e, known).mark() }

func (w *watch) newLink(e *entry, known string) *link {
	l := &link{watch: w, entry: e, pos: len(e.links), at: len(w.links), sent: known}
	e.links = append(e.links, l)
	w.links = append(w.links, l)
	w.byName[e.name] = l
	return l
}

// unlink ends the subscription of a link.
func (w *watch) unlink(l *link) {
	w.detach(l)
	last := w.links[len(w.links)-1]
	w.links[l.at], last.at = last, l.at
	w.links = w.links[:len(w.links)-1]
	delete(w.byName, l.entry.name)
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
func (l *link) held() bool { return l.entry.held && l.prior || l.entry.vacant && l.sent == "" }

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
	for _, w := range s.watches {
		w.fire()
	}
}

// fireAll fires the watches of the stream, because this one's turn may have passed to others.
func (w *watch) fireAll() {
	if w.peers == nil {
		w.fire()
		return
	}
	w.peers.fireAll()
}

// add puts a watch into its place.
func (s *stream) add(w *watch) {
	i, _ := slices.BinarySearchFunc(s.watches, w, func(a, b *watch) int { return a.table.rank - b.table.rank })
	s.watches = slices.Insert(s.watches, i, w)
	w.peers = s
}

// news returns which of the names to add the watch does not have by name, and which of the names to remove it has. A name
// that is to be both ends up removed, as with go-control-plane and istiod. Only to "*" that makes a difference: the client
// hears once more of what it no longer names.
func (w *watch) news(add, remove []string) (added, removed []string) {
	if len(add) == 0 && len(remove) == 0 {
		return nil, nil
	}
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	ends := make(map[string]bool, len(remove))
	for _, name := range remove {
		ends[name] = true
	}
	begins := make(map[string]bool, len(add))
	for _, name := range add {
		l := w.byName[name]
		if name != wildcardName && !begins[name] && (l == nil || !l.named) && (!ends[name] || w.wildcard) {
			begins[name] = true
			added = append(added, name)
		}
	}
	for _, name := range remove {
		if l := w.byName[name]; ends[name] && (begins[name] || l != nil && l.named) {
			ends[name] = false // once
			removed = append(removed, name)
		}
	}
	return added, removed
}

// others returns the names that the watch has by name, but for these.
func (w *watch) others(names map[string]struct{}) (others []string) {
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	for name, l := range w.byName {
		if _, ok := names[name]; !ok && l.named {
			others = append(others, name)
		}
	}
	return others
}

// reopen opens a parked watch for the next response. In between the subscription changed as update says.
func (w *watch) reopen(update func()) {
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	update()
	w.refresh()
	w.open = true
	w.fireAll()
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
