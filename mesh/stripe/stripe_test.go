package stripe

import (
	"runtime"
	"slices"
	"sync"
	"testing"
)

// meet makes a counter count apart, as if two processors had met at it.
func (g *Gauge) meet()    { part(&g.apart) }
func (s *Sequence) meet() { part(&s.apart) }

// TestGaugeCountsAll lets goroutines begin and end uses, each in another place.
func TestGaugeCountsAll(t *testing.T) {
	var g Gauge
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := range 1000 {
				g.Begin(Here())
				if n == 500 {
					runtime.Gosched()
				}
				g.End(Place(n))
			}
			if i%2 == 0 {
				g.Begin(Here())
			}
		})
	}
	wg.Wait()
	if got := g.Load(); got != 8 {
		t.Errorf("%d in use, want 8", got)
	}
}

// TestGaugeNeverSaysLess holds that what is in use is seen, however uses begin in
// one place and end in another meanwhile.
func TestGaugeNeverSaysLess(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	var g Gauge
	g.meet()
	for p := range Place(3) { // used throughout
		g.Begin(p)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range Place(4) {
		wg.Go(func() {
			for p := i; ; p++ {
				select {
				case <-stop:
					return
				default:
				}
				g.Begin(p)
				g.End(p + 1)
			}
		})
	}
	for range 20_000 {
		if got := g.Load(); got < 3 {
			t.Errorf("%d in use, and three are all the time", got)
			break
		}
	}
	close(stop)
	wg.Wait()
	if got := g.Load(); got != 3 {
		t.Errorf("%d in use at last, want 3", got)
	}
}

// TestSequenceIsInOrder holds for a caller that is alone, even if others were there
// before.
func TestSequenceIsInOrder(t *testing.T) {
	for _, met := range []bool{false, true} {
		var s Sequence
		s.Start(7)
		if met {
			s.meet()
			s.lease(of(s.apart.Load(), 0)) // of which 63 are left to one place
		}
		var got []uint64
		for range 300 {
			got = append(got, s.Next(0))
		}
		if !slices.IsSorted(got) || got[299] < 306 || got[299] > 307+leaseSize {
			t.Errorf("met %v: not in order: %v", met, got)
		}
		if n := s.next.Load(); met && got[299] != n-1 {
			t.Errorf("the last number is %d, and the next %d: leases went on", got[299], n)
		}
	}
}

// TestSequenceHandsOutEachOnce lets goroutines take numbers from their places, and
// all from the same one.
func TestSequenceHandsOutEachOnce(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(8))
	for _, spread := range []bool{true, false} {
		var s Sequence
		s.meet()
		const goroutines, each = 16, 2000
		taken := make([][]uint64, goroutines)
		var wg sync.WaitGroup
		for i := range goroutines {
			wg.Go(func() {
				for range each {
					at := Place(0)
					if spread {
						at = Place(i)
					}
					taken[i] = append(taken[i], s.Next(at))
				}
			})
		}
		wg.Wait()
		all := slices.Sorted(slices.Values(slices.Concat(taken...)))
		if n := len(slices.Compact(slices.Clone(all))); n != goroutines*each {
			t.Errorf("spread %v: %d different numbers of %d", spread, n, goroutines*each)
		}
		// Numbers are left out where goroutines lease at once: hardly ever at places of their own, and as the
		// scheduler has it where all share one. If each lease were lost the last would be 64 times as much.
		most := uint64(goroutines * each * 5 / 4)
		if !spread {
			most = goroutines * each * 4
		}
		if last := all[len(all)-1]; last > most {
			t.Errorf("spread %v: %d numbers were taken, and the last is %d", spread, goroutines*each, last)
		}
	}
}
