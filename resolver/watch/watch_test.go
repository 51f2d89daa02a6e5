package watch_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/meshframe/meshframe/internal/xdstest"
	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/watch"
	"github.com/meshframe/meshframe/resolver/xdsclient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const name = "reviews:9080"

// fixture is a control plane and a target that it serves.
type fixture struct {
	*xdstest.ControlPlane
	m      *watch.Manager
	target *watch.Target
}

func newFixture(t *testing.T, edit func(*watch.Config)) *fixture {
	t.Helper()
	cp := xdstest.NewControlPlane(t)
	client, err := xdsclient.New(xdsclient.Config{
		Servers:     []xdsclient.Server{{URI: cp.Addr(), Credentials: insecure.NewCredentials()}},
		WatchExpiry: 300 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := watch.Config{Client: client, Engine: mesh.New(mesh.Options{}), Logger: slog.New(slog.DiscardHandler)}
	if edit != nil {
		edit(&cfg)
	}
	f := &fixture{ControlPlane: cp, m: watch.New(cfg)}
	f.target = f.m.Target(name)
	t.Cleanup(func() {
		f.m.Close()
		f.m.Close()
		client.Close()
	})
	return f
}

// when waits until the target's state satisfies check.
func (f *fixture) when(t *testing.T, what string, check func(*snapshot.Snapshot, error) bool) *snapshot.Snapshot {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		p, err, changed := f.target.Current()
		if check(p.Snapshot, err) {
			return p.Snapshot
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatalf("%s: still %s, %v", what, describe(p.Snapshot), err)
		}
	}
}

// describe is a snapshot in a line: clusters with their hosts.
func describe(s *snapshot.Snapshot) string {
	switch {
	case s == nil:
		return "nothing"
	case s.Err != nil:
		return "error: " + s.Err.Error()
	}
	var parts []string
	for _, u := range s.Upstreams {
		var hosts []string
		for _, h := range u.Hosts {
			hosts = append(hosts, h.Address)
		}
		p := u.Name + "[" + strings.Join(hosts, " ") + "]"
		if u.Err != nil {
			p += "!"
		}
		parts = append(parts, p)
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

func is(want string) func(*snapshot.Snapshot, error) bool {
	return func(s *snapshot.Snapshot, _ error) bool { return describe(s) == want }
}

func (f *fixture) cluster(name string, addrs ...string) {
	f.Set(xdstest.Cluster(name), xdstest.Endpoints(name, addrs...))
}

func (f *fixture) routes(clusters ...string) {
	f.Set(xdstest.Routes(name, xdstest.Route(nil, clusters...)), xdstest.Listener(name))
}

func TestJoin(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.cluster("a", "10.0.0.1:1")
	f.cluster("b")
	f.routes("a", "b")
	f.target.Acquire()
	f.when(t, "first", is("a[10.0.0.1:1] b[]"))

	f.Set(xdstest.Endpoints("a", "10.0.0.1:1", "10.0.0.2:1"))
	f.when(t, "another endpoint", is("a[10.0.0.1:1 10.0.0.2:1] b[]"))

	f.cluster("c", "10.0.0.3:1")
	f.routes("c")
	f.when(t, "other routes", is("c[10.0.0.3:1]"))

	f.Set(&listenerv3.Listener{Name: name, ApiListener: &listenerv3.ApiListener{ApiListener: xdstest.Any(&hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: xdstest.Routes("inline", xdstest.Route(nil, "a"))},
		HttpFilters:    routerOnly(t),
	})}})
	f.when(t, "inline routes", is("a[10.0.0.1:1 10.0.0.2:1]"))

	f.Delete(resource.ListenerType, name)
	f.when(t, "no listener", func(s *snapshot.Snapshot, _ error) bool { return s.Err != nil && strings.Contains(s.Err.Error(), name) })
	f.routes("c")
	f.when(t, "it is back", is("c[10.0.0.3:1]"))
}

// routerOnly borrows the filters of the usual listener.
func routerOnly(t *testing.T) []*hcmv3.HttpFilter {
	t.Helper()
	var hcm hcmv3.HttpConnectionManager
	if err := xdstest.Listener("x").GetApiListener().GetApiListener().UnmarshalTo(&hcm); err != nil {
		t.Fatal(err)
	}
	return hcm.GetHttpFilters()
}

// TestNothingIsPublishedHalf checks that new routes wait for their clusters.
func TestNothingIsPublishedHalf(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *watch.Config) { c.WarmTimeout = time.Hour })
	f.cluster("a", "10.0.0.1:1")
	f.routes("a")
	f.target.Acquire()
	f.when(t, "first", is("a[10.0.0.1:1]"))

	f.Set(xdstest.Cluster("b")) // whose endpoints are not known yet
	f.routes("b")
	f.Set(xdstest.Endpoints("a", "10.0.0.9:1"))
	f.when(t, "what is published keeps changing", func(s *snapshot.Snapshot, _ error) bool {
		if d := describe(s); d != "a[10.0.0.1:1]" && d != "a[10.0.0.9:1]" && d != "b[]!" {
			t.Errorf("published %s", d)
		}
		return describe(s) == "a[10.0.0.9:1]" || s.Upstreams[0].Name == "b"
	})
	f.Set(xdstest.Endpoints("b", "10.0.0.2:1"))
	f.when(t, "warm", is("b[10.0.0.2:1]"))
}

func TestWarmTimeout(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *watch.Config) { c.WarmTimeout = 50 * time.Millisecond })
	f.cluster("a", "10.0.0.1:1")
	f.routes("a", "typo")
	f.target.Acquire()
	s := f.when(t, "after the wait", is("a[10.0.0.1:1] typo[]!"))
	i := slices.IndexFunc(s.Upstreams, func(u *snapshot.Upstream) bool { return u.Name == "typo" })
	if err := s.Upstreams[i].Err; err == nil {
		t.Error("the missing cluster has no error")
	}
}

func TestEndpointsFromElsewhere(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.cluster("a", "10.0.0.1:1")
	f.routes("a")
	f.target.Acquire()
	f.when(t, "first", is("a[10.0.0.1:1]"))
	c := xdstest.Cluster("a")
	c.EdsClusterConfig.ServiceName = "elsewhere"
	f.Set(c)
	f.Set(xdstest.Endpoints("elsewhere", "10.0.0.2:1"))
	f.when(t, "renamed", func(s *snapshot.Snapshot, _ error) bool {
		if d := describe(s); d != "a[10.0.0.1:1]" && d != "a[10.0.0.2:1]" {
			t.Errorf("published %s", d)
		}
		return describe(s) == "a[10.0.0.2:1]"
	})
	f.Set(&clusterv3.Cluster{
		Name: "a", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}, LoadAssignment: xdstest.Endpoints("a", "10.0.0.3:1"),
	})
	f.when(t, "static", is("a[10.0.0.3:1]"))
}

// TestRefusedKeepsLastGood sends routes and a cluster that cannot be honoured.
func TestRefusedKeepsLastGood(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.cluster("a", "10.0.0.1:1")
	f.routes("a")
	f.target.Acquire()
	f.when(t, "first", is("a[10.0.0.1:1]"))

	bad := xdstest.Cluster("a")
	bad.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST}
	f.Set(bad)
	f.Set(xdstest.Endpoints("a", "10.0.0.2:1"))
	f.when(t, "the cluster keeps its last good version", is("a[10.0.0.2:1]"))

	f.cluster("b", "10.0.0.3:1")
	redirect := &routev3.Route{
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_FilterAction{},
	}
	other := xdstest.Route(func(r *routev3.Route) { r.Match.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/other/"} }, "b")
	f.Set(xdstest.Routes(name, redirect, other))
	f.when(t, "the route keeps its last good version", is("a[10.0.0.2:1] b[10.0.0.3:1]"))
}

func TestLinger(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *watch.Config) { c.Linger = 20 * time.Millisecond })
	f.cluster("a", "10.0.0.1:1")
	f.routes("a")
	l := f.target.Acquire()
	f.when(t, "subscribed", is("a[10.0.0.1:1]"))
	again := f.target.Acquire()
	l.Release()
	l.Release()
	again.Release()
	f.when(t, "let go", is("nothing"))
	f.target.Acquire()
	f.when(t, "subscribed again", is("a[10.0.0.1:1]"))
}

func TestDNS(t *testing.T) {
	t.Parallel()
	var answer atomic.Pointer[[]string]
	answer.Store(&[]string{"10.0.0.2", "10.0.0.1", "10.0.0.1"})
	f := newFixture(t, func(c *watch.Config) {
		c.LookupHost = func(_ context.Context, host string) ([]string, error) {
			a := *answer.Load()
			if len(a) == 0 {
				return nil, &net.DNSError{Err: "no such host", Name: host}
			}
			return a, nil
		}
	})
	c := &clusterv3.Cluster{
		Name: "dns", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS},
		LoadAssignment: xdstest.Endpoints("dns", "reviews.example:80"),
		DnsRefreshRate: durationpb.New(10 * time.Millisecond),
	}
	f.Set(c)
	f.routes("dns")
	f.target.Acquire()
	f.when(t, "resolved", is("dns[10.0.0.1:80 10.0.0.2:80]"))
	answer.Store(&[]string{})
	answer.Store(&[]string{"10.0.0.3"})
	f.when(t, "resolved again", is("dns[10.0.0.3:80]"))
}

// TestDNSNamesApart holds that a name which cannot be resolved keeps its last
// addresses, in the next version of the cluster too, and that the other names of the
// cluster are followed meanwhile.
func TestDNSNamesApart(t *testing.T) {
	t.Parallel()
	var answers atomic.Pointer[map[string]string]
	f := newFixture(t, func(c *watch.Config) {
		c.LookupHost = func(_ context.Context, host string) ([]string, error) {
			if a, ok := (*answers.Load())[host]; ok {
				return []string{a}, nil
			}
			return nil, &net.DNSError{Err: "no such host", Name: host}
		}
	})
	answer := func(list map[string]string) { answers.Store(&list) }
	cluster := func(policy clusterv3.Cluster_LbPolicy) *clusterv3.Cluster {
		return &clusterv3.Cluster{
			Name: "dns", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}, LbPolicy: policy,
			LoadAssignment: xdstest.Endpoints("dns", "a.example:80", "b.example:80", "10.0.0.9:80"),
			DnsRefreshRate: durationpb.New(10 * time.Millisecond),
		}
	}
	answer(map[string]string{"b.example": "10.0.0.2"})
	f.Set(cluster(clusterv3.Cluster_ROUND_ROBIN))
	f.routes("dns")
	f.target.Acquire()
	f.when(t, "one is not known yet", is("dns[10.0.0.2:80 10.0.0.9:80]"))
	answer(map[string]string{"a.example": "10.0.0.1", "b.example": "10.0.0.2"})
	f.when(t, "both are known", is("dns[10.0.0.1:80 10.0.0.2:80 10.0.0.9:80]"))
	answer(map[string]string{"b.example": "10.0.0.3"})
	f.when(t, "one is lost, the other has moved", is("dns[10.0.0.1:80 10.0.0.3:80 10.0.0.9:80]"))
	answer(nil)
	f.Set(cluster(clusterv3.Cluster_RANDOM))
	s := f.when(t, "another version", func(s *snapshot.Snapshot, _ error) bool { return s.Upstreams[0].Cluster.LB.Policy == pick.Random })
	if got := describe(s); got != "dns[10.0.0.1:80 10.0.0.3:80 10.0.0.9:80]" {
		t.Errorf("another version, while no name is resolved: %s", got)
	}
}

// TestDNSNamesHoldUpNoOther holds that a name whose answer does not come stays as it was,
// and that the other names of the cluster are followed meanwhile.
func TestDNSNamesHoldUpNoOther(t *testing.T) {
	t.Parallel()
	var answer atomic.Pointer[string]
	var asked atomic.Int64
	f := newFixture(t, func(c *watch.Config) {
		c.LookupHost = func(ctx context.Context, host string) ([]string, error) {
			if host == "a.example" {
				return []string{*answer.Load()}, nil
			}
			if asked.Add(1) > 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return []string{"10.0.0.9"}, nil
		}
	})
	answers := func(a string) { answer.Store(&a) }
	answers("10.0.0.1")
	f.Set(&clusterv3.Cluster{
		Name: "dns", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS},
		LoadAssignment: xdstest.Endpoints("dns", "a.example:80", "b.example:80", "a.example:81"),
		DnsRefreshRate: durationpb.New(10 * time.Millisecond),
	})
	f.routes("dns")
	f.target.Acquire()
	f.when(t, "both are known", is("dns[10.0.0.1:80 10.0.0.9:80 10.0.0.1:81]"))
	answers("10.0.0.2")
	f.when(t, "one has moved", is("dns[10.0.0.2:80 10.0.0.9:80 10.0.0.2:81]"))
}

// TestLogicalDNS holds that one address is used, and stays in use while it is found,
// whatever the order of the answers; the others stand behind it.
func TestLogicalDNS(t *testing.T) {
	t.Parallel()
	var answer atomic.Pointer[[]string]
	f := newFixture(t, func(c *watch.Config) {
		c.LookupHost = func(context.Context, string) ([]string, error) { return *answer.Load(), nil }
	})
	answers := func(list ...string) { answer.Store(&list) }
	order := func(want ...string) func(*snapshot.Snapshot, error) bool {
		return func(s *snapshot.Snapshot, err error) bool {
			if err != nil || s == nil || len(s.Upstreams) == 0 || len(s.Upstreams[0].Hosts) != len(want) {
				return false
			}
			for _, h := range s.Upstreams[0].Hosts {
				if p := int(h.Priority); p >= len(want) || want[p]+":80" != h.Address {
					return false
				}
			}
			return true
		}
	}
	answers("10.0.0.2", "10.0.0.3", "10.0.0.2", "10.0.0.1")
	f.Set(&clusterv3.Cluster{
		Name: "dns", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_LOGICAL_DNS},
		LoadAssignment: xdstest.Endpoints("dns", "reviews.example:80"),
		DnsRefreshRate: durationpb.New(10 * time.Millisecond),
	})
	f.routes("dns")
	f.target.Acquire()
	f.when(t, "resolved", order("10.0.0.2", "10.0.0.3", "10.0.0.1"))
	answers("10.0.0.4", "10.0.0.1", "10.0.0.3", "10.0.0.2")
	f.when(t, "in another order, with one more", order("10.0.0.2", "10.0.0.3", "10.0.0.1", "10.0.0.4"))
	answers("10.0.0.4", "10.0.0.1", "10.0.0.3")
	f.when(t, "the first is gone", order("10.0.0.3", "10.0.0.1", "10.0.0.4"))
}

func TestDNSFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *watch.Config) {
		c.LookupHost = func(context.Context, string) ([]string, error) { return nil, errors.New("no such host") }
	})
	f.Set(&clusterv3.Cluster{
		Name: "dns", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_LOGICAL_DNS},
		LoadAssignment: xdstest.Endpoints("dns", "reviews.example:80"),
	})
	f.routes("dns")
	f.target.Acquire()
	s := f.when(t, "failed", is("dns[]!"))
	if err := s.Upstreams[0].Err; err == nil || !strings.Contains(err.Error(), "no such host") {
		t.Errorf("error %v", err)
	}
}

func TestWatchListener(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	const inbound = "xds.istio.io/grpc/lds/inbound/127.0.0.1:9080"
	got := make(chan string, 10)
	cancel := f.m.WatchListener(inbound, func(l *snapshot.Listener, err error) { got <- fmt.Sprint(l != nil, err != nil) })
	defer cancel()
	if g := <-got; g != "false true" {
		t.Errorf("without a listener: %s", g)
	}
}

func TestClosedManager(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.target.Acquire()
	f.m.Close()
	if _, err, _ := f.target.Current(); !errors.Is(err, watch.ErrClosed) {
		t.Errorf("error %v", err)
	}
	if _, err, _ := f.m.Target("other:1").Current(); !errors.Is(err, watch.ErrClosed) {
		t.Errorf("a new target: error %v", err)
	}
	f.target.Acquire().Release()
}

// TestReturn shows that a target lives until everybody has given it back, that the
// next of its name is another, and that what calls went by stays with the old one.
func TestReturn(t *testing.T) {
	t.Parallel()
	ended := make(chan string, 10)
	f := newFixture(t, func(c *watch.Config) {
		c.ReturnLinger = time.Millisecond
		c.Ended = func(target string) { ended <- target }
	})
	f.cluster("a", "10.0.0.1:1")
	f.routes("a")
	lease := f.target.Acquire()
	f.when(t, "subscribed", is("a[10.0.0.1:1]"))
	if again := f.m.Target(name); again != f.target {
		t.Fatal("two targets of one name")
	}
	f.target.Return()
	if again := f.m.Target(name); again != f.target {
		t.Fatal("the target has gone while one user is left")
	}
	f.target.Return()
	f.target.Return()
	if got := <-ended; got != name {
		t.Fatalf("%s has ended", got)
	}
	if s := f.target.Snapshot(); describe(s) != "a[10.0.0.1:1]" {
		t.Errorf("what was published is gone: %s", describe(s))
	}
	if n := len(f.m.Engine().Status()); n != 0 {
		t.Errorf("the engine keeps %d clusters of a target that nobody uses", n)
	}
	lease.Release()
	f.target.Acquire().Release()
	old := f.target
	if f.target = f.m.Target(name); f.target == old {
		t.Fatal("a target that has ended was handed out")
	}
	f.target.Acquire()
	f.when(t, "subscribed anew", is("a[10.0.0.1:1]"))
}

// TestReturnRaces has many use a target for a moment each: whoever uses it has it
// subscribed.
func TestReturnRaces(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *watch.Config) { c.ReturnLinger = time.Nanosecond })
	f.cluster("a", "10.0.0.1:1")
	f.routes("a")
	f.target.Return()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				target := f.m.Target(name)
				lease := target.Acquire()
				for s, _, changed := target.Current(); s.Snapshot == nil; s, _, changed = target.Current() {
					select {
					case <-changed:
					case <-time.After(10 * time.Second):
						t.Error("a target in use is not subscribed")
						return
					}
				}
				lease.Release()
				target.Return()
			}
		})
	}
	wg.Wait()
}

// leading is a cluster whose calls fall back to another one, or an aggregate of
// others.
func leading(t *testing.T, aggregate bool, to string) *clusterv3.Cluster {
	t.Helper()
	if !aggregate {
		c := xdstest.Cluster("a")
		fields, err := structpb.NewStruct(map[string]any{"fallback": map[string]any{"cluster": to}})
		if err != nil {
			t.Fatal(err)
		}
		c.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"meshframe": fields}}
		return c
	}
	return &clusterv3.Cluster{Name: "a", LbPolicy: clusterv3.Cluster_CLUSTER_PROVIDED, ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{
		ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.clusters.aggregate", TypedConfig: xdstest.Any(&aggregatev3.ClusterConfig{Clusters: []string{to}}),
		},
	}}
}

// TestVersionsWaitForWhereTheyLead checks that the version of a cluster which leads
// to others that have not been answered waits for them, while its endpoints change.
func TestVersionsWaitForWhereTheyLead(t *testing.T) {
	t.Parallel()
	for kind, aggregate := range map[string]bool{"fallback": false, "aggregate": true} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, func(c *watch.Config) { c.WarmTimeout = time.Hour })
			f.cluster("a", "10.0.0.1:1")
			f.cluster("b", "10.0.0.2:1")
			f.routes("a")
			f.target.Acquire()
			f.when(t, "first", is("a[10.0.0.1:1]"))

			f.Set(leading(t, aggregate, "b"))
			reaches := func(name, want string) func(*snapshot.Snapshot, error) bool {
				return func(s *snapshot.Snapshot, _ error) bool {
					for _, up := range s.Upstreams {
						if up.Name != "a" {
							continue
						}
						to := append(slices.Clone(up.Cluster.Aggregate), "")[0]
						if up.Cluster.Fallback != nil {
							to = up.Cluster.Fallback.Cluster
						}
						i := slices.IndexFunc(s.Upstreams, func(u *snapshot.Upstream) bool { return u.Name == to })
						var missing *xdsclient.MissingError // of a machine that was too slow
						if to != "" && s.Upstreams[i].Err != nil && !errors.As(s.Upstreams[i].Err, &missing) {
							t.Errorf("leads to %s, which has the error %v", to, s.Upstreams[i].Err)
						}
						return to == name && strings.Contains(describe(s), want) || missing != nil
					}
					return false
				}
			}
			f.when(t, "leads to b", reaches("b", "b[10.0.0.2:1]"))

			f.Set(xdstest.Cluster("c")) // whose endpoints are not known yet
			f.Set(leading(t, aggregate, "c"))
			f.Set(xdstest.Endpoints("b", "10.0.0.9:1"))
			f.when(t, "the version before is followed", reaches("b", "b[10.0.0.9:1]"))
			f.Set(xdstest.Endpoints("c", "10.0.0.3:1"))
			f.when(t, "leads to c", reaches("c", "c[10.0.0.3:1]"))
			f.when(t, "nothing else is followed", func(s *snapshot.Snapshot, _ error) bool { return len(s.Upstreams) == 2 })
		})
	}
}

// TestVersionsDoNotWaitForEver has a cluster lead to one that is never answered.
func TestVersionsDoNotWaitForEver(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *watch.Config) { c.WarmTimeout = 50 * time.Millisecond })
	f.cluster("a", "10.0.0.1:1")
	f.routes("a")
	f.target.Acquire()
	f.when(t, "first", is("a[10.0.0.1:1]"))
	f.Set(leading(t, false, "typo"))
	f.when(t, "after the wait", is("a[10.0.0.1:1] typo[]!"))
}
