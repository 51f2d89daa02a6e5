package meshtest_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/meshframe/meshframe/srvframe/meshtest"
)

// The package comment shows this test; keep the two alike.

const weights = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: greeter}
spec:
  hosts: [greeter]
  http:
  - match: [{headers: {user: {exact: jason}}}]
    route: [{destination: {host: greeter, subset: v2}}]
  - route: [{destination: {host: greeter, subset: v1}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: greeter}
spec:
  host: greeter
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
`

// greeter is a service whose answer tells its versions apart.
func greeter(r grpc.ServiceRegistrar, version string) {
	server := health.NewServer()
	server.SetServingStatus(version, healthpb.HealthCheckResponse_SERVING)
	healthpb.RegisterHealthServer(r, server)
}

func TestJasonGetsV2(t *testing.T) {
	mesh := meshtest.New(t, weights)
	for _, version := range []string{"v1", "v2"} {
		mesh.Server("greeter:9080", map[string]string{"version": version}, func(r grpc.ServiceRegistrar) {
			greeter(r, version)
		})
	}
	client := healthpb.NewHealthClient(mesh.Client("greeter:9080"))
	for user, version := range map[string]string{"jason": "v2", "anybody": "v1"} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "user", user)
		if _, err := client.Check(ctx, &healthpb.HealthCheckRequest{Service: version}); err != nil {
			t.Errorf("%s does not get %s: %v", user, version, err)
		}
	}
}
