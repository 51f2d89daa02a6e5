package pick

import (
	"sync/atomic"
	"time"
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

// HostState is the live state of a host: it outlives configurations, and its
// address is the host's identity. It must not be copied.
type HostState struct {
	// InFlight counts the attempts on the host that a least-request picker chose.
	InFlight atomic.Int64
	// Ejected is set while outlier detection keeps the host out. Whoever changes
	// it calls State.Changed of the cluster afterwards.
	Ejected atomic.Bool

	since atomic.Int64 // when the host became usable, in Unix nanoseconds; 0 is unknown
}

// SetSince tells when the host became usable, from where slow start counts.
// Without it, slow start counts from the first pick that could choose the host.
func (s *HostState) SetSince(t time.Time) { s.since.Store(t.UnixNano()) }

// State is the live state of a cluster: it lets pickers go on where the
// previous one stopped and tells them of ejections. It must not be copied.
type State struct {
	next    atomic.Uint64 // position in the rotation
	changes atomic.Uint64 // counts changes of any HostState.Ejected
}

// Seed sets where rotations start. It is meant for a new State, so that many
// clients do not all begin with the same host.
func (s *State) Seed(n uint64) { s.next.Store(n) }

// Changed tells the cluster's pickers that an ejection began or ended.
func (s *State) Changed() { s.changes.Add(1) }
