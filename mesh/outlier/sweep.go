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
	switch {
	case d.next.IsZero():
		d.next = now.Add(c.interval())
		return d.next, false
	case now.Before(d.next):
		return d.next, false
	}
	d.next = now.Add(c.interval())
	for h := range d.hosts {
		changed = d.review(c, h, now) || changed
	}
	changed = d.sweepRates(c, now) || changed
	if changed {
		d.onChange()
	}
	return d.next, changed
}

// review takes a host back when its ejection is over. A host that stayed in
// since the last sweep gets a shorter ejection next time.
func (d *Detector) review(c *Config, h *Host, now time.Time) bool {
	if !h.flag.Load() {
		if h.multiplier > 0 {
			h.multiplier--
		}
		return false
	}
	base, limit := c.ejectionTimes()
	if now.Sub(h.ejectedAt) < min(time.Duration(h.multiplier)*base, limit) {
		return false
	}
	return d.restore(h)
}

// sweepRates takes every host's window and lets the rate detectors judge.
func (d *Detector) sweepRates(c *Config, now time.Time) (changed bool) {
	if !c.rates() && !c.localRates() {
		return false
	}
	external, local := make(map[*Host]rate), make(map[*Host]rate)
	for h := range d.hosts {
		e, l := h.external.take(), h.local.take()
		if !h.flag.Load() {
			external[h], local[h] = e, l
		}
	}
	for _, j := range []judgement{
		{external, c.EnforcingSuccessRate, c.EnforcingFailurePercentage},
		{local, c.EnforcingLocalOriginSuccessRate, c.EnforcingFailurePercentageLocalOrigin},
	} {
		changed = d.judgeSuccessRate(c, j, now) || changed
		changed = d.judgeFailurePercentage(c, j, now) || changed
	}
	return changed
}

// judgement is one kind of rates with the enforcement of its two detectors.
type judgement struct {
	rates                          map[*Host]rate
	successRate, failurePercentage uint32
}

// judgeSuccessRate ejects hosts whose success rate is below the mean by more
// than the configured number of standard deviations.
func (d *Detector) judgeSuccessRate(c *Config, j judgement, now time.Time) (changed bool) {
	if j.successRate == 0 {
		return false
	}
	valid := enough(j.rates, c.SuccessRateRequestVolume)
	if len(valid) == 0 || len(valid) < int(c.SuccessRateMinimumHosts) {
		return false
	}
	var sum, squares float64
	for _, percent := range valid {
		sum += percent
	}
	mean := sum / float64(len(valid))
	for _, percent := range valid {
		squares += (percent - mean) * (percent - mean)
	}
	deviation := math.Sqrt(squares / float64(len(valid)))
	threshold := mean - deviation*float64(c.SuccessRateStdevFactor)/1000
	for h, percent := range valid {
		if percent < threshold {
			changed = d.ejectLocked(c, h, j.successRate, now) || changed
		}
	}
	return changed
}

// judgeFailurePercentage ejects hosts that failed at least the configured
// percentage of their attempts.
func (d *Detector) judgeFailurePercentage(c *Config, j judgement, now time.Time) (changed bool) {
	if j.failurePercentage == 0 {
		return false
	}
	valid := enough(j.rates, c.FailurePercentageRequestVolume)
	if len(valid) == 0 || len(valid) < int(c.FailurePercentageMinimumHosts) {
		return false
	}
	for h, percent := range valid {
		if 100-percent >= float64(c.FailurePercentageThreshold) {
			changed = d.ejectLocked(c, h, j.failurePercentage, now) || changed
		}
	}
	return changed
}

// enough keeps the hosts that saw enough attempts to be judged, with their
// success rate in percent.
func enough(rates map[*Host]rate, volume uint32) map[*Host]float64 {
	valid := make(map[*Host]float64, len(rates))
	for h, r := range rates {
		if r.total > 0 && r.total >= uint64(volume) {
			valid[h] = r.percent()
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
