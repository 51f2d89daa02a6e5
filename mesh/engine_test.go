package mesh_test

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/internal/enginetest"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

func update(t *testing.T, target, lines string) *snapshot.Update {
	t.Helper()
	c := enginetest.NewConfig(target)
	if err := c.Add(lines); err != nil {
		t.Fatal(err)
	}
	return c.Update()
}

// TestCallPathAllocatesNothing goes the whole way of a call: decision, limits,
// pick, report.
func TestCallPathAllocatesNothing(t *testing.T) {
	for _, c := range decideCases {
		e := mesh.New(mesh.Options{})
		s := e.Apply(benchUpdate(c.matches))
		pickers := map[*snapshot.Upstream]*pick.Picker{}
		for _, u := range s.Upstreams {
			pickers[u] = u.NewPicker([]pick.ConnState{pick.Ready, pick.Ready})
		}
		var d mesh.Decision
		in := &pick.Input{Rand: e.Rand}
		now := time.Now()
		attempts := []outcome.Attempt{{HTTPStatus: 200}, {HTTPStatus: 503, Conditions: outcome.Server5xx}}
		if n := testing.AllocsPerRun(200, func() {
			e.Decide(s, benchRequest, &d)
			u := d.Upstream
			at := u.State.Acquire()
			u.State.Breaker.TryRequest(&u.Cluster.Limits, at)
			for i := range attempts {
				host, _ := pickers[u].Pick(in)
				pickers[u].Done(host)
				e.Report(u, host, &attempts[i], now)
				d.Retry.Retriable(&attempts[i])
			}
			u.State.Breaker.DoneRequest(&u.Cluster.Limits, at)
			u.State.Release(at)
		}); n != 0 {
			t.Errorf("%s: a call allocates %v times", c.name, n)
		}
		if d.Route.Name != strconv.Itoa(len(c.matches)-1) {
			t.Errorf("%s: decided for route %s", c.name, d.Route.Name)
		}
	}
}

// TestWeightsAreExact feeds evenly spaced random numbers: each cluster must be
// drawn exactly as often as its weight says.
func TestWeightsAreExact(t *testing.T) {
	var next uint64
	const total = 7 + 1 + 92
	e := mesh.New(mesh.Options{Rand: func() uint64 {
		next++
		return (next%total)*(math.MaxUint64/total) + total
	}})
	s := e.Apply(update(t, "h", `
		host vh h
		route r -> zero:0 seven:7 one:1 also-zero:0 most:92
		cluster seven
		cluster one
		cluster most`))
	got := map[string]int{}
	for range total {
		var d mesh.Decision
		e.Decide(s, &mesh.Request{Path: "/"}, &d)
		if d.Err != nil {
			t.Fatal(d.Err)
		}
		got[d.Upstream.Name]++
	}
	if got["seven"] != 7 || got["one"] != 1 || got["most"] != 92 {
		t.Errorf("drawn %v", got)
	}
}

func TestErrorKinds(t *testing.T) {
	e := mesh.New(mesh.Options{})
	s := e.Apply(update(t, "h", `
		host vh h
		route gone path=/gone -> v1
		route bad path=/bad -> refused="why"
		host worse bad refused="why"
		host others other
		route rest -> v2`))
	for _, test := range []struct {
		snap *snapshot.Snapshot
		req  mesh.Request
		kind mesh.Kind
		text string
	}{
		{nil, mesh.Request{Path: "/"}, mesh.NoConfig, "mesh: no configuration: none has arrived yet"},
		{s, mesh.Request{Authority: "x", Path: "/"}, mesh.NoVirtualHost, "mesh: x: no virtual host"},
		{s, mesh.Request{Path: "/"}, mesh.NoRoute, "mesh: h: no route matches / (virtual host vh)"},
		{s, mesh.Request{Path: "/bad"}, mesh.Refused, "mesh: h: unusable configuration: route bad (virtual host vh): refused: why"},
		{s, mesh.Request{Authority: "bad", Path: "/"}, mesh.Refused, "mesh: bad: unusable configuration (virtual host worse): refused: why"},
		{s, mesh.Request{Path: "/gone"}, mesh.ClusterMissing, "mesh: h: cluster unavailable: v1: the cluster does not exist or has not arrived"},
		{s, mesh.Request{Authority: "other", Path: "/"}, mesh.ClusterMissing, "mesh: other: cluster unavailable: v2: only the clusters of the target's own virtual host are followed"},
	} {
		var d mesh.Decision
		e.Decide(test.snap, &test.req, &d)
		var re *mesh.RouteError
		if !errors.As(d.Err, &re) || re.Kind != test.kind || d.Err.Error() != test.text || d.Upstream != nil {
			t.Errorf("%+v: error %v", test.req, d.Err)
		}
	}
	if got := mesh.Kind(99).String(); got != "Kind(99)" {
		t.Errorf("Kind(99) is %q", got)
	}
}

// TestCallsWhileConfigurationChanges makes calls on several goroutines while
// routes, clusters and endpoints flip. No call may fail, and nothing may be
// left when all is dropped.
func TestCallsWhileConfigurationChanges(t *testing.T) {
	e := mesh.New(mesh.Options{})
	versions := []*snapshot.Update{
		update(t, "h", `
			host vh h
			route r -> a:1 b:1
			cluster a panic=50 consecutive=2 max_ejection=100 interval=1ms base=1ms
			endpoints a 10.0.0.1:80 10.0.0.2:80
			cluster b lb=least_request
			endpoints b 10.0.0.3:80 10.0.0.4:80`),
		update(t, "h", `
			host vh h
			route r -> b:1 c:1
			cluster b lb=least_request
			endpoints b 10.0.0.4:80 10.0.0.5:80
			cluster c lb=random
			endpoints c 10.0.0.6:80`),
	}
	var current atomic.Pointer[snapshot.Snapshot]
	current.Store(e.Apply(versions[0]))
	var stop atomic.Bool
	var calls sync.WaitGroup
	for range 4 {
		calls.Go(func() {
			for !stop.Load() {
				if err := call(e, current.Load()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	start := time.Now()
	for i := range 300 {
		current.Store(e.Apply(versions[i%2]))
		e.Tick(start.Add(time.Duration(i) * time.Millisecond))
	}
	stop.Store(true)
	calls.Wait()
	last := current.Load()
	e.Drop("h")
	for _, u := range last.Upstreams {
		for _, h := range u.Hosts {
			if n := h.State.InFlight.Load(); n != 0 {
				t.Errorf("%s: %d in flight at the end", h.Address, n)
			}
		}
	}
	if n := e.Clusters(); n != 0 {
		t.Errorf("%d clusters have state at the end", n)
	}
}

// call is what an edge does for one call whose attempt fails.
func call(e *mesh.Engine, s *snapshot.Snapshot) error {
	var d mesh.Decision
	e.Decide(s, &mesh.Request{Path: "/"}, &d)
	if d.Err != nil {
		return d.Err
	}
	u := d.Upstream
	at := u.State.Acquire()
	defer u.State.Release(at)
	if !u.State.Breaker.TryRequest(&u.Cluster.Limits, at) {
		return errors.New("refused by a limit")
	}
	defer u.State.Breaker.DoneRequest(&u.Cluster.Limits, at)
	p := u.NewPicker([]pick.ConnState{pick.Ready, pick.Ready})
	host, v := p.Pick(&pick.Input{Rand: e.Rand})
	if v != pick.Picked {
		return fmt.Errorf("pick: %v", v)
	}
	defer p.Done(host)
	e.Report(u, host, &outcome.Attempt{HTTPStatus: 503, Conditions: outcome.Server5xx}, time.Now())
	return nil
}

// TestApplyAndDropAtOnce is for the race detector, and checks that states are
// counted right whatever the order.
func TestApplyAndDropAtOnce(t *testing.T) {
	e := mesh.New(mesh.Options{})
	u := update(t, "h", "host vh h\nroute r -> a\ncluster a\nendpoints a 10.0.0.1:80")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 200 {
				e.Apply(u)
			}
		})
		wg.Go(func() {
			for range 200 {
				e.Drop("h")
			}
		})
	}
	wg.Wait()
	e.Drop("h")
	if n := e.Clusters(); n != 0 {
		t.Errorf("%d clusters have state at the end", n)
	}
}
