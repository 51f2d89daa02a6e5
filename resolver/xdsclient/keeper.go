package xdsclient

import (
	"cmp"
	"context"
	"errors"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"time"
)

// keeper fills a Store and, when no server can be reached, brings back what is
// in there. Two goroutines do so, one for either direction: neither the stream
// nor a watcher waits for a disk. All methods may be called on nil.
type keeper struct {
	c       *Client
	store   Store
	restore chan struct{} // one slot: saved copies may be due
	changed chan struct{} // one slot: dirty is not empty
	loaded  chan struct{} // closed when the store was read for the first time

	// disk is held while the store is at work. It is taken before Client.mu.
	disk sync.Mutex

	// Guarded by Client.mu.
	dirty  map[Key]*Saved // changes to be saved; nil: to be deleted
	saving map[Key]*Saved // the same, while they are being saved: not in dirty, nor in index yet
	index  map[Key]entry  // what the store holds
	copies map[Key]Saved  // the same with contents, while it may be needed; nil: to be loaded
	heard  bool           // a server has answered since the last outage
	status CacheStatus    // without what the maps tell
}

// entry is what is remembered of a resource in the store.
type entry struct {
	size     int64
	accepted time.Time
	sum      uint64 // of the body
}

func entryOf(s *Saved) entry {
	return entry{size: s.size(), accepted: s.Accepted, sum: maphash.Bytes(seed, s.Body)}
}

const (
	// saveDelay is the time in which changes are gathered before they are saved.
	saveDelay = time.Second
	// saveRetry is the time after which a save that failed is tried again.
	saveRetry = 30 * time.Second
)

func newKeeper(c *Client, store Store) *keeper {
	return &keeper{
		c: c, store: store,
		restore: make(chan struct{}, 1), changed: make(chan struct{}, 1), loaded: make(chan struct{}),
		dirty: map[Key]*Saved{}, index: map[Key]entry{},
	}
}

func (s *subscription) key() Key { return Key{s.entry.url, s.name} }

// signal fills the slot of a channel. It never blocks.
func signal(slot chan struct{}) {
	select {
	case slot <- struct{}{}:
	default:
	}
}

// keep has a resource saved that a server sent and that was accepted as a whole.
// Client.mu is held.
func (k *keeper) keep(s *subscription) {
	if k == nil {
		return
	}
	k.dirty[s.key()] = &Saved{Key: s.key(), Version: s.version, Server: s.from.cfg.URI, Accepted: s.taken, Body: s.body}
	signal(k.changed)
}

// discard has the copy of a resource deleted that a server said is missing.
// Client.mu is held.
func (k *keeper) discard(s *subscription) {
	if k == nil {
		return
	}
	k.dirty[s.key()] = nil
	signal(k.changed)
}

// has reports whether there is a copy of a resource. Client.mu is held.
func (k *keeper) has(s *subscription) bool {
	if k == nil {
		return false
	}
	for _, changes := range []map[Key]*Saved{k.dirty, k.saving} {
		if change, ok := changes[s.key()]; ok {
			return change != nil
		}
	}
	_, ok := k.index[s.key()]
	return ok
}

// standIn has saved copies delivered where they are due, and then the outage
// reported if there is one. It answers false when nothing is saved at all: then
// it does neither. Client.mu is held.
func (k *keeper) standIn() bool {
	if k == nil {
		return false
	}
	if k.c.inCharge().out() {
		k.heard = false
	}
	signal(k.restore)
	return true
}

// relax gives memory back when a server has answered. Client.mu is held.
func (k *keeper) relax() {
	if k != nil {
		k.heard, k.copies = true, nil
	}
}

// restoreAll reads the store and then brings resources back whenever they are
// due, until ctx ends.
func (k *keeper) restoreAll(ctx context.Context) {
	k.disk.Lock()
	k.load()
	k.forget()
	k.disk.Unlock()
	close(k.loaded)
	for {
		select {
		case <-k.restore:
			k.restoreDue()
		case <-ctx.Done():
			return
		}
	}
}

// restoreDue delivers the copies that are due, and then reports the outage.
func (k *keeper) restoreDue() {
	if len(k.due()) > 0 {
		k.deliver()
	}
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	if o := k.c.outage(); o != nil {
		k.c.tellAll(o)
	}
}

// load returns the contents of the store, and reads it if they are not at hand.
// keeper.disk is held.
func (k *keeper) load() map[Key]Saved {
	k.c.mu.Lock()
	copies := k.copies
	k.c.mu.Unlock()
	if copies != nil {
		return copies
	}
	list, err := k.store.Load()
	if err != nil {
		k.c.log.Warn("saved xds resources cannot be read; what cannot is ignored", "error", err)
	}
	copies, index := map[Key]Saved{}, map[Key]entry{}
	for _, s := range list {
		copies[s.Key], index[s.Key] = s, entryOf(&s)
	}
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	k.copies, k.index, k.status.LastError = copies, index, err
	return copies
}

// forget gives the copies back unless there may be more need of them.
func (k *keeper) forget() {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	if k.heard {
		k.copies = nil
	}
}

// due are the resources that have to be brought back: no server can be reached
// or has said anything in time, or what it sent was refused, and there is no
// value but a copy.
func (k *keeper) due() []*subscription {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	out := k.c.inCharge().out()
	var due []*subscription
	for _, e := range k.c.order {
		for _, name := range e.names() {
			s := e.subs[name]
			if !s.hasValue && (s.state == Refused || s.state == Requested && (out || s.lapsed)) && k.has(s) {
				due = append(due, s)
			}
		}
	}
	return due
}

// deliver decodes the copies that are due and gives them to the subscriptions.
func (k *keeper) deliver() {
	k.disk.Lock()
	defer k.disk.Unlock()
	copies := k.load()
	defer k.forget()
	k.c.reading.Lock()
	defer k.c.reading.Unlock()
	restored := 0
	for _, s := range k.due() {
		saved, ok := k.newest(s, copies)
		if !ok {
			continue
		}
		d := decodeSafely(s.entry, s.name, saved.Body, k.c.log)
		if d.Err == nil && (!d.Usable || d.Name != "" && d.Name != s.name) {
			d.Err = errors.New("it is not what it is called")
		}
		if d.Err != nil {
			k.c.log.Warn("saved xds resource is not usable; ignored", "type", s.entry.name, "resource", s.name, "error", d.Err)
			k.strike(s)
			continue
		}
		k.give(s, &saved, d.Value)
		restored++
	}
	if restored > 0 {
		k.c.log.Warn("saved xds resources are used until a server answers", "resources", restored)
	}
}

// newest returns the copy of a resource, which may still be waiting to be saved.
func (k *keeper) newest(s *subscription, copies map[Key]Saved) (saved Saved, ok bool) {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	if change := k.dirty[s.key()]; change != nil {
		return *change, true
	}
	saved, ok = copies[s.key()]
	return saved, ok
}

// strike forgets a copy that is of no use: it is as good as none.
func (k *keeper) strike(s *subscription) {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	delete(k.dirty, s.key())
	delete(k.index, s.key())
}

// give delivers a copy, unless it is not due any more.
func (k *keeper) give(s *subscription, saved *Saved, value any) {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	if !s.wanted() || s.hasValue || s.state == Missing {
		return
	}
	s.setValue(value, saved.Body, saved.Version, nil, saved.Accepted)
	s.lapsed = false
	k.c.tell(s, callUpdate, nil)
}

// saveAll saves what has changed, as often as saveDelay allows, until ctx ends.
func (k *keeper) saveAll(ctx context.Context) {
	select {
	case <-k.loaded:
	case <-ctx.Done():
		return
	}
	delay := saveDelay
	for {
		select {
		case <-k.changed:
		case <-ctx.Done():
			return
		}
		if !sleep(ctx, delay) {
			return
		}
		if delay = saveDelay; !k.save() {
			delay = saveRetry
			signal(k.changed)
		}
	}
}

// save brings the store up to date. It answers false if that must be tried
// again.
func (k *keeper) save() bool {
	k.disk.Lock()
	defer k.disk.Unlock()
	changes, put, remove := k.plan()
	if len(changes) == 0 {
		return true
	}
	var err error
	if len(put)+len(remove) > 0 {
		err = k.store.Save(put, remove)
	}
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	k.saving = nil
	if err != nil {
		if k.status.LastError == nil || k.status.LastError.Error() != err.Error() {
			k.c.log.Warn("xds resources cannot be saved", "error", err, "retry_in", saveRetry)
		}
		k.status.LastError = err
		maps.Copy(changes, k.dirty)
		k.dirty = changes
		return false
	}
	for i := range put {
		k.index[put[i].Key] = entryOf(&put[i])
	}
	for _, key := range remove {
		delete(k.index, key)
	}
	k.copies = nil
	k.status.LastSave, k.status.LastError = time.Now(), nil
	return true
}

// plan takes the changes and says what they mean for the store: what it holds
// already is not saved again, and what does not fit not at all.
func (k *keeper) plan() (changes map[Key]*Saved, put []Saved, remove []Key) {
	k.c.mu.Lock()
	defer k.c.mu.Unlock()
	changes, k.dirty = k.dirty, map[Key]*Saved{}
	k.saving = changes
	room := k.c.cfg.CacheBytes - k.bytes()
	for _, key := range slices.SortedFunc(maps.Keys(changes), compareKeys) {
		old, held := k.index[key]
		s := changes[key]
		switch {
		case s == nil && held:
			room += old.size
			remove = append(remove, key)
		case s == nil, held && old.sum == entryOf(s).sum:
		default:
			room += old.size - s.size()
			put = append(put, *s)
		}
	}
	if room < 0 {
		put, remove = k.fit(put, remove, -room)
	}
	return changes, put, remove
}

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.TypeURL, b.TypeURL), cmp.Compare(a.Name, b.Name))
}

// fit frees space in the store: first by what is not watched, the oldest first,
// then by leaving out of put what is too much. Client.mu is held.
func (k *keeper) fit(put []Saved, remove []Key, excess int64) (_ []Saved, _ []Key) {
	changing := map[Key]bool{}
	for i := range put {
		changing[put[i].Key] = true
	}
	for _, key := range remove {
		changing[key] = true
	}
	var idle []Key
	for key := range k.index {
		if !changing[key] && !k.watched(key) {
			idle = append(idle, key)
		}
	}
	slices.SortFunc(idle, func(a, b Key) int {
		return cmp.Or(k.index[a].accepted.Compare(k.index[b].accepted), compareKeys(a, b))
	})
	for _, key := range idle {
		if excess > 0 {
			excess -= k.index[key].size
			remove = append(remove, key)
		}
	}
	fitting := slices.DeleteFunc(put, func(s Saved) bool {
		growth := s.size() - k.index[s.Key].size
		if excess <= 0 || growth <= 0 {
			return false
		}
		excess -= growth
		return true
	})
	if n := len(put) - len(fitting); n > 0 {
		k.c.log.Warn("xds resources are not saved, as Config.CacheBytes is used up", "resources", n)
	}
	return fitting, remove
}

// watched reports whether anyone watches a resource. Client.mu is held.
func (k *keeper) watched(key Key) bool {
	e := k.c.types[key.TypeURL]
	return e != nil && e.subs[key.Name] != nil && e.subs[key.Name].wanted()
}

// bytes is the size of what the store holds. Client.mu is held.
func (k *keeper) bytes() (n int64) {
	for _, e := range k.index {
		n += e.size
	}
	return n
}

// state is the keeper's part of Status. Client.mu is held.
func (k *keeper) state() *CacheStatus {
	if k == nil {
		return nil
	}
	out := k.status
	out.Resources, out.Bytes, out.Pending = len(k.index), k.bytes(), len(k.dirty)
	return &out
}
