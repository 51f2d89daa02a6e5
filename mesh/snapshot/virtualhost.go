package snapshot

import (
	"cmp"
	"errors"
	"math/bits"
	"time"

	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/ratelimit"
	"github.com/meshframe/meshframe/mesh/retry"
	"github.com/meshframe/meshframe/mesh/route"
)

var (
	errNoCluster     = errors.New("the cluster does not exist or has not arrived")
	errNoDestination = errors.New("the route has no destination with a weight above zero")
)

// VirtualHostEntry is a compiled virtual host. It is immutable.
type VirtualHostEntry struct {
	Name         string
	AttemptCount bool
	// Err is why every call fails: the virtual host was refused and has no last
	// good version.
	Err error

	table  *route.Table
	routes []*RouteEntry
	names  []string       // clusters that routes can draw; RouteEntry refers to them by index
	slots  map[string]int // index in names
}

// Find returns the first route that the request meets, or nil.
func (h *VirtualHostEntry) Find(r *route.Request, rnd func() uint64) *RouteEntry {
	if i := h.table.Find(r, rnd); i >= 0 {
		return h.routes[i]
	}
	return nil
}

// Cluster is the name of the cluster of a destination of the virtual host's routes;
// "" if the route forwards nothing.
func (h *VirtualHostEntry) Cluster(d *Destination) string {
	if d.cluster < 0 {
		return ""
	}
	return h.names[d.cluster]
}

// RouteEntry is a compiled route. It is immutable.
type RouteEntry struct {
	Name        string
	VirtualHost string // its name
	Match       *route.Match
	// Timeout is in force for the route: its own, else the listener's; 0 is none.
	Timeout           time.Duration
	HasMaxGRPCTimeout bool
	MaxGRPCTimeout    time.Duration
	GRPCTimeoutOffset time.Duration
	Retry             *retry.Policy // its own, else the virtual host's; nil is none
	// Hedge makes a per-try timeout, if there is one, start another attempt beside
	// the first.
	Hedge bool
	// Err is why calls that the route catches fail: it was refused and has no
	// last good version, or it leads nowhere.
	Err error

	destinations []Destination // without those of weight 0
	total        uint64        // sum of their weights
	hash         []HashPolicy  // its own, else the virtual host's
	declared     *retry.Policy // see Declared
	once         *retry.Policy // see RetryFor
	longest      time.Duration // see Within
	elsewhere    *elsewhere    // nil: all destinations have the same actions
}

// RetryFor is the policy for a request; nil is none. Of one that Retry is not for
// attempts have their time, and are not followed by others.
func (r *RouteEntry) RetryFor(q *route.Request) *retry.Policy {
	if r.Retry == nil || r.Retry.Meets == nil {
		return r.Retry
	}
	own := *q // on the heap, not the caller's
	if r.Retry.Meets(own.Header) {
		return r.Retry
	}
	return r.once
}

// Declared is the policy of the route, else of its virtual host, though it may do
// nothing by itself; nil is none.
func (r *RouteEntry) Declared() *retry.Policy { return r.declared }

// Within is the time that a call has which asks for d, 0 being without end, in place
// of Timeout.
func (r *RouteEntry) Within(d time.Duration) time.Duration {
	if r.longest > 0 && (d == 0 || d > r.longest) {
		return r.longest
	}
	return d
}

// once is what remains of a policy without its retries; nil is nothing.
func once(p *retry.Policy) *retry.Policy {
	if p == nil || p.Meets == nil || p.PerTryTimeout == 0 {
		return nil
	}
	return &retry.Policy{PerTryTimeout: p.PerTryTimeout}
}

// draw chooses a destination by weight.
func (r *RouteEntry) draw(rnd func() uint64) *Destination {
	if len(r.destinations) == 1 {
		return &r.destinations[0]
	}
	share, _ := bits.Mul64(rnd(), r.total)
	i := 0
	for r.destinations[i].end <= share {
		i++
	}
	return &r.destinations[i]
}

// defaults are what a listener and a route configuration set for all routes.
type defaults struct {
	fault             *fault.Policy
	rateLimit         *ratelimit.Policy
	session           *Session
	maxStreamDuration time.Duration
	inbound           bool
	live              *Live

	requestHeaders, responseHeaders *HeaderEdits
	specificLast                    bool
}

// compileHost compiles a virtual host in force.
func compileHost(spec *hostSpec, d defaults) *VirtualHostEntry {
	h := &VirtualHostEntry{Name: spec.name, AttemptCount: spec.source.AttemptCount, Err: spec.err}
	h.names = spec.clusterNames()
	h.slots = make(map[string]int, len(h.names))
	for i, name := range h.names {
		h.slots[name] = i
	}
	matches := make([]route.Match, len(spec.routes))
	h.routes = make([]*RouteEntry, len(spec.routes))
	for i, r := range spec.routes {
		matches[i] = r.Match
		c := routeCompiler{defaults: d, host: h, vh: spec.source, route: r}
		h.routes[i] = c.compile()
	}
	h.table = route.Compile(matches)
	return h
}

// effectiveTimeout returns the deadline of a route, else that of its listener;
// 0 is none.
func effectiveTimeout(own, inherited time.Duration) time.Duration {
	if own == 0 {
		own = inherited
	}
	return max(own, 0)
}

// effectiveRetry returns the policy of a route, else that of its virtual host;
// nil if it does nothing.
func effectiveRetry(own, inherited *retry.Policy) *retry.Policy {
	p := cmp.Or(own, inherited)
	if p == nil || (p.NumRetries == 0 || p.On == 0) && p.PerTryTimeout == 0 {
		return nil
	}
	return p
}

// effectiveFault returns the most specific policy. Without the listener's
// filter there is none.
func effectiveFault(listener *fault.Policy, specific ...*fault.Policy) *fault.Policy {
	if listener == nil {
		return nil
	}
	policy := listener
	for _, p := range specific {
		if p != nil {
			policy = p
		}
	}
	return policy
}
