package breaker

import (
	"sync/atomic"
	"time"
)

// recentParts is into how many parts an interval is divided: an attempt counts
// for the interval and at most one part more, as in Envoy.
const recentParts = 10

// recent counts what began in the last interval, in a ring of parts: each holds
// the number of the part in its upper half and the count in its lower one. It
// takes no lock. An interval that changes makes it begin anew, or nearly so.
type recent struct {
	ring [recentParts + 1]atomic.Uint64
}

// part is the number of the part that now is in.
func part(interval time.Duration, now time.Time) uint32 {
	return uint32(now.UnixNano() / int64(max(interval/recentParts, 1)))
}

func (r *recent) add(interval time.Duration, now time.Time) {
	number := part(interval, now)
	at := &r.ring[number%uint32(len(r.ring))]
	for {
		old := at.Load()
		next := uint64(number)<<32 | 1
		switch ahead := uint32(old>>32) - number; {
		case ahead == 0:
			next = old + 1
		case ahead <= 2*recentParts:
			return // now is of a lap that is over
		}
		if at.CompareAndSwap(old, next) {
			return
		}
	}
}

func (r *recent) count(interval time.Duration, now time.Time) int64 {
	number, sum := part(interval, now), int64(0)
	for i := range r.ring {
		v := r.ring[i].Load()
		if number-uint32(v>>32) <= recentParts {
			sum += int64(uint32(v))
		}
	}
	return sum
}
