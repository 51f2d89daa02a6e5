package snapshot

import (
	"cmp"
	"sync"

	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/ratelimit"
)

// Live is the live state of one target that is not of a cluster. It outlives
// the target's snapshots and must not be copied; make it with NewLive.
type Live struct {
	// Faults counts the target's active faults.
	Faults fault.Counter

	channel func() uint64 // a random number that stays the same

	mu sync.Mutex
	// Limiters by what they limit: those of the routes in force, and those of
	// the routes before, whose buckets go on where they were.
	limiters, before map[string]*ratelimit.Limiter
}

// NewLive returns the state of a new target, which draws from rnd.
func NewLive(rnd func() uint64) *Live {
	return &Live{channel: sync.OnceValue(rnd), limiters: map[string]*ratelimit.Limiter{}}
}

// renew begins a new generation of routes.
func (l *Live) renew() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before, l.limiters = l.limiters, map[string]*ratelimit.Limiter{}
}

// limiter returns the limiter for what id names: the one that was there, if its
// policy is the same.
func (l *Live) limiter(id string, p *ratelimit.Policy) *ratelimit.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := cmp.Or(l.limiters[id], l.before[id])
	if limiter == nil || !limiter.Policy().Equal(p) {
		limiter = ratelimit.NewLimiter(p)
	}
	l.limiters[id] = limiter
	return limiter
}
