// Package pick chooses an endpoint of a cluster: the load-balancing policies,
// weights, priorities and panic mode. It is told the state of each connection
// and never opens one.
//
// This package makes no promise of a stable API.
package pick

// Policy names a load-balancing algorithm.
type Policy uint8

// The policies (Envoy cluster.v3.Cluster.LbPolicy).
const (
	RoundRobin Policy = iota
	Random
	LeastRequest
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
