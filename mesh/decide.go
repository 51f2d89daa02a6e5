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
	// Upstream is the cluster drawn; nil if Err is set, for routes that answer
	// by themselves (Actions says how), and for routes of inbound listeners,
	// which serve the call themselves.
	Upstream *snapshot.Upstream
	// Route is the route that matched; nil if none did.
	Route *snapshot.RouteEntry
	// Actions are what is to be done beside forwarding the call; nil: nothing.
	Actions *snapshot.Actions
	// Selection is what ties the call to a host, but for its hash; nil: nothing.
	Selection *Selection
	// Hash is the key for clusters that choose hosts by hash, if HasHash.
	Hash uint64
	// Timeout is the deadline of the call including its retries; 0 is none.
	Timeout time.Duration
	// MaxGRPCTimeout bounds the caller's own deadline if HasMaxGRPCTimeout; 0
	// then means the caller's deadline is used as it is (gRFC A31).
	MaxGRPCTimeout    time.Duration
	HasMaxGRPCTimeout bool
	// AttemptCount asks for the x-envoy-attempt-count request header.
	AttemptCount bool
	HasHash      bool
	// Hedge makes the per-try timeout, which there is, start another attempt beside
	// the first.
	Hedge bool
	Retry *retry.Policy   // nil: none
	Fault *fault.Injector // nil: none
	// Err is a *RouteError if the call cannot be sent anywhere.
	Err error
}

// Selection ties a call to a host of its cluster.
type Selection struct {
	// SetCookie is the Set-Cookie header of the response, for the cookie that a
	// hash policy generated; "" is none.
	SetCookie string
	// OutsideSession says that the call is not one that the session is for.
	OutsideSession bool
	// SessionHost is the address of the host that the client is bound to; "" is
	// none. See snapshot.Upstream.Override and snapshot.Session.Bind.
	SessionHost string
}

// VirtualHost is the name of the virtual host whose route was found; "" if none
// was.
func (d *Decision) VirtualHost() string {
	if d.Route == nil {
		return ""
	}
	return d.Route.VirtualHost
}

// Fallback is what happens to the call if it finds no host, or is refused by the
// cluster's gate: that of the route, else of the cluster; nil is an error.
func (d *Decision) Fallback() *snapshot.Fallback {
	switch {
	case d.Actions != nil && d.Actions.Fallback != nil:
		return d.Actions.Fallback
	case d.Upstream != nil && d.Upstream.Cluster != nil:
		return d.Upstream.Cluster.Fallback
	}
	return nil
}

var (
	errNotConfigured = errors.New("none has arrived yet")
	errNotSubscribed = errors.New("only the clusters of the target's own virtual host are followed")
)

// Decide decides one call by snapshot s and writes the decision to d. It takes
// no lock and, unless the call fails or a regular expression is matched,
// allocates nothing but for the first call to a path. A nil snapshot fails the call.
func (e *Engine) Decide(s *snapshot.Snapshot, r *Request, d *Decision) {
	*d = Decision{}
	if s == nil || s.Err != nil {
		d.Err = notConfigured(s, r)
		return
	}
	if r.Authority == "" && s.Authority != "" {
		e.decideOwn(s, r, d)
		return
	}
	host := s.VirtualHost(r.Authority)
	if host != nil && host.Err == nil {
		d.Route = host.Find(r, e.rnd)
	}
	if d.Route == nil || d.Route.Err != nil {
		d.Err = unrouted(s, r, host, d.Route)
		return
	}
	entry := d.Route
	d.AttemptCount = host.AttemptCount
	d.Timeout = entry.Timeout
	d.HasMaxGRPCTimeout, d.MaxGRPCTimeout = entry.HasMaxGRPCTimeout, entry.MaxGRPCTimeout
	d.Retry = entry.RetryFor(r)
	destination, up := s.Draw(host, entry, e.rnd)
	d.Fault, d.Actions = destination.Fault, destination.Actions
	if up == nil || up.Err != nil {
		d.Err = unforwarded(s, r, d, host.Cluster(destination), up)
		return
	}
	d.Upstream = up
	a := d.Actions
	d.Hedge = a != nil && a.Hedge
	if up.Selects() || a != nil && a.Session != nil {
		e.choose(s, r, d)
	}
}

// decideOwn decides a call to the target's own authority.
func (e *Engine) decideOwn(s *snapshot.Snapshot, r *Request, d *Decision) {
	own := *r
	own.Authority = s.Authority
	e.Decide(s, &own, d)
}

// choose finds out what ties the call to a host of its cluster.
func (e *Engine) choose(s *snapshot.Snapshot, r *Request, d *Decision) {
	var cookie, host string
	outside := false
	if d.Upstream.Hashes() {
		d.Hash, d.HasHash, cookie = s.Hash(d.Route, r, e.rnd)
	}
	if session := d.Session(); session != nil {
		if outside = !session.Covers(r.Path); !outside {
			host = session.Host(r)
		}
	}
	if cookie != "" || host != "" || outside {
		d.Selection = &Selection{SetCookie: cookie, OutsideSession: outside, SessionHost: host}
	}
}

// Session is the one that the call is part of: the route's, else the cluster's;
// nil is none.
func (d *Decision) Session() *snapshot.Session {
	switch {
	case d.Upstream == nil, d.Selection != nil && d.Selection.OutsideSession:
	case d.Actions != nil && d.Actions.Session != nil:
		return d.Actions.Session
	case d.Upstream.Cluster != nil:
		return d.Upstream.Cluster.Session
	}
	return nil
}

// DecideMirror draws whether a copy of the call goes to mirror i of its actions,
// and writes to m what was decided about the copy: the cluster, the call's own
// deadline, and that its only attempt is counted. It reports whether there is to be
// a copy.
func (e *Engine) DecideMirror(s *snapshot.Snapshot, d *Decision, i int, m *Decision) bool {
	mirror := &d.Actions.Mirrors[i]
	if !mirror.Fraction.Hit(e.rnd) {
		return false
	}
	if !e.divert(s, d, mirror.Cluster, m) {
		return false
	}
	m.AttemptCount = d.AttemptCount
	return true
}

// LacksKey reports whether the cluster chooses hosts by hash, and the decision has no
// key for it.
func (d *Decision) LacksKey() bool { return d.Upstream.Hashes() && !d.HasHash }

// KeyMirror gives the decision m about a copy of the call r the key that it lacks,
// as the cluster of the call itself does not hash, by the hash policies of the
// route. A cookie that they generate goes nowhere: nobody gets the copy's response.
func (e *Engine) KeyMirror(s *snapshot.Snapshot, r *Request, m *Decision) {
	m.Hash, m.HasHash, _ = s.Hash(m.Route, r, e.rnd)
}

// DecideFallback decides a call that found no host, or was refused by the gate
// of its cluster, anew, if its fallback is another cluster. It reports whether f
// is where the call goes: what the route asks for stays, what belongs to a cluster
// is that of the fallback. A call falls back once: that of f is not followed.
func (e *Engine) DecideFallback(s *snapshot.Snapshot, r *Request, d *Decision, f *Decision) bool {
	fallback := d.Fallback()
	if fallback == nil || fallback.Cluster == "" || !e.divert(s, d, fallback.Cluster, f) {
		return false
	}
	f.Retry, f.Hedge, f.AttemptCount = d.Retry, d.Hedge, d.AttemptCount
	f.Actions = d.Route.ActionsFor(fallback.Cluster, d.Actions)
	if f.Upstream.Selects() || f.Actions != nil && f.Actions.Session != nil {
		e.choose(s, r, f)
		f.keepKey(d)
	}
	return true
}

// keepKey takes the hash of the decision before, whose generated part is not to be
// drawn twice.
func (d *Decision) keepKey(before *Decision) {
	if !d.HasHash || !before.HasHash {
		return
	}
	d.Hash = before.Hash
	cookie := ""
	if before.Selection != nil {
		cookie = before.Selection.SetCookie
	}
	switch {
	case d.Selection != nil:
		d.Selection.SetCookie = cookie
	case cookie != "":
		d.Selection = &Selection{SetCookie: cookie}
	}
}

// divert decides a call for another cluster, if that can be used.
func (e *Engine) divert(s *snapshot.Snapshot, d *Decision, cluster string, to *Decision) bool {
	*to = Decision{}
	up := s.Upstream(cluster)
	if up == nil || up.Err != nil {
		return false
	}
	to.Upstream, to.Route, to.Timeout = up, d.Route, d.Timeout
	to.HasMaxGRPCTimeout, to.MaxGRPCTimeout = d.HasMaxGRPCTimeout, d.MaxGRPCTimeout
	if up.Hashes() {
		to.Hash, to.HasHash = d.Hash, d.HasHash
	}
	return true
}

// Admit takes the tokens that the call's rate limit asks for, and reports whether
// the call may go on. The status of a refusal is d.Actions.RateLimit.Policy().Status.
func (e *Engine) Admit(d *Decision, r *Request, now time.Time) bool {
	if d.Actions == nil || d.Actions.RateLimit == nil {
		return true
	}
	return admit(d.Actions.RateLimit, r, now)
}
