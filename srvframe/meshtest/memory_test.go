package meshtest_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/srvframe/meshtest"
	"github.com/meshframe/meshframe/xdsserver"
)

// TestInMemory shows that a mesh in memory lives in a bubble, where time passes
// without being waited for.
func TestInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := meshtest.New(t, `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: greeter}
spec:
  hosts: [greeter]
  http:
  - timeout: 1h
    route: [{destination: {host: greeter}}]
`, meshtest.InMemory())
		client := mesh.Client("greeter:9080")
		server := mesh.Server("greeter:9080", nil, says("one"))
		wants(t, client, "one")
		server.Stop()
		mesh.Sync()
		mesh.Server("greeter:9080", nil, func(grpc.ServiceRegistrar) {}, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			<-stream.Context().Done()
			return context.Cause(stream.Context())
		}))
		began := time.Now()
		_, err := greet(t, client)
		if took := time.Since(began); status.Code(err) != codes.DeadlineExceeded || took != time.Hour {
			t.Errorf("call = %v after %v, want DEADLINE_EXCEEDED after an hour", err, took)
		}
	})
}

// TestStopAndLeave shows that a server which stops and leaves at once has
// withdrawn: nobody waits for it to come back.
func TestStopAndLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := meshtest.New(t, "", meshtest.InMemory(), meshtest.WithServerOptions(func(o *xdsserver.Options) { o.LeaseGrace = time.Hour }))
		client := mesh.Client("greeter:9080")
		for range 20 {
			leaving := mesh.Server("greeter:9080", nil, says("one"))
			wants(t, client, "one")
			leaving.Stop()
			leaving.Kill()
			mesh.Sync()
			if _, err := greet(t, client); status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), "refused") {
				t.Fatalf("call = %v, want an error that says there is no endpoint", err)
			}
		}
	})
}
