package retry

import (
	"math"
	"math/bits"
	"slices"
	"strconv"
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
// upstream did not answer at all (its per-try timeout too), one whose answer says
// that the rate is limited is tried again only if that is a condition, and one that
// a circuit breaker refused, or that found no host, never. A nil Policy tries nothing
// again.
func (p *Policy) Retriable(a *outcome.Attempt) bool {
	if p == nil || a.Conditions&(outcome.Overflow|outcome.NoHost) != 0 {
		return false
	}
	if a.Conditions&outcome.EnvoyRateLimited != 0 {
		return p.On&outcome.EnvoyRateLimited != 0
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

// DefaultMaxResetInterval is the longest wait that a reset header may ask for
// where a policy sets none.
const DefaultMaxResetInterval = 300 * time.Second

// RetriableResponse reports whether the headers of a response make its attempt
// retriable; header looks them up by lower-case name. Then
// outcome.RetriableHeaders belongs to the attempt's conditions.
func (p *Policy) RetriableResponse(header func(name string) (string, bool)) bool {
	if p.On&outcome.RetriableHeaders == 0 {
		return false
	}
	for i := range p.Headers {
		if p.Headers[i].holds(header) {
			return true
		}
	}
	return false
}

// holds reports whether the response meets the condition. A header that is
// absent never meets it, but for an inverted one without Match.
func (m *HeaderMatch) holds(header func(name string) (string, bool)) bool {
	value, ok := header(m.Name)
	switch {
	case m.Match == nil:
		return ok != m.Invert
	case !ok:
		return false
	}
	return m.Match(value) != m.Invert
}

// ResetAfter is how long the response asks to wait before the next attempt; ok
// is false if it does not, or asks for none or for more than the policy admits.
// Wait for ResetBackoff of it, in place of Backoff.
func (p *Policy) ResetAfter(header func(name string) (string, bool), now time.Time) (after time.Duration, ok bool) {
	limit := p.MaxResetInterval
	if limit <= 0 {
		limit = DefaultMaxResetInterval
	}
	for i := range p.ResetHeaders {
		if d, ok := p.ResetHeaders[i].read(header, now); ok && d <= limit {
			return d, d > 0
		}
	}
	return 0, false
}

func (r *ResetHeader) read(header func(name string) (string, bool), now time.Time) (time.Duration, bool) {
	text, ok := header(r.Name)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if r.Unix {
		n -= now.Unix()
	}
	if err != nil || n < 0 || r.Unix && n == 0 || n > math.MaxInt64/int64(time.Second) {
		return 0, false
	}
	return time.Duration(n) * time.Second, true
}

// ResetBackoff spreads a wait that a response asked for over [after, 1.5*after),
// so that not all who were told the same come back at once.
func ResetBackoff(after time.Duration, rnd func() uint64) time.Duration {
	more, _ := bits.Mul64(rnd(), uint64(after/2))
	return after + time.Duration(more)
}
