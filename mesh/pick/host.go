package pick

import (
	"sync"
	"sync/atomic"
	"time"
	"weak"

	"github.com/meshframe/meshframe/mesh/stripe"
)

// Health is the health of a host as the control plane reports it.
type Health uint8

// The health states that matter to picking. Degraded hosts are used when no
// healthy one is usable, unhealthy ones only in panic. Draining hosts get no
// new calls; connections to them stay until their calls end.
const (
	Healthy Health = iota
	Unhealthy
	Draining
	Degraded
)

// HealthSet is a set of health states: bit 1<<h is set for each of them.
type HealthSet uint8

// Has reports whether h is in the set.
func (s HealthSet) Has(h Health) bool { return s&(1<<h) != 0 }

// Host is one endpoint of a cluster, as far as picking goes.
type Host struct {
	Address  string // what hash policies hash, unless HashKey or HashByHostname says otherwise
	Hostname string // hashed instead of Address with Config.HashByHostname; may be empty
	HashKey  string // hashed instead of either (Envoy's endpoint metadata hash_key); may be empty
	Locality string // any key; hosts of equal priority and key are one locality
	// LocalityWeight is the weight of the host's locality, the same for all its
	// hosts; it matters with Config.LocalityWeighted, and there 0 means no calls.
	LocalityWeight uint32
	Weight         uint32 // 0 counts as 1
	Priority       uint32 // lower numbers are used first
	Health         Health
	State          *HostState
}

// hashKey is what hash policies know the host by.
func (h *Host) hashKey(byHostname bool) string {
	switch {
	case h.HashKey != "":
		return h.HashKey
	case byHostname && h.Hostname != "":
		return h.Hostname
	}
	return h.Address
}

// health is the host's health now.
func (h *Host) health() Health {
	if h.State.Ejected.Load() && h.Health != Draining {
		return Unhealthy
	}
	return h.Health
}

// HostState is the live state of a host: it outlives configurations, and its
// address is the host's identity. It must not be copied.
type HostState struct {
	// InFlight counts the attempts on the host that a LeastRequest or PeakEWMA
	// picker chose.
	InFlight atomic.Int64
	// Ejected is set while outlier detection keeps the host out. Whoever changes
	// it calls State.Changed of the cluster afterwards.
	Ejected atomic.Bool

	since    atomic.Int64 // when the host became usable, in Unix nanoseconds; 0 is unknown
	latency  peakEWMA
	reported reported
}

// SetSince tells when the host became usable, from where slow start counts.
// Without it, slow start counts from the first pick that could choose the host.
func (s *HostState) SetSince(t time.Time) { s.since.Store(t.UnixNano()) }

// State is the live state of a cluster: it lets pickers go on where the
// previous one stopped and tells them of ejections. It must not be copied.
type State struct {
	next    stripe.Sequence // position in the rotation
	changes atomic.Uint64   // counts changes of any HostState.Ejected
	seed    uint64          // chooses subsets

	// What pickers computed and others of the same hosts can use, as long as one
	// of them lives.
	mu      sync.Mutex
	sets    []weak.Pointer[hostSet]
	circles []weak.Pointer[circle]
}

// Seed sets where rotations start and which subsets are chosen. It is meant for
// a new State, so that many clients do not all begin with the same host.
func (s *State) Seed(n uint64) {
	s.next.Start(n)
	s.seed = n
}

// Changed tells the cluster's pickers that an ejection began or ended.
func (s *State) Changed() { s.changes.Add(1) }

// setOf returns the set of a list of hosts, known or new.
func (s *State) setOf(c *Config, hosts []Host) *hostSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	is := func(have *hostSet) bool {
		return len(have.hosts) == len(hosts) && (len(hosts) == 0 || &have.hosts[0] == &hosts[0]) && have.config == *c
	}
	return recall(&s.sets, is, func() *hostSet { return newHostSet(c, s, hosts) })
}

// circleOf returns the circle that spec describes, known or new.
func (s *State) circleOf(spec *circleSpec) *circle {
	s.mu.Lock()
	defer s.mu.Unlock()
	return recall(&s.circles, func(have *circle) bool { return have.spec.equal(spec) }, func() *circle { return newCircle(spec) })
}

// recall returns the value of a list that is the one asked for, else makes it.
// Values that nobody holds any more fall out of the list.
func recall[T any](list *[]weak.Pointer[T], is func(*T) bool, create func() *T) *T {
	kept := (*list)[:0]
	var found *T
	for _, p := range *list {
		v := p.Value()
		if v == nil {
			continue
		}
		kept = append(kept, p)
		if found == nil && is(v) {
			found = v
		}
	}
	if found == nil {
		found = create()
		kept = append(kept, weak.Make(found))
	}
	*list = kept
	return found
}
