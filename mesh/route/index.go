package route

import "hash/maphash"

// index finds a value by a string key, at the same cost whether it holds two
// keys or thousands. (A Go map is cheaper when it is small, which would make
// the size of a route table felt in every call.) It is not written after it was
// made.
type index[V any] struct {
	seed  maphash.Seed
	slots []slot[V] // power of two, at most a quarter full
}

type slot[V any] struct {
	key   string
	value V
	used  bool
}

func newIndex[V any](entries map[string]V) *index[V] {
	size := 1
	for size < 4*len(entries) {
		size *= 2
	}
	x := &index[V]{seed: maphash.MakeSeed(), slots: make([]slot[V], size)}
	for key, value := range entries {
		i := x.home(key)
		for x.slots[i].used {
			i = (i + 1) & (size - 1)
		}
		x.slots[i] = slot[V]{key: key, value: value, used: true}
	}
	return x
}

func (x *index[V]) home(key string) int {
	return int(maphash.String(x.seed, key) & uint64(len(x.slots)-1))
}

// get returns the value of the key.
func (x *index[V]) get(key string) (value V, ok bool) {
	mask := len(x.slots) - 1
	for i := x.home(key); x.slots[i&mask].used; i++ {
		if s := &x.slots[i&mask]; s.key == key {
			return s.value, true
		}
	}
	return value, false
}
