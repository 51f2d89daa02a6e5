// Package breaker holds a cluster's circuit breaker limits and the counters
// that enforce them (Envoy cluster.v3.CircuitBreakers, gRFC A32).
//
// This package makes no promise of a stable API.
package breaker

import "math"

// Unlimited is the value of a limit that is not configured.
const Unlimited = math.MaxUint32

// Limits are the thresholds of one cluster at default priority. Use
// NoLimits as the starting point: a zero limit admits nothing.
type Limits struct {
	MaxConnections     uint32 // reported, not enforced: one connection per endpoint
	MaxPendingRequests uint32
	MaxRequests        uint32
	MaxRetries         uint32
}

// NoLimits is what Istio means by an absent connectionPool.
var NoLimits = Limits{Unlimited, Unlimited, Unlimited, Unlimited}
