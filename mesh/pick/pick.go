// Package pick chooses an endpoint of a cluster: the load-balancing policies,
// weights, localities, priorities, panic mode, slow start, subsets and sessions,
// with the semantics of Envoy. In the flow it stands between the decision, which
// draws the cluster, and the attempt. It is told the state of each connection
// and never opens one.
//
// A host to which connecting failed is not available, as if it were unhealthy:
// that decides how calls spill over between priorities and localities, and when
// panic begins. One that is idle or connecting is available; until it is ready,
// the others that are take its calls.
//
// This package makes no promise of a stable API.
package pick

import "time"

// Policy names a load-balancing algorithm.
type Policy uint8

// The policies (Envoy cluster.v3.Cluster.LbPolicy).
const (
	RoundRobin Policy = iota
	Random
	LeastRequest
	RingHash
	Maglev
	PeakEWMA
	ClientSideWeightedRoundRobin
)

// Config is the load-balancing configuration of a cluster.
type Config struct {
	Policy Policy
	// ChoiceCount is how many hosts LeastRequest compares; default and least 2,
	// at most 100.
	ChoiceCount uint32
	// PanicThreshold is the percentage of available hosts under which all
	// hosts are used; Envoy's default is 50, Istio's 0 (off).
	PanicThreshold uint32
	// ActiveRequestBias is how strongly LeastRequest with unequal weights counts
	// attempts in flight; default 1, 0 (with HasActiveRequestBias) ignores them
	// (Envoy active_request_bias). Other values count with equal weights too.
	HasActiveRequestBias bool
	ActiveRequestBias    float64
	// MinRingSize and MaxRingSize bound the ring of RingHash; defaults 1024 and
	// 8 Mi entries. Murmur2 selects MURMUR_HASH_2 instead of xxHash.
	MinRingSize, MaxRingSize uint64
	Murmur2                  bool
	// HashByHostname hashes hosts by their host name (Envoy
	// use_hostname_for_hashing).
	HashByHostname bool
	// TableSize is that of Maglev, a prime; default 65537.
	TableSize uint64
	// Decay is the time constant of PeakEWMA's averages; default 10 s.
	Decay time.Duration
	// Utilization is for ClientSideWeightedRoundRobin; without it that is RoundRobin.
	// Others must have none.
	Utilization *Utilization
	// SlowStart ramps up hosts that are new; nil is off.
	SlowStart *SlowStart
	// LocalityWeighted gives localities calls by their weight, and the hosts of a
	// locality by theirs (Envoy locality_weighted_lb_config).
	LocalityWeighted bool
	// SubsetSize is how many hosts of each priority this process uses, chosen by
	// rendezvous hashing; 0 is all (gRFC A68).
	SubsetSize uint32
	// OverrideHealth is the health that the host of a session may have (Envoy
	// override_host_status); 0 is healthy and degraded.
	OverrideHealth HealthSet
}

// Times reports whether the policy learns from how long attempts take, which
// Picker.DoneAfter tells it.
func (c *Config) Times() bool { return c.Policy == PeakEWMA }

// SlowStart raises the weight of a host in the course of Window after it became
// usable: weight * max(MinWeightPercent/100, (elapsed/Window)^(1/Aggression))
// (Envoy slow_start_config). Envoy has it for RoundRobin, LeastRequest and
// ClientSideWeightedRoundRobin; here it works with Random and PeakEWMA too. The
// policies that hash ignore it: a weight that changes would move requests from host
// to host.
type SlowStart struct {
	Window           time.Duration
	Aggression       float64 // default 1
	MinWeightPercent float64 // default 10
}

// ConnState is the state of the connection to a host as the transport's edge
// knows it.
type ConnState uint8

// The connection states (gRPC connectivity). A host that failed should stay
// Failed until it is Ready again, so that it is not waited for meanwhile.
const (
	Idle ConnState = iota
	Connecting
	Ready
	Failed
)
