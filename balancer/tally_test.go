package balancer

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestTalliesAreExact lets many goroutines compete: never more than the limits
// are let in, and none is refused that there is room for.
func TestTalliesAreExact(t *testing.T) {
	t.Parallel()
	const inAll, atOnce, tries = 5000, 7, 1000
	counts := &tally{born: time.Now()}
	var taken, inside, most atomic.Int64
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			for range tries {
				if _, ok := counts.take(inAll, atOnce); !ok {
					continue
				}
				taken.Add(1)
				n := inside.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				inside.Add(-1)
				counts.done()
			}
		})
	}
	wg.Wait()
	for { // what is left
		if _, ok := counts.take(inAll, atOnce); !ok {
			break
		}
		taken.Add(1)
		counts.done()
	}
	if taken.Load() != inAll || most.Load() > atOnce || counts.total() != inAll {
		t.Errorf("%d taken, %d at once, %d counted; want %d, at most %d", taken.Load(), most.Load(), counts.total(), inAll, atOnce)
	}
}

func TestTallyNumbersCalls(t *testing.T) {
	t.Parallel()
	counts := &tally{born: time.Now()}
	for want := uint32(1); want <= 3; want++ {
		if n, ok := counts.take(3, 0); n != want || !ok {
			t.Fatalf("call %d is number %d, %v", want, n, ok)
		}
	}
	if _, ok := counts.take(3, 0); ok {
		t.Fatal("a fourth call of three")
	}
	if ended, last := counts.undo(); ended || last {
		t.Fatal("two calls are under way")
	}
	if n, ok := counts.take(3, 0); n != 3 || !ok {
		t.Fatalf("after one was taken back, the next is number %d, %v", n, ok)
	}
	if _, ok := counts.take(2, 0); ok {
		t.Fatal("a limit that shrinks holds for what was counted")
	}
}

func TestTallyEndsOnce(t *testing.T) {
	t.Parallel()
	counts := &tally{born: time.Now()}
	counts.take(0, 0)
	counts.take(0, 0)
	counts.end()
	if _, ok := counts.take(0, 0); ok || counts.drained() {
		t.Fatal("it has ended, with two calls under way")
	}
	if ended, last := counts.done(); !ended || last {
		t.Fatal("one more is under way")
	}
	if ended, last := counts.undo(); !ended || !last || !counts.drained() {
		t.Fatal("that was the last")
	}
}

func TestTallyDoesNotOverflow(t *testing.T) {
	t.Parallel()
	counts := &tally{born: time.Now()}
	counts.word.Store(uint64(mostInAll) << 32)
	if n, ok := counts.take(0, 0); n != mostInAll || !ok || counts.drained() {
		t.Fatalf("number %d, %v", n, ok)
	}
	if ended, last := counts.undo(); ended || !last || counts.total() != mostInAll {
		t.Fatal("nothing is left to be taken back")
	}
}

func TestTallyIsIdle(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(1_000_000+int64(s), 0) }
	counts := &tally{born: at(0)}
	if since, ok := counts.endIdle(at(5), at(4)); ok || since != at(5) {
		t.Fatalf("idle since %v, %v", since, ok)
	}
	counts.take(0, 0)
	if since, ok := counts.endIdle(at(5), at(100)); ok || !since.IsZero() {
		t.Fatalf("idle since %v, %v with a call under way", since, ok)
	}
	counts.touch(at(20))
	counts.touch(at(19)) // of a call that ended before, and says so later
	counts.done()
	if since, ok := counts.endIdle(at(5), at(19)); ok || since != at(20) {
		t.Fatalf("idle since %v, %v", since, ok)
	}
	if _, ok := counts.endIdle(at(5), at(20)); !ok || !counts.drained() {
		t.Fatal("idle for long enough, and goes on")
	}
}

func TestTakeAllocatesNothing(t *testing.T) {
	counts := &tally{born: time.Now()}
	if n := testing.AllocsPerRun(100, func() {
		counts.take(0, 100)
		counts.done()
	}); n != 0 {
		t.Errorf("a call allocates %v times", n)
	}
}
