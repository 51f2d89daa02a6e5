package stripe

import "sync/atomic"

// Gauge counts what is in use. The zero Gauge is ready; it must not be copied. It
// is safe for concurrent use and takes no lock.
type Gauge struct {
	alone counts
	apart atomic.Pointer[[]counts] // nil until processors have met
	_     [lineSize - 8]byte
}

// counts are two numbers that only grow: so a use may begin in one place and end
// in another, and no reader is misled by the order in which it looks at them.
type counts struct {
	n [2]atomic.Uint64
	_ [lineSize - 16]byte
}

// The numbers of counts.
const (
	begun = iota
	ended
)

// Begin counts one use.
func (g *Gauge) Begin(at Place) { g.count(begun, at) }

// End ends one use, wherever it began.
func (g *Gauge) End(at Place) { g.count(ended, at) }

// Load is how many are in use. While others begin and end it is never less than
// what is in use all the time it looks.
func (g *Gauge) Load() int64 {
	over := g.sum(ended) // first: whatever of it began is in the other sum
	return int64(g.sum(begun) - over)
}

func (g *Gauge) sum(which int) uint64 {
	n := g.alone.n[which].Load()
	if apart := g.apart.Load(); apart != nil {
		for i := range *apart {
			n += (*apart)[i].n[which].Load()
		}
	}
	return n
}

func (g *Gauge) count(which int, at Place) {
	apart := g.apart.Load()
	if apart == nil {
		n := &g.alone.n[which]
		if v := n.Load(); n.CompareAndSwap(v, v+1) {
			return
		}
		apart = part(&g.apart)
	}
	of(apart, at).n[which].Add(1)
}
