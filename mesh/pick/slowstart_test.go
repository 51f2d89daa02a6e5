package pick

import (
	"math"
	"testing"
	"time"
)

func TestSlowStartFactor(t *testing.T) {
	window := 60 * time.Second
	for _, test := range []struct {
		s       SlowStart
		elapsed time.Duration
		want    float64
	}{
		{SlowStart{}, 0, 0.1},
		{SlowStart{}, 3 * time.Second, 0.1},
		{SlowStart{}, 30 * time.Second, 0.5},
		{SlowStart{}, 60 * time.Second, 1},
		{SlowStart{}, time.Hour, 1},
		{SlowStart{}, -time.Second, 0.1}, // noted by a clock that ran ahead
		{SlowStart{MinWeightPercent: 25}, 3 * time.Second, 0.25},
		{SlowStart{MinWeightPercent: 0.001}, 0, 1.0 / 60_000}, // a millisecond at least
		{SlowStart{MinWeightPercent: 200}, 0, 1},
		{SlowStart{Aggression: 2}, 15 * time.Second, 0.5},
		{SlowStart{Aggression: 0.5}, 30 * time.Second, 0.25},
		{SlowStart{Aggression: math.NaN()}, 30 * time.Second, 0.5},
		{SlowStart{Aggression: -1}, 30 * time.Second, 0.5},
	} {
		test.s.Window = window
		if got := test.s.factor(int64(test.elapsed)); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("%+v after %v: %v, want %v", test.s, test.elapsed, got, test.want)
		}
	}
}

func TestSlowStartRaisesWeights(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	for _, policy := range []Policy{RoundRobin, Random, LeastRequest} {
		for _, elapsed := range []time.Duration{0, 15 * time.Second, 45 * time.Second, time.Minute} {
			hosts, conns := hostsOf(1, 2, 3, 3)
			for i := range hosts {
				hosts[i].State.SetSince(start.Add(-time.Hour))
			}
			hosts[1].State.SetSince(start)
			hosts[3].State.SetSince(start)
			slow := &SlowStart{Window: time.Minute}
			p := New(Config{Policy: policy, SlowStart: slow}, &State{}, hosts, conns, 0)
			const n = 60_000
			got := counts(t, p, &Input{Rand: seeded(31).Uint64, Now: start.Add(elapsed)}, len(hosts), n)
			f := slow.factor(int64(elapsed))
			want := []float64{1, 2 * f, 3, 3 * f}
			for i := range want {
				// Tolerance: five standard deviations of the binomial.
				q := want[i] / (4 + 5*f)
				if math.Abs(float64(got[i])-n*q) > 5*math.Sqrt(n*q*(1-q)) {
					t.Errorf("policy %d after %v: picked %v, want in proportion to %v", policy, elapsed, got, want)
					break
				}
			}
		}
	}
}

// TestSlowStartCarriesLoadByWeight: hosts that never finish fill up by their
// present weights.
func TestSlowStartCarriesLoadByWeight(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	hosts, conns := hostsOf(1, 1)
	hosts[0].State.SetSince(start.Add(-time.Hour))
	hosts[1].State.SetSince(start)
	p := New(Config{Policy: LeastRequest, SlowStart: &SlowStart{Window: time.Minute}}, &State{}, hosts, conns, 0)
	in := &Input{Rand: seeded(35).Uint64, Now: start.Add(15 * time.Second)}
	for range 20_000 {
		p.Pick(in)
	}
	a, b := hosts[0].State.InFlight.Load(), hosts[1].State.InFlight.Load()
	if math.Abs(float64(a)/float64(b)-4) > 0.05 {
		t.Errorf("one has a quarter of its weight: %d and %d in flight", a, b)
	}
}

// TestSlowStartWithinLocalities: weights of localities do not ramp up.
func TestSlowStartWithinLocalities(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	hosts, conns := hostsOf(1, 1, 1, 1)
	for i := range hosts {
		hosts[i].Locality, hosts[i].LocalityWeight = string("aabb"[i]), 1
		hosts[i].State.SetSince(start)
	}
	hosts[0].State.SetSince(start.Add(-time.Hour))
	c := Config{LocalityWeighted: true, SlowStart: &SlowStart{Window: time.Minute}}
	const n = 40_000
	got := counts(t, New(c, &State{}, hosts, conns, 0), &Input{Rand: seeded(32).Uint64, Now: start.Add(30 * time.Second)}, 4, n)
	for i, q := range []float64{1.0 / 3, 1.0 / 6, 1.0 / 4, 1.0 / 4} {
		if math.Abs(float64(got[i])-n*q) > 5*math.Sqrt(n*q*(1-q)) {
			t.Errorf("picked %v", got)
			break
		}
	}
}

// TestFirstPickStartsSlowly: hosts that nobody timed are new when a pick first
// can choose them; where all are, or the call has no time, nothing changes.
func TestFirstPickStartsSlowly(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	c := Config{SlowStart: &SlowStart{Window: time.Minute}}
	state := &State{}
	hosts, conns := hostsOf(1, 1, 1)
	conns[2] = Connecting
	never := func() uint64 { t.Fatal("a random number was drawn"); return 0 }
	in := &Input{Rand: never, Now: start}
	counts(t, New(c, state, hosts, conns, 0), in, 3, 10)
	conns[2] = Ready
	in = &Input{Rand: seeded(33).Uint64, Now: start.Add(2 * time.Minute)}
	p := New(c, state, hosts, conns, 0)
	const n = 20_000
	if got := counts(t, p, in, 3, n); math.Abs(float64(got[2])-n*0.1/2.1) > 5*math.Sqrt(n*0.045) {
		t.Errorf("a host connected later: picked %v", got)
	}
	if got := counts(t, p, &Input{Rand: never}, 3, 300); got[2] != 100 {
		t.Errorf("without time: picked %v", got)
	}
	in = &Input{Rand: never, Now: start.Add(3 * time.Minute)}
	if got := counts(t, p, in, 3, 300); got[2] != 100 {
		t.Errorf("after the window: picked %v", got)
	}
}

// TestManyNewHosts bounds what slow start may cost a pick.
func TestManyNewHosts(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	hosts, conns := hostsOf(make([]uint32, 100)...)
	hosts[0].State.SetSince(start.Add(-time.Hour))
	draws := 0
	rnd := seeded(34)
	in := &Input{Now: start, Rand: func() uint64 { draws++; return rnd.Uint64() }}
	p := New(Config{Policy: Random, SlowStart: &SlowStart{Window: time.Minute, MinWeightPercent: 0.01}}, &State{}, hosts, conns, 0)
	most := 0
	for range 1000 {
		draws = 0
		p.Pick(in)
		most = max(most, draws)
	}
	if most > 2*maxRejections+1 {
		t.Errorf("a pick drew %d random numbers", most)
	}
}
