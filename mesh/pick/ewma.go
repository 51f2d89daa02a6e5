package pick

import (
	"math"
	"sync/atomic"
	"time"
)

// peakEWMA is an average of the latency of a host. It follows a slower answer
// at once and a faster one slowly, and decays while there are none, so that a
// host that was slow is tried again. It takes no lock: of answers that come at
// the same instant, one may count a little less.
type peakEWMA struct {
	nanos atomic.Uint64 // the average's bits; 0 is none yet
	at    atomic.Int64  // when it was last brought up to date, in Unix nanoseconds
}

// defaultDecay is the time constant where none is configured.
const defaultDecay = 10 * time.Second

// unknownCost stands for the latency of a host that has calls and has not
// answered any yet: it is used when nothing else is left.
const unknownCost = float64(math.MaxInt64)

// unknownFailure is the least that a failed attempt counts, in nanoseconds, on
// a host that has not answered any: else failing fast would make it look fast.
const unknownFailure = 1e9

// value is the average at now, in nanoseconds; 0 is none yet.
func (e *peakEWMA) value(now int64, decay time.Duration) float64 {
	v := math.Float64frombits(e.nanos.Load())
	if v == 0 || now == 0 {
		return v
	}
	return max(v*kept(now-e.at.Load(), decay), 1)
}

// observe adds an answer. A failed attempt counts only if it makes the host
// look slower.
func (e *peakEWMA) observe(now int64, took, decay time.Duration, failed bool) {
	part, at := 1.0, e.at.Load()
	if now > at && e.at.CompareAndSwap(at, now) {
		part = kept(now-at, decay)
	}
	sample := max(float64(took), 1)
	for {
		bits := e.nanos.Load()
		old := math.Float64frombits(bits)
		next := old*part + sample*(1-part)
		switch {
		case failed && old == 0:
			next = max(sample, unknownFailure)
		case sample >= old:
			next = sample
		case failed:
			next = old
		}
		if e.nanos.CompareAndSwap(bits, math.Float64bits(next)) {
			return
		}
	}
}

// kept is the part of an average that remains after some time.
func kept(elapsed int64, decay time.Duration) float64 {
	if elapsed <= 0 {
		return 1
	}
	return math.Exp(-float64(elapsed) / float64(decay))
}

// decay is the time constant of the averages.
func (c *Config) decay() time.Duration {
	if c.Decay <= 0 {
		return defaultDecay
	}
	return c.Decay
}

// peak draws two different hosts of a group by weight and takes the one with
// the smaller product of latency and attempts, of equals the first drawn.
// Attempts count in relation to the weight.
func (p *Picker) peak(w *view, in *Input) int {
	share := below(in.Rand, w.total)
	first := p.settle(w, in, share)
	g, own := w.group(share), w.own(share)
	rest := g.to - g.from - (own.to - own.from)
	if rest == 0 {
		return first
	}
	share = g.from + below(in.Rand, rest)
	if share >= own.from {
		share += own.to - own.from
	}
	second := p.settle(w, in, share)
	var now int64
	if !in.Now.IsZero() {
		now = in.Now.UnixNano()
	}
	if p.cost(w, second, now) < p.cost(w, first, now) {
		return second
	}
	return first
}

func (p *Picker) cost(w *view, host int, now int64) float64 {
	load := float64(p.load(host))
	latency := p.hosts[host].State.latency.value(now, p.config.decay())
	if latency == 0 && load > 0 {
		latency = unknownCost
	}
	if w.ends != nil { // in units of the mean weight
		load *= p.meanWeight / float64(weightOf(&p.hosts[host]))
	}
	return latency * (load + 1)
}
