package pick

import (
	"math"
	"math/bits"
	"sort"
	"sync/atomic"
)

// view is what picks read: the hosts in use, given connections, health,
// ejections, priorities, localities and panic. It is not written after it was
// built, but for what picks add of their own.
type view struct {
	changes uint64 // State.changes when it was built
	verdict Verdict
	hosts   []int32  // for Picked the ready hosts, for Connect the idle ones
	ends    []uint64 // running sums of the weights of hosts; nil if all are equal
	total   uint64   // sum of the weights
	step    uint64   // of the weighted rotation
	groups  []group  // the parts of hosts that share calls at fixed rates; nil if they are one
	warm    []int32  // idle hosts that are to get calls, once connected, which others take meanwhile
	buckets []bucket // of the policies that hash; verdict is Picked, and what a pick meets decides
	weights *weights // of ClientSideWeightedRoundRobin; nil is all equal
	plain   bool     // there is nothing more to a pick than the policy
	levels  int      // how many priorities are in use or come before one that is
	rescue  bool     // unhealthy hosts are used

	ramp    atomic.Pointer[ramp]   // slow start, from the first pick on
	detours atomic.Pointer[detour] // for retries
	warmed  atomic.Int32           // how many of warm were handed out
}

// group is a run of shares: of the hosts of one priority and locality, say.
type group struct{ from, to uint64 }

// refresh builds the view anew and publishes it.
func (p *Picker) refresh() *view {
	changes := p.state.changes.Load() // before the flags: a later change is seen later
	w := p.build(0)
	w.changes = changes
	p.view.Store(w)
	return w
}

// build builds a view; the levels whose bit in avoid is set get no calls if
// others can take them.
func (p *Picker) build(avoid uint64) *view {
	levels := p.levels()
	portions := p.portions(levels, avoid)
	w := &view{verdict: Unavailable, levels: len(levels), weights: p.set.weights.Load()}
	if len(portions) == 0 {
		switch {
		case len(levels) == 0:
			w.verdict = NoHosts
		case p.unhealthy(levels):
			w.verdict = NoHealthy
		}
		return w
	}
	w.levels = 0
	for i := range portions {
		w.levels = max(w.levels, portions[i].level+1)
		w.rescue = w.rescue || portions[i].rescue
	}
	if p.hashes() {
		w.fillBuckets(p, levels, portions)
	} else {
		w.fillHosts(p, p.parts(levels, portions))
	}
	return w
}

// fillHosts takes the ready hosts of the parts; where none is ready, the idle
// ones to connect; where none is idle, there are some to wait for.
func (w *view) fillHosts(p *Picker, parts []part) {
	ready := make([]part, 0, len(parts))
	var idle []int32
	for _, a := range parts {
		up, waiting := p.connected(a.hosts)
		if len(up) > 0 {
			ready = append(ready, part{up, a.load})
			continue
		}
		idle = append(idle, waiting...)
	}
	switch {
	case len(ready) > 0:
		w.verdict, w.warm, w.plain = Picked, idle, len(idle) == 0 && p.config.Utilization == nil
		w.weigh(p, ready)
	case len(idle) > 0:
		w.verdict, w.hosts = Connect, idle
	default:
		w.verdict = Queue
	}
}

// nextWarm hands the warm hosts out, each once, by their numbers from 1.
func (w *view) nextWarm() int32 {
	if int(w.warmed.Load()) >= len(w.warm) {
		return 0
	}
	n := int(w.warmed.Add(1)) - 1
	if n >= len(w.warm) {
		return 0
	}
	return w.warm[n] + 1
}

// connected returns the hosts of a list that are ready and those that are idle.
func (p *Picker) connected(hosts []int32) (ready, idle []int32) {
	for _, i := range hosts {
		switch p.conns[i] {
		case Ready:
			ready = append(ready, i)
		case Idle:
			idle = append(idle, i)
		}
	}
	return ready, idle
}

// at returns the host that holds the given share, which is below total.
func (w *view) at(share uint64) int {
	if w.ends == nil {
		return int(w.hosts[share])
	}
	return int(w.hosts[w.position(share)])
}

// position finds the host of a share, where weights differ.
func (w *view) position(share uint64) int {
	low, high := 0, len(w.ends)
	for low < high {
		if middle := int(uint(low+high) >> 1); w.ends[middle] > share {
			high = middle
		} else {
			low = middle + 1
		}
	}
	return low
}

// group returns the group that holds the given share.
func (w *view) group(share uint64) group {
	if w.groups == nil {
		return group{0, w.total}
	}
	return w.groups[sort.Search(len(w.groups), func(i int) bool { return w.groups[i].to > share })]
}

// own returns the shares of the host that holds the given one.
func (w *view) own(share uint64) group {
	if w.ends == nil {
		return group{share, share + 1}
	}
	i := w.position(share)
	if i == 0 {
		return group{0, w.ends[0]}
	}
	return group{w.ends[i-1], w.ends[i]}
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

// weigh computes the shares of the hosts in use.
func (w *view) weigh(p *Picker, parts []part) {
	if len(parts) == 1 {
		w.hosts = parts[0].hosts
		w.weighHosts(p)
		return
	}
	w.weighParts(p, parts)
}

// weight is that of a host. It is never 0.
func (w *view) weight(p *Picker, host int32) uint64 {
	switch {
	case p.config.Utilization == nil:
		return weightOf(&p.hosts[host])
	case w.weights == nil:
		return 1
	}
	return w.weights.of[host]
}

// weighHosts computes shares from the hosts' weights, reduced by their greatest
// common divisor so that a full rotation is short.
func (w *view) weighHosts(p *Picker) {
	divisor, equal := uint64(0), true
	for _, i := range w.hosts {
		weight := w.weight(p, i)
		divisor = gcd(divisor, weight)
		equal = equal && weight == w.weight(p, w.hosts[0])
	}
	w.total = uint64(len(w.hosts))
	if equal {
		return
	}
	w.total = 0
	w.ends = make([]uint64, len(w.hosts))
	for i, h := range w.hosts {
		w.total += w.weight(p, h) / divisor
		w.ends[i] = w.total
	}
	w.step = evenStep(w.total)
}

// weighParts computes shares such that each part gets its load and within it
// each host its weight, to one in four billion.
func (w *view) weighParts(p *Picker, parts []part) {
	const resolution = 1 << 32
	loads := 0.0
	for _, a := range parts {
		loads += a.load
	}
	for _, a := range parts {
		sum := 0.0
		for _, i := range a.hosts {
			sum += float64(w.weight(p, i))
		}
		from := w.total
		for _, i := range a.hosts {
			w.total += max(uint64(resolution*(a.load/loads)*float64(w.weight(p, i))/sum), 1)
			w.ends = append(w.ends, w.total)
		}
		w.hosts = append(w.hosts, a.hosts...)
		w.groups = append(w.groups, group{from, w.total})
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
