package retry

import (
	"math/bits"
	"slices"
	"time"

	"github.com/meshframe/meshframe/mesh/outcome"
)

// DefaultBaseInterval is the base of the backoff where a policy sets none.
const DefaultBaseInterval = 25 * time.Millisecond

// noResponse are the conditions of an attempt that the upstream did not answer.
const noResponse = outcome.Reset | outcome.ResetBeforeRequest | outcome.ConnectFailure |
	outcome.RefusedStream | outcome.PerTryTimeout

// Retriable reports whether the policy tries an attempt that ended so again. It
// does not count: the caller holds the number of retries to NumRetries.
//
// As in Envoy, 5xx, gateway-error and reset include every attempt that the
// upstream did not answer at all (its per-try timeout too), and an attempt that
// a circuit breaker refused is never tried again.
func (p *Policy) Retriable(a *outcome.Attempt) bool {
	if a.Conditions&outcome.Overflow != 0 {
		return false
	}
	on := p.On
	if on&(outcome.Server5xx|outcome.GatewayError|outcome.Reset) != 0 {
		on |= noResponse
	}
	if on&a.Conditions&^outcome.RetriableStatusCodes != 0 {
		return true
	}
	return on&outcome.RetriableStatusCodes != 0 && a.HTTPStatus != 0 &&
		slices.Contains(p.StatusCodes, int(a.HTTPStatus))
}

// Backoff is how long to wait before the given retry, which counts from 1:
// uniform in [0, min(BaseInterval*2^(retry-1), MaxInterval)).
func (p *Policy) Backoff(retry int, rnd func() uint64) time.Duration {
	base, limit := p.BaseInterval, p.MaxInterval
	if base <= 0 {
		base = DefaultBaseInterval
	}
	if limit <= 0 {
		limit = 10 * base
	}
	window := limit
	if shift := max(retry, 1) - 1; shift < 63 && base <= limit>>shift {
		window = base << shift
	}
	d, _ := bits.Mul64(rnd(), uint64(window))
	return time.Duration(d)
}
