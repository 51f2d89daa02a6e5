package pick

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

func subsetOf(size uint32, seed uint64, hosts []Host) []int {
	state := &State{}
	state.Seed(seed)
	return New(Config{SubsetSize: size}, state, hosts, nil, 0).Wants()
}

func TestSubset(t *testing.T) {
	hosts, _ := hostsOf(make([]uint32, 50)...)
	rnd := seeded(61)
	const seeds, size = 2000, 10
	chosen := make([]int, len(hosts))
	for range seeds {
		seed := rnd.Uint64()
		got := subsetOf(size, seed, hosts)
		if len(got) != size {
			t.Fatalf("%d hosts chosen", len(got))
		}
		for _, i := range got {
			chosen[i]++
		}
		// A host that leaves moves at most one.
		gone := rnd.IntN(len(hosts))
		after := subsetOf(size, seed, slices.Delete(slices.Clone(hosts), gone, gone+1))
		changed := 0
		for _, i := range after {
			if i >= gone {
				i++
			}
			if !slices.Contains(got, i) {
				changed++
			}
		}
		if want := 0; slices.Contains(got, gone) {
			want = 1
			if changed != want {
				t.Fatalf("host %d left: subset %v became %v", gone, got, after)
			}
		} else if changed != want {
			t.Fatalf("host %d left, which was not used: subset %v became %v", gone, got, after)
		}
	}
	for i, got := range chosen {
		// Tolerance: five standard deviations of the binomial.
		q := float64(size) / float64(len(hosts))
		if math.Abs(float64(got)-seeds*q) > 5*math.Sqrt(seeds*q*(1-q)) {
			t.Errorf("host %d was chosen %d times of %d", i, got, seeds)
		}
	}
}

func TestSubsetOfEachPriority(t *testing.T) {
	hosts, conns := hostsOf(make([]uint32, 9)...)
	for i := range hosts {
		hosts[i].Priority = uint32(i / 3)
	}
	hosts[0].Health, hosts[1].Health = Unhealthy, Draining
	hosts[3].Health, hosts[4].Health = Unhealthy, Unhealthy
	for seed := range uint64(50) {
		state := &State{}
		state.Seed(seed)
		p := New(Config{SubsetSize: 2}, state, hosts, conns, 0)
		levels := p.set.levels
		if got := levels[0].hosts; !slices.Equal(got, []int32{0, 2}) {
			t.Errorf("seed %d: priority 0 uses %v; a draining host takes no place", seed, got)
		}
		if got := levels[1].hosts; len(got) != 2 || got[1] != 5 {
			t.Errorf("seed %d: priority 1 uses %v; unhealthy hosts come last", seed, got)
		}
		if got := levels[2].hosts; len(got) != 2 {
			t.Errorf("seed %d: priority 2 uses %v", seed, got)
		}
		for _, host := range []int{2, 5} {
			if got, v := p.Pick(&Input{Override: hosts[host].State}); got != host || v != Picked {
				t.Errorf("session of host %d: %d, %v", host, got, v)
			}
		}
	}
}

func TestWants(t *testing.T) {
	for _, test := range []struct {
		name       string
		c          Config
		priorities string
		health     string // h, u, d(egraded), x (draining)
		conns      string // r, i, c, f
		want       string
	}{
		{"one priority", Config{}, "000", "hhh", "iii", "[0 1 2]"},
		{"the next is not used", Config{}, "0011", "hhhh", "iiii", "[0 1]"},
		{"the next one helps out", Config{}, "00112", "hhhhh", "rfiii", "[0 1 2 3]"},
		{"the first one failed", Config{}, "00112", "hhhhh", "ffiii", "[0 1 2 3]"},
		{"all failed", Config{}, "00112", "hhhhh", "fffff", "[0 1 2 3 4]"},
		{"unhealthy and draining ones", Config{}, "0000", "huxd", "iiii", "[0 3]"},
		{"panic", Config{PanicThreshold: 50}, "0000", "huux", "iiii", "[0 1 2]"},
		{"none healthy", Config{}, "01", "uu", "ii", "[]"},
		{"none healthy, panic", Config{PanicThreshold: 1}, "01", "uu", "ii", "[0 1]"},
		{"none", Config{}, "", "", "", "[]"},
		{"hashing", Config{Policy: RingHash}, "0001", "hhhh", "irfi", "[2]"},
	} {
		hosts, conns := hostsOf(make([]uint32, len(test.health))...)
		for i := range hosts {
			hosts[i].Priority = uint32(test.priorities[i] - '0')
			hosts[i].Health = map[byte]Health{'h': Healthy, 'u': Unhealthy, 'd': Degraded, 'x': Draining}[test.health[i]]
			conns[i] = map[byte]ConnState{'r': Ready, 'i': Idle, 'c': Connecting, 'f': Failed}[test.conns[i]]
		}
		if got := fmt.Sprint(New(test.c, &State{}, hosts, conns, 0).Wants()); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}
