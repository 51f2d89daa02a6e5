package pick

import (
	"math"
	"testing"
	"time"
)

func TestPeakEWMA(t *testing.T) {
	const decay = 10 * time.Second
	start := time.Unix(1_700_000_000, 0).UnixNano()
	after := func(d time.Duration) int64 { return start + int64(d) }
	var e peakEWMA
	check := func(what string, now int64, want float64) {
		t.Helper()
		// Tolerance: 1 in 10^6.
		if got := e.value(now, decay); math.Abs(got-want) > want/1e6 {
			t.Errorf("%s: %v ns, want %v", what, got, want)
		}
	}
	check("no answer yet", start, 0)
	e.observe(start, 20*time.Millisecond, decay, false)
	check("the first answer", start, 20e6)
	e.observe(start, time.Second, decay, false)
	check("a slower answer counts at once", start, 1e9)
	e.observe(start, time.Millisecond, decay, false)
	check("a faster one at the same instant not at all", start, 1e9)
	check("it decays", after(decay), 1e9/math.E)
	check("without time it does not", 0, 1e9)
	e.observe(after(decay), 100*time.Millisecond, decay, false)
	want := 1e9/math.E + 100e6*(1-1/math.E)
	check("a faster answer counts by the time since the last", after(decay), want)
	e.observe(after(2*decay), time.Millisecond, decay, true)
	check("a fast failure does not make it faster", after(2*decay), want)
	e.observe(after(decay), time.Millisecond, decay, false)
	check("an answer told late", after(2*decay), want)

	var failing peakEWMA
	failing.observe(start, time.Millisecond, decay, true)
	if got := failing.value(start, decay); got != 1e9 {
		t.Errorf("only failures: %v, want a second", time.Duration(got))
	}
}

func TestPeakEWMAAgreesWithTwin(t *testing.T) {
	rnd := seeded(41)
	now := time.Unix(1_700_000_000, 0)
	for range 300 {
		weights := make([]uint32, 1+rnd.IntN(6))
		for i := range weights {
			weights[i] = 1 + rnd.Uint32N(3)
		}
		weights[0] = 1
		hosts, conns := hostsOf(weights...)
		p := New(Config{Policy: PeakEWMA}, &State{}, hosts, conns, 0)
		if w := p.view.Load(); len(hosts) > 1 && w.ends == nil {
			continue
		}
		seed := rnd.Uint64()
		in, twin := &Input{Rand: seeded(seed).Uint64, Now: now}, seeded(seed)
		for n := range 50 {
			want := linearPeak(hosts, p.view.Load().hosts, now, twin)
			got, _ := p.Pick(in)
			if got != want {
				t.Fatalf("weights %v: pick %d = %d, want %d", weights, n, got, want)
			}
			if rnd.IntN(3) > 0 {
				in.Now = in.Now.Add(time.Duration(rnd.Int64N(int64(time.Second))))
				now = in.Now
				p.DoneAfter(got, now, time.Duration(rnd.Int64N(int64(time.Second))), rnd.IntN(10) == 0)
			}
		}
	}
}

// TestPeakEWMAPrefersFastHosts runs calls on hosts of which one is ten times as
// slow, and then recovers.
func TestPeakEWMAPrefersFastHosts(t *testing.T) {
	hosts, conns := hostsOf(1, 1, 1, 1)
	p := New(Config{Policy: PeakEWMA, Decay: time.Second}, &State{}, hosts, conns, 0)
	in := &Input{Rand: seeded(42).Uint64, Now: time.Unix(1_700_000_000, 0)}
	rnd := seeded(43)
	run := func(n int, slow time.Duration) []int {
		got := make([]int, len(hosts))
		for range n {
			host, _ := p.Pick(in)
			took := time.Duration(8+rnd.IntN(4)) * time.Millisecond
			if host == 0 {
				took = slow
			}
			in.Now = in.Now.Add(2 * time.Millisecond)
			p.DoneAfter(host, in.Now, took, false)
			got[host]++
		}
		return got
	}
	if got := run(10_000, 100*time.Millisecond); got[0] > 200 || got[0] == 0 {
		t.Errorf("host 0 is slow: picked %v", got)
	}
	run(2000, 10*time.Millisecond)
	if got := run(10_000, 10*time.Millisecond); got[0] < 1500 {
		t.Errorf("host 0 has recovered: picked %v", got)
	}
}

func TestPeakEWMAWaitsForFirstAnswers(t *testing.T) {
	hosts, conns := hostsOf(1, 1)
	p := New(Config{Policy: PeakEWMA}, &State{}, hosts, conns, 0)
	in := &Input{Rand: seeded(44).Uint64, Now: time.Unix(1_700_000_000, 0)}
	first, _ := p.Pick(in)
	second, _ := p.Pick(in)
	if first == second {
		t.Errorf("both calls went to host %d, of which nothing is known but a call in flight", first)
	}
	p.DoneAfter(first, in.Now, time.Minute, false)
	for range 5 {
		if host, _ := p.Pick(in); host != first {
			t.Errorf("picked host %d, which has not answered yet", host)
		}
	}
}
