package mesh_test

import (
	"regexp"
	"testing"
	"time"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/ratelimit"
	"github.com/meshframe/meshframe/mesh/retry"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// policies each set one policy on a route or on its clusters. used is what an
// edge does with it in a call.
var policies = []struct {
	name    string
	actions bool // the route has actions then
	allocs  float64
	set     func(r *snapshot.Route, c *snapshot.Cluster)
	used    func(e *mesh.Engine, s *snapshot.Snapshot, d *mesh.Decision)
}{
	{name: "nothing", set: func(*snapshot.Route, *snapshot.Cluster) {}},
	{name: "header-edits", actions: true, set: func(r *snapshot.Route, _ *snapshot.Cluster) {
		r.RequestHeaders = &snapshot.HeaderEdits{Remove: []string{"x"}, Edits: []snapshot.HeaderEdit{{Name: "y", Value: "1"}}}
	}},
	{name: "rewrite-prefix", actions: true, allocs: 1, set: func(r *snapshot.Route, _ *snapshot.Cluster) {
		r.Rewrite = &snapshot.Rewrite{HasPrefix: true, Prefix: "/v2/", Host: "other"}
	}, used: usePath},
	{name: "rewrite-regex", actions: true, allocs: 6, set: func(r *snapshot.Route, _ *snapshot.Cluster) {
		r.Rewrite = &snapshot.Rewrite{Regex: &snapshot.RegexRewrite{Pattern: regexp.MustCompile(`^/grpc\.(.*)$`), Substitution: "/$1"}}
	}, used: usePath},
	{name: "mirror-never", set: func(r *snapshot.Route, _ *snapshot.Cluster) {
		r.Mirrors = []snapshot.Mirror{{Cluster: "b"}}
	}},
	{name: "mirror", actions: true, set: func(r *snapshot.Route, _ *snapshot.Cluster) {
		r.Mirrors = []snapshot.Mirror{{Cluster: "b", Fraction: fault.Million / 2}}
	}, used: useMirror},
	{name: "rate-limit", actions: true, set: func(r *snapshot.Route, _ *snapshot.Cluster) {
		r.RateLimit = &ratelimit.Policy{Bucket: ratelimit.Bucket{MaxTokens: 1, FillInterval: time.Microsecond}}
	}, used: useLimit},
	{name: "rate-limit-keyed", actions: true, allocs: 1, set: func(r *snapshot.Route, _ *snapshot.Cluster) {
		r.RateLimit = &ratelimit.Policy{Keyed: []ratelimit.Keyed{{
			Key: []ratelimit.KeyPart{{Header: "end-user"}}, Bucket: ratelimit.Bucket{MaxTokens: 1, FillInterval: time.Microsecond},
		}}}
	}, used: useLimit},
	{name: "hedge", actions: true, set: func(r *snapshot.Route, _ *snapshot.Cluster) {
		r.Hedge, r.Retry = true, &retry.Policy{PerTryTimeout: time.Second}
	}},
	{name: "hedge-never", set: func(r *snapshot.Route, _ *snapshot.Cluster) { r.Hedge = true }},
	{name: "idle-timeout", actions: true, set: func(r *snapshot.Route, _ *snapshot.Cluster) { r.IdleTimeout = time.Minute }},
	{name: "fallback", actions: true, set: func(r *snapshot.Route, _ *snapshot.Cluster) { r.Fallback = &snapshot.Fallback{Cluster: "b"} }},
	{name: "hash-not-used", set: func(r *snapshot.Route, _ *snapshot.Cluster) {
		r.Hash = []snapshot.HashPolicy{{Name: "end-user"}}
	}},
	{name: "hash-header", set: func(r *snapshot.Route, c *snapshot.Cluster) {
		r.Hash = []snapshot.HashPolicy{{Name: "end-user"}, {Name: "absent"}}
		c.LB.Policy = pick.RingHash
	}},
	{name: "hash-cookie", set: func(r *snapshot.Route, c *snapshot.Cluster) {
		r.Hash = []snapshot.HashPolicy{{Kind: snapshot.HashCookie, Name: "sid"}}
		c.LB.Policy = pick.Maglev
	}},
	{name: "session-not-bound", set: func(_ *snapshot.Route, c *snapshot.Cluster) { c.Session = &snapshot.Session{Cookie: "none"} }},
	{name: "session", allocs: 3, set: func(_ *snapshot.Route, c *snapshot.Cluster) {
		c.Session = &snapshot.Session{Header: "x-session"}
	}, used: func(_ *mesh.Engine, _ *snapshot.Snapshot, d *mesh.Decision) {
		d.Upstream.Override(d.Selection.SessionHost)
	}},
	{name: "retry-budget", set: func(_ *snapshot.Route, c *snapshot.Cluster) {
		c.Limits.HasBudget, c.Limits.MinRetries = true, 3
	}, used: func(_ *mesh.Engine, _ *snapshot.Snapshot, d *mesh.Decision) {
		if b := &d.Upstream.State.Breaker; b.TryRetry(&d.Upstream.Cluster.Limits, time.Time{}) {
			b.DoneRetry()
		}
	}},
	{name: "half-open", allocs: 1, set: func(_ *snapshot.Route, c *snapshot.Cluster) {
		c.HalfOpen = &breaker.HalfOpen{}
	}, used: func(_ *mesh.Engine, _ *snapshot.Snapshot, d *mesh.Decision) {
		if permit, err := d.Upstream.Gate.Allow(time.Now()); err == nil {
			permit.Done(true, time.Now())
		}
	}},
}

func usePath(_ *mesh.Engine, _ *snapshot.Snapshot, d *mesh.Decision) {
	d.Actions.Path(benchRequest.Path)
}

func useMirror(e *mesh.Engine, s *snapshot.Snapshot, d *mesh.Decision) {
	var m mesh.Decision
	e.DecideMirror(s, d, 0, &m)
}

func useLimit(e *mesh.Engine, _ *snapshot.Snapshot, d *mesh.Decision) {
	e.Admit(d, policyRequest, time.Unix(1, 0))
}

// policyRequest has all that the policies look at.
var policyRequest = &mesh.Request{
	Path: benchRequest.Path, Method: "POST", Scheme: "http", IsGRPC: true,
	Headers: headers{"end-user": "jason", "cookie": "theme=dark; sid=9f86d081884c7d65", "x-session": "YTE6ODA="},
}

// policySnapshot has the i-th policy on its only route.
func policySnapshot(e *mesh.Engine, i int) *snapshot.Snapshot {
	u := benchUpdate(otherPaths(1))
	for _, c := range u.Clusters {
		policies[i].set(u.Routes.VirtualHosts[0].Routes[0], c)
	}
	return e.Apply(u)
}

// TestPoliciesAllocate holds what a policy costs at most, and that a route whose
// policies need no action has none.
func TestPoliciesAllocate(t *testing.T) {
	for i, p := range policies {
		e := mesh.New(mesh.Options{})
		s := policySnapshot(e, i)
		var d mesh.Decision
		if n := testing.AllocsPerRun(200, func() {
			e.Decide(s, policyRequest, &d)
			if p.used != nil {
				p.used(e, s, &d)
			}
		}); n > p.allocs {
			t.Errorf("%s: a call allocates %v times, want %v", p.name, n, p.allocs)
		}
		if d.Err != nil || (d.Actions != nil) != p.actions {
			t.Errorf("%s: actions %+v, error %v", p.name, d.Actions, d.Err)
		}
	}
}

// BenchmarkPolicies is what each policy costs in a call that it is for.
func BenchmarkPolicies(b *testing.B) {
	for i, p := range policies {
		b.Run(p.name, func(b *testing.B) {
			e := mesh.New(mesh.Options{})
			s := policySnapshot(e, i)
			var d mesh.Decision
			b.ReportAllocs()
			for b.Loop() {
				e.Decide(s, policyRequest, &d)
				if p.used != nil {
					p.used(e, s, &d)
				}
			}
			if d.Err != nil {
				b.Fatal(d.Err)
			}
		})
	}
}

// TestLastGoodKeepsActions refuses a route and a virtual host that have actions:
// what was in force stays, and so do the clusters that it leads to.
func TestLastGoodKeepsActions(t *testing.T) {
	const good = `
		host reviews h
		route r prefix=/ -> v1 mirror=copy fallback=cluster:spare limit=1/1s rewrite=/x
		cluster v1
		cluster copy
		cluster spare`
	for name, bad := range map[string]string{
		"route": "hosts\nhost reviews h\nroute r prefix=/ -> refused=bad", "host": "hosts\nhost reviews h refused=bad",
	} {
		e := mesh.New(mesh.Options{})
		u := update(t, "h", good)
		before := e.Apply(u)
		refused := update(t, "h", bad)
		refused.Clusters = u.Clusters
		names := snapshot.ClusterNames(before, refused.Listener, refused.Routes, "h")
		if len(names) != 3 {
			t.Errorf("%s refused: clusters %v", name, names)
		}
		s := e.Apply(refused)
		var was, is, m, f mesh.Decision
		e.Decide(before, &mesh.Request{Path: "/"}, &was)
		e.Decide(s, &mesh.Request{Path: "/"}, &is)
		if is.Err != nil || is.Actions.Path("/") != "/x" || is.Actions.RateLimit != was.Actions.RateLimit {
			t.Fatalf("%s refused: %+v", name, is)
		}
		if !e.DecideMirror(s, &is, 0, &m) || m.Upstream.Name != "copy" || m.Timeout != is.Timeout {
			t.Errorf("%s refused: no copy, %+v", name, m)
		}
		if !e.DecideFallback(s, &mesh.Request{Path: "/"}, &is, &f) || f.Upstream.Name != "spare" || f.Actions != is.Actions {
			t.Errorf("%s refused: no fallback, %+v", name, f)
		}
	}
}

// TestGateOutlivesConfiguration holds that a reload does not close a gate, and
// that another configuration does.
func TestGateOutlivesConfiguration(t *testing.T) {
	e := mesh.New(mesh.Options{})
	lines := "host vh h\nroute r -> a\ncluster a half_open=1,1%\nendpoints a "
	first := e.Apply(update(t, "h", lines+"10.0.0.1:80")).Upstreams[0]
	permit, err := first.Gate.Allow(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	permit.Done(false, time.Now())
	if second := e.Apply(update(t, "h", lines+"10.0.0.2:80")).Upstreams[0]; second.Gate != first.Gate || !second.Gate.Open() {
		t.Error("a reload closed the gate")
	}
	other := e.Apply(update(t, "h", "host vh h\nroute r -> a\ncluster a half_open=5,1%")).Upstreams[0]
	if other.Gate == first.Gate || other.Gate.Open() {
		t.Error("the gate does not follow its configuration")
	}
	if none := e.Apply(update(t, "h", "host vh h\nroute r -> a\ncluster a")).Upstreams[0]; none.Gate != nil {
		t.Error("a gate without a configuration")
	}
}

func TestFork(t *testing.T) {
	tried := make([]*pick.HostState, 1, 4)
	first := &mesh.Call{Retries: 2, Observe: true, Tried: tried, Pending: true, Last: outcome.Attempt{HTTPStatus: 503}}
	first.Decision.Timeout = time.Second
	second := first.Fork()
	if second.Retries != 2 || !second.Observe || second.Pending || second.Last != (outcome.Attempt{}) || second.Decision.Timeout != time.Second {
		t.Errorf("fork %+v", second.Last)
	}
	second.Tried = append(second.Tried, &pick.HostState{})
	if first.Tried = append(first.Tried, nil); second.Tried[1] == nil {
		t.Error("the attempts write to the same list of hosts")
	}
}

// TestFallbackKeepsTheKey holds that a cookie which a hash policy generated is the
// one by which the fallback chooses, too.
func TestFallbackKeepsTheKey(t *testing.T) {
	e := mesh.New(mesh.Options{})
	s := e.Apply(update(t, "h", `
		host reviews h
		route r -> v1 fallback=cluster:spare hash=cookie:user,0s
		cluster v1 lb=ring_hash
		cluster spare lb=ring_hash`))
	r := &mesh.Request{Path: "/"}
	var d, f mesh.Decision
	e.Decide(s, r, &d)
	if d.Selection == nil || !e.DecideFallback(s, r, &d, &f) {
		t.Fatalf("no cookie or no fallback: %+v", d)
	}
	if f.Hash != d.Hash || f.Selection == nil || f.Selection.SetCookie != d.Selection.SetCookie {
		t.Errorf("the fallback has the key %x, the call %x", f.Hash, d.Hash)
	}
}
