package breaker

import (
	"sync"
	"sync/atomic"
	"testing"
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
		"requests":    {s.TryRequest, s.DoneRequest, s.Requests},
		"pending":     {s.TryPending, s.DonePending, s.Pending},
		"retries":     {s.TryRetry, s.DoneRetry, s.Retries},
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
				if s.TryRequest(limits) {
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
	if s.TryRequest(&Limits{}) {
		t.Error("a zero limit admits")
	}
	for range 3 {
		if !s.TryRequest(&NoLimits) {
			t.Fatal("no limit refuses")
		}
	}
	if s.TryRequest(&Limits{MaxRequests: 3}) {
		t.Error("three active of three, and one more is admitted")
	}
	s.DoneRequest()
	if !s.TryRequest(&Limits{MaxRequests: 3}) {
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

func TestTryAllocatesNothing(t *testing.T) {
	s, limits := &State{}, &Limits{MaxRequests: 1}
	if n := testing.AllocsPerRun(100, func() {
		s.TryRequest(limits)
		s.DoneRequest()
	}); n != 0 {
		t.Errorf("TryRequest allocates %v times", n)
	}
}
