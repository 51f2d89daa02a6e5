package pick

import (
	"math"
	"time"
)

// Slow start works by rejection: a host that is new is passed over, now and
// then, in favour of another draw. So weights change with every pick and
// nothing is ever rebuilt. What counts is the host's factor in relation to that
// of the oldest host, so that equally new hosts are not passed over at all.

// ramp is when the slow starts of a view's hosts begin and end, in Unix
// nanoseconds.
type ramp struct{ first, end int64 }

// maxRejections bounds the draws of one pick. It matters only where new hosts
// outnumber the others by far: then they get a little more than they should.
const maxRejections = 64

// settle returns the host of a share, or of another share of the same group if
// slow start passes that one over.
func (p *Picker) settle(w *view, in *Input, share uint64) int {
	host := w.at(share)
	if p.config.SlowStart == nil || in.Now.IsZero() {
		return host
	}
	now := in.Now.UnixNano()
	r := w.ramp.Load()
	if r == nil {
		r = p.startRamp(w, now)
	}
	if now >= r.end {
		return host
	}
	full := p.config.SlowStart.factor(now - r.first)
	g := w.group(share)
	for range maxRejections {
		factor := p.factor(host, now)
		if factor >= full || factor > full*fraction(in.Rand()) {
			break
		}
		host = w.at(g.from + below(in.Rand, g.to-g.from))
	}
	return host
}

// startRamp notes since when the view's hosts are usable.
func (p *Picker) startRamp(w *view, now int64) *ramp {
	r := &ramp{first: math.MaxInt64}
	for _, i := range w.hosts {
		s := p.hosts[i].State
		s.since.CompareAndSwap(0, now)
		since := s.since.Load()
		r.first = min(r.first, since)
		r.end = max(r.end, since+int64(p.config.SlowStart.Window))
	}
	w.ramp.Store(r)
	return r
}

// factor is what a host's weight is multiplied with now.
func (p *Picker) factor(host int, now int64) float64 {
	return p.config.SlowStart.factor(now - p.hosts[host].State.since.Load())
}

// factor is Envoy's: the elapsed part of the window, at least a millisecond,
// bent by Aggression and not below MinWeightPercent.
func (s *SlowStart) factor(elapsed int64) float64 {
	if elapsed >= int64(s.Window) {
		return 1
	}
	aggression, least := s.Aggression, s.MinWeightPercent
	if !(aggression > 0) { // NaN too
		aggression = 1
	}
	if least <= 0 {
		least = 10
	}
	part := float64(max(elapsed, int64(time.Millisecond))) / float64(s.Window)
	if aggression != 1 {
		part = math.Pow(part, 1/aggression)
	}
	return min(1, max(part, least/100))
}

// fraction maps a random number to [0, 1).
func fraction(r uint64) float64 { return float64(r>>11) / (1 << 53) }
