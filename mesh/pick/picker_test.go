package pick

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"
)

// hostsOf returns healthy hosts of the given weights, all connected.
func hostsOf(weights ...uint32) ([]Host, []ConnState) {
	hosts := make([]Host, len(weights))
	conns := make([]ConnState, len(weights))
	for i, w := range weights {
		hosts[i] = Host{Address: fmt.Sprintf("127.0.0.1:%d", 8000+i), Weight: w, State: &HostState{}}
		conns[i] = Ready
	}
	return hosts, conns
}

func seeded(n uint64) *rand.Rand { return rand.New(rand.NewPCG(n, n)) }

var everyPolicy = []Policy{RoundRobin, Random, LeastRequest, RingHash, Maglev, PeakEWMA, ClientSideWeightedRoundRobin}

// configOf is a configuration of a policy, with what it needs.
func configOf(policy Policy) Config {
	c := Config{Policy: policy}
	if policy == ClientSideWeightedRoundRobin {
		c.Utilization = &Utilization{Expiration: 3 * time.Minute, Update: time.Second}
	}
	return c
}

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
		{[]ConnState{Failed, Ready}, []Health{Healthy, Unhealthy}, Unavailable, -1},
		{[]ConnState{Failed, Ready}, []Health{Unhealthy, Unhealthy}, NoHealthy, -1},
		{[]ConnState{Ready, Ready}, []Health{Unhealthy, Draining}, NoHealthy, -1},
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

// TestFewHostsAreSome: a healthy host of so many unhealthy ones that its
// availability rounds to none still gets the calls, though there is no panic.
func TestFewHostsAreSome(t *testing.T) {
	hosts, conns := hostsOf(make([]uint32, 300)...)
	for i := range hosts {
		hosts[i].Health = Unhealthy
	}
	for _, health := range []Health{Degraded, Healthy} {
		hosts[7].Health = health
		for _, policy := range everyPolicy {
			in := &Input{Rand: seeded(8).Uint64}
			if got := counts(t, New(Config{Policy: policy}, &State{}, hosts, conns, 0), in, 300, 50); got[7] != 50 {
				t.Errorf("policy %d: the only host that is %v got %d of 50", policy, health, got[7])
			}
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
	for _, policy := range everyPolicy {
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
		if host, v := p.Pick(in); v != NoHealthy || host != -1 {
			t.Errorf("policy %d, all ejected: %d, %v", policy, host, v)
		}
		panics := New(Config{Policy: policy, PanicThreshold: 1}, state, hosts, conns, 0)
		if got := counts(t, panics, in, 3, 600); slices.Min(got) == 0 {
			t.Errorf("policy %d, all ejected, with a panic threshold: %v", policy, got)
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
	now := time.Unix(1e9, 0)
	for _, policy := range everyPolicy {
		for _, weight := range []uint32{1, 2} {
			hosts, conns := hostsOf(1, weight, 1, 1)
			hosts[3].Priority, hosts[0].Health = 1, Unhealthy
			c := configOf(policy)
			c.SlowStart = &SlowStart{Window: time.Minute}
			p := New(c, &State{}, hosts, conns, 0)
			p.Reports(1, now, &Report{CPU: 0.5, QPS: 100})
			in := &Input{Rand: rand.Uint64, Tried: []*HostState{hosts[1].State}, MaxRepicks: 3, Now: now}
			if n := testing.AllocsPerRun(100, func() {
				in.AvoidPriorities = 1 - in.AvoidPriorities
				host, _ := p.Pick(in)
				p.DoneAfter(host, now, time.Second, false)
			}); n != 0 {
				t.Errorf("policy %d: Pick allocates %v times", policy, n)
			}
		}
	}
}

// TestPicksAreSound holds, for any mixture of everything, that what picks name
// may be used, and that in-flight counts come out even.
func TestPicksAreSound(t *testing.T) {
	rnd := seeded(10)
	start := time.Unix(1_700_000_000, 0)
	for range 4000 {
		hosts, conns := hostsOf(make([]uint32, rnd.IntN(12))...)
		for i := range hosts {
			h := &hosts[i]
			h.Weight, h.Priority, h.Health = rnd.Uint32N(4), rnd.Uint32N(3), Health(rnd.IntN(4))
			h.Locality, h.LocalityWeight = fmt.Sprint(h.Weight%2), h.Weight%2*3
			h.State.SetSince(start.Add(time.Duration(rnd.IntN(100)) * time.Second))
			h.State.reported.set(start.UnixNano(), rnd.Float64())
			h.State.Ejected.Store(rnd.IntN(4) == 0)
			conns[i] = ConnState(rnd.IntN(4))
		}
		c := configOf(everyPolicy[rnd.IntN(len(everyPolicy))])
		c.PanicThreshold, c.TableSize, c.MinRingSize = rnd.Uint32N(101), 13, 20
		c.LocalityWeighted, c.SubsetSize = rnd.IntN(2) == 0, rnd.Uint32N(4)
		c.HasActiveRequestBias, c.ActiveRequestBias = rnd.IntN(2) == 0, rnd.Float64()
		if rnd.IntN(2) == 0 {
			c.SlowStart = &SlowStart{Window: time.Minute}
		}
		state := &State{}
		p := New(c, state, hosts, conns, uint32(rnd.IntN(3)*70))
		for range 10 {
			in := &Input{Rand: rnd.Uint64, Hash: rnd.Uint64(), HasHash: rnd.IntN(2) == 0, Now: start.Add(100 * time.Second), MaxRepicks: 2}
			if len(hosts) > 0 {
				in.Tried = []*HostState{hosts[rnd.IntN(len(hosts))].State}
				in.AvoidPriorities = rnd.IntN(2)
			}
			host, v := p.Pick(in)
			named := v == Picked || v == Connect
			switch {
			case named != (host >= 0):
				t.Fatalf("Pick = %d, %v", host, v)
			case named && hosts[host].Health == Draining:
				t.Fatalf("picked host %d, which drains", host)
			case v == Picked && conns[host] != Ready, v == Connect && conns[host] != Idle, in.Warm > 0 && conns[in.Warm-1] != Idle:
				t.Fatalf("Pick = %d, %v, warm %d with connections %v", host, v, in.Warm, conns)
			}
			if v == Picked {
				p.DoneAfter(host, in.Now, time.Duration(rnd.IntN(1000)), false)
				p.Reports(host, in.Now, &Report{CPU: rnd.Float64(), QPS: rnd.Float64()})
				start = start.Add(time.Second / 4)
			}
		}
		for i := range hosts {
			if n := hosts[i].State.InFlight.Load(); n != 0 {
				t.Fatalf("host %d: %d in flight at the end", i, n)
			}
		}
	}
}

// TestPickWhileEjecting is for the race detector, and checks that in-flight
// counts come out even.
func TestPickWhileEjecting(t *testing.T) {
	for _, policy := range everyPolicy {
		c := configOf(policy)
		c.PanicThreshold, c.SlowStart = 1, &SlowStart{Window: time.Minute}
		pickWhileEjecting(t, c)
	}
}

func pickWhileEjecting(t *testing.T, c Config) {
	t.Helper()
	hosts, conns := hostsOf(1, 2, 3, 4)
	hosts[3].Priority = 1
	state := &State{}
	p := New(c, state, hosts, conns, 0)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			in := &Input{Rand: seeded(uint64(g)).Uint64, Now: time.Unix(1e9, 0), Tried: []*HostState{hosts[g].State}}
			for i := range 2000 {
				in.AvoidPriorities = i % 2
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
				p.DoneAfter(host, in.Now, time.Duration(i), false)
				p.Reports(host, in.Now, &Report{CPU: 1, QPS: float64(i)})
				in.Now = in.Now.Add(time.Second / 10)
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
	for _, policy := range everyPolicy {
		for _, n := range []int{2, 1000} {
			for _, weighted := range []bool{false, true} {
				name := fmt.Sprintf("%s/%d", [...]string{"round_robin", "random", "least_request", "ring_hash", "maglev", "peak_ewma", "client_side_weighted_round_robin"}[policy], n)
				if weighted {
					name += "/weighted"
				}
				b.Run(name, func(b *testing.B) {
					hosts, conns := benchmarkHosts(n, weighted)
					p := New(configOf(policy), &State{}, hosts, conns, 0)
					for i := range hosts {
						p.Reports(i, time.Unix(1e9, 0), &Report{CPU: 1, QPS: float64(weightOf(&hosts[i]))})
					}
					benchmarkPick(b, p, &Input{Now: time.Unix(1e9, 0)})
				})
			}
		}
	}
}

// BenchmarkPickMore is for what costs extra, over 1,000 hosts.
func BenchmarkPickMore(b *testing.B) {
	hosts, conns := benchmarkHosts(1000, true)
	for i := range hosts {
		hosts[i].Locality, hosts[i].LocalityWeight = fmt.Sprint(i%10), uint32(1+i%10)
		hosts[i].Priority = uint32(i % 2)
		if i%6 == 0 { // of priority 0
			hosts[i].Health = Unhealthy
		}
	}
	old := time.Now()
	slow := &SlowStart{Window: time.Hour}
	for _, bench := range []struct {
		name  string
		c     Config
		in    Input
		conns []ConnState
	}{
		{"localities_and_priorities/round_robin", Config{LocalityWeighted: true}, Input{}, conns},
		{"localities_and_priorities/least_request", Config{Policy: LeastRequest, LocalityWeighted: true}, Input{}, conns},
		{"localities_and_priorities/ring_hash", Config{Policy: RingHash, LocalityWeighted: true}, Input{}, conns},
		{"slow_start/round_robin", Config{SlowStart: slow}, Input{Now: old.Add(30 * time.Minute)}, conns},
		{"slow_start/least_request", Config{Policy: LeastRequest, SlowStart: slow}, Input{Now: old.Add(30 * time.Minute)}, conns},
		{"bias/least_request", Config{Policy: LeastRequest, HasActiveRequestBias: true, ActiveRequestBias: 0.5}, Input{}, conns},
		{"session/round_robin", Config{}, Input{Override: hosts[500].State}, conns},
		{"other_priorities/round_robin", Config{}, Input{Tried: []*HostState{hosts[0].State}, AvoidPriorities: 1}, conns},
		{"one_ready/ring_hash", Config{Policy: RingHash}, Input{}, onlyReady(len(hosts), 502)},
		{"one_ready/maglev", Config{Policy: Maglev}, Input{}, onlyReady(len(hosts), 502)},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for i := range hosts {
				hosts[i].State.since.Store(old.Add(time.Duration(i) * time.Second).UnixNano())
			}
			benchmarkPick(b, New(bench.c, &State{}, hosts, bench.conns, 0), &bench.in)
		})
	}
}

// BenchmarkNew is what a change of one connection costs.
func BenchmarkNew(b *testing.B) {
	for _, policy := range everyPolicy {
		b.Run(fmt.Sprint(policy), func(b *testing.B) {
			hosts, conns := benchmarkHosts(1000, true)
			state := &State{}
			p := New(configOf(policy), state, hosts, conns, 0)
			b.ReportAllocs()
			for b.Loop() {
				p = New(configOf(policy), state, hosts, conns, 0)
			}
			_ = p.Wants()
		})
	}
}

// BenchmarkCircle is what a change of the hosts costs the policies that hash.
func BenchmarkCircle(b *testing.B) {
	for _, policy := range []Policy{RingHash, Maglev} {
		b.Run(fmt.Sprint(policy), func(b *testing.B) {
			hosts, conns := benchmarkHosts(1000, true)
			b.ReportAllocs()
			for b.Loop() {
				New(Config{Policy: policy}, &State{}, hosts, conns, 0)
			}
		})
	}
}

func onlyReady(n, ready int) []ConnState {
	conns := make([]ConnState, n)
	for i := range conns {
		conns[i] = Failed
	}
	conns[ready] = Ready
	return conns
}

func benchmarkHosts(n int, weighted bool) ([]Host, []ConnState) {
	weights := make([]uint32, n)
	for i := range weights {
		weights[i] = 1
		if weighted {
			weights[i] += uint32(i % 10)
		}
	}
	return hostsOf(weights...)
}

func benchmarkPick(b *testing.B, p *Picker, in *Input) {
	b.Helper()
	in.Rand = rand.Uint64
	if p.config.Policy == PeakEWMA {
		in.Now = time.Now()
		for i := range p.hosts {
			p.hosts[i].State.latency.observe(in.Now.UnixNano(), time.Duration(i), defaultDecay, false)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		host, _ := p.Pick(in)
		if in.Now.IsZero() {
			p.Done(host)
			continue
		}
		in.Now = in.Now.Add(time.Microsecond)
		p.DoneAfter(host, in.Now, time.Millisecond, false)
	}
}
