package xdsserver

import (
	"sync"
	"time"
)

// A server that comes and goes is logged so often within so long; of the rest only that there is more.
const (
	maxFlaps   = 10
	flapWindow = time.Minute
)

// flaps counts how often servers come and go, so that the log does not fill with one of them. It is safe for concurrent
// use.
type flaps struct {
	mu    sync.Mutex
	seen  map[string]flap
	prune int // number of servers at which those that have settled are forgotten
}

type flap struct {
	since time.Time
	n     int
}

// note counts a server's coming or going, and reports whether that is to be logged, and whether it is the last for now.
func (f *flaps) note(server string) (say, last bool) {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.seen[server]
	if now.Sub(e.since) > flapWindow {
		e = flap{since: now}
	}
	e.n++
	if f.seen == nil {
		f.seen = map[string]flap{}
	}
	f.seen[server] = e
	if len(f.seen) > f.prune {
		for name, e := range f.seen {
			if now.Sub(e.since) > flapWindow {
				delete(f.seen, name)
			}
		}
		f.prune = 2*len(f.seen) + 1000
	}
	return e.n <= maxFlaps, e.n == maxFlaps
}
