package pick

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// circle is what the policies that hash look a hash up in: the ring of RingHash
// or the table of Maglev. It depends on the hosts and their weights only, so it
// is built once for them, and hosts that cannot be used are passed by.
type circle struct {
	spec   *circleSpec
	hashes []uint64 // of the ring's entries, ascending; nil for a table
	owners []int32  // members of the spec
}

// circleSpec is what a circle is built from.
type circleSpec struct {
	policy           Policy
	minSize, maxSize uint64 // both are the table's size for Maglev
	murmur2          bool
	members          []circleMember // ascending by key
}

// circleMember is a host as a circle knows it.
type circleMember struct {
	key    string
	weight float64 // those of all members add up to 1
}

func (s *circleSpec) equal(o *circleSpec) bool {
	return s.policy == o.policy && s.minSize == o.minSize && s.maxSize == o.maxSize && s.murmur2 == o.murmur2 &&
		slices.Equal(s.members, o.members)
}

// The sizes of rings and tables, as in Envoy.
const (
	defaultMinRing = 1024
	maxRing        = 8 << 20
	defaultTable   = 65537
	maxTable       = 5_000_011
)

// newCircleSpec returns the spec of a circle without members.
func newCircleSpec(c *Config) *circleSpec {
	s := &circleSpec{policy: c.Policy}
	if c.Policy == Maglev {
		s.minSize = c.TableSize
		if s.minSize > maxTable || !prime(s.minSize) {
			s.minSize = defaultTable
		}
		s.maxSize = s.minSize
		return s
	}
	s.murmur2 = c.Murmur2
	s.minSize, s.maxSize = c.MinRingSize, c.MaxRingSize
	if s.minSize == 0 {
		s.minSize = defaultMinRing
	}
	if s.maxSize == 0 || s.maxSize > maxRing {
		s.maxSize = maxRing
	}
	s.minSize = min(s.minSize, s.maxSize)
	return s
}

func prime(n uint64) bool {
	if n < 2 {
		return false
	}
	for d := uint64(2); d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return true
}

func newCircle(s *circleSpec) *circle {
	if s.policy == Maglev {
		return newTable(s)
	}
	return newRing(s)
}

// newRing places each member on the ring in proportion to its weight, at the
// hashes of "key_0", "key_1" and so on (Envoy's ring_hash, gRFC A42). The ring
// is as large as gives the member of the least weight a whole number of entries,
// within the configured bounds.
func newRing(s *circleSpec) *circle {
	least := 1.0
	for i := range s.members {
		least = min(least, s.members[i].weight)
	}
	scale := min(math.Ceil(least*float64(s.minSize))/least, float64(s.maxSize))
	type entry struct {
		hash  uint64
		owner int32
	}
	entries := make([]entry, 0, int(math.Ceil(scale)))
	hash := xxhash.Sum64
	if s.murmur2 {
		hash = murmur2
	}
	var name []byte
	have, want := 0.0, 0.0
	for owner := range s.members {
		m := &s.members[owner]
		want += scale * m.weight
		name = append(append(name[:0], m.key...), '_')
		for n := int64(0); have < want; n++ {
			entries = append(entries, entry{hash(strconv.AppendInt(name, n, 10)), int32(owner)})
			have++
		}
	}
	slices.SortFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.owner, b.owner))
	})
	c := &circle{spec: s, hashes: make([]uint64, len(entries)), owners: make([]int32, len(entries))}
	for i := range entries {
		c.hashes[i], c.owners[i] = entries[i].hash, entries[i].owner
	}
	return c
}

// start returns where the search for a host begins. Further attempts begin
// elsewhere, as in Envoy: on a ring at the next entry, in a table anywhere.
func (c *circle) start(hash, attempt uint64) int {
	size := uint64(len(c.owners))
	if c.hashes == nil {
		return int((hash ^ -attempt) % size)
	}
	at := sort.Search(len(c.hashes), func(i int) bool { return c.hashes[i] >= hash })
	return int((uint64(at) + attempt) % size)
}
