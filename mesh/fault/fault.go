// Package fault draws injected faults: a delay, an abort, or both (Envoy
// extensions.filters.http.fault.v3.HTTPFault, gRFC A33).
//
// This package makes no promise of a stable API.
package fault

import "time"

// Million is the denominator of every Fraction.
const Million = 1_000_000

// Fraction is a probability in millionths; Million and more is always.
type Fraction uint32

// Policy is the fault configuration of a route. It is not written after it was
// built. The zero Policy injects nothing.
type Policy struct {
	Delay         time.Duration
	DelayFraction Fraction

	// AbortHTTP is the HTTP status of an abort, or 0.
	AbortHTTP int
	// AbortGRPC is the gRPC status code of an abort, or -1. OK is an abort, too: the
	// call has no server, and so no answer.
	AbortGRPC     int
	AbortFraction Fraction
	// HeaderDelay and HeaderAbort leave the fault to the request: its headers say
	// how long, or with which status, and may lower the fraction. Delay and the
	// abort statuses are then not read (Envoy FaultDelay.HeaderDelay,
	// FaultAbort.HeaderAbort).
	HeaderDelay, HeaderAbort bool
	// DelayPer and AbortPer are what the percentages in headers are parts of, the
	// denominators of the configured ones; 0 means 100.
	DelayPer, AbortPer uint32
	// Meets tells whether a request is one that faults are for, by a look at its
	// headers, among them :path, :method, :authority and :scheme; nil: any is.
	Meets func(header func(name string) (value string, ok bool)) bool
	// Cluster is the only one whose calls are given faults; "" is any.
	Cluster string
	// MaxActive bounds the faults that are active at once; 0 means no limit.
	MaxActive uint32
}
