package pick

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// shares returns which part of the picks each host of a view gets; for Connect,
// 1 for each host.
func (w *view) shares() map[int]float64 {
	shares := map[int]float64{}
	for i, host := range w.hosts {
		switch {
		case w.verdict != Picked:
			shares[int(host)] = 1
		case w.ends == nil:
			shares[int(host)] = 1 / float64(w.total)
		case i == 0:
			shares[int(host)] += float64(w.ends[0]) / float64(w.total)
		default:
			shares[int(host)] += float64(w.ends[i]-w.ends[i-1]) / float64(w.total)
		}
	}
	return shares
}

func TestSharesAgreeWithTwin(t *testing.T) {
	rnd := seeded(7)
	seen := map[Verdict]int{}
	for range 20_000 {
		hosts, conns := hostsOf(make([]uint32, rnd.IntN(9))...)
		weights := [3][3]uint32{}
		for i := range weights {
			for j := range weights[i] {
				weights[i][j] = rnd.Uint32N(4)
			}
		}
		c := Config{LocalityWeighted: rnd.IntN(2) == 0, PanicThreshold: []uint32{0, 0, 50, 100}[rnd.IntN(4)]}
		over := []int{100, 140, 200}[rnd.IntN(3)]
		for i := range hosts {
			h := &hosts[i]
			place := rnd.IntN(3)
			h.Weight, h.Priority = rnd.Uint32N(5), rnd.Uint32N(3)
			h.Locality, h.LocalityWeight = fmt.Sprint(place), weights[h.Priority][place]
			h.Health = []Health{Healthy, Healthy, Healthy, Unhealthy, Draining, Degraded}[rnd.IntN(6)]
			h.State.Ejected.Store(rnd.IntN(4) == 0)
			conns[i] = []ConnState{Ready, Ready, Ready, Idle, Connecting, Failed}[rnd.IntN(6)]
		}
		w := New(c, &State{}, hosts, conns, uint32(over)).view.Load()
		want, verdict := slowShares(c, hosts, conns, over)
		seen[verdict]++
		if w.verdict != verdict {
			t.Fatalf("%v, want %v\n%+v, overprovisioning %d\nhosts %+v\nconns %v", w.verdict, verdict, c, over, hosts, conns)
		}
		got := w.shares()
		for i := range hosts {
			// Tolerance: what rounding to shares of 2^-32 can do.
			if math.Abs(got[i]-want[i]) > 1e-8 {
				t.Fatalf("%v: shares %v, want %v\n%+v, overprovisioning %d\nhosts %+v\nconns %v", verdict, got, want, c, over, hosts, conns)
			}
		}
	}
	for v := Picked; v <= NoHosts; v++ {
		if seen[v] == 0 {
			t.Errorf("no case with verdict %v", v)
		}
	}
}

// TestSpillOver pins the examples of Envoy's documentation of priority levels
// and degraded endpoints, with the overprovisioning factor of 140.
func TestSpillOver(t *testing.T) {
	for _, test := range []struct {
		healthy, degraded [3]int // of 100 hosts, per priority
		threshold         uint32
		want              map[string]float64 // percent by priority and health
	}{
		{healthy: [3]int{100, 100}, want: map[string]float64{"0": 100}},
		{healthy: [3]int{72, 72}, want: map[string]float64{"0": 100}},
		{healthy: [3]int{71, 71}, want: map[string]float64{"0": 99, "1": 1}},
		{healthy: [3]int{50, 50}, want: map[string]float64{"0": 70, "1": 30}},
		{healthy: [3]int{25, 100}, want: map[string]float64{"0": 35, "1": 65}},
		{healthy: [3]int{25, 25}, want: map[string]float64{"0": 50, "1": 50}},
		{healthy: [3]int{25, 25, 20}, want: map[string]float64{"0": 37, "1": 35, "2": 28}},
		{healthy: [3]int{0, 50}, degraded: [3]int{50, 0}, want: map[string]float64{"1": 70, "0 degraded": 30}},
		{healthy: [3]int{20}, degraded: [3]int{80}, want: map[string]float64{"0": 28, "0 degraded": 72}},
	} {
		var hosts []Host
		for priority := range test.healthy {
			if priority == 2 && test.healthy[2] == 0 {
				continue
			}
			for i := range 100 {
				h := Host{Priority: uint32(priority), State: &HostState{}, Health: Unhealthy}
				switch {
				case i < test.healthy[priority]:
					h.Health = Healthy
				case i < test.healthy[priority]+test.degraded[priority]:
					h.Health = Degraded
				}
				hosts = append(hosts, h)
			}
		}
		conns := slices.Repeat([]ConnState{Ready}, len(hosts))
		got := map[string]float64{}
		for i, share := range New(Config{PanicThreshold: test.threshold}, &State{}, hosts, conns, 0).view.Load().shares() {
			name := fmt.Sprint(hosts[i].Priority)
			if hosts[i].Health == Degraded {
				name += " degraded"
			}
			got[name] += 100 * share
		}
		for name, want := range test.want {
			if math.Abs(got[name]-want) > 1e-3 {
				t.Errorf("%v healthy, %v degraded: %v, want %v", test.healthy, test.degraded, got, test.want)
				break
			}
		}
	}
}

func TestPicksFollowLocalityWeights(t *testing.T) {
	// Three localities of two hosts; in c one of two is down: it keeps 70 % of
	// its weight.
	hosts, conns := hostsOf(1, 1, 1, 3, 1, 1, 1)
	for i := range hosts {
		hosts[i].Locality, hosts[i].LocalityWeight = string("aabbccd"[i]), []uint32{6, 6, 2, 2, 10, 10, 0}[i]
	}
	hosts[5].State.Ejected.Store(true)
	want := []float64{3, 3, 0.5, 1.5, 7, 0, 0}
	const n = 60_000
	for _, policy := range []Policy{RoundRobin, Random, LeastRequest, PeakEWMA} {
		p := New(Config{Policy: policy, LocalityWeighted: true}, &State{}, hosts, conns, 0)
		got := counts(t, p, &Input{Rand: seeded(11).Uint64}, len(hosts), n)
		for i := range hosts {
			q := want[i] / 15
			if policy == PeakEWMA && i == 2 || policy == PeakEWMA && i == 3 {
				continue // within b, weights give way to latency
			}
			// Tolerance: five standard deviations of the binomial.
			if diff := math.Abs(float64(got[i]) - n*q); diff > 5*math.Sqrt(n*q*(1-q)) {
				t.Errorf("policy %d: picked %v, host %d is %.0f off", policy, got, i, diff)
			}
		}
	}
}

// TestLoadStaysInItsLocality holds that least request does not move calls from
// a busy locality to an idle one: the weights say who gets how many.
func TestLoadStaysInItsLocality(t *testing.T) {
	hosts, conns := hostsOf(1, 1, 1, 1)
	for i := range hosts {
		hosts[i].Locality, hosts[i].LocalityWeight = string("aabb"[i]), []uint32{9, 9, 1, 1}[i]
	}
	hosts[0].State.InFlight.Store(1000)
	hosts[1].State.InFlight.Store(100)
	const n = 20_000
	p := New(Config{Policy: LeastRequest, LocalityWeighted: true}, &State{}, hosts, conns, 0)
	got := counts(t, p, &Input{Rand: seeded(12).Uint64}, len(hosts), n)
	if diff := math.Abs(float64(got[0]+got[1]) - 0.9*n); diff > 5*math.Sqrt(n*0.09) {
		t.Errorf("weights 9 and 1: picked %v", got)
	}
	if got[0] >= got[1]/2 {
		t.Errorf("the busier host of a locality got %d calls, the other %d", got[0], got[1])
	}
}

func TestRetriesAvoidPriorities(t *testing.T) {
	hosts, conns := hostsOf(1, 1, 1, 1)
	for i := range hosts {
		hosts[i].Priority = uint32(i)
	}
	conns[3] = Failed
	for _, policy := range everyPolicy {
		p := New(Config{Policy: policy}, &State{}, hosts, conns, 0)
		for _, test := range []struct {
			tried []int
			want  int
		}{{nil, 0}, {[]int{0}, 1}, {[]int{0, 1}, 2}, {[]int{1}, 0}, {[]int{0, 1, 2}, 0}, {[]int{0}, 1}} {
			in := &Input{Rand: seeded(13).Uint64, AvoidPriorities: len(test.tried)}
			for _, i := range test.tried {
				in.Tried = append(in.Tried, hosts[i].State)
			}
			if got, v := p.Pick(in); got != test.want || v != Picked {
				t.Errorf("policy %d, tried %v: %d, %v; want %d", policy, test.tried, got, v, test.want)
			}
		}
	}
}

func TestDetoursAreBounded(t *testing.T) {
	hosts, conns := hostsOf(make([]uint32, 10)...)
	for i := range hosts {
		hosts[i].Priority = uint32(i)
	}
	p := New(Config{}, &State{}, hosts, conns, 0)
	for i := range hosts {
		p.Pick(&Input{Tried: []*HostState{hosts[i].State}, AvoidPriorities: 1})
	}
	n := 0
	for d := p.view.Load().detours.Load(); d != nil; d = d.next {
		n++
	}
	if n != maxDetours {
		t.Errorf("%d detours are kept, want %d", n, maxDetours)
	}
}

// TestSpillWaitsForConnections: what a priority that has no connection yet is
// to get, others take; picks ask for the connections.
func TestSpillWaitsForConnections(t *testing.T) {
	hosts, conns := hostsOf(1, 1, 1, 1)
	hosts[1].Health, hosts[2].Priority, hosts[3].Priority = Unhealthy, 1, 1
	conns[2], conns[3] = Idle, Idle
	p := New(Config{}, &State{}, hosts, conns, 0)
	var warmed []int32
	for range 4 {
		in := &Input{}
		host, v := p.Pick(in)
		if host != 0 || v != Picked {
			t.Fatalf("Pick = %d, %v", host, v)
		}
		warmed = append(warmed, in.Warm)
	}
	slices.Sort(warmed)
	if want := []int32{0, 0, 3, 4}; !slices.Equal(warmed, want) { // each once
		t.Errorf("asked to connect numbers %v, want %v", warmed, want)
	}
	if got, want := p.Wants(), []int{0, 2, 3}; !slices.Equal(got, want) {
		t.Errorf("Wants() = %v, want %v", got, want)
	}
}

// TestVerdictWhileHostsComeBack builds views while hosts are ejected and come back:
// with all connected, they are picked from, or all are ejected.
func TestVerdictWhileHostsComeBack(t *testing.T) {
	t.Parallel()
	var state State
	hosts := []Host{{State: &HostState{}, Weight: 1}, {State: &HostState{}, Weight: 1}}
	var stop atomic.Bool
	var wg sync.WaitGroup
	for i := range hosts {
		wg.Go(func() {
			for out := true; !stop.Load(); out = !out {
				hosts[i].State.Ejected.Store(out)
			}
		})
	}
	for range 50_000 {
		p := New(Config{}, &state, hosts, []ConnState{Ready, Ready}, 0)
		if v := p.view.Load().verdict; v != Picked && v != NoHealthy {
			t.Errorf("verdict %v", v)
			break
		}
	}
	stop.Store(true)
	wg.Wait()
}

// TestTotalPanicRoundsUpTheFirst holds that in total panic the first priority gets what
// rounding leaves, as in Envoy, though its hosts be fewer than one in a hundred.
func TestTotalPanicRoundsUpTheFirst(t *testing.T) {
	hosts, conns := hostsOf(make([]uint32, 251)...)
	for i := range hosts {
		hosts[i].Health, hosts[i].Priority, conns[i] = Unhealthy, uint32(min(i, 1)), Ready
	}
	p := New(Config{PanicThreshold: 50}, &State{}, hosts, conns, 0)
	if got := p.view.Load().shares()[0]; math.Abs(got-0.01) > 1e-6 {
		t.Errorf("the first priority gets %v, want 0.01", got)
	}
}
