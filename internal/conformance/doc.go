// Package conformance holds what every road into the mesh must do: a table of
// rows, each of Istio's YAML, servers that behave in some way, calls, and what
// must come of them, with Envoy's semantics. A row says nothing of the protocol
// that carries its calls; a Road plays it from YAML over the control plane and
// the wire to the call. Today the roads are unary calls and streams of gRPC through
// the library. The tests of net/http and of the sidecar bring roads of their own
// and play the same rows.
//
// Rows are in testdata, a file for each kind of policy, documented at type Row.
// They are played in a bubble of testing/synctest: waits take no time, and
// durations are compared to the nanosecond where nothing is random.
//
// This package makes no promise of a stable API.
package conformance
