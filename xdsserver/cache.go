package xdsserver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/cespare/xxhash/v2"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Cache holds encoded xDS resources and delivers each change to those who subscribe to it. It implements
// go-control-plane's cache.Cache, for the incremental and the state-of-the-world protocol, and can be used without the
// rest of this package:
//
//	c := xdsserver.NewCache()
//	c.Set(resource.EndpointType, "outbound|9080||reviews", assignment)
//	c.Register(grpcServer)
//
// A resource is encoded once, and its version is a hash of its content, so that setting what is there already sends
// nothing and a client that reconnects to a restarted server is not sent what it has. A change costs in proportion to
// the subscribers of the resources that changed. Each stream has at most one response of a type outstanding, and a
// response is put together in the moment it is sent: while a client is slow its changes pile up as marks on
// the resources it subscribes to, not as messages, and it is sent the latest state.
//
// A resource that does not exist is reported at once: to incremental clients in removed_resources, to state-of-the-world
// clients of the types whose responses carry the full state (listeners and clusters) by its absence. A refusal
// (NACK) is never answered: the client hears of the resource again when it changes.
//
// All methods are safe for concurrent use.
type Cache struct {
	mu       sync.Mutex // guards everything below and everything it leads to; never held while something is sent or encoded
	tables   map[tableKey]*table
	standing standing
}

var _ cache.Cache = (*Cache)(nil)

// tableKey names the resources of one type that the clients of one view see. The view of the exported methods is "".
type tableKey struct{ view, typeURL string }

// table is the resources of one type in one view.
type table struct {
	tableKey
	fullState bool // state-of-the-world responses list everything, so that what is absent is deleted
	rank      int
	entries   map[string]*entry
	wildcard  []*watch
}

// entry is a name that has a resource or somebody who waits for one.
type entry struct {
	table   *table
	name    string
	cur     *encoded // nil: there is no such resource
	instead *encoded // what stands for "there is none" in the state-of-the-world protocol; nil: nothing does
	held    bool     // those who have it from another stream are not told of changes for now
	vacant  bool     // held, and those who have nothing are not told either
	links   []*link
}

// encoded is a resource as it goes over the wire, shared by all clients that are sent it and never written to.
type encoded struct {
	hash uint64
	wire *discoveryv3.Resource
}

// link is the subscription of one watch to one entry.
type link struct {
	watch *watch
	entry *entry
	pos   int    // in entry.links
	at    int    // in watch.links
	sent  string // the version that the client has or is about to have; absent; some; "" for nothing
	dirty bool   // listed in watch.dirty
	named bool   // subscribed to by name, not only by "*"
	prior bool   // what was sent was sent on another stream, perhaps by another process
}

// Versions that are not hashes.
const (
	absent = "-" // of what does not exist
	some   = "?" // of what the client has from another stream, and which it cannot name
)

func (e *encoded) version() string {
	if e == nil {
		return absent
	}
	return e.wire.Version
}

// NewCache returns an empty cache.
func NewCache() *Cache {
	return &Cache{tables: map[tableKey]*table{}, standing: standing{watches: map[uintptr]standingWatch{}}}
}

// Change is one change of a batch: a resource's new content or, with a nil Message, its removal.
type Change struct {
	TypeURL string
	Name    string
	Message proto.Message
}

// Set makes m the content of the named resource and sends it to the resource's subscribers.
func (c *Cache) Set(typeURL, name string, m proto.Message) error {
	return c.Apply(Change{TypeURL: typeURL, Name: name, Message: m})
}

// Delete removes the named resource and tells its subscribers.
func (c *Cache) Delete(typeURL, name string) {
	c.apply([]change{{key: tableKey{typeURL: typeURL}, name: name}})
}

// Apply makes several changes at once: no client is sent some of them without the others of the same type, and each is
// sent clusters first, then endpoints, listeners and routes. When a message cannot be encoded nothing is changed.
func (c *Cache) Apply(changes ...Change) error {
	encodedChanges := make([]change, len(changes))
	for i, ch := range changes {
		encodedChanges[i] = change{key: tableKey{typeURL: ch.TypeURL}, name: ch.Name}
		if ch.Message == nil {
			continue
		}
		enc, err := encode(ch.TypeURL, ch.Name, ch.Message)
		if err != nil {
			return err
		}
		encodedChanges[i].res = enc
	}
	c.apply(encodedChanges)
	return nil
}

// encode is the one time that a resource is marshalled.
func encode(typeURL, name string, m proto.Message) (*encoded, error) {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encoding %s %q: %w", shortType(typeURL), name, err)
	}
	hash := xxhash.Sum64(body)
	return &encoded{hash: hash, wire: &discoveryv3.Resource{
		Name:     name,
		Version:  formatHash(hash),
		Resource: &anypb.Any{TypeUrl: typeURL, Value: body},
	}}, nil
}

func formatHash(h uint64) string { return strconv.FormatUint(h, 16) }

// change is a Change after encoding, in any view; a nil res removes.
type change struct {
	key     tableKey
	name    string
	res     *encoded
	instead *encoded
	held    bool
	vacant  bool
}

// apply is Apply for encoded resources.
func (c *Cache) apply(changes []change) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(changes) > 1 {
		slices.SortStableFunc(changes, func(a, b change) int { return rankOf(a.key.typeURL) - rankOf(b.key.typeURL) })
	}
	var woken []*watch
	for _, ch := range changes {
		woken = c.set(ch, woken)
	}
	for _, w := range woken {
		w.fire()
	}
}

// set stores one change, marks it at its subscribers and appends the watches that have something to say now.
func (c *Cache) set(ch change, woken []*watch) []*watch {
	t := c.table(ch.key)
	e := t.entries[ch.name]
	if e == nil {
		if ch.res == nil && ch.instead == nil && !ch.held {
			return woken
		}
		e = t.entry(ch.name)
	}
	appeared, released := e.cur == nil && ch.res != nil, e.held && !ch.held || e.vacant && !ch.vacant
	e.cur, e.instead, e.held, e.vacant = ch.res, ch.instead, ch.held, ch.vacant
	for _, l := range e.links {
		if l.mark() || released {
			woken = append(woken, l.watch)
		}
	}
	if appeared {
		for _, w := range t.wildcard {
			if w.byName[e.name] == nil {
				w.link(e, "")
				woken = append(woken, w)
			}
		}
	}
	t.tidy(e)
	return woken
}

// get returns what there is under a name, and what stands for it if there is nothing.
func (c *Cache) get(key tableKey, name string) (res, instead *encoded) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.tables[key]; t != nil && t.entries[name] != nil {
		res, instead = t.entries[name].cur, t.entries[name].instead
	}
	return res, instead
}

func (c *Cache) table(key tableKey) *table {
	t := c.tables[key]
	if t == nil {
		t = &table{
			tableKey:  key,
			fullState: key.typeURL == resource.ListenerType || key.typeURL == resource.ClusterType,
			rank:      rankOf(key.typeURL),
			entries:   map[string]*entry{},
		}
		c.tables[key] = t
	}
	return t
}

// entry returns the entry of a name, made if need be.
func (t *table) entry(name string) *entry {
	e := t.entries[name]
	if e == nil {
		e = &entry{table: t, name: name}
		t.entries[name] = e
	}
	return e
}

// drop forgets the tables of a view that nobody has any more.
func (c *Cache) drop(view string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.tables {
		if key.view == view {
			delete(c.tables, key)
		}
	}
}

// tidy forgets an entry that stands for nothing.
func (t *table) tidy(e *entry) {
	if e.cur == nil && e.instead == nil && !e.held && len(e.links) == 0 {
		delete(t.entries, e.name)
	}
}

// rankOf orders the types so that what is referred to comes before what refers to it.
func rankOf(typeURL string) int {
	switch typeURL {
	case resource.ClusterType:
		return 0
	case resource.EndpointType:
		return 1
	case resource.ListenerType:
		return 2
	case resource.RouteType:
		return 3
	default:
		return 4
	}
}

// shortType is the last part of a type URL, for people.
func shortType(typeURL string) string { return typeURL[strings.LastIndexByte(typeURL, '.')+1:] }

// Fetch implements cache.Cache. Polling is not served: it always fails.
func (c *Cache) Fetch(context.Context, *cache.Request) (cache.Response, error) {
	return nil, errors.New("polling for xDS resources is not supported: use a stream")
}
