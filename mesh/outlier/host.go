package outlier

import (
	"sync/atomic"
	"time"
)

// Host is the detector's record of one host. It must not be copied, and belongs
// to one Detector.
type Host struct {
	flag *atomic.Bool // set while the host is ejected; pickers read it

	// Counted by Report.
	consecutive5xx, consecutiveGateway, consecutiveLocal atomic.Uint32
	external, local                                      window

	// Guarded by Detector.mu.
	position   int // in Detector.hosts, from 1; 0 if it is not watched
	ejectedAt  time.Time
	jitter     time.Duration // of the present ejection
	multiplier uint32        // how often the base ejection time applies
	returned   bool          // came back in the present sweep
}

// window counts the attempts since the last sweep: all in its upper half, the good
// ones in the lower.
type window struct{ counts atomic.Uint64 }

func (w *window) add(success bool) {
	n := uint64(1) << 32
	if success {
		n++
	}
	w.counts.Add(n)
}

// take returns the counts and starts anew.
func (w *window) take() rate {
	counts := w.counts.Swap(0)
	return rate{total: counts >> 32, success: counts & (1<<32 - 1)}
}

// rate is what a window held.
type rate struct{ total, success uint64 }

func (r rate) percent() float64 { return 100 * float64(r.success) / float64(r.total) }

// forget clears the consecutive counters, so that a host which returns starts
// afresh.
func (h *Host) forget() {
	h.consecutive5xx.Store(0)
	h.consecutiveGateway.Store(0)
	h.consecutiveLocal.Store(0)
}

// reset clears a counter; on a healthy host, where it is 0 already, it writes
// nothing.
func reset(c *atomic.Uint32) {
	if c.Load() != 0 {
		c.Store(0)
	}
}
