// Package breaker holds a cluster's circuit breaker limits and the counters
// that enforce them (Envoy cluster.v3.CircuitBreakers, gRFC A32).
//
// This package makes no promise of a stable API.
package breaker

import (
	"math"
	"time"
)

// Unlimited is the value of a limit that is not configured.
const Unlimited = math.MaxUint32

// Limits are the thresholds of one cluster at default priority. Use
// NoLimits as the starting point: a zero limit admits nothing.
type Limits struct {
	MaxConnections     uint32 // for those beyond the first of each endpoint
	MaxPendingRequests uint32
	MaxRequests        uint32
	MaxRetries         uint32
	// With HasBudget, MaxRetries gives way to a budget: active retries may be at
	// most BudgetPercent of the active and pending attempts, and MinRetries in any
	// case (Envoy RetryBudget; defaults 20 % and 3).
	HasBudget     bool
	BudgetPercent float64
	MinRetries    uint32
	// BudgetInterval makes the budget a share of the attempts that began in the
	// last BudgetInterval, whether they have ended or not, in place of those active
	// and pending (Envoy budget_interval); 0 is off.
	BudgetInterval time.Duration
}

// NoLimits is what Istio means by an absent connectionPool.
var NoLimits = Limits{MaxConnections: Unlimited, MaxPendingRequests: Unlimited, MaxRequests: Unlimited, MaxRetries: Unlimited}

// HalfOpen configures a breaker that opens by error ratio, refuses calls for a
// while, then lets a few through to see whether they succeed. It is an extension
// of ours.
type HalfOpen struct {
	MinVolume    uint32        // calls in a window below which it stays closed; default 10
	ErrorPercent float64       // share of failures that opens it; default 10
	Window       time.Duration // default 10 s
	OpenFor      time.Duration // default 10 s
	Probes       uint32        // calls that must succeed to close it; default 3
}
