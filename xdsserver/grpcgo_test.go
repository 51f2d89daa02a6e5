package xdsserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/xds"

	"github.com/meshframe/meshframe/xdsserver"
)

// serve starts a control plane on loopback.
func serve(t *testing.T, opts xdsserver.Options, yaml string) (*xdsserver.Server, string) {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := xdsserver.New(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	if yaml != "" {
		if _, err := s.Apply(map[string][]byte{"test.yaml": []byte(yaml)}); err != nil {
			t.Fatal(err)
		}
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(lis) }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s, lis.Addr().String()
}

// bootstrapFor writes the bootstrap file that gRPC wants.
func bootstrapFor(t *testing.T, addr string, metadata map[string]any) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{
		"xds_servers":                            []any{map[string]any{"server_uri": addr, "channel_creds": []any{map[string]any{"type": "insecure"}}, "server_features": []string{"xds_v3"}}},
		"node":                                   map[string]any{"id": "sidecar~127.0.0.1~test.default~default.svc.cluster.local", "metadata": metadata, "locality": map[string]any{}},
		"server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s",
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// dialXDS makes grpc-go's own xds:/// channel.
func dialXDS(t *testing.T, addr, target string) grpc_testing.TestServiceClient {
	t.Helper()
	builder, err := xds.NewXDSResolverWithConfigForTesting(bootstrapFor(t, addr, map[string]any{"GENERATOR": "grpc"}))
	if err != nil {
		t.Fatal(err)
	}
	cc, err := grpc.NewClient("xds:///"+target, grpc.WithResolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return grpc_testing.NewTestServiceClient(cc)
}

type backend struct {
	grpc_testing.UnimplementedTestServiceServer
	name string
}

func (b *backend) UnaryCall(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	return &grpc_testing.SimpleResponse{Username: b.name}, nil
}

// startBackend serves and returns the port.
func startBackend(t *testing.T, name string) int {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(s, &backend{name: name})
	done := make(chan error, 1)
	go func() { done <- s.Serve(lis) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return lis.Addr().(*net.TCPAddr).Port
}

func TestGRPCGoClient(t *testing.T) {
	v1, v2 := startBackend(t, "v1"), startBackend(t, "v2")
	_, addr := serve(t, xdsserver.Options{}, fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: echo}
spec:
  hosts: [echo.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: grpc, protocol: GRPC}]
  endpoints:
  - {address: 127.0.0.1, ports: {grpc: %d}, labels: {version: v1}}
  - {address: 127.0.0.1, ports: {grpc: %d}, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo}
spec:
  host: echo
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo}
spec:
  hosts: [echo]
  http:
  - route: [{destination: {host: echo, subset: v2}}]
`, v1, v2))
	client := dialXDS(t, addr, "echo:80")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resp, err := client.UnaryCall(ctx, &grpc_testing.SimpleRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if resp.GetUsername() != "v2" {
		t.Errorf("got %q", resp.GetUsername())
	}
}
