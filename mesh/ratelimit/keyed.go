package ratelimit

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"slices"
	"sync"

	"github.com/cespare/xxhash/v2"
)

// DefaultMaxKeys is how many values a key may have where a policy says nothing.
const DefaultMaxKeys = 10_000

// group holds the entries of a policy whose keys have the same parts. A call
// takes from one of its buckets: that of the entry with the most fixed values,
// as in Envoy, where each group is one action and its entries are descriptors.
type group struct {
	parts   []KeyPart
	entries []entry
}

// entry is one Keyed of a policy.
type entry struct {
	values []string // "" is any
	bucket *bucket  // for entries whose values are all fixed
	many   *buckets // for the others
}

func newGroups(p *Policy) []group {
	var groups []group
	for i := range p.Keyed {
		k := &p.Keyed[i]
		at := slices.IndexFunc(groups, func(g group) bool { return slices.EqualFunc(g.parts, k.Key, samePart) })
		if at < 0 {
			at = len(groups)
			groups = append(groups, group{parts: k.Key})
		}
		groups[at].entries = append(groups[at].entries, newEntry(k, p.MaxKeys))
	}
	for i := range groups {
		slices.SortStableFunc(groups[i].entries, func(a, b entry) int { return cmp.Compare(a.open(), b.open()) })
	}
	return groups
}

func samePart(a, b KeyPart) bool { return a.Header == b.Header && a.Source == b.Source }

func newEntry(k *Keyed, maxKeys int) entry {
	var e entry
	for i := range k.Key {
		e.values = append(e.values, k.Key[i].Value)
	}
	if e.open() > 0 {
		e.many = newBuckets(k.Bucket, maxKeys)
	} else {
		e.bucket = newBucket(&k.Bucket)
	}
	return e
}

// open is the number of values that may be any.
func (e *entry) open() int {
	n := 0
	for _, v := range e.values {
		if v == "" {
			n++
		}
	}
	return n
}

// find returns the bucket for a call; ok is false if the group has none for it. A
// call that lacks a part of the key is not for the group.
func (g *group) find(h Headers, source string) (b *bucket, ok bool) {
	var fixed [4]string
	values := fixed[:0]
	for i := range g.parts {
		v, ok := g.parts[i].of(h, source)
		if !ok {
			return nil, false
		}
		values = append(values, v)
	}
	for i := range g.entries {
		if e := &g.entries[i]; e.matches(values) {
			if e.many == nil {
				return e.bucket, true
			}
			return e.many.get(values), true
		}
	}
	return nil, false
}

func (p *KeyPart) of(h Headers, source string) (string, bool) {
	switch {
	case p.Source:
		return source, source != ""
	case h == nil:
		return "", false
	}
	return h.Header(p.Header)
}

func (e *entry) matches(values []string) bool {
	for i, want := range e.values {
		if want != "" && want != values[i] {
			return false
		}
	}
	return true
}

// buckets are the buckets of one entry by the values of its key, the least
// recently used dropped when there are too many. They lie in parts with a lock
// each, so that calls with different keys seldom meet.
type buckets struct {
	bucket Bucket
	parts  []lru
}

// maxParts bounds the number of parts; minPart is the least size of a part, so
// that few keys are not dropped because they fell into the same one.
const (
	maxParts = 32
	minPart  = 128
)

func newBuckets(b Bucket, maxKeys int) *buckets {
	if maxKeys <= 0 {
		maxKeys = DefaultMaxKeys
	}
	n := 1
	if parts := maxKeys / minPart; parts > 1 {
		n = min(1<<(bits.Len(uint(parts))-1), maxParts)
	}
	m := &buckets{bucket: b, parts: make([]lru, n)}
	for i := range m.parts {
		m.parts[i].limit = maxKeys / n
		m.parts[i].keys = map[string]*node{}
	}
	return m
}

// get returns the bucket of the values, a new one if there is none.
func (m *buckets) get(values []string) *bucket {
	var fixed [256]byte
	key := appendKey(fixed[:0], values)
	return m.parts[xxhash.Sum64(key)%uint64(len(m.parts))].get(key, &m.bucket)
}

// appendKey joins the values so that different lists give different keys.
func appendKey(key []byte, values []string) []byte {
	for _, v := range values {
		key = binary.AppendUvarint(key, uint64(len(v)))
		key = append(key, v...)
	}
	return key
}

// lru is a map of buckets that forgets the one that was not used for longest.
type lru struct {
	mu    sync.Mutex
	limit int
	keys  map[string]*node
	// newest and oldest are the ends of the list by last use.
	newest, oldest *node
}

type node struct {
	key          string
	bucket       *bucket
	newer, older *node
}

func (l *lru) get(key []byte, b *Bucket) *bucket {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.keys[string(key)]
	switch {
	case n == nil:
		if len(l.keys) >= l.limit {
			delete(l.keys, l.oldest.key)
			l.unlink(l.oldest)
		}
		n = &node{key: string(key), bucket: newBucket(b)}
		l.keys[n.key] = n
	case n == l.newest:
		return n.bucket
	default:
		l.unlink(n)
	}
	l.push(n)
	return n.bucket
}

func (l *lru) push(n *node) {
	n.older = l.newest
	if l.newest != nil {
		l.newest.newer = n
	} else {
		l.oldest = n
	}
	l.newest = n
}

func (l *lru) unlink(n *node) {
	if n.newer != nil {
		n.newer.older = n.older
	} else {
		l.newest = n.older
	}
	if n.older != nil {
		n.older.newer = n.newer
	} else {
		l.oldest = n.newer
	}
	n.newer, n.older = nil, nil
}
