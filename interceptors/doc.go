// Package interceptors puts the engine in the path of a call. The client
// interceptors decide (route, cluster, deadline, faults, retries), carry the
// decision in the context to the balancer's picker, make the attempts and end
// the call; the server interceptors run before the application's own.
//
// This package makes no promise of a stable API.
package interceptors
