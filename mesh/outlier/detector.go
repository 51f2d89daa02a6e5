package outlier

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/meshframe/meshframe/mesh/outcome"
)

// Defaults of durations that a Config leaves at 0.
const (
	DefaultInterval         = 10 * time.Second
	DefaultBaseEjectionTime = 30 * time.Second
	DefaultMaxEjectionTime  = 300 * time.Second
)

// Detector watches the hosts of one cluster. Report is for the path of a call:
// it takes a lock only in the moment a host is ejected. The other methods may
// be called at any time from any goroutine.
type Detector struct {
	rnd      func() uint64
	onChange func()
	config   atomic.Pointer[Config]

	mu      sync.Mutex
	hosts   []*Host
	ejected int       // how many of hosts are ejected
	next    time.Time // of the sweep; zero when none is scheduled

	interval time.Duration // from the sweep before to next
}

// NewDetector returns a detector that is off until Configure is called. It
// calls onChange after the flags of hosts changed, possibly while it is locked.
func NewDetector(rnd func() uint64, onChange func()) *Detector {
	return &Detector{rnd: rnd, onChange: onChange}
}

// Configure sets the configuration; nil turns the detector off, and whatever
// is ejected returns.
func (d *Detector) Configure(c *Config) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.config.Swap(c)
	if c != nil {
		if before == nil || before.rates() != c.rates() || before.localRates() != c.localRates() {
			d.clear() // nobody took what was counted before
		}
		return
	}
	d.next = time.Time{}
	changed := false
	for _, h := range d.hosts {
		h.multiplier = 0
		changed = d.restore(h) || changed
	}
	if changed {
		d.onChange()
	}
}

// clear has the windows of all hosts begin anew.
func (d *Detector) clear() {
	for _, h := range d.hosts {
		h.external.take()
		h.local.take()
	}
}

// Add puts a host under watch. The detector sets the flag while it keeps the
// host ejected.
func (d *Detector) Add(h *Host, flag *atomic.Bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h.flag = flag
	d.hosts = append(d.hosts, h)
	h.position = len(d.hosts)
}

// Remove ends the watch of a host.
func (d *Detector) Remove(h *Host) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h.position == 0 {
		return
	}
	if d.restore(h) {
		d.onChange()
	}
	last := d.hosts[len(d.hosts)-1]
	d.hosts[h.position-1], last.position = last, h.position
	d.hosts = d.hosts[:len(d.hosts)-1]
	h.position = 0
}

// Ejected is the number of hosts that are ejected now.
func (d *Detector) Ejected() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ejected
}

// Report tells of an attempt on h that ended. Consecutive failures eject the
// host at once.
func (d *Detector) Report(h *Host, a *outcome.Attempt, now time.Time) {
	c := d.config.Load()
	if c == nil || a.Conditions&outcome.Overflow != 0 {
		return
	}
	if c.SplitLocalOrigin {
		d.reportLocal(c, h, !a.LocalOrigin, now)
		if a.LocalOrigin {
			return
		}
	}
	d.reportExternal(c, h, a, now)
}

// good is what ReportGood reports, where it makes a difference.
var good = outcome.Attempt{HTTPStatus: 200}

// ReportGood is Report for an attempt that the server answered with 200 (for gRPC
// OK), which nearly all are.
func (d *Detector) ReportGood(h *Host) {
	c := d.config.Load()
	switch {
	case c == nil:
		return
	case c.Errors != nil:
		d.Report(h, &good, time.Time{})
		return
	}
	if c.rates() {
		h.external.add(true)
	}
	if c.localRates() {
		h.local.add(true)
	}
	reset(&h.consecutive5xx)
	reset(&h.consecutiveGateway)
	reset(&h.consecutiveLocal)
}

func (d *Detector) reportExternal(c *Config, h *Host, a *outcome.Attempt, now time.Time) {
	status, failed := c.judge(a)
	if c.rates() {
		h.external.add(!failed)
	}
	if !failed {
		reset(&h.consecutive5xx)
		reset(&h.consecutiveGateway)
		return
	}
	// Without a response Envoy counts 503 or 504: a gateway error too.
	gateway := status >= 502 && status <= 504 || status == 0 || a.LocalOrigin
	if !gateway {
		reset(&h.consecutiveGateway)
	} else if reached(&h.consecutiveGateway, c.ConsecutiveGateway) {
		d.eject(c, h, c.EnforcingConsecutiveGateway, now)
	}
	if reached(&h.consecutive5xx, c.Consecutive5xx) {
		d.eject(c, h, c.EnforcingConsecutive5xx, now)
	}
}

func (d *Detector) reportLocal(c *Config, h *Host, success bool, now time.Time) {
	if c.localRates() {
		h.local.add(success)
	}
	if success {
		reset(&h.consecutiveLocal)
		return
	}
	if reached(&h.consecutiveLocal, c.ConsecutiveLocalOrigin) {
		d.eject(c, h, c.EnforcingConsecutiveLocal, now)
	}
}

// reached counts a failure and reports whether it is the one that completes the
// threshold. The count starts anew then; a threshold of 0 is never reached.
func reached(count *atomic.Uint32, threshold uint32) bool {
	if threshold == 0 {
		return false
	}
	if count.Add(1) < threshold {
		return false
	}
	count.Store(0)
	return true
}

// eject takes a host out as the result of one detector, unless that detector is
// not to be enforced this time, the host is out already, or too many are.
func (d *Detector) eject(c *Config, h *Host, enforcing uint32, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ejectLocked(c, h, enforcing, now) {
		d.onChange()
	}
}

func (d *Detector) ejectLocked(c *Config, h *Host, enforcing uint32, now time.Time) bool {
	if h.position == 0 || h.flag.Load() || d.config.Load() == nil {
		return false
	}
	if !d.mayEject(c) || !d.enforce(enforcing) {
		return false
	}
	h.ejectedAt = now
	h.jitter = d.jitter(c)
	if base, limit := c.ejectionTimes(); time.Duration(h.multiplier)*base < limit+base {
		h.multiplier++
	}
	d.ejected++
	h.flag.Store(true)
	return true
}

// mayEject reports whether one more host may go.
func (d *Detector) mayEject(c *Config) bool {
	return c.AlwaysEjectOne && d.ejected == 0 ||
		(d.ejected+1)*100 <= int(min(c.MaxEjectionPercent, 100))*len(d.hosts)
}

// jitter draws what is added to an ejection time.
func (d *Detector) jitter(c *Config) time.Duration {
	if c.Jitter <= 0 {
		return 0
	}
	return time.Duration(d.rnd() % (uint64(c.Jitter) + 1))
}

func (d *Detector) enforce(percent uint32) bool {
	return percent >= 100 || percent > 0 && d.rnd()%100 < uint64(percent)
}

// restore takes an ejected host back.
func (d *Detector) restore(h *Host) bool {
	if !h.flag.Load() {
		return false
	}
	d.ejected--
	h.forget()
	h.flag.Store(false)
	return true
}
