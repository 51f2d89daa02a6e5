// Package mesh is the engine: it decides calls. Updates go in (Apply), an
// immutable snapshot comes out; for each call Decide finds the route in the
// snapshot and draws its cluster, the cluster's picker chooses an endpoint, and
// Report takes the outcome of each attempt, which outlier detection acts on at
// once or at the next Tick. What a route does beside forwarding is in the
// decision's Actions; an edge takes them in this order: rate limit (Admit), faults,
// redirect or direct response, header edits and rewrites, mirrors (DecideMirror,
// KeyMirror), then the cluster's gate and limits, pick, retries and
// hedges; a call that finds no host, or an open gate, falls back (DecideFallback).
//
//	Update -> Apply -> Snapshot -> Decide -> Decision -> Pick -> attempt -> Report
//
// The engine opens no socket, starts no goroutine, reads no clock and knows no
// protocol: time and randomness come in, statuses are mapped at the edges. On
// the path of a call it takes no lock and, where no rule needs it, allocates
// nothing. All of it is safe for concurrent use.
//
// This package makes no promise of a stable API.
package mesh
