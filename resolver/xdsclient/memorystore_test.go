package xdsclient_test

import (
	"cmp"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/meshframe/meshframe/resolver/xdsclient"
)

// memoryStore is a Store in memory, which can be broken.
type memoryStore struct {
	mu     sync.Mutex
	saved  map[xdsclient.Key]xdsclient.Saved
	broken bool
	loads  int
	puts   int // resources put
}

var errBroken = errors.New("no space left on device")

func (m *memoryStore) setBroken(broken bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = broken
}

func (m *memoryStore) Load() ([]xdsclient.Saved, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.loads++
	if m.broken {
		return nil, errBroken
	}
	return slices.SortedFunc(maps.Values(m.saved), func(a, b xdsclient.Saved) int {
		return cmp.Or(cmp.Compare(a.TypeURL, b.TypeURL), cmp.Compare(a.Name, b.Name))
	}), nil
}

func (m *memoryStore) Save(put []xdsclient.Saved, remove []xdsclient.Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken {
		return errBroken
	}
	for _, s := range put {
		m.saved[s.Key] = s
	}
	for _, k := range remove {
		delete(m.saved, k)
	}
	m.puts += len(put)
	return nil
}
