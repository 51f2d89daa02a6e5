package breaker

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// through lets n calls through that end as success says, and returns how many
// were admitted.
func through(t *testing.T, g *Gate, n int, success bool) int {
	t.Helper()
	admitted := 0
	for range n {
		permit, err := g.Allow(time.Now())
		if err != nil {
			if !errors.Is(err, ErrOpen) {
				t.Fatal(err)
			}
			continue
		}
		admitted++
		permit.Done(success, time.Now())
	}
	return admitted
}

// TestGateOpensAndCloses is the whole way with the defaults: of at least ten
// calls 10 % fail, ten seconds open, three probes.
func TestGateOpensAndCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(&HalfOpen{})
		through(t, g, 8, true)
		through(t, g, 1, false)
		if g.Open() {
			t.Fatal("open after nine calls")
		}
		through(t, g, 10, true) // 1 of 19 failed
		if through(t, g, 1, false) != 1 || !g.Open() {
			t.Fatal("2 of 20 failed and the gate is not open")
		}
		if n := through(t, g, 5, true); n != 0 {
			t.Fatalf("an open gate admitted %d", n)
		}
		time.Sleep(10*time.Second - time.Millisecond)
		if n := through(t, g, 5, true); n != 0 {
			t.Fatalf("a gate admitted %d before its time", n)
		}
		time.Sleep(2 * time.Millisecond)
		if n := through(t, g, 1, false); n != 1 {
			t.Fatal("no probe")
		}
		if n := through(t, g, 5, true); n != 0 {
			t.Fatalf("%d admitted after a probe failed", n)
		}
		time.Sleep(10*time.Second + time.Millisecond)
		if n := through(t, g, 2, true); n != 2 || !g.Open() {
			t.Fatal("two probes succeeded, a third is needed")
		}
		if n := through(t, g, 1, true); n != 1 || g.Open() {
			t.Fatalf("%d admitted as the third probe, open: %v", n, g.Open())
		}
		if n := through(t, g, 9, false); n != 9 || g.Open() {
			t.Error("what was counted before it opened counts still")
		}
	})
}

func TestGateProbesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(&HalfOpen{MinVolume: 1, ErrorPercent: 100, OpenFor: time.Second, Probes: 2})
		through(t, g, 1, false)
		time.Sleep(time.Second + 1)
		var permits []Permit
		for range 5 {
			if p, err := g.Allow(time.Now()); err == nil {
				permits = append(permits, p)
			}
		}
		if len(permits) != 2 {
			t.Fatalf("%d probes at once, want 2", len(permits))
		}
		// A probe whose caller gave up makes room for another.
		permits[0].Abandon()
		third, err := g.Allow(time.Now())
		if err != nil {
			t.Fatal(err)
		}
		permits[1].Done(true, time.Now())
		third.Done(true, time.Now())
		if g.Open() {
			t.Error("two probes succeeded and the gate is open")
		}
		Permit{}.Done(false, time.Now())
		Permit{}.Abandon()
	})
}

// TestGateForgets holds that failures older than the window do not count.
func TestGateForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(&HalfOpen{MinVolume: 4, ErrorPercent: 50, Window: 10 * time.Second})
		through(t, g, 3, false)
		time.Sleep(5 * time.Second)
		through(t, g, 3, true)
		time.Sleep(6 * time.Second)
		through(t, g, 1, false) // 1 of 4 in the window
		if g.Open() {
			t.Fatal("failures of eleven seconds ago count")
		}
		through(t, g, 2, false) // 3 of 6
		if !g.Open() {
			t.Error("half of the calls failed and the gate is not open")
		}
	})
}

// TestGateCountsLongCalls holds that a call counts when it ends: also one that took
// longer than the window.
func TestGateCountsLongCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(&HalfOpen{})
		var permits []Permit
		for range 10 {
			p, err := g.Allow(time.Now())
			if err != nil {
				t.Fatal(err)
			}
			permits = append(permits, p)
		}
		time.Sleep(15 * time.Second)
		for _, p := range permits {
			p.Done(false, time.Now())
		}
		if !g.Open() {
			t.Fatal("ten calls failed after 15 seconds, and the gate is not open")
		}
	})
}

// TestGateLongProbes has probes that do not end: those that a server has answered have
// succeeded, others make room when they last longer than the gate was open.
func TestGateLongProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		half := func() *Gate {
			g := NewGate(&HalfOpen{MinVolume: 1, ErrorPercent: 100, OpenFor: time.Second, Probes: 2})
			through(t, g, 1, false)
			time.Sleep(time.Second + 1)
			return g
		}
		probes := func(g *Gate) (list []Permit) {
			for range 5 {
				if p, err := g.Allow(time.Now()); err == nil {
					list = append(list, p)
				}
			}
			return list
		}
		g := half()
		long := probes(g)
		if time.Sleep(time.Second); len(probes(g)) != 0 {
			t.Fatal("probes gave up their places before their time")
		}
		time.Sleep(time.Nanosecond)
		again := probes(g)
		if len(again) != 2 {
			t.Fatalf("%d probes in place of those that last, want 2", len(again))
		}
		long[0].Done(false, time.Now())
		long[1].Done(true, time.Now())
		if !g.Open() {
			t.Fatal("probes that were given up count")
		}
		again[0].Done(true, time.Now())
		again[1].Done(true, time.Now())
		if g.Open() {
			t.Error("two probes succeeded and the gate is open")
		}
		through(t, g, 1, false)
		if again[0].Abandon(); !g.Open() {
			t.Error("a permit counts twice")
		}

		g = half()
		long = probes(g)
		for _, p := range long {
			p.Answered()
		}
		if g.Open() {
			t.Fatal("two probes were answered and the gate is open")
		}
		for _, p := range long {
			p.Done(false, time.Now())
		}
		if g.Open() {
			t.Error("a probe counts twice")
		}
		p, _ := g.Allow(time.Now())
		p.Answered()
		if p.Done(false, time.Now()); !g.Open() {
			t.Error("of a call that is no probe the end does not count")
		}
	})
}

// TestGateForgetsOldPhases holds that a long call does not count after the gate has
// been open since it began.
func TestGateForgetsOldPhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(&HalfOpen{MinVolume: 1, ErrorPercent: 100, OpenFor: time.Second, Probes: 1})
		old, _ := g.Allow(time.Now())
		through(t, g, 1, false)
		time.Sleep(time.Minute)
		through(t, g, 1, true)
		if old.Done(false, time.Now()); g.Open() {
			t.Error("a call from before the gate was open has opened it again")
		}
	})
}

// TestGateAtOnce lets calls compete, for the race detector.
func TestGateAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGate(&HalfOpen{MinVolume: 1, ErrorPercent: 100, OpenFor: time.Second, Probes: 3})
		through(t, g, 1, false)
		time.Sleep(time.Second + 1)
		var admitted atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if _, err := g.Allow(time.Now()); err == nil {
					admitted.Add(1)
				}
			})
		}
		wg.Wait()
		if admitted.Load() != 3 {
			t.Errorf("%d probes at once, want 3", admitted.Load())
		}
	})
}

func TestBudget(t *testing.T) {
	limits := &Limits{MaxRequests: Unlimited, MaxPendingRequests: Unlimited, HasBudget: true, BudgetPercent: 25, MinRetries: 2}
	for _, test := range []struct{ requests, pending, want int }{
		{0, 0, 2}, {8, 0, 2}, {11, 0, 2}, {12, 0, 3}, {4, 8, 3}, {100, 0, 25},
	} {
		s := &State{}
		for range test.requests {
			s.TryRequest(limits, 0)
		}
		for range test.pending {
			s.TryPending(limits)
		}
		var admitted atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 10 {
					if s.TryRetry(limits, time.Time{}) {
						admitted.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if got := int(admitted.Load()); got != test.want {
			t.Errorf("%d requests, %d pending: %d retries admitted, want %d", test.requests, test.pending, got, test.want)
		}
	}
	s := &State{}
	for range 10 {
		s.TryRequest(limits, 0)
	}
	if s.TryRetry(&Limits{HasBudget: true, BudgetPercent: 5}, time.Time{}) {
		t.Error("half a retry was admitted")
	}
	if n := testing.AllocsPerRun(100, func() {
		s.TryRetry(limits, time.Time{})
		s.DoneRetry()
	}); n != 0 {
		t.Errorf("TryRetry allocates %v times", n)
	}
}
