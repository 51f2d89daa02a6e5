package mesh

import (
	"errors"
	"time"

	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/retry"
	"github.com/meshframe/meshframe/mesh/route"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// Request is the call to decide. An empty Authority is the target's.
type Request = route.Request

// Decision is what was decided about a call. It refers to the snapshot it came
// from and stays valid for as long as the call wants it.
type Decision struct {
	// Upstream is the cluster drawn; nil if Err is set, and for routes of
	// inbound listeners, which serve the call themselves.
	Upstream *snapshot.Upstream
	// Route is the route that matched; nil if none did.
	Route       *snapshot.RouteEntry
	VirtualHost string
	// Timeout is the deadline of the call including its retries; 0 is none.
	Timeout time.Duration
	// MaxGRPCTimeout bounds the caller's own deadline if HasMaxGRPCTimeout; 0
	// then means the caller's deadline is used as it is (gRFC A31).
	HasMaxGRPCTimeout bool
	// AttemptCount asks for the x-envoy-attempt-count request header.
	AttemptCount   bool
	MaxGRPCTimeout time.Duration
	Retry          *retry.Policy   // nil: none
	Fault          *fault.Injector // nil: none
	// Err is a *RouteError if the call cannot be sent anywhere.
	Err error
}

var (
	errNotConfigured = errors.New("none has arrived yet")
	errNotSubscribed = errors.New("only the clusters of the target's own virtual host are followed")
)

// Decide decides one call by snapshot s and writes the decision to d. It takes
// no lock and, unless the call fails or a regular expression is matched,
// allocates nothing. A nil snapshot fails the call.
func (e *Engine) Decide(s *snapshot.Snapshot, r *Request, d *Decision) {
	*d = Decision{}
	if s == nil || s.Err != nil {
		d.Err = notConfigured(s, r)
		return
	}
	if r.Authority == "" {
		own := *r
		own.Authority = s.Authority
		r = &own
	}
	host := s.VirtualHost(r.Authority)
	if host == nil {
		d.Err = newRouteError(NoVirtualHost, s, r, d, nil)
		return
	}
	d.VirtualHost, d.AttemptCount = host.Name, host.AttemptCount
	if host.Err != nil {
		d.Err = newRouteError(Refused, s, r, d, host.Err)
		return
	}
	d.Route = host.Find(r, e.rnd)
	if d.Route == nil {
		d.Err = newRouteError(NoRoute, s, r, d, nil)
		return
	}
	e.decideRoute(s, host, r, d)
}

func (e *Engine) decideRoute(s *snapshot.Snapshot, host *snapshot.VirtualHostEntry, r *Request, d *Decision) {
	entry := d.Route
	if entry.Err != nil {
		d.Err = newRouteError(Refused, s, r, d, entry.Err)
		return
	}
	d.Timeout = entry.Timeout
	d.HasMaxGRPCTimeout, d.MaxGRPCTimeout = entry.HasMaxGRPCTimeout, entry.MaxGRPCTimeout
	d.Retry = entry.Retry
	var cluster string
	cluster, d.Upstream, d.Fault = s.Draw(host, entry, e.rnd)
	switch up := d.Upstream; {
	case up == nil && cluster != "":
		d.Err = newClusterError(s, r, d, cluster, errNotSubscribed)
	case up != nil && up.Err != nil:
		d.Upstream, d.Err = nil, newClusterError(s, r, d, cluster, up.Err)
	}
}
