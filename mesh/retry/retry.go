// Package retry decides whether an attempt that ended is tried again, and
// after which backoff. It is told what happened and draws from the random
// source it is given; it keeps no clock.
//
// This package makes no promise of a stable API.
package retry

import (
	"time"

	"github.com/meshframe/meshframe/mesh/outcome"
)

// Policy is a retry policy (Envoy route.v3.RetryPolicy, gRFC A44). It is not
// written after it was built.
type Policy struct {
	// On are the conditions that make an attempt retriable.
	On outcome.Condition
	// StatusCodes are the HTTP statuses that are retried if On holds
	// outcome.RetriableStatusCodes.
	StatusCodes []int
	// NumRetries is the greatest number of retries after the first attempt.
	NumRetries uint32
	// PerTryTimeout bounds each attempt; 0 means only the call's own deadline.
	PerTryTimeout time.Duration
	// BaseInterval and MaxInterval shape the backoff before retry n: uniform in
	// [0, min(BaseInterval*2^(n-1), MaxInterval)). Defaults 25 ms and ten times
	// the base (Envoy retry_back_off).
	BaseInterval, MaxInterval time.Duration
	// AvoidPreviousHosts avoids hosts that were already tried (Envoy's
	// previous_hosts predicate), for at most HostSelectionAttempts re-picks.
	AvoidPreviousHosts    bool
	HostSelectionAttempts uint32
	// AvoidPreviousPriorities leaves the priorities of failed attempts out while
	// another has usable hosts (Envoy retry_priority previous_priorities).
	AvoidPreviousPriorities bool
	// PriorityUpdates is after how many failed attempts each the priorities that are
	// left out become more (Envoy update_frequency); 0 is 1.
	PriorityUpdates uint32
	// Meets tells whether a request is one that is retried, by a look at its
	// headers, among them :path, :method, :authority and :scheme; nil: any is (Envoy
	// retriable_request_headers).
	Meets func(header func(name string) (value string, ok bool)) bool
	// Headers are response headers of which any makes an attempt retriable, if On
	// holds outcome.RetriableHeaders.
	Headers []HeaderMatch
	// ResetHeaders are response headers that say how long to wait, up to
	// MaxResetInterval (default 300 s), in place of the backoff (Envoy
	// rate_limited_retry_back_off). The first that can be read counts.
	ResetHeaders     []ResetHeader
	MaxResetInterval time.Duration
}

// Avoids reports whether retries have to know where the attempts before them were.
// A nil Policy avoids none.
func (p *Policy) Avoids() bool {
	return p != nil && (p.AvoidPreviousHosts || p.AvoidPreviousPriorities)
}

// Left is of how many of so many failed attempts, the first ones, the priorities are
// left out.
func (p *Policy) Left(tried int) int {
	if !p.AvoidPreviousPriorities {
		return 0
	}
	return tried - tried%int(max(p.PriorityUpdates, 1))
}

// HeaderMatch is a condition on a response header.
type HeaderMatch struct {
	Name   string                  // lower case
	Match  func(value string) bool // nil: the header is there
	Invert bool
}

// ResetHeader is a response header that tells when to try again.
type ResetHeader struct {
	Name string // lower case
	Unix bool   // a time in seconds since 1970; otherwise a number of seconds
}
