// Package outcome holds the one record of an attempt that everything after a
// call reads: outlier detection, retry policies, circuit breakers and
// telemetry. It sits after the attempt in the flow and imports nothing.
//
// This package makes no promise of a stable API.
package outcome

import "time"

// Condition is a set of the conditions that Envoy's retry_on names. The edge
// that made the attempt (gRPC, HTTP) sets every condition that holds; policies
// only intersect sets, so no protocol is known here.
type Condition uint32

// The conditions, named as in Envoy's x-envoy-retry-on and
// x-envoy-retry-grpc-on.
const (
	Server5xx             Condition = 1 << iota // 5xx, read from the gRPC status mapped to HTTP
	GatewayError                                // 502, 503, 504
	Reset                                       // no response headers arrived: disconnect, reset, or read timeout
	ResetBeforeRequest                          // reset before any byte of the request was sent
	ConnectFailure                              // no connection could be established
	RefusedStream                               // REFUSED_STREAM
	Retriable4xx                                // 409
	EnvoyRateLimited                            // x-envoy-ratelimited was present
	GRPCCancelled                               // cancelled
	GRPCDeadlineExceeded                        // deadline-exceeded
	GRPCInternal                                // internal
	GRPCResourceExhausted                       // resource-exhausted
	GRPCUnavailable                             // unavailable
	RetriableStatusCodes                        // only in policies: consult the list of codes
	RetriableHeaders                            // only in policies: consult the list of headers
	PerTryTimeout                               // the per-try timeout ended the attempt
	Overflow                                    // a circuit-breaker limit refused the attempt; never retried
	NoHost                                      // there was no host to try; never retried
)

// Attempt is what is known of one attempt when it has ended.
type Attempt struct {
	// HTTPStatus is the response status as an HTTP client would read it: the
	// real one for HTTP, the gRPC status mapped to HTTP for gRPC. 0 if there
	// was no response.
	HTTPStatus int32
	// GRPCStatus is the gRPC status code, or -1 for calls that are not gRPC.
	GRPCStatus int32
	// Conditions are the retry conditions that hold.
	Conditions Condition
	// LocalOrigin reports that the failure was seen on this side and not
	// answered by the upstream: connect failure, reset, local timeout.
	LocalOrigin bool
	// Duration is the time from the pick to the end of the attempt.
	Duration time.Duration
}

// Unsent reports whether the caller could not send the request: there is nothing to be
// said of the upstream, and no use in trying again. Such an attempt has neither a
// response nor a condition.
func (a *Attempt) Unsent() bool {
	return a.LocalOrigin && a.HTTPStatus == 0 && a.Conditions == 0
}

// Failed reports whether the attempt counts as an error for the default,
// non-split outlier detection: a 5xx (mapped for gRPC) or a failure without a
// response.
func (a *Attempt) Failed() bool {
	return a.HTTPStatus >= 500 || a.Conditions&(Server5xx|ConnectFailure|Reset|RefusedStream) != 0
}
