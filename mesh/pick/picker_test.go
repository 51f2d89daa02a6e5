package pick

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
)

// hostsOf returns healthy hosts of the given weights, all connected.
func hostsOf(weights ...uint32) ([]Host, []ConnState) {
	hosts := make([]Host, len(weights))
	conns := make([]ConnState, len(weights))
	for i, w := range weights {
		hosts[i] = Host{Weight: w, State: &HostState{}}
		conns[i] = Ready
	}
	return hosts, conns
}

func seeded(n uint64) *rand.Rand { return rand.New(rand.NewPCG(n, n)) }

// counts picks n times, ending each attempt at once.
func counts(t *testing.T, p *Picker, in *Input, hosts, n int) []int {
	t.Helper()
	got := make([]int, hosts)
	for range n {
		host, v := p.Pick(in)
		if v != Picked {
			t.Fatalf("Pick = %v", v)
		}
		got[host]++
		p.Done(host)
	}
	return got
}

func TestRoundRobinIsExactAndEven(t *testing.T) {
	rnd := seeded(1)
	for range 2000 {
		weights := make([]uint32, 1+rnd.IntN(20))
		divisor, cycle := 1+rnd.Uint32N(5), 0
		for i := range weights {
			weights[i] = 1 + rnd.Uint32N(9)
			cycle += int(weights[i])
			weights[i] *= divisor
		}
		hosts, conns := hostsOf(weights...)
		state := &State{}
		state.Seed(rnd.Uint64() >> 32)
		p := New(Config{}, state, hosts, conns, 0)
		got, worst := make([]int, len(hosts)), 0.0
		for n := range cycle {
			host, _ := p.Pick(&Input{})
			got[host]++
			for i := range got {
				fair := float64(n+1) * float64(weights[i]/divisor) / float64(cycle)
				worst = max(worst, math.Abs(float64(got[i])-fair))
			}
		}
		for i := range got {
			if got[i] != int(weights[i]/divisor) {
				t.Errorf("weights %v: host %d picked %d times in a cycle", weights, i, got[i])
			}
		}
		if worst > 3 {
			t.Errorf("weights %v: a host was %.1f picks away from its share", weights, worst)
		}
	}
}

func TestRoundRobinTakesTurns(t *testing.T) {
	hosts, conns := hostsOf(7, 7, 7)
	state := &State{}
	p := New(Config{}, state, hosts, conns, 0)
	var got []int
	for i := range 7 {
		if i == 2 { // a new picker goes on where the last one stopped
			p = New(Config{}, state, hosts, conns, 0)
		}
		host, _ := p.Pick(&Input{})
		got = append(got, host)
	}
	if want := []int{0, 1, 2, 0, 1, 2, 0}; !slices.Equal(got, want) {
		t.Errorf("picked %v, want %v", got, want)
	}
}

func TestSharesAgreeWithLayout(t *testing.T) {
	rnd := seeded(2)
	for range 500 {
		weights := make([]uint32, 1+rnd.IntN(8))
		for i := range weights {
			weights[i] = rnd.Uint32N(5)
		}
		weights[0] = 1 // so that the weights are not reduced
		hosts, conns := hostsOf(weights...)
		p := New(Config{}, &State{}, hosts, conns, 0)
		w := p.view.Load()
		for share := range w.total {
			if got, want := w.at(share), linearShare(hosts, w.hosts, share); got != want && w.ends != nil {
				t.Fatalf("weights %v: share %d is host %d's, want %d", weights, share, got, want)
			}
		}
	}
}

func TestRandomFollowsWeights(t *testing.T) {
	for _, weights := range [][]uint32{{1, 1, 1, 1}, {1, 2, 3, 4}, {1000, 1}, {math.MaxUint32, math.MaxUint32 - 1}} {
		hosts, conns := hostsOf(weights...)
		p := New(Config{Policy: Random}, &State{}, hosts, conns, 0)
		const n = 100_000
		got := counts(t, p, &Input{Rand: seeded(3).Uint64}, len(hosts), n)
		var total float64
		for _, w := range weights {
			total += float64(w)
		}
		for i, w := range weights {
			// Tolerance: five standard deviations of the binomial.
			q := float64(w) / total
			if diff := math.Abs(float64(got[i]) - n*q); diff > 5*math.Sqrt(n*q*(1-q))+1 {
				t.Errorf("weights %v: picked %v, host %d is %.0f off", weights, got, i, diff)
			}
		}
	}
}

func TestLeastRequestAgreesWithTwin(t *testing.T) {
	rnd := seeded(4)
	for range 300 {
		weights := make([]uint32, 2+rnd.IntN(6))
		for i := range weights {
			weights[i] = 1 + rnd.Uint32N(3)
		}
		weights[0] = 1
		hosts, conns := hostsOf(weights...)
		choices := 2 + rnd.IntN(3)
		p := New(Config{Policy: LeastRequest, ChoiceCount: uint32(choices)}, &State{}, hosts, conns, 0)
		if p.view.Load().ends == nil { // equal weights count as 1 each
			continue
		}
		seed := rnd.Uint64()
		in, twin := &Input{Rand: seeded(seed).Uint64}, seeded(seed)
		for n := range 50 {
			want := linearLeastRequest(hosts, p.view.Load().hosts, choices, twin)
			got, _ := p.Pick(in)
			if got != want {
				t.Fatalf("weights %v: pick %d = %d, want %d", weights, n, got, want)
			}
			if rnd.IntN(2) == 0 {
				p.Done(got)
			}
		}
	}
}

func TestLeastRequestSharesLoad(t *testing.T) {
	// Idle hosts are used by weight.
	hosts, conns := hostsOf(1, 3)
	p := New(Config{Policy: LeastRequest}, &State{}, hosts, conns, 0)
	const n = 40_000
	got := counts(t, p, &Input{Rand: seeded(5).Uint64}, 2, n)
	if diff := math.Abs(float64(got[1]) - n*3/4); diff > 5*math.Sqrt(n*3.0/16) {
		t.Errorf("weights 1 and 3, idle: picked %v", got)
	}
	// Hosts that never finish fill up by weight.
	in := &Input{Rand: seeded(6).Uint64}
	for range n {
		p.Pick(in)
	}
	a, b := hosts[0].State.InFlight.Load(), hosts[1].State.InFlight.Load()
	if math.Abs(float64(b)/float64(a)-3) > 0.05 {
		t.Errorf("weights 1 and 3, stuck: %d and %d in flight", a, b)
	}
}

func TestHostsAgreeWithRanking(t *testing.T) {
	rnd := seeded(7)
	for range 20_000 {
		hosts, conns := hostsOf(make([]uint32, rnd.IntN(7))...)
		for i := range hosts {
			hosts[i].Priority = rnd.Uint32N(3)
			hosts[i].Health = Health(rnd.IntN(4))
			hosts[i].State.Ejected.Store(rnd.IntN(3) == 0)
			conns[i] = ConnState(rnd.IntN(4))
			if rnd.IntN(2) == 0 {
				conns[i] = Failed
			}
		}
		p := New(Config{}, &State{}, hosts, conns, 0)
		want, verdict := rankedHosts(hosts, conns)
		if w := p.view.Load(); w.verdict != verdict || !slices.Equal(w.hosts, want) {
			t.Fatalf("%v of %v, want %v of %v\nhosts %+v\nconns %v", w.verdict, w.hosts, verdict, want, hosts, conns)
		}
	}
}

func TestPanic(t *testing.T) {
	for _, test := range []struct {
		name             string
		threshold        uint32
		priorities       []uint32
		unhealthy        []int
		overprovisioning uint32
		want             []int32
	}{
		{"off", 0, []uint32{0, 0, 0, 0}, []int{0, 1, 2}, 0, []int32{3}},
		{"above the threshold", 50, []uint32{0, 0, 0, 0}, []int{0, 1}, 0, []int32{2, 3}},
		{"below the threshold", 50, []uint32{0, 0, 0, 0}, []int{0, 1, 2}, 0, []int32{0, 1, 2, 3}},
		{"below, but overprovisioned enough", 90, []uint32{0, 0, 0, 0}, []int{0}, 0, []int32{1, 2, 3}},
		{"below, less overprovisioned", 90, []uint32{0, 0, 0, 0}, []int{0}, 100, []int32{0, 1, 2, 3}},
		{"below, but the next priority takes the load", 50, []uint32{0, 0, 0, 1}, []int{0, 1}, 0, []int32{2}},
		{"all, threshold off", 0, []uint32{0, 0, 1}, []int{0, 1, 2}, 0, []int32{0, 1}},
	} {
		hosts, conns := hostsOf(make([]uint32, len(test.priorities))...)
		for i, priority := range test.priorities {
			hosts[i].Priority = priority
		}
		for _, i := range test.unhealthy {
			hosts[i].Health = Unhealthy
		}
		p := New(Config{PanicThreshold: test.threshold}, &State{}, hosts, conns, test.overprovisioning)
		if got := p.view.Load().hosts; !slices.Equal(got, test.want) {
			t.Errorf("%s: picks from %v, want %v", test.name, got, test.want)
		}
	}
}

func TestVerdicts(t *testing.T) {
	for _, test := range []struct {
		conns   []ConnState
		health  []Health
		verdict Verdict
		host    int
	}{
		{nil, nil, NoHosts, -1},
		{[]ConnState{Ready}, []Health{Draining}, NoHosts, -1},
		{[]ConnState{Failed, Failed}, []Health{Healthy, Unhealthy}, Unavailable, -1},
		{[]ConnState{Failed, Connecting}, []Health{Healthy, Healthy}, Queue, -1},
		{[]ConnState{Failed, Connecting, Idle}, []Health{Healthy, Healthy, Healthy}, Connect, 2},
		{[]ConnState{Idle, Connecting, Ready}, []Health{Healthy, Healthy, Healthy}, Picked, 2},
		{[]ConnState{Failed, Ready}, []Health{Healthy, Unhealthy}, Picked, 1},
	} {
		hosts, conns := hostsOf(make([]uint32, len(test.conns))...)
		copy(conns, test.conns)
		for i := range hosts {
			hosts[i].Health = test.health[i]
		}
		p := New(Config{}, &State{}, hosts, conns, 0)
		if host, v := p.Pick(&Input{}); v != test.verdict || host != test.host {
			t.Errorf("conns %v, health %v: %d, %v; want %d, %v", test.conns, test.health, host, v, test.host, test.verdict)
		}
	}
}

func TestConnectAsksInTurn(t *testing.T) {
	hosts, _ := hostsOf(1, 1, 1)
	p := New(Config{Policy: LeastRequest}, &State{}, hosts, nil, 0) // hosts without a state are idle
	var got []int
	for range 4 {
		host, _ := p.Pick(&Input{})
		got = append(got, host)
	}
	if want := []int{0, 1, 2, 0}; !slices.Equal(got, want) {
		t.Errorf("asked to connect %v, want %v", got, want)
	}
}

func TestEjectionTakesEffectAtOnce(t *testing.T) {
	for _, policy := range []Policy{RoundRobin, Random, LeastRequest} {
		hosts, conns := hostsOf(1, 2, 3)
		state := &State{}
		p := New(Config{Policy: policy}, state, hosts, conns, 0)
		in := &Input{Rand: seeded(8).Uint64}
		set := func(i int, ejected bool) {
			hosts[i].State.Ejected.Store(ejected)
			state.Changed()
		}
		set(1, true)
		if got := counts(t, p, in, 3, 100); got[1] != 0 || got[0] == 0 || got[2] == 0 {
			t.Errorf("policy %d, host 1 ejected: %v", policy, got)
		}
		set(0, true)
		set(2, true)
		if got := counts(t, p, in, 3, 600); slices.Min(got) == 0 {
			t.Errorf("policy %d, all ejected: %v", policy, got)
		}
		set(2, false)
		if got := counts(t, p, in, 3, 100); got[2] != 100 {
			t.Errorf("policy %d, only host 2 not ejected: %v", policy, got)
		}
	}
}

func TestTriedHostsAreAvoided(t *testing.T) {
	hosts, conns := hostsOf(1, 1, 1)
	p := New(Config{Policy: Random}, &State{}, hosts, conns, 0)
	tried := []*HostState{hosts[0].State, hosts[2].State}
	rnd := seeded(9).Uint64
	const n = 90_000
	for _, test := range []struct {
		repicks int
		want    float64 // share of picks of the untried host
	}{{0, 1.0 / 3}, {1, 5.0 / 9}, {5, 1 - math.Pow(2.0/3, 6)}} {
		got := counts(t, p, &Input{Rand: rnd, Tried: tried, MaxRepicks: test.repicks}, 3, n)
		if diff := math.Abs(float64(got[1]) - n*test.want); diff > 5*math.Sqrt(n*test.want*(1-test.want)) {
			t.Errorf("%d repicks: picked %v", test.repicks, got)
		}
	}
	// A rotation passes a tried host by with one repick.
	p = New(Config{}, &State{}, hosts, conns, 0)
	for range 6 {
		if host, _ := p.Pick(&Input{Tried: tried, MaxRepicks: 2}); host != 1 {
			t.Errorf("round robin picked tried host %d", host)
		}
	}
}

func TestPickAllocatesNothing(t *testing.T) {
	for _, policy := range []Policy{RoundRobin, Random, LeastRequest} {
		for _, weight := range []uint32{1, 2} {
			hosts, conns := hostsOf(1, weight, 1)
			p := New(Config{Policy: policy}, &State{}, hosts, conns, 0)
			in := &Input{Rand: rand.Uint64, Tried: []*HostState{hosts[0].State}, MaxRepicks: 3}
			if n := testing.AllocsPerRun(100, func() {
				host, _ := p.Pick(in)
				p.Done(host)
			}); n != 0 {
				t.Errorf("policy %d: Pick allocates %v times", policy, n)
			}
		}
	}
}

// TestPickWhileEjecting is for the race detector, and checks that in-flight
// counts come out even.
func TestPickWhileEjecting(t *testing.T) {
	hosts, conns := hostsOf(1, 2, 3, 4)
	state := &State{}
	p := New(Config{Policy: LeastRequest}, state, hosts, conns, 0)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			in := &Input{Rand: seeded(uint64(g)).Uint64}
			for i := range 2000 {
				if i%100 == 0 {
					h := hosts[g].State
					h.Ejected.Store(!h.Ejected.Load())
					state.Changed()
				}
				host, v := p.Pick(in)
				if v != Picked {
					t.Errorf("Pick = %v", v)
					return
				}
				p.Done(host)
			}
		})
	}
	wg.Wait()
	for i := range hosts {
		if n := hosts[i].State.InFlight.Load(); n != 0 {
			t.Errorf("host %d: %d in flight at the end", i, n)
		}
	}
}

func BenchmarkPick(b *testing.B) {
	for _, policy := range []Policy{RoundRobin, Random, LeastRequest} {
		for _, n := range []int{2, 1000} {
			for _, weighted := range []bool{false, true} {
				name := fmt.Sprintf("%s/%d", []string{"round_robin", "random", "least_request"}[policy], n)
				if weighted {
					name += "/weighted"
				}
				b.Run(name, func(b *testing.B) { benchmarkPick(b, policy, n, weighted) })
			}
		}
	}
}

func benchmarkPick(b *testing.B, policy Policy, n int, weighted bool) {
	b.Helper()
	weights := make([]uint32, n)
	for i := range weights {
		weights[i] = 1
		if weighted {
			weights[i] += uint32(i % 10)
		}
	}
	hosts, conns := hostsOf(weights...)
	p := New(Config{Policy: policy}, &State{}, hosts, conns, 0)
	in := &Input{Rand: rand.Uint64}
	b.ReportAllocs()
	for b.Loop() {
		host, _ := p.Pick(in)
		p.Done(host)
	}
}
