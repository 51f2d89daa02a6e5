package snapshot_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/internal/enginetest"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// twoClusters is a target with a route to each of two clusters.
const twoClusters = `
	listener faults
	host reviews reviews:9080 reviews delay=1s,10%
	route one path=/1 a:b -> v1
	route two -> v2:1 v1:2
	host others other
	route rest -> v3
	cluster v1 consecutive=1 max_ejection=100
	endpoints v1 10.0.0.1:80 10.0.0.2:80
	cluster v2
	endpoints v2 10.0.0.3:80
	cluster v3
	endpoints v3 10.0.0.4:80
`

func config(t *testing.T, lines string) *enginetest.Config {
	t.Helper()
	c := enginetest.NewConfig("reviews:9080")
	add(t, c, lines)
	return c
}

func add(t *testing.T, c *enginetest.Config, lines string) {
	t.Helper()
	if err := c.Add(lines); err != nil {
		t.Fatal(err)
	}
}

func upstream(t *testing.T, s *snapshot.Snapshot, name string) *snapshot.Upstream {
	t.Helper()
	i := slices.IndexFunc(s.Upstreams, func(u *snapshot.Upstream) bool { return u.Name == name })
	if i < 0 {
		t.Fatalf("no upstream %s", name)
	}
	return s.Upstreams[i]
}

func TestWhatDidNotChangeIsReused(t *testing.T) {
	e := mesh.New(mesh.Options{})
	c := config(t, twoClusters)
	first := e.Apply(c.Update())

	add(t, c, "endpoints v1 10.0.0.1:80 10.0.0.9:80")
	second := e.Apply(c.Update())
	if second.VirtualHost("reviews:9080") != first.VirtualHost("reviews:9080") {
		t.Error("routes were compiled again for new endpoints")
	}
	if second.VirtualHost("other") != first.VirtualHost("other") {
		t.Error("another virtual host was compiled again for new endpoints")
	}
	if upstream(t, second, "v2") != upstream(t, first, "v2") {
		t.Error("an upstream was built again for new endpoints of another one")
	}
	before, after := upstream(t, first, "v1"), upstream(t, second, "v1")
	if before == after {
		t.Fatal("an upstream with new endpoints is the same")
	}
	if before.State != after.State || before.Hosts[0].State != after.Hosts[0].State {
		t.Error("live state was not handed over")
	}

	add(t, c, "hosts\nhost reviews reviews:9080\nroute all -> v1")
	third := e.Apply(c.Update())
	if third.VirtualHost("reviews:9080") == second.VirtualHost("reviews:9080") {
		t.Error("new routes were not compiled")
	}
	if upstream(t, third, "v1") != after {
		t.Error("an upstream was built again for new routes")
	}

	add(t, c, "listener max_stream_duration=1s")
	fourth := e.Apply(c.Update())
	if fourth.VirtualHost("reviews:9080") == third.VirtualHost("reviews:9080") {
		t.Error("routes were not compiled for a new listener")
	}
}

func TestStateLivesAsLongAsItIsNamed(t *testing.T) {
	e := mesh.New(mesh.Options{})
	a := config(t, "host h reviews:9080\nroute r -> v1\ncluster v1\nendpoints v1 10.0.0.1:80 10.0.0.2:80")
	b := enginetest.NewConfig("ratings:9080")
	add(t, b, "host h ratings:9080\nroute r -> v1\ncluster v1\nendpoints v1 10.0.0.1:80")
	sa, sb := e.Apply(a.Update()), e.Apply(b.Update())
	ua, ub := upstream(t, sa, "v1"), upstream(t, sb, "v1")
	if ua.State != ub.State || ua.Hosts[0].State != ub.Hosts[0].State {
		t.Error("two targets do not share the state of a cluster")
	}

	add(t, a, "endpoints v1 10.0.0.3:80")
	e.Apply(a.Update())
	add(t, a, "endpoints v1 10.0.0.1:80 10.0.0.2:80")
	back := upstream(t, e.Apply(a.Update()), "v1")
	if back.Hosts[0].State != ua.Hosts[0].State {
		t.Error("the state of a host that another target names was lost")
	}
	if back.Hosts[1].State == ua.Hosts[1].State {
		t.Error("the state of a host that nobody named was kept")
	}

	e.Drop("reviews:9080")
	if e.Clusters() != 1 {
		t.Errorf("%d clusters have state, one target is left", e.Clusters())
	}
	at := ua.State.Acquire()
	e.Drop("ratings:9080")
	e.Drop("ratings:9080")
	if e.Clusters() != 1 || !ua.State.InUse() {
		t.Errorf("%d clusters have state, a call uses one", e.Clusters())
	}
	if again := upstream(t, e.Apply(a.Update()), "v1"); again.State != ua.State {
		t.Error("a cluster that a call still uses came back with new state")
	}
	e.Drop("reviews:9080")
	ua.State.Release(at)
	if e.Clusters() != 0 {
		t.Errorf("%d clusters have state, nothing is left", e.Clusters())
	}
}

func TestClusterNames(t *testing.T) {
	u := config(t, twoClusters).Update()
	for authority, want := range map[string][]string{
		"reviews:9080": {"v1", "v2"}, "REVIEWS": {"v1", "v2"}, "other": {"v3"}, "unknown": nil, "": {"v1", "v2", "v3"},
	} {
		got := snapshot.ClusterNames(nil, u.Listener, u.Routes, authority)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("authority %q (-want +got):\n%s", authority, diff)
		}
	}
	inline := *u.Listener
	inline.Routes = u.Routes
	if got := snapshot.ClusterNames(nil, &inline, nil, "other"); !slices.Equal(got, []string{"v3"}) {
		t.Errorf("inline routes: %v", got)
	}
	if got := snapshot.ClusterNames(nil, nil, nil, "other"); got != nil {
		t.Errorf("nothing at all: %v", got)
	}
}

func TestInlineRoutes(t *testing.T) {
	u := config(t, twoClusters).Update()
	inline := *u.Listener
	inline.Routes, u.Routes = u.Routes, nil
	u.Listener = &inline
	var d mesh.Decision
	e := mesh.New(mesh.Options{})
	if e.Decide(e.Apply(u), &mesh.Request{Path: "/"}, &d); d.Err != nil {
		t.Error(d.Err)
	}
}

func TestInboundRoutesNeedNoCluster(t *testing.T) {
	u := config(t, "host in *\nroute rest -> timeout=1s").Update()
	u.Listener = &snapshot.Listener{Inbound: true}
	var d mesh.Decision
	e := mesh.New(mesh.Options{})
	e.Decide(e.Apply(u), &mesh.Request{Path: "/"}, &d)
	if d.Err != nil || d.Upstream != nil || d.Timeout != time.Second {
		t.Errorf("decision %+v", d)
	}
}

func TestTimeouts(t *testing.T) {
	e := mesh.New(mesh.Options{})
	u := config(t, `
		listener max_stream_duration=30s
		host h reviews:9080
		route own path=/own -> v1 timeout=2s
		route none path=/none -> v1 timeout=-1s
		route inherited -> v1
		cluster v1`).Update()
	s := e.Apply(u)
	for path, want := range map[string]time.Duration{"/own": 2 * time.Second, "/none": 0, "/": 30 * time.Second} {
		var d mesh.Decision
		if e.Decide(s, &mesh.Request{Path: path}, &d); d.Timeout != want {
			t.Errorf("%s: timeout %v, want %v", path, d.Timeout, want)
		}
	}
}

// TestFaultPrecedence sets a policy at every level and takes the most specific
// away, one after the other.
func TestFaultPrecedence(t *testing.T) {
	policy := func(n int) *fault.Policy { return &fault.Policy{AbortHTTP: n, AbortFraction: fault.Million} }
	e := mesh.New(mesh.Options{})
	for _, levels := range []int{4, 3, 2, 1, 0} {
		u := config(t, "host h reviews:9080\nroute r -> v1\ncluster v1").Update()
		l, h := *u.Listener, *u.Routes.VirtualHosts[0]
		r := *h.Routes[0]
		h.Routes, r.Clusters = []*snapshot.Route{&r}, slices.Clone(r.Clusters)
		for n, into := range []**fault.Policy{&l.Fault, &h.Fault, &r.Fault, &r.Clusters[0].Fault} {
			if n < levels {
				*into = policy(n + 1)
			}
		}
		u.Listener, u.Routes = &l, &snapshot.RouteConfiguration{VirtualHosts: []*snapshot.VirtualHost{&h}}
		var d mesh.Decision
		e.Decide(e.Apply(u), &mesh.Request{Path: "/"}, &d)
		got := 0
		if d.Fault != nil {
			got = d.Fault.Policy().AbortHTTP
		}
		if got != levels {
			t.Errorf("%d levels: the policy of level %d applies", levels, got)
		}
	}
}

func TestStaticClusters(t *testing.T) {
	u := config(t, "host h reviews:9080\nroute r -> v1 v2\ncluster v1\ncluster v2").Update()
	inline := &snapshot.ClusterLoadAssignment{Localities: []snapshot.LocalityEndpoints{{
		Endpoints: []snapshot.Endpoint{{Address: "10.0.0.1:80"}},
	}}}
	u.Clusters["v1"] = &snapshot.Cluster{Name: "v1", Discovery: snapshot.Static, Assignment: inline}
	u.Clusters["v2"] = &snapshot.Cluster{Name: "v2", Discovery: snapshot.StrictDNS, Assignment: inline}
	s := mesh.New(mesh.Options{}).Apply(u)
	if got := upstream(t, s, "v1"); len(got.Hosts) != 1 || got.Err != nil {
		t.Errorf("static cluster: %d hosts, %v", len(got.Hosts), got.Err)
	}
	if got := upstream(t, s, "v2"); len(got.Hosts) != 0 || got.Err != nil {
		t.Errorf("DNS cluster that is not resolved: %d hosts, %v", len(got.Hosts), got.Err)
	}
}

func TestNoConfiguration(t *testing.T) {
	e := mesh.New(mesh.Options{})
	e.Apply(config(t, twoClusters).Update())
	gone := errors.New("listener reviews:9080 does not exist")
	s := e.Apply(&snapshot.Update{Target: "reviews:9080", Authority: "reviews:9080", Err: gone})
	var d mesh.Decision
	e.Decide(s, &mesh.Request{Path: "/"}, &d)
	var re *mesh.RouteError
	if !errors.As(d.Err, &re) || re.Kind != mesh.NoConfig || re.Host != "reviews:9080" || !errors.Is(d.Err, gone) {
		t.Errorf("error %v", d.Err)
	}
	if e.Clusters() != 0 {
		t.Errorf("%d clusters have state", e.Clusters())
	}
	if s = e.Apply(config(t, twoClusters).Update()); s.Generation != 3 {
		t.Errorf("generation %d, want 3", s.Generation)
	}
}

// TestHostsAsPickersSeeThem sets every field of an endpoint.
func TestHostsAsPickersSeeThem(t *testing.T) {
	u := config(t, "host h reviews:9080\nroute r -> v1 both\ncluster v1\ncluster both aggregate=v1,v1").Update()
	u.Endpoints["v1"] = &snapshot.ClusterLoadAssignment{Localities: []snapshot.LocalityEndpoints{
		{Priority: 1, Weight: 7, Locality: snapshot.Locality{Region: "r", SubZone: "z"}, Endpoints: []snapshot.Endpoint{
			{Address: "10.0.0.1:80", Hostname: "one", HashKey: "1", Weight: 3, Health: snapshot.Degraded}, {Address: "10.0.0.2:80"},
		}},
	}}
	s := mesh.New(mesh.Options{}).Apply(u)
	v1, both := upstream(t, s, "v1"), upstream(t, s, "both")
	first := snapshot.Host{
		Address: "10.0.0.1:80", Hostname: "one", HashKey: "1", Weight: 3, Priority: 1, Health: snapshot.Degraded,
		Locality: snapshot.Locality{Region: "r", SubZone: "z"}, LocalityWeight: 7, State: v1.Hosts[0].State,
	}
	if v1.Hosts[0] != first || v1.Hosts[1].Weight != 1 {
		t.Errorf("hosts %+v", v1.Hosts)
	}
	if !slices.Equal(both.Hosts, v1.Hosts) {
		t.Errorf("hosts behind the aggregate %+v", both.Hosts)
	}
	if v1.Owner(0) != v1 || both.Owner(1) != v1 {
		t.Error("the owner of a host is another cluster")
	}
	if both.Override("10.0.0.1:80") != &v1.Hosts[0].State.HostState || both.Override("10.0.0.3:80") != nil || both.Override("") != nil {
		t.Error("a host is not found by its address, or one is that is not there")
	}
}

// TestOverprovisioningOfEndpoints spills over to the next priority by the factor
// that the endpoints come with.
func TestOverprovisioningOfEndpoints(t *testing.T) {
	for factor, want := range map[uint32]int{0: 70, 100: 50, 120: 60, 200: 100} {
		u := config(t, "host h reviews:9080\nroute r -> v1\ncluster v1").Update()
		u.Endpoints["v1"] = &snapshot.ClusterLoadAssignment{OverprovisioningFactor: factor, Localities: []snapshot.LocalityEndpoints{
			{Endpoints: []snapshot.Endpoint{{Address: "10.0.0.1:80"}, {Address: "10.0.0.2:80", Health: snapshot.Unhealthy}}},
			{Priority: 1, Endpoints: []snapshot.Endpoint{{Address: "10.0.0.3:80"}}},
		}}
		up := upstream(t, mesh.New(mesh.Options{}).Apply(u), "v1")
		picker := up.NewPicker([]pick.ConnState{pick.Ready, pick.Ready, pick.Ready})
		got := 0
		for range 1000 {
			if host, _ := picker.Pick(&pick.Input{}); host == 0 {
				got++
			}
		}
		if want *= 10; got < want-10 || got > want+10 { // shares are rounded, and the calls are not whole rounds
			t.Errorf("factor %d: %d of 1000 calls stay in the first priority, want %d", factor, got, want)
		}
	}
}

// TestStatusWithoutGate holds that a breaker which was taken away is open no more.
func TestStatusWithoutGate(t *testing.T) {
	e := mesh.New(mesh.Options{})
	update := func(half *breaker.HalfOpen) *snapshot.Upstream {
		c := config(t, "host h reviews:9080\nroute r -> v1\ncluster v1\nendpoints v1 10.0.0.1:80")
		u := c.Update()
		u.Clusters["v1"].HalfOpen = half
		return upstream(t, e.Apply(u), "v1")
	}
	half := &breaker.HalfOpen{MinVolume: 1}
	permit, err := update(half).Gate.Allow(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	permit.Done(false, time.Now())
	if s := e.Status(); !s[0].Open {
		t.Errorf("before: %+v", s)
	}
	if u, s := update(nil), e.Status(); u.Gate != nil || s[0].Open {
		t.Errorf("without a breaker: %+v", s)
	}
	if u := update(half); u.Gate == nil || u.Gate.Open() {
		t.Errorf("a breaker that is new is not closed")
	}
}

// TestAggregateInherits holds that an aggregate cluster balances and watches
// hosts as the ones behind it do, unless it says otherwise.
func TestAggregateInherits(t *testing.T) {
	lines := "host h reviews:9080\nroute r -> both\ncluster one lb=random\ncluster two lb=least_request consecutive=3\n"
	for options, want := range map[string]struct {
		policy      pick.Policy
		consecutive uint32
	}{"": {pick.Random, 3}, "lb=ring_hash": {pick.RingHash, 3}, "consecutive=9": {pick.Random, 9}} {
		c := config(t, lines+"cluster both aggregate=one,two "+options)
		u := upstream(t, mesh.New(mesh.Options{}).Apply(c.Update()), "both")
		if u.Cluster.LB.Policy != want.policy || u.Cluster.Outlier.Consecutive5xx != want.consecutive {
			t.Errorf("%q: policy %d, outlier detection %+v", options, u.Cluster.LB.Policy, u.Cluster.Outlier)
		}
	}
}

// TestAggregateDepth holds that clusters cannot stand behind each other without
// end.
func TestAggregateDepth(t *testing.T) {
	for depth, good := range map[int]bool{16: true, 17: false} {
		c := config(t, "host h reviews:9080\nroute r -> c0")
		for i := range depth {
			add(t, c, fmt.Sprintf("cluster c%d aggregate=c%d", i, i+1))
		}
		add(t, c, fmt.Sprintf("cluster c%d\nendpoints c%d 10.0.0.1:80", depth, depth))
		if u := upstream(t, mesh.New(mesh.Options{}).Apply(c.Update()), "c0"); (u.Err == nil) != good || len(u.Hosts) == 1 != good {
			t.Errorf("%d aggregate clusters: %v", depth, u.Err)
		}
	}
}

// TestSnapshotsAreNotWritten dumps a snapshot, does everything that might write
// to it, and dumps it again.
func TestSnapshotsAreNotWritten(t *testing.T) {
	e := mesh.New(mesh.Options{Rand: enginetest.Rand(1)})
	c := config(t, twoClusters)
	s := e.Apply(c.Update())
	before := dump(s)
	var d mesh.Decision
	for _, authority := range []string{"", "other", "reviews", "unknown"} {
		e.Decide(s, &mesh.Request{Path: "/1", Authority: authority, Headers: enginetest.Headers{"a": "b"}}, &d)
	}
	u := upstream(t, s, "v1")
	p := u.NewPicker([]pick.ConnState{pick.Ready, pick.Failed})
	for range 3 {
		host, _ := p.Pick(&pick.Input{})
		e.Report(u, host, &outcome.Attempt{HTTPStatus: 503}, time.Unix(1, 0))
	}
	e.Tick(time.Unix(100, 0))
	add(t, c, `endpoints v1 10.0.0.2:80
		cluster v2 refused="bad"
		drop-cluster v3
		hosts
		host reviews reviews:9080 refused="bad"
		host others other
		route rest -> refused="bad"`)
	e.Apply(c.Update())
	e.Drop("reviews:9080")
	if diff := cmp.Diff(before, dump(s)); diff != "" {
		t.Errorf("a published snapshot was written (-before +after):\n%s", diff)
	}
}

// dump writes all that a value holds and points to, except for live state and
// functions.
func dump(v any) []string {
	var lines []string
	walk(reflect.ValueOf(v), "", map[uintptr]bool{}, &lines)
	return lines
}

func walk(v reflect.Value, path string, seen map[uintptr]bool, lines *[]string) {
	if !v.IsValid() || v.Kind() == reflect.Func {
		return
	}
	switch name := v.Type().String(); name {
	case "*snapshot.ClusterState", "*snapshot.HostState", "*pick.HostState", "*fault.Counter", "*regexp.Regexp",
		"*snapshot.Live", "*breaker.Gate", "*ratelimit.Limiter", "route.ways":
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() || seen[v.Pointer()] {
			return
		}
		seen[v.Pointer()] = true
		walk(v.Elem(), path, seen, lines)
	case reflect.Interface:
		walk(v.Elem(), path, seen, lines)
	case reflect.Struct:
		for i := range v.NumField() {
			walk(v.Field(i), path+"."+v.Type().Field(i).Name, seen, lines)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			walk(v.Index(i), fmt.Sprintf("%s[%d]", path, i), seen, lines)
		}
	case reflect.Map:
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
		for _, k := range keys {
			walk(v.MapIndex(k), fmt.Sprintf("%s[%v]", path, k), seen, lines)
		}
	default:
		*lines = append(*lines, fmt.Sprintf("%s = %v", path, v))
	}
}
