package route

import (
	"hash/maphash"
	"math/bits"
)

// index finds a value by a string key, at the same cost whether it holds two
// keys or thousands. (A Go map is cheaper when it is small, which would make
// the size of a route table felt in every call.) It is not written after it was
// made.
type index[V any] struct {
	seed  maphash.Seed
	slots []slot[V] // a power of two of them, at most a quarter full
	mask  uint64    // of a hash, for an index in slots
}

type slot[V any] struct {
	key   string
	value V
	used  bool
}

func newIndex[V any](entries map[string]V) *index[V] {
	size := uint64(1) << bits.Len(uint(4*len(entries)))
	x := &index[V]{seed: maphash.MakeSeed(), slots: make([]slot[V], size), mask: size - 1}
	for key, value := range entries {
		i := maphash.String(x.seed, key)
		for x.slots[i&x.mask].used {
			i++
		}
		x.slots[i&x.mask] = slot[V]{key: key, value: value, used: true}
	}
	return x
}

// get returns the value of the key.
func (x *index[V]) get(key string) (value V, ok bool) {
	for i := maphash.String(x.seed, key); x.slots[i&x.mask].used; i++ {
		if s := &x.slots[i&x.mask]; s.key == key {
			return s.value, true
		}
	}
	return value, false
}
