package pick

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// hostSet is what a list of hosts says by itself, whatever their connections
// and ejections: it is computed once for all pickers over the list.
type hostSet struct {
	config Config
	state  *State
	hosts  []Host
	levels []priority // by number
	places []int32    // of each host: its locality among those of its priority; nil unless LocalityWeighted
	index  func() map[*HostState]int32
	// weights are those of ClientSideWeightedRoundRobin; nil until a call has come.
	weights atomic.Pointer[weights]
}

// priority holds the hosts of one priority. Those that drain, or that the
// channel's subset leaves out, are nowhere in it.
type priority struct {
	number     uint32
	hosts      []int32 // ascending
	localities []locality
	wheel      func() *wheel
}

// locality is one of the localities of a priority.
type locality struct {
	weight uint32
	size   int    // number of its hosts
	sum    uint64 // of their weights
}

func newHostSet(c *Config, s *State, hosts []Host) *hostSet {
	set := &hostSet{config: *c, state: s, hosts: hosts}
	set.index = sync.OnceValue(set.indexHosts)
	set.sortHosts()
	if c.LocalityWeighted {
		set.place()
	}
	for i := range set.levels {
		l := &set.levels[i]
		l.wheel = sync.OnceValue(func() *wheel { return newWheel(set, l) })
	}
	return set
}

// indexHosts finds hosts by their identity. It is needed for retries and
// sessions only.
func (s *hostSet) indexHosts() map[*HostState]int32 {
	index := make(map[*HostState]int32, len(s.hosts))
	for i := range s.hosts {
		index[s.hosts[i].State] = int32(i)
	}
	return index
}

// sortHosts sorts the hosts by priority.
func (s *hostSet) sortHosts() {
	for i := range s.hosts {
		h := &s.hosts[i]
		if h.Health == Draining {
			continue
		}
		at, found := s.levelOf(h.Priority)
		if !found {
			s.levels = slices.Insert(s.levels, at, priority{number: h.Priority})
		}
		s.levels[at].hosts = append(s.levels[at].hosts, int32(i))
	}
	if s.config.SubsetSize == 0 {
		return
	}
	for i := range s.levels {
		s.levels[i].hosts = s.subset(s.levels[i].hosts)
	}
}

// levelOf finds the level of a priority, or where it would stand.
func (s *hostSet) levelOf(number uint32) (at int, found bool) {
	return slices.BinarySearchFunc(s.levels, number, func(l priority, n uint32) int { return cmp.Compare(l.number, n) })
}

// subset chooses the hosts of a priority that this process uses, by rendezvous
// hashing: a host more or less moves at most one other (gRFC A68). Unhealthy
// hosts are chosen last.
func (s *hostSet) subset(hosts []int32) []int32 {
	if len(hosts) <= int(s.config.SubsetSize) {
		return hosts
	}
	type ranked struct {
		host int32
		last bool
		hash uint64
	}
	order := make([]ranked, len(hosts))
	digest := xxhash.New()
	for i, host := range hosts {
		h := &s.hosts[host]
		digest.ResetWithSeed(s.state.seed)
		_, _ = digest.WriteString(h.Address) // cannot fail
		order[i] = ranked{host, h.Health == Unhealthy, digest.Sum64()}
	}
	slices.SortFunc(order, func(a, b ranked) int {
		if a.last != b.last {
			return compareBool(a.last, b.last)
		}
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.host, b.host))
	})
	chosen := make([]int32, s.config.SubsetSize)
	for i := range chosen {
		chosen[i] = order[i].host
	}
	slices.Sort(chosen)
	return chosen
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	}
	return -1
}

// place gives each host its locality.
func (s *hostSet) place() {
	s.places = make([]int32, len(s.hosts))
	for i := range s.levels {
		l := &s.levels[i]
		known := map[string]int32{}
		for _, host := range l.hosts {
			h := &s.hosts[host]
			at, ok := known[h.Locality]
			if !ok {
				at = int32(len(l.localities))
				known[h.Locality] = at
				l.localities = append(l.localities, locality{weight: h.LocalityWeight})
			}
			l.localities[at].size++
			l.localities[at].sum += weightOf(h)
			s.places[host] = at
		}
	}
}

func weightOf(h *Host) uint64 { return uint64(max(h.Weight, 1)) }
