package fault

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestDrawsAreIndependent(t *testing.T) {
	p := &Policy{
		Delay: time.Second, DelayFraction: 300_000,
		AbortHTTP: 503, AbortFraction: 200_000,
	}
	i := NewInjector(p, &Counter{})
	rnd := rand.New(rand.NewPCG(1, 2)).Uint64
	const n = 200_000
	var delays, aborts, both int
	for range n {
		delay, abort, active := i.Draw(rnd)
		if active != (delay > 0 || !abort.None()) {
			t.Fatalf("Draw = %v, %v, %v", delay, abort, active)
		}
		if delay > 0 {
			delays++
		}
		if !abort.None() {
			aborts++
		}
		if delay > 0 && !abort.None() {
			both++
		}
	}
	for _, c := range []struct {
		name string
		got  int
		want float64
	}{{"delays", delays, 0.3}, {"aborts", aborts, 0.2}, {"both", both, 0.06}} {
		// Tolerance: five standard deviations.
		if diff := math.Abs(float64(c.got) - n*c.want); diff > 5*math.Sqrt(n*c.want*(1-c.want)) {
			t.Errorf("%s: %d of %d, want %.2f", c.name, c.got, n, c.want)
		}
	}
}

// TestFractionIsExact walks evenly spaced random numbers: of a million, exactly
// as many must hit as the fraction says.
func TestFractionIsExact(t *testing.T) {
	for _, f := range []Fraction{0, 1, 10, 999_999, Million, Million + 1} {
		hits := 0
		for n := range uint64(Million) {
			if f.Hit(func() uint64 { return n*(math.MaxUint64/Million) + n }) {
				hits++
			}
		}
		if want := int(min(f, Million)); hits != want {
			t.Errorf("fraction %d: %d hits in a million", f, hits)
		}
	}
}

func TestAborts(t *testing.T) {
	for _, test := range []struct {
		policy Policy
		want   Abort
	}{
		{Policy{AbortHTTP: 503, AbortGRPC: -1, AbortFraction: Million}, Abort{HTTP: 503}},
		{Policy{AbortGRPC: 14, AbortFraction: Million}, Abort{GRPC: 14}},
	} {
		_, abort, active := NewInjector(&test.policy, &Counter{}).Draw(nil)
		if abort != test.want || !active {
			t.Errorf("%+v: Draw = %+v, %v", test.policy, abort, active)
		}
	}
}

func TestNothingToInject(t *testing.T) {
	for _, p := range []*Policy{
		nil, {}, {AbortGRPC: -1, AbortFraction: Million}, {Delay: time.Second}, {DelayFraction: Million}, {AbortHTTP: 500},
	} {
		if NewInjector(p, &Counter{}) != nil {
			t.Errorf("%+v has an injector", p)
		}
	}
}

func TestMaxActive(t *testing.T) {
	counter := &Counter{}
	i := NewInjector(&Policy{AbortHTTP: 503, AbortFraction: Million, MaxActive: 3}, counter)
	var most, admitted atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				_, abort, active := i.Draw(nil)
				if abort.None() == active {
					t.Errorf("Draw = %+v, %v", abort, active)
				}
				if !active {
					continue
				}
				admitted.Add(1)
				most.Store(max(most.Load(), counter.Active()))
				i.Done()
			}
		})
	}
	wg.Wait()
	if most.Load() > 3 || admitted.Load() == 0 || counter.Active() != 0 {
		t.Errorf("%d at once, %d in all, %d left over", most.Load(), admitted.Load(), counter.Active())
	}
}

func TestDrawAllocatesNothing(t *testing.T) {
	i := NewInjector(&Policy{AbortHTTP: 503, AbortFraction: 500_000, MaxActive: 3}, &Counter{})
	if n := testing.AllocsPerRun(100, func() {
		if _, _, active := i.Draw(rand.Uint64); active {
			i.Done()
		}
	}); n != 0 {
		t.Errorf("Draw allocates %v times", n)
	}
}
