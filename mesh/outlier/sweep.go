package outlier

import (
	"math"
	"time"
)

// Sweep does what is due at now: it takes back hosts whose time is over and
// ejects hosts by their rates since the last sweep. It returns when to call it
// again (zero: the detector is off) and whether any host's flag changed. The
// first call after the detector was turned on only starts the first interval.
func (d *Detector) Sweep(now time.Time) (next time.Time, changed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := d.config.Load()
	if c == nil {
		return time.Time{}, false
	}
	if d.next.IsZero() {
		d.schedule(c, now)
		return d.next, false
	}
	d.schedule(c, d.next.Add(-d.interval)) // the interval may be another by now
	if now.Before(d.next) {
		return d.next, false
	}
	d.schedule(c, now)
	for _, h := range d.hosts {
		changed = d.review(c, h, now) || changed
	}
	if c.rates() || c.localRates() {
		changed = d.sweepRates(c, now) || changed
	}
	d.forgive()
	if changed {
		d.onChange()
	}
	return d.next, changed
}

// schedule sets when the sweep after one at a time is due.
func (d *Detector) schedule(c *Config, after time.Time) {
	d.interval = c.interval()
	d.next = after.Add(d.interval)
}

// review takes a host back when its ejection is over.
func (d *Detector) review(c *Config, h *Host, now time.Time) bool {
	h.returned = false
	if !h.flag.Load() {
		return false
	}
	base, limit := c.ejectionTimes()
	if now.Sub(h.ejectedAt) < min(time.Duration(h.multiplier)*base, limit)+h.jitter {
		return false
	}
	h.returned = true
	return d.restore(h)
}

// forgive shortens the next ejection of hosts that stayed in since the last
// sweep, and were not found outliers in this one.
func (d *Detector) forgive() {
	for _, h := range d.hosts {
		if h.multiplier > 0 && !h.returned && !h.flag.Load() {
			h.multiplier--
		}
	}
}

// sweepRates takes every host's windows and lets the rate detectors judge. The
// windows of hosts that are out do not count.
func (d *Detector) sweepRates(c *Config, now time.Time) (changed bool) {
	external, local := make([]sample, 0, len(d.hosts)), make([]sample, 0, len(d.hosts))
	for _, h := range d.hosts {
		e, l := h.external.take(), h.local.take()
		if !h.flag.Load() {
			external = append(external, sample{h, e})
			local = append(local, sample{h, l})
		}
	}
	changed = d.judgeSuccessRate(c, external, c.EnforcingSuccessRate, now)
	changed = d.judgeFailurePercentage(c, external, c.EnforcingFailurePercentage, now) || changed
	if !c.SplitLocalOrigin {
		return changed
	}
	changed = d.judgeSuccessRate(c, local, c.EnforcingLocalOriginSuccessRate, now) || changed
	return d.judgeFailurePercentage(c, local, c.EnforcingFailurePercentageLocalOrigin, now) || changed
}

// sample is what a host's window held.
type sample struct {
	host *Host
	rate
}

// judgeSuccessRate ejects hosts whose success rate is below the mean by more
// than the configured number of standard deviations.
func (d *Detector) judgeSuccessRate(c *Config, all []sample, enforcing uint32, now time.Time) (changed bool) {
	valid := enough(all, c.SuccessRateRequestVolume)
	if enforcing == 0 || len(valid) == 0 || len(valid) < int(c.SuccessRateMinimumHosts) {
		return false
	}
	var sum, squares float64
	for _, s := range valid {
		sum += s.percent()
	}
	mean := sum / float64(len(valid))
	for _, s := range valid {
		squares += (s.percent() - mean) * (s.percent() - mean)
	}
	deviation := math.Sqrt(squares / float64(len(valid)))
	threshold := mean - deviation*float64(c.SuccessRateStdevFactor)/1000
	for _, s := range valid {
		if s.percent() < threshold {
			changed = d.ejectLocked(c, s.host, enforcing, now) || changed
		}
	}
	return changed
}

// judgeFailurePercentage ejects hosts that failed at least the configured
// percentage of their attempts.
func (d *Detector) judgeFailurePercentage(c *Config, all []sample, enforcing uint32, now time.Time) (changed bool) {
	valid := enough(all, c.FailurePercentageRequestVolume)
	if enforcing == 0 || len(valid) == 0 || len(valid) < int(c.FailurePercentageMinimumHosts) {
		return false
	}
	for _, s := range valid {
		if 100-s.percent() >= float64(c.FailurePercentageThreshold) {
			changed = d.ejectLocked(c, s.host, enforcing, now) || changed
		}
	}
	return changed
}

// enough keeps the samples that are large enough to be judged.
func enough(all []sample, volume uint32) []sample {
	var valid []sample
	for _, s := range all {
		if s.total > 0 && s.total >= uint64(volume) {
			valid = append(valid, s)
		}
	}
	return valid
}

// rates reports whether any detector reads the windows of upstream answers.
func (c *Config) rates() bool { return c.EnforcingSuccessRate > 0 || c.EnforcingFailurePercentage > 0 }

// localRates reports whether any detector reads the windows of local origin.
func (c *Config) localRates() bool {
	return c.SplitLocalOrigin &&
		(c.EnforcingLocalOriginSuccessRate > 0 || c.EnforcingFailurePercentageLocalOrigin > 0)
}

func (c *Config) interval() time.Duration {
	if c.Interval > 0 {
		return c.Interval
	}
	return DefaultInterval
}

// ejectionTimes returns the base and the greatest ejection time.
func (c *Config) ejectionTimes() (base, limit time.Duration) {
	base = c.BaseEjectionTime
	if base <= 0 {
		base = DefaultBaseEjectionTime
	}
	limit = c.MaxEjectionTime
	if limit <= 0 {
		limit = max(DefaultMaxEjectionTime, base)
	}
	return base, limit
}
