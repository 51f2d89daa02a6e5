package mesh_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/outlier"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/retry"
	"github.com/meshframe/meshframe/mesh/route"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// headers is a map as route.Headers.
type headers map[string]string

func (h headers) Header(name string) (string, bool) {
	v, ok := h[name]
	return v, ok
}

// benchUpdate is a target with every policy set and the given matches, of which
// the last leads to two weighted clusters.
func benchUpdate(matches []route.Match) *snapshot.Update {
	vh := &snapshot.VirtualHost{Name: "bench", Domains: []string{"bench:80"}}
	for i, m := range matches {
		r := &snapshot.Route{
			Name: strconv.Itoa(i), Match: m, Timeout: time.Second,
			Clusters: []snapshot.ClusterWeight{{Cluster: "a", Weight: 90}, {Cluster: "b", Weight: 10}},
			Retry:    &retry.Policy{On: outcome.GRPCUnavailable, NumRetries: 2},
		}
		vh.Routes = append(vh.Routes, r)
	}
	u := &snapshot.Update{
		Target: "bench:80", Authority: "bench:80",
		Listener:  &snapshot.Listener{Name: "bench:80", Fault: &fault.Policy{}},
		Routes:    &snapshot.RouteConfiguration{VirtualHosts: []*snapshot.VirtualHost{vh}},
		Clusters:  map[string]*snapshot.Cluster{},
		Endpoints: map[string]*snapshot.ClusterLoadAssignment{},
	}
	for _, name := range []string{"a", "b"} {
		u.Clusters[name] = &snapshot.Cluster{Name: name, Limits: breaker.NoLimits, Outlier: &outlier.Config{
			Consecutive5xx: 5, EnforcingConsecutive5xx: 100, MaxEjectionPercent: 50,
		}}
		u.Endpoints[name] = &snapshot.ClusterLoadAssignment{Localities: []snapshot.LocalityEndpoints{{
			Endpoints: []snapshot.Endpoint{{Address: name + "1:80", Weight: 1}, {Address: name + "2:80", Weight: 1}},
		}}}
	}
	return u
}

var benchRequest = &mesh.Request{
	Path: "/grpc.testing.BenchmarkService/UnaryCall", Method: "POST", Scheme: "http", IsGRPC: true,
	Headers: headers{"end-user": "jason"},
}

// decideCases are tables of which the last route serves benchRequest.
var decideCases = []struct {
	name    string
	matches []route.Match
}{
	{"2path", otherPaths(2)},
	{"1000path", otherPaths(1000)},
	{"2header", otherHeaders(2)},
	{"1000header", otherHeaders(1000)},
}

func otherPaths(n int) []route.Match {
	matches := make([]route.Match, n)
	for i := range matches {
		matches[i].Value = fmt.Sprintf("/grpc.testing.Other%03d/", i)
	}
	matches[n-1] = route.Match{Value: "/"}
	return matches
}

func otherHeaders(n int) []route.Match {
	matches := make([]route.Match, n)
	for i := range matches {
		matches[i] = route.Match{Value: "/", Headers: []route.HeaderMatch{
			{Name: "end-user", StringMatch: route.StringMatch{Value: fmt.Sprintf("user%03d", i)}},
		}}
	}
	matches[n-1].Headers[0].Value = "jason"
	return matches
}

func BenchmarkDecide(b *testing.B) {
	for _, c := range decideCases {
		b.Run(c.name, func(b *testing.B) {
			e := mesh.New(mesh.Options{})
			s := e.Apply(benchUpdate(c.matches))
			var d mesh.Decision
			b.ReportAllocs()
			for b.Loop() {
				e.Decide(s, benchRequest, &d)
			}
			if d.Err != nil {
				b.Fatal(d.Err)
			}
		})
	}
}

// BenchmarkDecideRatio measures the last of 1,000 routes against the last of
// two. On a busy machine two separate benchmarks cannot be compared to a few
// per cent, so it alternates short batches and takes the fastest of each.
func BenchmarkDecideRatio(b *testing.B) {
	for _, kind := range []struct {
		name string
		make func(n int) []route.Match
	}{{"path", otherPaths}, {"header", otherHeaders}} {
		b.Run(kind.name, func(b *testing.B) {
			e := mesh.New(mesh.Options{})
			few, many := e.Apply(benchUpdate(kind.make(2))), e.Apply(benchUpdate(kind.make(1000)))
			fastest := [2]time.Duration{time.Hour, time.Hour}
			for b.Loop() {
				for i, s := range []*snapshot.Snapshot{few, many} {
					fastest[i] = min(fastest[i], decideBatch(e, s))
				}
			}
			b.ReportMetric(float64(fastest[0].Nanoseconds())/batch, "ns/decide-of-2")
			b.ReportMetric(float64(fastest[1])/float64(fastest[0]), "x-for-1000")
		})
	}
}

const batch = 500

func decideBatch(e *mesh.Engine, s *snapshot.Snapshot) time.Duration {
	var d mesh.Decision
	start := time.Now()
	for range batch {
		e.Decide(s, benchRequest, &d)
	}
	return time.Since(start)
}

// BenchmarkCall is everything that the engine does for one call.
func BenchmarkCall(b *testing.B) {
	e := mesh.New(mesh.Options{})
	s := e.Apply(benchUpdate(otherPaths(2)))
	pickers := map[*snapshot.Upstream]*pick.Picker{}
	for _, u := range s.Upstreams {
		pickers[u] = u.NewPicker([]pick.ConnState{pick.Ready, pick.Ready})
	}
	now := time.Now()
	b.RunParallel(func(pb *testing.PB) {
		var d mesh.Decision
		in := &pick.Input{Rand: e.Rand}
		ok := &outcome.Attempt{HTTPStatus: 200}
		for pb.Next() {
			e.Decide(s, benchRequest, &d)
			at := d.Upstream.State.Acquire()
			if !d.Upstream.State.Breaker.TryRequest(&d.Upstream.Cluster.Limits, at) {
				b.Error("refused")
			}
			p := pickers[d.Upstream]
			host, _ := p.Pick(in)
			p.Done(host)
			e.Report(d.Upstream, host, ok, now)
			d.Upstream.State.Breaker.DoneRequest(&d.Upstream.Cluster.Limits, at)
			d.Upstream.State.Release(at)
		}
	})
}

// BenchmarkApply rebuilds a snapshot of 10,000 virtual hosts with 10 routes
// each: when one endpoint changed, and when all routes are new.
func BenchmarkApply(b *testing.B) {
	u := benchUpdate(otherPaths(10))
	own := u.Routes.VirtualHosts[0]
	for i := range 10_000 {
		vh := *own
		vh.Name = fmt.Sprintf("service%d", i)
		vh.Domains = []string{vh.Name, vh.Name + ":80"}
		u.Routes.VirtualHosts = append(u.Routes.VirtualHosts, &vh)
	}
	e := mesh.New(mesh.Options{})
	e.Apply(u)
	b.Run("endpoint", func(b *testing.B) {
		for b.Loop() {
			assignment := *u.Endpoints["a"]
			u.Endpoints["a"] = &assignment
			e.Apply(u)
		}
	})
	b.Run("routes", func(b *testing.B) {
		for b.Loop() {
			routes := *u.Routes
			u.Routes = &routes
			e.Apply(u)
		}
	})
	b.Run("first-foreign-host", func(b *testing.B) {
		for b.Loop() {
			routes := *u.Routes
			u.Routes = &routes
			var d mesh.Decision
			e.Decide(e.Apply(u), &mesh.Request{Authority: "service77:80", Path: "/"}, &d)
		}
	})
}

// BenchmarkDecideHosts decides calls to an authority that is not the target's,
// among few and many virtual hosts.
func BenchmarkDecideHosts(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			u := benchUpdate(otherPaths(10))
			own := u.Routes.VirtualHosts[0]
			for i := range n {
				vh := *own
				vh.Name = fmt.Sprintf("service%d", i)
				vh.Domains = []string{vh.Name, vh.Name + ":80"}
				u.Routes.VirtualHosts = append(u.Routes.VirtualHosts, &vh)
			}
			e := mesh.New(mesh.Options{})
			s := e.Apply(u)
			r := *benchRequest
			r.Authority = "service7:80"
			var d mesh.Decision
			for b.Loop() {
				e.Decide(s, &r, &d)
			}
			if d.Err != nil || d.VirtualHost() != "service7" {
				b.Fatal(d.Err)
			}
		})
	}
}
