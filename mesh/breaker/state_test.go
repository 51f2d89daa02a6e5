package breaker

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshframe/meshframe/mesh/stripe"
)

// TestLimitsAreExact lets many goroutines compete: at no moment more than the
// limit may be in, and when all have gone nothing may be left.
func TestLimitsAreExact(t *testing.T) {
	const limit = 7
	limits := &Limits{MaxRequests: limit, MaxPendingRequests: limit, MaxRetries: limit, MaxConnections: limit}
	s := &State{}
	for name, gate := range map[string]struct {
		try  func(*Limits) bool
		done func()
		used func() int64
	}{
		"requests":    {func(l *Limits) bool { return s.TryRequest(l, 0) }, func() { s.DoneRequest(limits, 0) }, s.Requests},
		"pending":     {s.TryPending, s.DonePending, s.Pending},
		"retries":     {func(l *Limits) bool { return s.TryRetry(l, time.Time{}) }, s.DoneRetry, s.Retries},
		"connections": {s.TryConnection, s.DoneConnection, s.Connections},
	} {
		var inside, most, admitted atomic.Int64
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				for range 1000 {
					if !gate.try(limits) {
						continue
					}
					n := inside.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					admitted.Add(1)
					inside.Add(-1)
					gate.done()
				}
			})
		}
		wg.Wait()
		if most.Load() > limit {
			t.Errorf("%s: %d at once, limit %d", name, most.Load(), limit)
		}
		if admitted.Load() == 0 || gate.used() != 0 {
			t.Errorf("%s: %d admitted, %d left over", name, admitted.Load(), gate.used())
		}
	}
}

// TestRoomIsNeverRefused fills the limit from many goroutines that never leave:
// exactly the limit must get in.
func TestRoomIsNeverRefused(t *testing.T) {
	for range 200 {
		s, limits := &State{}, &Limits{MaxRequests: 5}
		var admitted atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				if s.TryRequest(limits, 0) {
					admitted.Add(1)
				}
			})
		}
		wg.Wait()
		if admitted.Load() != 5 {
			t.Fatalf("%d admitted, limit 5", admitted.Load())
		}
	}
}

func TestLimitValues(t *testing.T) {
	s := &State{}
	if s.TryRequest(&Limits{}, 0) {
		t.Error("a zero limit admits")
	}
	for range 3 {
		if !s.TryRequest(&NoLimits, 0) {
			t.Fatal("no limit refuses")
		}
	}
	if s.TryRequest(&Limits{MaxRequests: 3}, 0) {
		t.Error("three active of three, and one more is admitted")
	}
	s.DoneRequest(&NoLimits, 0)
	if !s.TryRequest(&Limits{MaxRequests: 3}, 0) {
		t.Error("two active of three, and one more is refused")
	}
}

func TestAFirstConnectionIsCountedBeyondTheLimit(t *testing.T) {
	s, limits := &State{}, &Limits{MaxConnections: 1}
	s.AddConnection()
	s.AddConnection()
	if s.Connections() != 2 || s.TryConnection(limits) {
		t.Errorf("%d connections, and one more is admitted", s.Connections())
	}
	s.DoneConnection()
	s.DoneConnection()
	if !s.TryConnection(limits) {
		t.Error("none is open, and one is refused")
	}
}

// TestBudgetOfAnInterval compares the ring with a list of all that began: an
// attempt counts for the interval, and for at most a tenth of it longer.
func TestBudgetOfAnInterval(t *testing.T) {
	for _, interval := range []time.Duration{1, 9, 10, time.Millisecond, 100 * time.Millisecond, 10 * time.Second, time.Hour} {
		rnd := rand.New(rand.NewPCG(1, uint64(interval)))
		s, limits := &State{}, &Limits{HasBudget: true, BudgetPercent: 100, BudgetInterval: interval}
		now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
		width := max(interval/recentParts, 1)
		var began []time.Time
		for range 500 {
			now = now.Add(time.Duration(rnd.Int64N(int64(interval)/3 + 2)))
			for range rnd.IntN(4) {
				s.Began(limits, now)
				began = append(began, now)
			}
			least, most := 0, 0
			for _, at := range began {
				if age := now.Sub(at); age < recentParts*width {
					least++
				}
				if age := now.Sub(at); age < (recentParts+1)*width {
					most++
				}
			}
			if got := int(s.budget(limits, now)); got < least || got > most {
				t.Fatalf("interval %v: %d attempts count, want %d to %d", interval, got, least, most)
			}
		}
		now = now.Add((recentParts + 1) * width)
		if got := s.budget(limits, now); got != 0 {
			t.Errorf("interval %v: after it %d attempts count", interval, got)
		}
	}
}

// TestBudgetOfAnIntervalLosesNothing adds from many goroutines, across the
// borders of parts.
func TestBudgetOfAnIntervalLosesNothing(t *testing.T) {
	s, limits := &State{}, &Limits{HasBudget: true, BudgetPercent: 100, BudgetInterval: time.Hour}
	start := time.Unix(1_800_000_000, 0)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for n := range 1000 {
				s.Began(limits, start.Add(time.Duration(n)*time.Second))
			}
		})
	}
	wg.Wait()
	if got := s.budget(limits, start.Add(1000*time.Second)); got != 16_000 {
		t.Errorf("%d attempts count, want 16000", got)
	}
}

// TestBudgetIntervalChanges: what was counted by another interval is in nobody's
// way.
func TestBudgetIntervalChanges(t *testing.T) {
	s, now := &State{}, time.Unix(1_800_000_000, 0)
	for _, interval := range []time.Duration{time.Second, time.Hour, time.Millisecond, 10 * time.Second} {
		limits := &Limits{HasBudget: true, BudgetPercent: 100, BudgetInterval: interval}
		for range 30 {
			now = now.Add(interval / 7)
			s.Began(limits, now)
		}
		if got := s.budget(limits, now); got < 7 || got > 8 {
			t.Errorf("interval %v: %d attempts count, want about 7", interval, got)
		}
	}
}

// TestBudgetsWithoutAnInterval keep no account of what began.
func TestBudgetsWithoutAnInterval(t *testing.T) {
	s, limits := &State{}, &Limits{HasBudget: true, BudgetPercent: 100, MaxRequests: 9}
	s.TryRequest(limits, 0)
	s.Began(limits, time.Unix(0, 0))
	if got := s.budget(limits, time.Unix(0, 0)); got != 1 {
		t.Errorf("the budget is %d with one attempt active", got)
	}
	s.DoneRequest(limits, 0)
	if got := s.budget(limits, time.Unix(0, 0)); got != 0 {
		t.Errorf("the budget is %d with none active", got)
	}
}

func TestTryAllocatesNothing(t *testing.T) {
	s, limits := &State{}, &Limits{MaxRequests: 1, HasBudget: true, BudgetInterval: time.Second}
	if n := testing.AllocsPerRun(100, func() {
		s.TryRequest(limits, 0)
		s.Began(limits, time.Unix(0, 0))
		s.TryRetry(limits, time.Unix(0, 0))
		s.DoneRequest(limits, 0)
	}); n != 0 {
		t.Errorf("TryRequest allocates %v times", n)
	}
}

// TestALimitComesAndGoes has calls in flight from when there was none: they count
// until they end, and what was admitted within it does when there is none again.
func TestALimitComesAndGoes(t *testing.T) {
	t.Parallel()
	var s State
	limited := NoLimits
	limited.MaxRequests = 2
	for range 3 {
		s.TryRequest(&NoLimits, 0)
	}
	for ended, admits := range []bool{false, false, true} {
		if got := s.TryRequest(&limited, 0); got != admits {
			t.Errorf("with %d of 3 ended a limit of 2 admits another: %v", ended, got)
		}
		if ended < 2 {
			s.DoneRequest(&NoLimits, stripe.Place(ended+1)) // wherever it began
		}
	}
	if s.TryRequest(&limited, 0) || !s.TryRequest(&NoLimits, 0) || s.Requests() != 3 {
		t.Errorf("%d requests, want one of each kind and one more without the limit", s.Requests())
	}
	s.DoneRequest(&limited, 0)
	s.DoneRequest(&NoLimits, 0)
	if !s.TryRequest(&limited, 0) {
		t.Error("refused with one of 2 in use")
	}
	s.DoneRequest(&limited, 0)
	s.DoneRequest(&NoLimits, 0)
	if n := s.Requests(); n != 0 {
		t.Errorf("%d requests are left", n)
	}
}
