package xdsserver

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/meshframe/meshframe/xdsserver/registry"
)

// changes gathers what changes in the registry until it is served: the first change of a burst is served at once, the
// rest of it together, a little later.
type changes struct {
	kick chan struct{} // has room for one

	mu    sync.Mutex
	hosts map[string]struct{}
	index *registry.Index // nil: nothing has changed

	serving sync.Mutex // held while changes are served, so that they are served in order
}

// burst is the least time between two changes that are served.
const burst = 10 * time.Millisecond

func newChanges() *changes {
	return &changes{kick: make(chan struct{}, 1), hosts: map[string]struct{}{}}
}

// add notes a change; it is the subscriber of the registry.
func (c *changes) add(hosts []string, x *registry.Index) {
	c.mu.Lock()
	for _, h := range hosts {
		c.hosts[h] = struct{}{}
	}
	c.index = x
	c.mu.Unlock()
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// take calls fn with what has changed, if anything has.
func (c *changes) take(fn func(hosts []string, x *registry.Index)) {
	c.serving.Lock()
	defer c.serving.Unlock()
	c.mu.Lock()
	hosts, x := slices.Sorted(maps.Keys(c.hosts)), c.index
	clear(c.hosts)
	c.index = nil
	c.mu.Unlock()
	if x != nil {
		fn(hosts, x)
	}
}

// run calls flush after changes until the context ends.
func (c *changes) run(ctx context.Context, flush func()) {
	pause := time.NewTimer(burst)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.kick:
		}
		flush()
		pause.Reset(burst)
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
	}
}
