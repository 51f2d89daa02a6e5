package pick

import (
	"math"
	"math/bits"
	"sort"
)

// view is what picks read: the hosts in use, given connections, health,
// ejections, priorities and panic. It is never written after it was built.
type view struct {
	changes uint64 // State.changes when it was built
	verdict Verdict
	hosts   []int32  // for Picked the ready hosts, for Connect the idle ones
	ends    []uint64 // running sums of the weights of hosts; nil if all are equal
	total   uint64   // sum of the weights
	step    uint64   // of the weighted rotation
}

// refresh builds the view anew and publishes it.
func (p *Picker) refresh() *view {
	changes := p.state.changes.Load() // before the flags: a later change is seen later
	w := p.build()
	w.changes = changes
	p.view.Store(w)
	return w
}

// at returns the host that holds the given share, which is below total.
func (w *view) at(share uint64) int {
	if w.ends == nil {
		return int(w.hosts[share])
	}
	return int(w.hosts[sort.Search(len(w.ends), func(i int) bool { return w.ends[i] > share })])
}

// rotate maps turn n of the rotation to a share. In total turns each share
// comes up once, so every host gets exactly its weight; stepping by about the
// golden ratio of the total spreads the turns of a host evenly.
func (w *view) rotate(n uint64) uint64 {
	n %= w.total
	if w.ends == nil {
		return n
	}
	hi, lo := bits.Mul64(n, w.step)
	_, rem := bits.Div64(hi, lo, w.total)
	return rem
}

func (p *Picker) build() *view {
	w := &view{}
	members, verdict := p.selectHosts()
	w.verdict, w.hosts = verdict, members
	if verdict == Picked {
		w.weigh(p.hosts)
	}
	return w
}

// weigh computes the shares of the chosen hosts from their weights, reduced by
// their greatest common divisor so that a full rotation is short.
func (w *view) weigh(hosts []Host) {
	divisor, equal := uint64(0), true
	for _, i := range w.hosts {
		weight := uint64(max(hosts[i].Weight, 1))
		divisor = gcd(divisor, weight)
		equal = equal && weight == uint64(max(hosts[w.hosts[0]].Weight, 1))
	}
	w.total = uint64(len(w.hosts))
	if equal {
		return
	}
	w.total = 0
	w.ends = make([]uint64, len(w.hosts))
	for i, h := range w.hosts {
		w.total += uint64(max(hosts[h].Weight, 1)) / divisor
		w.ends[i] = w.total
	}
	w.step = evenStep(w.total)
}

// evenStep returns the step of a rotation over total shares. It has no divisor
// in common with total, so that total steps meet every share once, and lies near
// total/phi. How evenly steps fall depends on the continued fraction of
// step/total: the smaller its terms the better, so of the numbers nearby the
// one with the smallest sum of terms is taken.
func evenStep(total uint64) uint64 {
	const nearby = 32
	golden := uint64(float64(total) / math.Phi)
	best, least := uint64(1), uint64(math.MaxUint64)
	for step := max(golden, nearby+1) - nearby; step <= golden+nearby; step++ {
		if sum, divisor := continuedFraction(total, step); divisor == 1 && sum < least {
			best, least = step, sum
		}
	}
	return best
}

// continuedFraction returns the sum of the terms of a/b, and the greatest
// common divisor.
func continuedFraction(a, b uint64) (sum, divisor uint64) {
	for b != 0 {
		sum += a / b
		a, b = b, a%b
	}
	return sum, a
}

func gcd(a, b uint64) uint64 {
	_, divisor := continuedFraction(a, b)
	return divisor
}
