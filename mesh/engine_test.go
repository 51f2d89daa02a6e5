package mesh_test

import (
	"testing"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/route"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

func TestDecideAllocs(t *testing.T) {
	e := mesh.New(mesh.Options{})
	s := e.Apply(&snapshot.Update{
		Target: "reviews:9080", Authority: "reviews:9080",
		Listener: &snapshot.Listener{Name: "reviews:9080"},
		Routes: &snapshot.RouteConfiguration{VirtualHosts: []*snapshot.VirtualHost{{
			Name: "reviews", Domains: []string{"reviews:9080"},
			Routes: []*snapshot.Route{
				{Match: route.Match{Value: "/x"}, Clusters: []snapshot.ClusterWeight{{Cluster: "a", Weight: 1}}},
				{Match: route.Match{Value: "/"}, Clusters: []snapshot.ClusterWeight{{Cluster: "b", Weight: 1}, {Cluster: "a", Weight: 1}}},
			},
		}}},
		Clusters:  map[string]*snapshot.Cluster{"a": {Name: "a"}, "b": {Name: "b"}},
		Endpoints: map[string]*snapshot.ClusterLoadAssignment{"a": {Localities: []snapshot.LocalityEndpoints{{Endpoints: []snapshot.Endpoint{{Address: "10.0.0.1:80", Weight: 1}}}}}},
	})
	r := &mesh.Request{Path: "/svc/Method", IsGRPC: true}
	var d mesh.Decision
	if n := testing.AllocsPerRun(100, func() { e.Decide(s, r, &d) }); n != 0 {
		t.Errorf("Decide allocates %v times", n)
	}
	if d.Err != nil {
		t.Fatal(d.Err)
	}
	p := s.Upstreams[0].NewPicker([]pick.ConnState{pick.Ready})
	in := &pick.Input{Rand: func() uint64 { return 0 }}
	if host, v := p.Pick(in); host != 0 || v != pick.Picked {
		t.Errorf("Pick = %d, %v", host, v)
	}
}
