package balancer

import (
	"fmt"
	"testing"

	"google.golang.org/grpc/attributes"
	grpcbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	grpcresolver "google.golang.org/grpc/resolver"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/watch"
)

// crowd is a balancer of one cluster with n endpoints.
func crowd(t testing.TB, n int) (*meshBalancer, *channel) {
	t.Helper()
	var eps []snapshot.Endpoint
	for i := range n {
		eps = append(eps, snapshot.Endpoint{Address: fmt.Sprintf("10.%d.%d.%d:80", i>>16, i>>8&255, i&255), Weight: 1})
	}
	e := mesh.New(mesh.Options{})
	s := e.Apply(&snapshot.Update{
		Target: "a:80", Authority: "a:80", Listener: &snapshot.Listener{},
		Routes:    &snapshot.RouteConfiguration{VirtualHosts: []*snapshot.VirtualHost{{Name: "v", Domains: []string{"*"}, Routes: []*snapshot.Route{{Name: "r", Clusters: []snapshot.ClusterWeight{{Cluster: "c", Weight: 1}}}}}}},
		Clusters:  map[string]*snapshot.Cluster{"c": {Name: "c", Limits: breaker.NoLimits}},
		Endpoints: map[string]*snapshot.ClusterLoadAssignment{"c": {Localities: []snapshot.LocalityEndpoints{{Endpoints: eps, Weight: 1}}}},
	})
	if s.Err != nil || len(s.Upstreams) != 1 || len(s.Upstreams[0].Hosts) != n {
		t.Fatal(s.Err, s.Upstreams)
	}
	cc := &channel{updated: make(chan struct{}, 1)}
	b := builder{}.Build(cc, grpcbalancer.BuildOptions{}).(*meshBalancer)
	err := b.UpdateClientConnState(grpcbalancer.ClientConnState{ResolverState: grpcresolver.State{
		Attributes: attributes.New(watch.PublishedKey{}, watch.Published{Engine: e, Snapshot: s}),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return b, cc
}

// TestManyConnectionsAreCheap connects thousands of endpoints at once: that takes
// few pickers, and the last knows them all.
func TestManyConnectionsAreCheap(t *testing.T) {
	t.Parallel()
	const n = 5000
	b, cc := crowd(t, n)
	defer b.Close()
	for _, state := range []connectivity.State{connectivity.Connecting, connectivity.Ready} {
		for _, s := range cc.made {
			s.tell(grpcbalancer.SubConnState{ConnectivityState: state})
		}
	}
	for ready := 0; ready < n; {
		<-cc.updated
		b.mu.Lock()
		ready = 0
		for _, p := range b.pickers {
			picked := map[int]bool{}
			for range n {
				if i, verdict := p.picker.Pick(&pick.Input{}); verdict == pick.Picked {
					picked[i] = true
				}
			}
			ready = len(picked)
		}
		b.mu.Unlock()
	}
	if made := cc.updates.Load(); made > n/4 {
		t.Errorf("%d pickers for %d changes", made, 2*n)
	}
}
