package pick

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/cespare/xxhash/v2"
)

// at returns healthy, connected hosts of the given addresses.
func at(addresses ...string) ([]Host, []ConnState) {
	hosts, conns := hostsOf(make([]uint32, len(addresses))...)
	for i := range hosts {
		hosts[i].Address = addresses[i]
	}
	return hosts, conns
}

func ports(from, n int) (addresses []string) {
	for i := range n {
		addresses = append(addresses, fmt.Sprintf("127.0.0.1:%d", from+i))
	}
	return addresses
}

func pickHash(t *testing.T, p *Picker, in Input) int {
	t.Helper()
	in.HasHash = true
	host, v := p.Pick(&in)
	if v != Picked {
		t.Fatalf("Pick = %v", v)
	}
	return host
}

func TestMurmur2AgreesWithEnvoy(t *testing.T) {
	for key, want := range map[string]uint64{
		"foo": 9631199822919835226, "bar": 11474628671133349555, "foo\nbar": 16306510975912980159,
		"lyft": 12847078931730529320, "": 6142509188972423790,
	} {
		if got := murmur2([]byte(key)); got != want {
			t.Errorf("%q: %d, want %d", key, got, want)
		}
	}
}

// TestRingsAgreeWithEnvoy pins rings that Envoy builds for the same hosts.
func TestRingsAgreeWithEnvoy(t *testing.T) {
	type entry struct {
		hash uint64
		host int
	}
	for _, test := range []struct {
		first   int // port
		murmur2 bool
		want    []entry
	}{
		{90, false, []entry{
			{833437586790550860, 4},
			{928266305478181108, 2},
			{1033482794131418490, 0},
			{3551244743356806947, 5},
			{3851675632748031481, 3},
			{5583722120771150861, 1},
			{6311230543546372928, 1},
			{7700377290971790572, 3},
			{13144177310400110813, 5},
			{13444792449719432967, 2},
			{15516499411664133160, 4},
			{16117243373044804889, 0},
		}},
		{80, true, []entry{
			{1358027074129602068, 5},
			{4361834613929391114, 3},
			{7224494972555149682, 4},
			{7701421856454313576, 1},
			{8649315368077433379, 2},
			{8739448859063030639, 4},
			{9887544217113020895, 1},
			{10150910876324007731, 2},
			{15168472011420622455, 3},
			{15427156902705414897, 0},
			{16375050414328759093, 5},
			{17613279263364193813, 0},
		}},
	} {
		hosts, conns := at(ports(test.first, 6)...)
		p := New(Config{Policy: RingHash, MinRingSize: 12, Murmur2: test.murmur2}, &State{}, hosts, conns, 0)
		for i, e := range test.want {
			if got := pickHash(t, p, Input{Hash: e.hash}); got != e.host {
				t.Errorf("murmur2 %v: hash %d is host %d's, want %d", test.murmur2, e.hash, got, e.host)
			}
			next := test.want[(i+1)%len(test.want)]
			if got := pickHash(t, p, Input{Hash: e.hash + 1}); got != next.host {
				t.Errorf("murmur2 %v: hash %d is host %d's, want %d", test.murmur2, e.hash+1, got, next.host)
			}
		}
	}
}

// TestTablesAgreeWithEnvoy pins Maglev tables that Envoy builds for the same
// hosts.
func TestTablesAgreeWithEnvoy(t *testing.T) {
	for _, test := range []struct {
		name   string
		c      Config
		hosts  int
		change func([]Host)
		want   []int
	}{
		{"equal weights", Config{TableSize: 7}, 6, nil, []int{2, 4, 0, 1, 5, 0, 3}},
		{"by host name", Config{TableSize: 7, HashByHostname: true}, 6, func(hosts []Host) {
			for i := range hosts {
				hosts[i].Hostname = fmt.Sprint(90 + i)
			}
		}, []int{2, 5, 0, 3, 4, 1, 0}},
		{"by key", Config{TableSize: 7, HashByHostname: true}, 6, func(hosts []Host) {
			for i := range hosts {
				hosts[i].Hostname, hosts[i].HashKey = "same", fmt.Sprint(90+i)
			}
		}, []int{2, 5, 0, 3, 4, 1, 0}},
		{"host names not asked for", Config{TableSize: 7}, 6, func(hosts []Host) {
			for i := range hosts {
				hosts[i].Hostname = fmt.Sprint(90 + i)
			}
		}, []int{2, 4, 0, 1, 5, 0, 3}},
		{"weights", Config{TableSize: 17}, 2, func(hosts []Host) { hosts[1].Weight = 2 }, []int{1, 0, 0, 1, 0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1}},
		{"equal localities", Config{TableSize: 17, LocalityWeighted: true}, 2, func(hosts []Host) {
			hosts[0].Locality, hosts[0].LocalityWeight = "A", 1
			hosts[1].Locality, hosts[1].LocalityWeight, hosts[1].Weight = "B", 1, 2
		}, []int{1, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1}},
		{"weighted localities, one of them 0", Config{TableSize: 17, LocalityWeighted: true}, 3, func(hosts []Host) {
			hosts[0].Locality, hosts[0].LocalityWeight = "A", 8
			hosts[1].Locality, hosts[1].LocalityWeight, hosts[1].Weight = "C", 2, 2
			hosts[2].Locality, hosts[2].LocalityWeight, hosts[2].Weight = "B", 0, 3
		}, []int{1, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0}},
	} {
		hosts, conns := at(ports(90, test.hosts)...)
		if test.change != nil {
			test.change(hosts)
		}
		test.c.Policy = Maglev
		p := New(test.c, &State{}, hosts, conns, 0)
		var got []int
		for hash := range test.want {
			got = append(got, pickHash(t, p, Input{Hash: uint64(hash)}))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	// Retries mutate the hash.
	hosts, conns := at(ports(90, 6)...)
	p := New(Config{Policy: Maglev, TableSize: 7}, &State{}, hosts, conns, 0)
	for tried, want := range []int{1, 0, 5} {
		in := Input{Hash: 10, MaxRepicks: 2}
		for _, i := range []int{1, 0}[:tried] {
			in.Tried = append(in.Tried, hosts[i].State)
		}
		if got := pickHash(t, p, in); got != want {
			t.Errorf("%d hosts tried: %d, want %d", tried, got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	for _, test := range []struct {
		c    Config
		want int
	}{
		{Config{Policy: RingHash}, 1026}, // 3 x 342
		{Config{Policy: RingHash, MinRingSize: 10}, 12},
		{Config{Policy: RingHash, MinRingSize: 10, MaxRingSize: 5}, 5},
		{Config{Policy: RingHash, MinRingSize: 1, MaxRingSize: 1}, 1},
		{Config{Policy: Maglev}, 65537},
		{Config{Policy: Maglev, TableSize: 11}, 11},
		{Config{Policy: Maglev, TableSize: 10}, 65537},      // not a prime
		{Config{Policy: Maglev, TableSize: 1 << 40}, 65537}, // too large
		{Config{Policy: Maglev, TableSize: 2}, 2},           // fewer slots than hosts
	} {
		hosts, conns := at("a", "b", "c")
		p := New(test.c, &State{}, hosts, conns, 0)
		if got := len(p.view.Load().buckets[0].wheel.owners); got != test.want {
			t.Errorf("%+v: %d entries, want %d", test.c, got, test.want)
		}
	}
	if got := newCircleSpec(&Config{Policy: Maglev, TableSize: 5_000_011}).maxSize; got != 5_000_011 { // Envoy's largest
		t.Errorf("a table of 5,000,011 slots becomes one of %d", got)
	}
}

// TestRingAgreesWithTwin compares picks with a search through a list of all
// hashes, for any health and connections.
func TestRingAgreesWithTwin(t *testing.T) {
	rnd := seeded(21)
	for range 600 {
		hosts, conns := at(ports(80, 1+rnd.IntN(8))...)
		rnd.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
		for i := range hosts {
			hosts[i].Weight = rnd.Uint32N(4)
			hosts[i].Health = []Health{Healthy, Healthy, Unhealthy, Draining}[rnd.IntN(4)]
			hosts[i].State.Ejected.Store(rnd.IntN(4) == 0)
			conns[i] = ConnState(rnd.IntN(4))
		}
		p := New(Config{Policy: RingHash, MinRingSize: 1 + rnd.Uint64N(200)}, &State{}, hosts, conns, 0)
		for range 20 {
			in := &Input{Hash: rnd.Uint64(), HasHash: true}
			got, v := p.Pick(in)
			want, verdict := slowRing(p.config, hosts, conns, in.Hash)
			if got != want || v != verdict {
				t.Fatalf("hash %d: %d, %v; want %d, %v\nhosts %+v\nconns %v", in.Hash, got, v, want, verdict, hosts, conns)
			}
		}
	}
}

// TestHashesSpill holds that the requests of each priority are those that
// gradual spill-over gives it, and the same ones every time.
func TestHashesSpill(t *testing.T) {
	hosts, conns := at(ports(80, 12)...)
	for i := range hosts {
		hosts[i].Priority = uint32(i / 4)
	}
	hosts[0].Health, hosts[1].Health = Unhealthy, Degraded
	for i := range 3 {
		hosts[4+i].State.Ejected.Store(true)
	}
	for _, policy := range []Policy{RingHash, Maglev} {
		c := Config{Policy: policy}
		p := New(c, &State{}, hosts, conns, 0)
		shares, _ := slowShares(c, hosts, conns, 140)
		var want, got [3]float64
		for i, share := range shares {
			want[hosts[i].Priority] += share
		}
		const n = 50_000
		rnd := seeded(22)
		for range n {
			in := Input{Hash: rnd.Uint64()}
			host := pickHash(t, p, in)
			got[hosts[host].Priority]++
			if again := pickHash(t, p, in); again != host {
				t.Fatalf("hash %d: host %d, then %d", in.Hash, host, again)
			}
		}
		for i := range got {
			// Tolerance: five standard deviations of the binomial.
			if math.Abs(got[i]-n*want[i]) > 5*math.Sqrt(n*want[i]*(1-want[i])) {
				t.Errorf("policy %d: %v of %d per priority, want parts %v", policy, got, n, want)
			}
		}
	}
}

// TestOnlyTheHashesOfAHostMove: when a host cannot be used, its requests go to
// all others in proportion, and no other request moves.
func TestOnlyTheHashesOfAHostMove(t *testing.T) {
	const n, hostCount = 40_000, 10
	for _, policy := range []Policy{RingHash, Maglev} {
		hosts, conns := at(ports(80, hostCount)...)
		state := &State{}
		c := Config{Policy: policy, MinRingSize: 200_000}
		p := New(c, state, hosts, conns, 0)
		rnd := seeded(23)
		hashes, before := make([]uint64, n), make([]int, n)
		for i := range hashes {
			hashes[i] = rnd.Uint64()
			before[i] = pickHash(t, p, Input{Hash: hashes[i]})
		}
		hosts[3].State.Ejected.Store(true)
		state.Changed()
		moved := make([]int, hostCount)
		for i, hash := range hashes {
			after := pickHash(t, p, Input{Hash: hash})
			switch {
			case before[i] == 3:
				moved[after]++
			case before[i] != after:
				t.Fatalf("policy %d: a request of host %d went to %d", policy, before[i], after)
			}
		}
		for i, got := range moved {
			// Tolerance: 5 sigma of the binomial, and 5 % for the ring's unevenness.
			want := float64(n) / hostCount / (hostCount - 1)
			if i != 3 && math.Abs(float64(got)-want) > 5*math.Sqrt(want)+0.05*want {
				t.Errorf("policy %d: host 3's requests went to %v", policy, moved)
			}
		}
		// Without the host in the list at all, few others move.
		p = New(c, state, slices.Delete(slices.Clone(hosts), 3, 4), conns[1:], 0)
		others := 0
		for i, hash := range hashes {
			after := pickHash(t, p, Input{Hash: hash})
			if after >= 3 {
				after++
			}
			if before[i] != 3 && before[i] != after {
				others++
			}
		}
		if part := float64(others) / n; part > 0.12 {
			t.Errorf("policy %d: %.3f of all requests moved though their host stayed", policy, part)
		}
	}
}

func TestHashesFollowWeights(t *testing.T) {
	for _, policy := range []Policy{RingHash, Maglev} {
		hosts, conns := at("a", "b", "c", "d")
		for i := range hosts {
			hosts[i].Weight = uint32(i + 1)
		}
		p := New(Config{Policy: policy, MinRingSize: 100_000}, &State{}, hosts, conns, 0)
		const n = 100_000
		got := counts(t, p, &Input{Rand: seeded(24).Uint64}, 4, n)
		for i := range got {
			// Tolerance: 5 sigma of the binomial, and 2 % for the ring's unevenness.
			q := float64(i+1) / 10
			if math.Abs(float64(got[i])-n*q) > 5*math.Sqrt(n*q*(1-q))+0.02*n*q {
				t.Errorf("policy %d: %v", policy, got)
			}
		}
	}
}

// TestRingConnectsOnDemand is gRPC's behaviour (gRFC A42, A61): the host that a
// hash belongs to is connected and waited for, unless it failed.
func TestRingConnectsOnDemand(t *testing.T) {
	for _, policy := range []Policy{RingHash, Maglev} {
		hosts, conns := at(ports(90, 6)...)
		clear(conns) // idle
		state := &State{}
		renew := func() *Picker {
			return New(Config{Policy: policy, MinRingSize: 12, TableSize: 7}, state, hosts, conns, 0)
		}
		p := renew()
		if got := p.Wants(); len(got) != 0 {
			t.Errorf("policy %d: Wants() = %v before any call", policy, got)
		}
		in := &Input{Hash: 2, HasHash: true}
		owner, v := p.Pick(in)
		if v != Connect {
			t.Fatalf("policy %d: Pick = %d, %v", policy, owner, v)
		}
		for _, step := range []struct {
			state ConnState
			want  Verdict
		}{{Connecting, Queue}, {Ready, Picked}, {Failed, Connect}} {
			conns[owner] = step.state
			if host, v := renew().Pick(in); v != step.want || (host == owner) != (v == Picked) {
				t.Errorf("policy %d: owner in state %d: %d, %v; want %v", policy, step.state, host, v, step.want)
			}
		}
		if got, want := renew().Wants(), []int{owner}; !slices.Equal(got, want) {
			t.Errorf("policy %d: Wants() = %v, want the failed %v", policy, got, want)
		}
		for i := range conns {
			conns[i] = Failed
		}
		if host, v := renew().Pick(in); v != Unavailable || host != -1 {
			t.Errorf("policy %d: all failed: %d, %v", policy, host, v)
		}
	}
}

// TestCallsWithoutHash: they do not wait while any host is ready, but see to it
// that all are connected in the end (gRFC A76).
func TestCallsWithoutHash(t *testing.T) {
	hosts, conns := at(ports(90, 6)...)
	clear(conns)
	state := &State{}
	rnd := seeded(25).Uint64
	host, v := New(Config{Policy: RingHash}, state, hosts, conns, 0).Pick(&Input{Rand: rnd})
	if v != Connect {
		t.Fatalf("Pick = %v", v)
	}
	conns[host] = Ready
	for range 1000 {
		in := &Input{Rand: rnd}
		got, v := New(Config{Policy: RingHash}, state, hosts, conns, 0).Pick(in)
		if v != Picked || conns[got] != Ready {
			t.Fatalf("Pick = %d, %v", got, v)
		}
		if in.Warm > 0 {
			conns[in.Warm-1] = Ready
		}
	}
	if slices.Contains(conns, Idle) {
		t.Errorf("connections %v after 1000 calls", conns)
	}
	conns[0], conns[1] = Connecting, Idle
	for range 100 {
		in := &Input{Rand: rnd}
		New(Config{Policy: RingHash}, state, hosts, conns, 0).Pick(in)
		if in.Warm != 0 {
			t.Errorf("another connection is asked for while one is made")
		}
	}
}

func TestFewUsableHosts(t *testing.T) {
	for _, policy := range []Policy{RingHash, Maglev} {
		hosts, _ := at(ports(80, 500)...)
		p := New(Config{Policy: policy}, &State{}, hosts, onlyReady(500, 123), 0)
		rnd := seeded(26)
		for range 200 {
			if got := pickHash(t, p, Input{Hash: rnd.Uint64()}); got != 123 {
				t.Fatalf("policy %d: picked %d", policy, got)
			}
		}
	}
}

// TestHostsWithoutEntries: a ring too small for all hosts has none for some.
func TestHostsWithoutEntries(t *testing.T) {
	hosts, conns := at(ports(80, 5)...)
	c := Config{Policy: RingHash, MinRingSize: 1, MaxRingSize: 1}
	lucky := pickHash(t, New(c, &State{}, hosts, conns, 0), Input{})
	conns[lucky] = Failed
	if host, v := New(c, &State{}, hosts, conns, 0).Pick(&Input{HasHash: true}); v != Unavailable {
		t.Errorf("the only host on the ring failed: %d, %v", host, v)
	}
}

func TestCirclesAreKept(t *testing.T) {
	for _, policy := range []Policy{RingHash, Maglev} {
		hosts, conns := at(ports(80, 6)...)
		state := &State{}
		c := Config{Policy: policy}
		circleOf := func(p *Picker) *circle { return p.view.Load().buckets[0].wheel.circle }
		first := New(c, state, hosts, conns, 0)
		kept := circleOf(first)
		same := func(what string, want bool, c Config, hosts []Host) {
			t.Helper()
			if got := circleOf(New(c, state, hosts, conns, 0)) == kept; got != want {
				t.Errorf("policy %d, %s: the circle is the same: %v, want %v", policy, what, got, want)
			}
		}
		conns[2] = Failed
		same("a connection failed", true, c, hosts)
		hosts[1].State.Ejected.Store(true)
		same("a host was ejected", true, c, hosts)
		again := slices.Clone(hosts)
		slices.Reverse(again)
		again[0].Health = Unhealthy
		same("the same hosts, in another order and health", true, c, again)
		again = slices.Clone(hosts)
		again[0].Health = Draining
		same("a host drains", false, c, again)
		again = slices.Clone(hosts)
		again[3].Weight = 2
		same("another weight", false, c, again)
		same("another host", false, c, append(slices.Clone(hosts), Host{Address: "x", State: &HostState{}}))
		other := c
		other.MinRingSize, other.TableSize = 4096, 4099
		same("another size", false, other, hosts)
		runtime.KeepAlive(first)
	}
}

// TestCirclesAreFreed holds that nothing is kept for hosts that are gone.
func TestCirclesAreFreed(t *testing.T) {
	state := &State{}
	var last *Picker
	for i := range 50 {
		hosts, conns := at(fmt.Sprint(i))
		last = New(Config{Policy: RingHash}, state, hosts, conns, 0)
	}
	runtime.GC()
	hosts, conns := at("last")
	p := New(Config{Policy: RingHash}, state, hosts, conns, 0)
	if len(state.circles) > 3 || len(state.sets) > 3 {
		t.Errorf("%d circles and %d sets are remembered", len(state.circles), len(state.sets))
	}
	runtime.KeepAlive(last)
	runtime.KeepAlive(p)
}

// slowRing looks a hash up in an unsorted list.
func slowRing(c Config, hosts []Host, conns []ConnState, hash uint64) (int, Verdict) {
	var order, usable []int
	total, least := 0.0, math.Inf(1)
	for i := range hosts {
		if hosts[i].Health != Draining {
			order = append(order, i)
			total += float64(max(hosts[i].Weight, 1))
			least = min(least, float64(max(hosts[i].Weight, 1)))
		}
	}
	if len(order) == 0 {
		return -1, NoHosts
	}
	healthy := false
	for _, i := range order {
		if hosts[i].Health == Healthy && !hosts[i].State.Ejected.Load() {
			healthy = true
			if conns[i] != Failed {
				usable = append(usable, i)
			}
		}
	}
	if !healthy {
		return -1, NoHealthy
	}
	slices.SortFunc(order, func(i, j int) int { return slices.Compare([]byte(hosts[i].Address), []byte(hosts[j].Address)) })
	scale := math.Ceil(least/total*float64(c.MinRingSize)) / (least / total)
	best, bestHash, first, firstHash := -1, uint64(math.MaxUint64), -1, uint64(math.MaxUint64)
	have, want := 0.0, 0.0
	for _, i := range order {
		want += scale * (float64(max(hosts[i].Weight, 1)) / total)
		for n := 0; have < want; n++ {
			have++
			h := xxhash.Sum64String(fmt.Sprintf("%s_%d", hosts[i].Address, n))
			if !slices.Contains(usable, i) {
				continue
			}
			if h >= hash && h <= bestHash {
				best, bestHash = i, h
			}
			if h <= firstHash {
				first, firstHash = i, h
			}
		}
	}
	if best < 0 {
		best = first
	}
	switch {
	case best < 0:
		return -1, Unavailable
	case conns[best] == Ready:
		return best, Picked
	case conns[best] == Idle:
		return best, Connect
	}
	return -1, Queue
}

// TestHashedRetriesGoElsewhere avoids the host that a hash leads to, where retries
// ask for it.
func TestHashedRetriesGoElsewhere(t *testing.T) {
	for _, policy := range []Policy{RingHash, Maglev} {
		hosts, conns := hostsOf(1, 1, 1)
		for i := range hosts {
			hosts[i].Address = string("abc"[i])
		}
		p := New(Config{Policy: policy}, &State{}, hosts, conns, 0)
		again := 0
		for hash := range uint64(200) {
			in := &Input{Hash: hash * 0x9e3779b97f4a7c15, HasHash: true}
			first, _ := p.Pick(in)
			in.Tried, in.MaxRepicks = []*HostState{hosts[first].State}, 5
			if second, _ := p.Pick(in); second == first {
				again++
			}
		}
		if again > 40 { // six entries in a row are seldom of one host
			t.Errorf("policy %d: %d of 200 retries went to the host that was tried", policy, again)
		}
	}
}
