package xdsserver_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/orca"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"

	"github.com/meshframe/meshframe/xdsserver"
)

// serve starts a control plane on loopback.
func serve(t *testing.T, opts xdsserver.Options, yaml string) (*xdsserver.Server, string) {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	opts.RestartGrace = 1 // nothing was registered before the test
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

// backend answers with its name, after as many failures as it is told.
type backend struct {
	grpc_testing.UnimplementedTestServiceServer
	name     string
	failures atomic.Int32
	delay    atomic.Int64 // nanoseconds
}

func (b *backend) UnaryCall(ctx context.Context, _ *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	if b.failures.Add(-1) >= 0 {
		return nil, status.Error(codes.Unavailable, "not yet")
	}
	select {
	case <-time.After(time.Duration(b.delay.Load())):
		return &grpc_testing.SimpleResponse{Username: b.name}, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
}

// startBackend serves and returns the port.
func startBackend(t *testing.T, b *backend) int {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := grpc.NewServer()
	grpc_testing.RegisterTestServiceServer(s, b)
	done := make(chan error, 1)
	go func() { done <- s.Serve(lis) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return lis.Addr().(*net.TCPAddr).Port
}

// echo is a service with a backend for each version.
func echo(ports ...int) string {
	out := `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: echo}
spec:
  hosts: [echo.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 80, name: grpc, protocol: GRPC}]
  endpoints:
`
	subsets := `---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: echo}
spec:
  host: echo
  subsets:
`
	for i, p := range ports {
		out += fmt.Sprintf("  - {address: 127.0.0.1, ports: {grpc: %d}, labels: {version: v%d}}\n", p, i+1)
		subsets += fmt.Sprintf("  - {name: v%d, labels: {version: v%d}}\n", i+1, i+1)
	}
	return out + subsets
}

// rule is the VirtualService for echo.
func rule(http string) string {
	return `
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo}
spec:
  hosts: [echo]
  http:
` + http
}

// call makes a call and returns the name of the backend.
func call(t *testing.T, c grpc_testing.TestServiceClient, md ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(t.Context(), md...), 20*time.Second)
	defer cancel()
	resp, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{})
	return resp.GetUsername(), err
}

// eventually makes calls until one satisfies ok: configuration takes a moment to arrive.
func eventually(t *testing.T, c grpc_testing.TestServiceClient, ok func(name string, err error) bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		name, err := call(t, c)
		if ok(name, err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("in the end: %q, %v", name, err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// grpc-go's own client, with nothing but a bootstrap.
func TestGRPCGoClient(t *testing.T) {
	v1, v2 := &backend{name: "v1"}, &backend{name: "v2"}
	base := echo(startBackend(t, v1), startBackend(t, v2))
	s, addr := serve(t, xdsserver.Options{OutboundPolicy: xdsserver.RegistryOnly}, base+rule(`
  - match: [{headers: {end-user: {exact: jason}}}]
    route: [{destination: {host: echo, subset: v2}}]
  - route: [{destination: {host: echo, subset: v1}}]
`))
	client := dialXDS(t, addr, "echo:80")
	if got, err := call(t, client); got != "v1" || err != nil {
		t.Errorf("default route: %q, %v", got, err)
	}
	if got, err := call(t, client, "end-user", "jason"); got != "v2" || err != nil {
		t.Errorf("header route: %q, %v", got, err)
	}

	for _, name := range []string{"Echo:80", "ECHO.default.SVC.cluster.local.:80"} {
		if got, err := call(t, dialXDS(t, addr, name), "end-user", "jason"); got != "v2" || err != nil {
			t.Errorf("header route as %s: %q, %v", name, got, err)
		}
	}

	t.Run("weights", func(t *testing.T) {
		apply(t, s, base+rule(`
  - route:
    - {destination: {host: echo, subset: v1}, weight: 75}
    - {destination: {host: echo, subset: v2}, weight: 25}
`))
		eventually(t, client, func(name string, _ error) bool { return name == "v2" })
		const n = 1000
		count := 0
		for range n {
			if got, err := call(t, client); err != nil {
				t.Fatal(err)
			} else if got == "v2" {
				count++
			}
		}
		// Six standard deviations: less than one false failure in a hundred million runs.
		if count < n/4-82 || count > n/4+82 {
			t.Errorf("%d of %d calls to the subset with weight 25", count, n)
		}
	})
	t.Run("timeout", func(t *testing.T) {
		v1.delay.Store(int64(time.Second / 2))
		defer v1.delay.Store(0)
		apply(t, s, base+rule(`
  - timeout: 0.05s
    route: [{destination: {host: echo, subset: v1}}]
`))
		eventually(t, client, func(_ string, err error) bool { return status.Code(err) == codes.DeadlineExceeded })
	})
	t.Run("fault", func(t *testing.T) {
		apply(t, s, base+rule(`
  - fault: {abort: {grpcStatus: DATA_LOSS, percentage: {value: 100}}}
    route: [{destination: {host: echo, subset: v1}}]
`))
		eventually(t, client, func(_ string, err error) bool { return status.Code(err) == codes.DataLoss })
	})
	t.Run("retry", func(t *testing.T) {
		apply(t, s, base+rule(`
  - name: with
    retries: {attempts: 3, retryOn: 5xx, backoff: 1ms}
    route: [{destination: {host: echo, subset: v2}}]
`))
		eventually(t, client, func(name string, _ error) bool { return name == "v2" })
		v2.failures.Store(3)
		if got, err := call(t, client); got != "v2" || err != nil {
			t.Errorf("with retries: %q, %v", got, err)
		}
		apply(t, s, base+rule(`
  - name: without
    retries: {attempts: 0}
    route: [{destination: {host: echo, subset: v2}}]
`))
		eventually(t, client, func(string, error) bool {
			v2.failures.Store(1)
			_, err := call(t, client)
			return err != nil
		})
		v2.failures.Store(0)
	})
	t.Run("TLS", func(t *testing.T) {
		apply(t, s, strings.Replace(base, "  host: echo\n", "  host: echo\n  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}\n", 1)+rule(`
  - route: [{destination: {host: echo, subset: v1}}]
`))
		eventually(t, client, func(_ string, err error) bool {
			return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "DestinationRule default/echo")
		})
	})
	t.Run("action that gRPC cannot do", func(t *testing.T) {
		apply(t, s, base+rule(`
  - directResponse: {status: 418}
`))
		eventually(t, client, func(_ string, err error) bool { return status.Code(err) == codes.Unavailable })
	})
	t.Run("no subset", func(t *testing.T) {
		apply(t, s, base+rule(`
  - match: [{headers: {x: {exact: "y"}}}]
    route: [{destination: {host: echo, subset: v9}}]
  - route: [{destination: {host: echo, subset: v2}}]
`))
		eventually(t, client, func(name string, _ error) bool { return name == "v2" })
		if _, err := call(t, client, "x", "y"); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "outbound|80|v9|echo") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("every policy", func(t *testing.T) {
		// Of what the client would refuse nothing is sent.
		apply(t, s, strings.Replace(base, "  host: echo\n", `  host: echo
  trafficPolicy:
    loadBalancer: {consistentHash: {httpCookie: {name: c, ttl: 1s}, maglev: {tableSize: 1021}}, warmup: {duration: 10s}, localityLbSetting: {failoverPriority: [topology.kubernetes.io/region]}}
    connectionPool: {tcp: {maxConnections: 1, connectTimeout: 1s}, http: {http1MaxPendingRequests: 1, maxRetries: 1, http2MaxRequests: 100}}
    outlierDetection: {consecutive5xxErrors: 3, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2, minHealthPercent: 10}
    retryBudget: {percent: 10}
`, 1)+rule(`
  - name: everything
    match: [{uri: {prefix: /}}]
    timeout: 5s
    retries: {attempts: 2, perTryTimeout: 1s, retryOn: "5xx,retriable-headers,503", retryRemoteLocalities: true}
    fault: {delay: {fixedDelay: 1s, percentage: {value: 100}}, abort: {httpStatus: 503, percentage: {value: 100}}}
    rewrite: {uri: /elsewhere, authority: a.example.com}
    headers: {request: {set: {x: a}}, response: {remove: [y]}}
    mirror: {host: echo, subset: v1}
    corsPolicy: {allowMethods: [GET]}
    route: [{destination: {host: echo, subset: v2}}]
`)+`
---
apiVersion: networking.meshframe.dev/v1alpha1
kind: MeshPolicy
metadata: {name: echo}
spec:
  host: echo
  breaker: {}
  fallback: {destination: {subset: v1}}
  rateLimit: {client: {maxTokens: 1, fillInterval: 1s}, server: {maxTokens: 1, fillInterval: 1s}}
  maxConcurrentRequests: 1
  loadBalancer: {policy: LEAST_REQUEST, choiceCount: 3, activeRequestBias: 2, subsetSize: 1, panicThreshold: 10, slowStart: {window: 1s}}
  outlierDetection: {successRate: {}, failurePercentage: {}, maxEjectionTime: 1s}
  retry: {retriableHeaders: [{name: x}], resetHeaders: [{name: y}], maxBackoff: 1s}
  hedge: {onPerTryTimeout: true}
  sessionAffinity: {header: z}
  timeouts: {idle: 1s, maxStreamDuration: 10s, maxGRPCTimeout: 10s}
  fault: {maxActive: 10, byHeader: true}
`)
		eventually(t, client, func(name string, _ error) bool {
			_, err := call(t, client, "x-envoy-fault-abort-grpc-request", "15")
			return name == "v2" && status.Code(err) == codes.DataLoss
		})
		var clients []struct {
			Types []struct{ Type, Error string }
		}
		get(t, s, "/debug/clients", &clients)
		for _, c := range clients {
			for _, e := range c.Types {
				if e.Error != "" {
					t.Errorf("%s is refused: %s", e.Type, e.Error)
				}
			}
		}
	})
	t.Run("unknown host", func(t *testing.T) {
		start := time.Now()
		unknown := dialXDS(t, addr, "nobody:80")
		// grpc-go says "zero addresses" for a moment before it says what is wrong.
		eventually(t, unknown, func(_ string, err error) bool {
			return status.Code(err) == codes.Unavailable && strings.Contains(err.Error(), "nobody:80")
		})
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// What grpc-go would refuse a whole resource over, drop or never match is not sent to it: each rule by itself, with what
// comes of calls. Nothing is refused.
func TestGRPCGoClientRefusesNothing(t *testing.T) {
	v1, v2 := &backend{name: "v1"}, &backend{name: "v2"}
	base := echo(startBackend(t, v1), startBackend(t, v2))
	const toV2, otherwise = "\n    route: [{destination: {host: echo, subset: v2}}]\n", "  - route: [{destination: {host: echo, subset: v1}}]\n"
	policy := func(p string) string {
		return strings.Replace(base, "  host: echo\n", "  host: echo\n  trafficPolicy: {"+p+"}\n", 1)
	}
	for _, c := range []struct{ name, yaml, want string }{
		{"CORS", base + rule("  - corsPolicy: {allowMethods: [GET]}"+toV2), "v2"},
		{"a query falls to the next rule, as of a request without", base + rule("  - match: [{queryParams: {a: {exact: b}}}]"+toV2+otherwise), "v1"},
		{"a query, and no other rule", base + rule("  - match: [{queryParams: {a: {exact: b}}}]"+toV2), "Unavailable"},
		{"the method of gRPC", base + rule("  - match: [{method: {exact: POST}}]"+toV2+otherwise), "v2"},
		{"another method", base + rule("  - match: [{method: {exact: GET}}]"+toV2+otherwise), "v1"},
		{"the scheme", base + rule("  - match: [{scheme: {exact: http}}]"+toV2+otherwise), "v2"},
		{"another scheme", base + rule("  - match: [{scheme: {exact: https}}]"+toV2+otherwise), "v1"},
		{"the authority", base + rule("  - match: [{authority: {prefix: \"echo:\"}}]"+toV2+otherwise), "v2"},
		{"another authority", base + rule("  - match: [{authority: {prefix: other}}]"+toV2+otherwise), "v1"},
		{"a user agent is never seen", base + rule("  - match: [{headers: {user-agent: {regex: \".*\"}}}]"+toV2+otherwise), "v1"},
		{"without a user agent", base + rule("  - match: [{withoutHeaders: {user-agent: {exact: x}}}]"+toV2+otherwise), "v2"},
		{"without a header that is absent", base + rule("  - match: [{withoutHeaders: {x: {exact: y}}}]"+toV2+otherwise), "v2"},
		{"redirect", base + rule("  - redirect: {uri: /x}\n"), "Unavailable"},
		{"direct response", base + rule("  - directResponse: {status: 200}\n"), "Unavailable"},
		{"rewrite", base + rule("  - rewrite: {uri: /x, authority: y}"+toV2), "v2"},
		{"mirror", base + rule("  - mirror: {host: echo, subset: v1}"+toV2), "v2"},
		{"headers", base + rule("  - headers: {request: {set: {x: y}}}"+toV2), "v2"},
		{"weights that do not add up to 100", base + rule("  - route:\n    - {destination: {host: echo, subset: v2}, weight: 3}\n"), "v2"},
		{"RANDOM", policy("loadBalancer: {simple: RANDOM}") + rule("  -"+toV2[4:]), "v2"},
		{"PASSTHROUGH", policy("loadBalancer: {simple: PASSTHROUGH}") + rule("  -"+toV2[4:]), "v2"},
		{"LEAST_REQUEST", policy("loadBalancer: {simple: LEAST_REQUEST}") + rule("  -"+toV2[4:]), "v2"},
		{"maglev", policy("loadBalancer: {consistentHash: {httpHeaderName: x, maglev: {tableSize: 1021}}}") + rule("  -"+toV2[4:]), "v2"},
		{"a hash of the source", policy("loadBalancer: {consistentHash: {useSourceIp: true}}") + rule("  -"+toV2[4:]), "v2"},
		{"outlier detection", policy("outlierDetection: {consecutive5xxErrors: 1}") + rule("  -"+toV2[4:]), "v2"},
		{"sessions", base + rule("  -"+toV2[4:]) + `
---
apiVersion: networking.meshframe.dev/v1alpha1
kind: MeshPolicy
metadata: {name: echo}
spec: {host: echo, sessionAffinity: {cookie: {name: c}}}
`, "v2"},
		{"a name to look up", strings.NewReplacer("resolution: STATIC", "resolution: DNS", "address: 127.0.0.1", "address: localhost").Replace(echo(startBackend(t, v2))), "v2"},
		{"several names to look up", strings.NewReplacer("resolution: STATIC", "resolution: DNS", "address: 127.0.0.1", "address: localhost").Replace(base), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, addr := serve(t, xdsserver.Options{OutboundPolicy: xdsserver.RegistryOnly}, c.yaml)
			client := dialXDS(t, addr, "echo:80")
			eventually(t, client, func(name string, err error) bool {
				return name == c.want || c.want == "" && name != "" || err != nil && status.Code(err).String() == c.want
			})
			var clients []struct {
				Kind, As, Agent string
				Types           []struct{ Type, Error string }
			}
			get(t, s, "/debug/clients", &clients)
			for _, k := range clients {
				if k.Kind != "grpc-go" || k.As != "grpc-go" || k.Agent != "gRPC Go "+grpc.Version {
					t.Errorf("got %+v", k)
				}
				for _, e := range k.Types {
					if e.Error != "" {
						t.Errorf("%s is refused: %s", e.Type, e.Error)
					}
				}
			}
		})
	}
}

// Under allow-any an unknown host is looked up.
func TestGRPCGoClientUnknownHost(t *testing.T) {
	port := startBackend(t, &backend{name: "outside"})
	_, addr := serve(t, xdsserver.Options{}, "")
	for _, host := range []string{"127.0.0.1", "localhost"} {
		if got, err := call(t, dialXDS(t, addr, fmt.Sprintf("%s:%d", host, port))); got != "outside" || err != nil {
			t.Errorf("%s: %q, %v", host, got, err)
		}
	}
}

// grpc-go's own server registers itself by its bootstrap, and leaves when it stops.
func TestGRPCGoServer(t *testing.T) {
	_, addr := serve(t, xdsserver.Options{OutboundPolicy: xdsserver.RegistryOnly, LeaseGrace: 50 * time.Millisecond}, "")
	start := func(name string) (stop func()) {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		serving := make(chan struct{}, 1)
		s, err := xds.NewGRPCServer(
			xds.BootstrapContentsForTesting(bootstrapFor(t, addr, map[string]any{"GENERATOR": "grpc", "MESH_SERVICES": []any{"echo:80"}})),
			xds.ServingModeCallback(func(_ net.Addr, args xds.ServingModeChangeArgs) {
				if args.Mode == connectivity.ServingModeServing {
					serving <- struct{}{}
				} else if args.Err != nil {
					t.Logf("%s: %v", name, args.Err)
				}
			}))
		must(t, err)
		grpc_testing.RegisterTestServiceServer(s, &backend{name: name})
		done := make(chan error, 1)
		go func() { done <- s.Serve(lis) }()
		<-serving
		return sync.OnceFunc(func() { s.GracefulStop(); <-done })
	}
	client := dialXDS(t, addr, "echo:80")
	stopOne := start("one")
	defer stopOne()
	eventually(t, client, func(name string, _ error) bool { return name == "one" })
	stopTwo := start("two")
	defer stopTwo()
	eventually(t, client, func(name string, _ error) bool { return name == "two" })
	stopOne()
	eventually(t, client, func(name string, err error) bool {
		for range 10 {
			if again, err := call(t, client); again != "two" || err != nil {
				return false
			}
		}
		return name == "two" && err == nil
	})
	stopTwo()
	eventually(t, client, func(_ string, err error) bool { return status.Code(err) == codes.Unavailable })
}

// The control plane is killed and comes back at the same address: no call is lost, and nothing is forgotten.
func TestGRPCGoClientSurvivesRestart(t *testing.T) {
	base := echo(startBackend(t, &backend{name: "v1"}))
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/echo.yaml", []byte(base), 0o600))
	opts := xdsserver.Options{Config: []string{dir}, StateDir: t.TempDir(), Logger: slog.New(slog.DiscardHandler)}
	start := func(addr string) (string, func()) {
		s, err := xdsserver.New(t.Context(), opts)
		must(t, err)
		lis, err := net.Listen("tcp", addr)
		must(t, err)
		done := make(chan error, 1)
		go func() { done <- s.Serve(lis) }()
		return lis.Addr().String(), sync.OnceFunc(func() {
			must(t, s.Close())
			must(t, <-done)
		})
	}
	addr, stop := start("127.0.0.1:0")
	defer func() { stop() }()
	client := dialXDS(t, addr, "echo:80")
	eventually(t, client, func(name string, _ error) bool { return name == "v1" })
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	var calls atomic.Int32
	go func() {
		defer close(failed)
		for ctx.Err() == nil {
			if _, err := call(t, client); err != nil {
				failed <- err
				return
			}
			calls.Add(1)
		}
	}()
	for range 3 {
		stop()
		before := calls.Load()
		for calls.Load() < before+100 && ctx.Err() == nil && len(failed) == 0 {
			<-time.After(time.Millisecond)
		}
		_, stop = start(addr)
	}
	cancel()
	if err := <-failed; err != nil {
		t.Error(err)
	}
}

// reporting is a backend that says how much of its capacity is in use.
type reporting struct {
	grpc_testing.UnimplementedTestServiceServer
	name        string
	utilization float64
}

func (r *reporting) UnaryCall(ctx context.Context, _ *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	report := orca.CallMetricsRecorderFromContext(ctx)
	report.SetApplicationUtilization(r.utilization)
	report.SetQPS(100)
	return &grpc_testing.SimpleResponse{Username: r.name}, nil
}

// TestGRPCGoBalancesByUtilization: grpc-go's own client weighs endpoints by what they
// report, by what it is sent for a rule.
func TestGRPCGoBalancesByUtilization(t *testing.T) {
	ports := []any{}
	for name, utilization := range map[string]float64{"idle": 0.1, "busy": 0.9} {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		s := grpc.NewServer(orca.CallMetricsServerOption(nil))
		grpc_testing.RegisterTestServiceServer(s, &reporting{name: name, utilization: utilization})
		done := make(chan error, 1)
		go func() { done <- s.Serve(lis) }()
		t.Cleanup(func() { s.Stop(); <-done })
		ports = append(ports, lis.Addr().(*net.TCPAddr).Port)
	}
	_, addr := serve(t, xdsserver.Options{}, fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.example.com]
  resolution: STATIC
  ports: [{number: 9080, name: grpc, protocol: GRPC}]
  endpoints: [{address: 127.0.0.1, ports: {grpc: %d}}, {address: 127.0.0.1, ports: {grpc: %d}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews.example.com
  trafficPolicy: {loadBalancer: {backendUtilization: {weightStabilizationPeriod: 0s, weightUpdatePeriod: 100ms}}}
`, ports...))
	client := dialXDS(t, addr, "reviews.example.com:9080")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		got := map[string]int{}
		for range 100 {
			resp, err := client.UnaryCall(ctx, &grpc_testing.SimpleRequest{}, grpc.WaitForReady(true))
			if err != nil {
				t.Fatalf("%v; the last calls went to %v", err, got)
			}
			got[resp.GetUsername()]++
		}
		if got["idle"] > 80 && got["busy"] > 5 {
			return
		}
	}
}
