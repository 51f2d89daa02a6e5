package conformance_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/meshframe/meshframe/srvframe/meshtest"
)

func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(&failures) // before gRPC is used
	goleak.VerifyTestMain(m)
}

// failures hears from gRPC's interop cases, which end the process where they
// fail. Here they end their goroutine instead.
var failures = fatalLog{LoggerV2: grpclog.NewLoggerV2(io.Discard, io.Discard, os.Stderr)}

type fatalLog struct {
	grpclog.LoggerV2

	mu    sync.Mutex
	texts []string
}

// Fatalf implements grpclog.LoggerV2.
func (l *fatalLog) Fatalf(format string, args ...any) { l.Fatal(fmt.Sprintf(format, args...)) }

// Fatalln implements grpclog.LoggerV2.
func (l *fatalLog) Fatalln(args ...any) { l.Fatal(args...) }

// Fatal implements grpclog.LoggerV2.
func (l *fatalLog) Fatal(args ...any) {
	l.mu.Lock()
	l.texts = append(l.texts, fmt.Sprint(args...))
	l.mu.Unlock()
	runtime.Goexit()
}

// during runs f and returns what failed.
func (l *fatalLog) during(f func()) []string {
	var done sync.WaitGroup
	done.Go(f)
	done.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	texts := l.texts
	l.texts = nil
	return texts
}

// interopCases are those of gRPC's interop tests that need neither credentials nor
// a certain balancer nor load reports. gRPC for Go has none of the cases that ask the
// server about compression; those here compress what is sent both ways.
var interopCases = map[string]func(context.Context, *grpc.ClientConn){
	"empty unary":                  service(interop.DoEmptyUnaryCall),
	"large unary":                  service(interop.DoLargeUnaryCall),
	"client streaming":             service(interop.DoClientStreaming),
	"server streaming":             service(interop.DoServerStreaming),
	"ping pong":                    service(interop.DoPingPong),
	"empty stream":                 service(interop.DoEmptyStream),
	"timeout on sleeping server":   service(interop.DoTimeoutOnSleepingServer),
	"cancel after begin":           service(interop.DoCancelAfterBegin),
	"cancel after first response":  service(interop.DoCancelAfterFirstResponse),
	"custom metadata":              service(interop.DoCustomMetadata),
	"status code and message":      service(interop.DoStatusCodeAndMessage),
	"special status message":       service(interop.DoSpecialStatusMessage),
	"large unary, compressed":      compressed(interop.DoLargeUnaryCall),
	"client streaming, compressed": compressed(interop.DoClientStreaming),
	"server streaming, compressed": compressed(interop.DoServerStreaming),
	"ping pong, compressed":        compressed(interop.DoPingPong),
	"unimplemented method":         interop.DoUnimplementedMethod,
	"unimplemented service": func(ctx context.Context, cc *grpc.ClientConn) {
		interop.DoUnimplementedService(ctx, testpb.NewUnimplementedServiceClient(cc))
	},
}

// service makes a case of one for the test service.
func service(do func(context.Context, testpb.TestServiceClient, ...grpc.CallOption)) func(context.Context, *grpc.ClientConn) {
	return func(ctx context.Context, cc *grpc.ClientConn) { do(ctx, testpb.NewTestServiceClient(cc)) }
}

// compressed is service with every message compressed.
func compressed(do func(context.Context, testpb.TestServiceClient, ...grpc.CallOption)) func(context.Context, *grpc.ClientConn) {
	return service(func(ctx context.Context, client testpb.TestServiceClient, opts ...grpc.CallOption) {
		do(ctx, client, append(opts, grpc.UseCompressor(gzip.Name))...)
	})
}

// interopMeshes are what the cases are played with.
var interopMeshes = map[string]string{
	"without rules": "",
	"with rules that change nothing": interopRoute(`
    fault: {delay: {fixedDelay: 1h, percentage: {value: 0}}, abort: {httpStatus: 503, percentage: {value: 0}}}
    timeout: 1h
    retries: {attempts: 3, perTryTimeout: 1h, retryOn: "resource-exhausted,connect-failure,reset"}
    mirror: {host: shadow, port: {number: 80}}
    mirrorPercentage: {value: 0}
    headers: {request: {remove: [x-nobody-sends]}, response: {remove: [x-nobody-sends]}}`),
	"with rules at work": interopRoute(`
    retries: {attempts: 3, perTryTimeout: 1h, retryOn: "resource-exhausted,connect-failure"}
    mirror: {host: shadow, port: {number: 80}}
    headers: {request: {set: {x-request: set}}, response: {set: {x-response: set}}}`),
	"with a timeout alone": interopRoute(`
    timeout: 1h
    retries: {attempts: 0}`),
	"with attempts side by side": interopRoute(`
    timeout: 1h
    retries: {attempts: 3, perTryTimeout: 1ms, retryOn: "resource-exhausted,connect-failure"}`) + `---
apiVersion: networking.meshframe.dev/v1alpha1
kind: MeshPolicy
metadata: {name: interop}
spec:
  host: interop
  hedge: {onPerTryTimeout: true}
`,
}

// interopRoute is a mesh with one route for the test service.
func interopRoute(rules string) string {
	return strings.NewReplacer("$RULES", rules).Replace(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: interop}
spec:
  hosts: [interop]
  http:
  - route: [{destination: {host: interop}}]$RULES
`)
}

// TestInterop plays gRPC's own interop cases between a client and a server of the
// mesh.
func TestInterop(t *testing.T) {
	for name, rules := range interopMeshes {
		t.Run(name, func(t *testing.T) {
			mesh := meshtest.New(t, rules)
			for _, target := range []string{"interop:9080", "shadow:80"} {
				mesh.Server(target, nil, func(r grpc.ServiceRegistrar) {
					testpb.RegisterTestServiceServer(r, interop.NewTestServer())
				})
			}
			cc := mesh.Client("interop:9080")
			for c, do := range interopCases {
				t.Run(c, func(t *testing.T) {
					judge(t, failures.during(func() { do(t.Context(), cc) }), "")
				})
			}
		})
	}
}
