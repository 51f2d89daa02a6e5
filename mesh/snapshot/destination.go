package snapshot

import (
	"cmp"
	"slices"
	"time"

	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/ratelimit"
	"github.com/meshframe/meshframe/mesh/retry"
)

// Destination is one weighted cluster of a route with what holds for the calls
// that are sent there. A route that forwards nothing has one too. It is
// immutable.
type Destination struct {
	Fault   *fault.Injector // nil: none
	Actions *Actions        // nil: none

	cluster int    // index in VirtualHostEntry.names; below 0 the route forwards nothing
	end     uint64 // running sum of the weights
}

// Actions are what a route does to a call beside forwarding it: compiled from
// route configuration, virtual host, route and weighted cluster, so that a call
// reads one object. It is immutable.
type Actions struct {
	// RequestHeaders and ResponseHeaders are the edits of all levels, in the
	// order in which they are to be applied.
	RequestHeaders, ResponseHeaders []*HeaderEdits
	Redirect                        *Redirect       // nil: none
	DirectResponse                  *DirectResponse // nil: none
	Mirrors                         []Mirror
	// Hedge makes the per-try timeout, which there is, start another attempt beside
	// the first.
	Hedge bool
	// IdleTimeout ends a stream on which nothing was sent or received for so
	// long; 0 is none.
	IdleTimeout time.Duration
	RateLimit   *ratelimit.Limiter // nil: none
	// Session is the route's own; see mesh.Decision.Session for the one in force.
	Session *Session
	// Fallback is the route's own; see mesh.Decision.Fallback for the one in
	// force.
	Fallback *Fallback

	path, redirectPath *pathRewrite // nil: none
	host               string
	answers            bool
	shapes             bool
	asks               bool
}

// Answers reports whether a call may get its answer from the route itself: from its
// rate limit, redirect or direct response.
func (a *Actions) Answers() bool { return a.answers }

// Shapes reports whether the call, or its answer, is sent otherwise than as it
// is, or more than once at a time. The rest of the actions comes before a call or
// after its failure.
func (a *Actions) Shapes() bool { return a.shapes }

// Asks reports whether the edits of the request's headers concern those by which a
// request asks for another policy (see retry.IsRequestHeader).
func (a *Actions) Asks() bool { return a != nil && a.asks }

// asks reports whether edits concern such headers.
func asks(edits []*HeaderEdits) bool {
	return slices.ContainsFunc(edits, func(h *HeaderEdits) bool {
		return slices.ContainsFunc(h.Remove, retry.IsRequestHeader) ||
			slices.ContainsFunc(h.Edits, func(e HeaderEdit) bool { return retry.IsRequestHeader(e.Name) })
	})
}

// routeCompiler compiles one route.
type routeCompiler struct {
	defaults
	host  *VirtualHostEntry
	vh    *VirtualHost
	route *Route

	injectors map[*fault.Policy]*fault.Injector
}

func (c *routeCompiler) compile() *RouteEntry {
	r := c.route
	e := &RouteEntry{
		Name: r.Name, VirtualHost: c.host.Name, Match: &r.Match, Timeout: effectiveTimeout(r.Timeout, c.maxStreamDuration),
		HasMaxGRPCTimeout: r.HasMaxGRPCTimeout, MaxGRPCTimeout: r.MaxGRPCTimeout, GRPCTimeoutOffset: r.GRPCTimeoutOffset,
		Retry: effectiveRetry(r.Retry, c.vh.Retry), Hedge: r.Hedge, hash: r.Hash,
		declared: cmp.Or(r.Retry, c.vh.Retry), longest: r.Longest,
	}
	if r.Timeout == 0 && c.maxStreamDuration > 0 {
		e.longest = e.Within(c.maxStreamDuration)
	}
	e.once = once(e.Retry)
	if e.hash == nil {
		e.hash = c.vh.Hash
	}
	if r.Refused != nil {
		e.Err = refusal(r.Refused)
		return e
	}
	c.injectors = map[*fault.Policy]*fault.Injector{}
	for i := range r.Clusters {
		w := &r.Clusters[i]
		if w.Weight == 0 {
			continue
		}
		e.total += uint64(w.Weight)
		d := c.destination(w)
		d.cluster, d.end = c.host.slots[w.Cluster], e.total
		e.destinations = append(e.destinations, d)
	}
	switch {
	case e.total > 0:
	case c.inbound || r.Redirect != nil || r.DirectResponse != nil:
		d := c.destination(&ClusterWeight{})
		d.cluster = -1
		e.destinations = append(e.destinations, d)
	default:
		e.Err = errNoDestination
	}
	if slices.ContainsFunc(r.Clusters, ClusterWeight.acts) {
		e.elsewhere = &elsewhere{names: c.host.names, rest: c.actions(&ClusterWeight{})}
	}
	return e
}

// acts reports whether calls to the weighted cluster are sent, or answered,
// otherwise than others of its route.
func (w ClusterWeight) acts() bool {
	return w.RequestHeaders != nil || w.ResponseHeaders != nil || w.Session != nil || w.HostRewrite != ""
}

// elsewhere is what holds for calls that go to another cluster than the one drawn,
// of a route whose weighted clusters have actions of their own.
type elsewhere struct {
	names []string // of clusters; Destination refers to them by index
	rest  *Actions // for clusters that the route does not name; nil: none
}

// ActionsFor returns the actions of a call that goes to a cluster in place of the
// one drawn, whose actions are given: what is set for a weighted cluster holds for
// that one alone.
func (r *RouteEntry) ActionsFor(cluster string, drawn *Actions) *Actions {
	if r.elsewhere == nil {
		return drawn
	}
	for i := range r.destinations {
		if d := &r.destinations[i]; d.cluster >= 0 && r.elsewhere.names[d.cluster] == cluster {
			return d.Actions
		}
	}
	return r.elsewhere.rest
}

// destination makes what holds for calls to one weighted cluster.
func (c *routeCompiler) destination(w *ClusterWeight) Destination {
	policy := effectiveFault(c.fault, c.vh.Fault, c.route.Fault, w.Fault)
	if policy != nil && policy.Cluster != "" && policy.Cluster != w.Cluster {
		policy = nil
	}
	if _, ok := c.injectors[policy]; !ok {
		c.injectors[policy] = fault.NewInjector(policy, &c.live.Faults)
	}
	return Destination{Fault: c.injectors[policy], Actions: c.actions(w)}
}

// actions returns nil if there is nothing to do.
func (c *routeCompiler) actions(w *ClusterWeight) *Actions {
	r := c.route
	a := &Actions{
		RequestHeaders:  c.edits(w.RequestHeaders, r.RequestHeaders, c.vh.RequestHeaders, c.requestHeaders),
		ResponseHeaders: c.edits(w.ResponseHeaders, r.ResponseHeaders, c.vh.ResponseHeaders, c.responseHeaders),
		Redirect:        r.Redirect, DirectResponse: r.DirectResponse, Mirrors: r.mirrors(c.vh),
		Hedge: r.Hedge && c.perTryTimeout() > 0, IdleTimeout: r.IdleTimeout, RateLimit: c.limiter(), Fallback: r.Fallback,
		Session: effectiveSession(c.session, c.vh.Session, r.Session, w.Session),
		path:    newPathRewrite(&r.Match, r.Rewrite), host: w.HostRewrite,
	}
	if r.Rewrite != nil { // the route has the last word, as in Envoy
		a.host = cmp.Or(r.Rewrite.Host, a.host)
	}
	if r.Redirect != nil {
		a.redirectPath = newPathRewrite(&r.Match, r.Redirect.Rewrite)
	}
	a.answers = a.RateLimit != nil || a.Redirect != nil || a.DirectResponse != nil
	a.asks = asks(a.RequestHeaders)
	a.shapes = len(a.RequestHeaders) > 0 || len(a.ResponseHeaders) > 0 || len(a.Mirrors) > 0 ||
		a.Session != nil || a.Hedge || a.IdleTimeout > 0 || a.path != nil || a.host != ""
	if !a.shapes && !a.answers && a.Fallback == nil {
		return nil
	}
	return a
}

// perTryTimeout is that of the route's retries; 0 is none.
func (c *routeCompiler) perTryTimeout() time.Duration {
	if p := effectiveRetry(c.route.Retry, c.vh.Retry); p != nil {
		return p.PerTryTimeout
	}
	return 0
}

// edits returns the edits of all levels, given the most specific first, in the
// order of their application: that of Envoy is most specific first, so that the
// least specific has the last word, unless the route configuration asks for the
// reverse.
func (c *routeCompiler) edits(levels ...*HeaderEdits) []*HeaderEdits {
	levels = slices.DeleteFunc(levels, func(h *HeaderEdits) bool {
		return h == nil || len(h.Remove) == 0 && len(h.Edits) == 0
	})
	if c.specificLast {
		slices.Reverse(levels)
	}
	return slices.Clip(levels)
}

// limiter returns the limiter of the most specific policy; nil is none.
func (c *routeCompiler) limiter() *ratelimit.Limiter {
	switch {
	case c.route.RateLimit != nil:
		return c.live.limiter("route "+c.host.Name+" "+c.route.identity(), c.route.RateLimit)
	case c.vh.RateLimit != nil:
		return c.live.limiter("host "+c.host.Name, c.vh.RateLimit)
	case c.rateLimit != nil:
		return c.live.limiter("listener", c.rateLimit)
	}
	return nil
}

// identity tells the route from others of its virtual host across updates.
func (r *Route) identity() string {
	return r.Name + " " + r.Match.String()
}
