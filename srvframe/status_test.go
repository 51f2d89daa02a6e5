package srvframe_test

import (
	"errors"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/internal/xdstest"
	"github.com/meshframe/meshframe/srvframe"
)

// TestStatus mirrors calls to a server that fails, and reads how the copies
// compare, and what the control plane is worth.
func TestStatus(t *testing.T) {
	cp := xdstest.NewControlPlane(t)
	good := xdstest.NewServer(t, xdstest.Echo)
	bad := xdstest.NewServer(t, func(any, grpc.ServerStream) error { return status.Error(codes.NotFound, "not here") })
	cp.Set(xdstest.Cluster("shadow"), xdstest.Endpoints("shadow", bad.Addr))
	serve(cp, func(r *routev3.Route) {
		r.GetRoute().RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "shadow"}}
	}, good.Addr)
	m, err := srvframe.Join(t.Context(), srvframe.Options{Bootstrap: cp.Bootstrap()})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if s := m.Status(); len(s.Clusters) != 0 || len(s.Clients) != 1 || s.Clients[0].Servers[0].Connected {
		t.Errorf("before the first call: %+v", s)
	}
	cc, err := m.NewClient(target)
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()

	var shadow srvframe.ClusterStatus
	for end := time.Now().Add(10 * time.Second); shadow.Mirrored.Different == 0; {
		if _, err := xdstest.Call(t.Context(), cc, method); err != nil {
			t.Fatal(err)
		}
		s := m.Status()
		if len(s.Clusters) != 2 || s.Clusters[0].Name != "c" || s.Clusters[1].Name != "shadow" {
			t.Fatalf("clusters %+v", s.Clusters)
		}
		if shadow = s.Clusters[1]; time.Now().After(end) {
			t.Fatalf("no copy was compared: %+v", shadow)
		}
	}
	if c := shadow.Mirrored; c.Sent < c.Different || c.Equal != 0 || c.Classes[2][4] != c.Different {
		t.Errorf("mirrored %+v", c)
	}
	if shadow.Endpoints != 1 || shadow.EjectedEndpoints != 0 || shadow.BreakerOpen {
		t.Errorf("the cluster %+v", shadow)
	}
	client := m.Status().Clients[0]
	if client.Target != "" || !client.Servers[0].Connected || len(client.Resources) == 0 || client.Resources[0].Stale {
		t.Errorf("the client %+v", client)
	}
}

// TestDefaultIsNone: the environment of the tests names no mesh.
func TestDefaultIsNone(t *testing.T) {
	if m, err := srvframe.Default(); m != nil || !errors.Is(err, srvframe.ErrNoMesh) {
		t.Errorf("a mesh %v, %v", m, err)
	}
}
