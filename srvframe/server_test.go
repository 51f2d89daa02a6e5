package srvframe_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/test/bufconn"

	"github.com/meshframe/meshframe/srvframe"
)

// registrar is a control plane that does nothing but note who subscribes to
// which listener.
type registrar struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	addr   string
	nodes  chan *corev3.Node
	events chan string // "+name" and "-name"
}

func newRegistrar(t *testing.T) *registrar {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &registrar{addr: lis.Addr().String(), nodes: make(chan *corev3.Node, 10), events: make(chan string, 10)}
	s := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, r)
	go func() { _ = s.Serve(lis) }()
	t.Cleanup(s.Stop)
	return r
}

func (r *registrar) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		if request.GetNode() != nil {
			r.nodes <- request.GetNode()
		}
		for _, name := range request.GetResourceNamesSubscribe() {
			r.events <- "+" + name
		}
		for _, name := range request.GetResourceNamesUnsubscribe() {
			r.events <- "-" + name
		}
	}
}

// want waits for the next event.
func (r *registrar) want(t *testing.T, event string) {
	t.Helper()
	select {
	case got := <-r.events:
		if got != event {
			t.Fatalf("control plane saw %s, want %s", got, event)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("control plane did not see %s", event)
	}
}

// running is a server that serves.
type running struct {
	*srvframe.Server

	addr   string
	served chan error
}

// start serves health checks on the address.
func start(t *testing.T, s *srvframe.Server, address string) *running {
	t.Helper()
	lis, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := s.GetServiceInfo()[healthpb.Health_ServiceDesc.ServiceName]; !ok {
		healthpb.RegisterHealthServer(s, health.NewServer())
	}
	r := &running{Server: s, addr: lis.Addr().String(), served: make(chan error, 1)}
	go func() { r.served <- s.Serve(lis) }()
	t.Cleanup(s.Stop)
	return r
}

// check makes a call to the server, outside of any mesh.
func (r *running) check(t *testing.T) error {
	t.Helper()
	_, port, _ := net.SplitHostPort(r.addr)
	cc, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{})
	return err
}

// ended checks that Serve returned as gRPC's does after a stop.
func (r *running) ended(t *testing.T) {
	t.Helper()
	select {
	case err := <-r.served:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("Serve did not return")
	}
}

const inbound = "xds.istio.io/grpc/lds/inbound/"

// TestRegistration follows a server from Serve to the end of GracefulStop: it is
// registered while it serves, and withdrawn before it stops.
func TestRegistration(t *testing.T) {
	r := newRegistrar(t)
	m, _ := join(t, srvframe.Options{
		XDS: r.addr, Service: "reviews:9080, admin:9081=7000", Namespace: "shop", Labels: map[string]string{"version": "v2"},
		Address: "10.0.0.7", DrainDelay: time.Hour,
	})
	s := start(t, m.NewServer(), "127.0.0.1:0")
	r.want(t, "+"+inbound+s.addr)
	want := map[string]any{
		"GENERATOR": "grpc", "NAMESPACE": "shop", "INSTANCE_IPS": "10.0.0.7", "LABELS": map[string]any{"version": "v2"},
		"MESH_SERVICES": []any{"reviews:9080", "admin:9081=7000"},
	}
	node := <-r.nodes
	if diff := cmp.Diff(want, node.GetMetadata().AsMap()); diff != "" {
		t.Errorf("node metadata (-want +got):\n%s", diff)
	}
	if !strings.HasPrefix(node.GetId(), "sidecar~10.0.0.7~reviews-") || !strings.HasSuffix(node.GetId(), ".shop~shop.svc.cluster.local") {
		t.Errorf("node id %q is not of Istio's form", node.GetId())
	}

	stopped := make(chan struct{})
	go func() {
		s.GracefulStop()
		close(stopped)
	}()
	r.want(t, "-"+inbound+s.addr)
	if err := s.check(t); err != nil {
		t.Errorf("a call between withdrawal and stop: %v", err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(lis); !errors.Is(err, grpc.ErrServerStopped) {
		t.Errorf("Serve while stopping: %v, want ErrServerStopped", err)
	}
	s.Stop() // ends the delay
	<-stopped
	s.ended(t)
	if err := s.check(t); err == nil {
		t.Error("a call after the stop succeeded")
	}
}

// TestStopWithdraws shows that Stop withdraws a server too, and that the
// wildcard address is registered as the mesh's own.
func TestStopWithdraws(t *testing.T) {
	r := newRegistrar(t)
	m, _ := join(t, srvframe.Options{XDS: r.addr, Service: "reviews:9080", Address: "10.0.0.7"})
	s := start(t, m.NewServer(), ":0")
	_, port, _ := net.SplitHostPort(s.addr)
	r.want(t, "+"+inbound+"10.0.0.7:"+port)
	s.Stop()
	s.ended(t)
	r.want(t, "-"+inbound+"10.0.0.7:"+port)
	s.GracefulStop() // nothing is left to wait for
}

// TestServeEnds shows that a server whose listener fails is withdrawn.
func TestServeEnds(t *testing.T) {
	r := newRegistrar(t)
	m, _ := join(t, srvframe.Options{XDS: r.addr, Service: "reviews:9080"})
	s := m.NewServer()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	r.want(t, "+"+inbound+lis.Addr().String())
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-served; err == nil {
		t.Error("Serve on a closed listener returned no error")
	}
	r.want(t, "-"+inbound+lis.Addr().String())
	s.Stop()
}

// TestCloseWithdraws shows that a mesh that is closed takes its servers with it,
// and that they serve on.
func TestCloseWithdraws(t *testing.T) {
	r := newRegistrar(t)
	m, _ := join(t, srvframe.Options{XDS: r.addr, Service: "reviews:9080"})
	s := start(t, m.NewServer(), "127.0.0.1:0")
	r.want(t, "+"+inbound+s.addr)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.check(t); err != nil {
		t.Errorf("a call after Close: %v", err)
	}
	s.GracefulStop()
	s.ended(t)
}

// TestBootstrapDescribesNode shows what options add to a bootstrap's node.
func TestBootstrapDescribesNode(t *testing.T) {
	r := newRegistrar(t)
	m, _ := join(t, srvframe.Options{
		Bootstrap: []byte(`{"xds_servers":[{"server_uri":"` + r.addr + `","channel_creds":[{"type":"insecure"}]}],
			"node":{"id":"mine","metadata":{"NAMESPACE":"theirs","GENERATOR":"other","KEPT":"yes"}}}`),
		Service: "reviews:9080",
	})
	s := start(t, m.NewServer(), "127.0.0.1:0")
	r.want(t, "+"+inbound+s.addr)
	node := <-r.nodes
	want := map[string]any{"GENERATOR": "other", "NAMESPACE": "theirs", "KEPT": "yes", "MESH_SERVICES": []any{"reviews:9080"}}
	if diff := cmp.Diff(want, node.GetMetadata().AsMap()); diff != "" || node.GetId() != "mine" {
		t.Errorf("node %q, metadata (-want +got):\n%s", node.GetId(), diff)
	}
	s.Stop()
	s.ended(t)
}

// TestNotRegistered shows servers that serve without a registration.
func TestNotRegistered(t *testing.T) {
	const client = `{"xds_servers":[{"server_uri":"127.0.0.1:1","channel_creds":[{"type":"insecure"}]}],"node":{"id":"mine"}}`
	log := &syncBuffer{}
	m, err := srvframe.Join(t.Context(), srvframe.Options{Bootstrap: []byte(client), Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	s := start(t, m.NewServer(), "127.0.0.1:0")
	if err := s.check(t); err != nil {
		t.Error(err)
	}
	memory := m.NewServer()
	served := make(chan error, 1)
	go func() { served <- memory.Serve(bufconn.Listen(1)) }()
	s.GracefulStop()
	s.ended(t)
	memory.GracefulStop()
	if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "server_listener_resource_name_template") {
		t.Errorf("the log does not say why a server is not registered:\n%s", log)
	}
}
