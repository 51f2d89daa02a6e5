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

// window counts the attempts since the last sweep.
type window struct{ total, success atomic.Uint64 }

func (w *window) add(success bool) {
	w.total.Add(1)
	if success {
		w.success.Add(1)
	}
}

// take returns the counts and starts anew. An attempt that is being added is
// counted in one window or the other.
func (w *window) take() rate {
	success := w.success.Swap(0)
	total := w.total.Swap(0)
	return rate{total: total, success: min(success, total)}
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
