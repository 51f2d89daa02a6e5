package srvframe

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/meshframe/meshframe/interceptors"
)

// listen returns a listener on loopback.
func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	return lis
}

func closeClient(t *testing.T, cc *grpc.ClientConn) {
	t.Helper()
	if err := cc.Close(); err != nil {
		t.Error(err)
	}
}

// deadline returns a context that no test should see the end of.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// trace collects the names of interceptors in the order in which they ran.
type trace []string

func (tr *trace) unary(name string) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		*tr = append(*tr, name)
		return handler(ctx, req)
	}
}

func (tr *trace) stream(name string) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		*tr = append(*tr, name)
		return handler(srv, ss)
	}
}

// TestServerInterceptorOrder shows that the mesh's interceptors run before all
// others, in whatever way and order those are given.
func TestServerInterceptorOrder(t *testing.T) {
	var unary, stream trace
	server := grpc.NewServer(serverOptions([]grpc.ServerOption{
		ChainUnaryInterceptor(unary.unary("chained")),
		ChainStreamInterceptor(stream.stream("chained")),
		grpc.MaxRecvMsgSize(1 << 20),
		UnaryInterceptor(unary.unary("single")),
		StreamInterceptor(stream.stream("single")),
		grpc.ChainUnaryInterceptor(unary.unary("chained by grpc")),
	}, unary.unary("mesh"), stream.stream("mesh"))...)
	healthpb.RegisterHealthServer(server, health.NewServer())
	lis := listen(t)
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()

	cc, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := healthpb.NewHealthClient(cc).Check(deadline(t), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(deadline(t))
	watch, err := healthpb.NewHealthClient(cc).Watch(ctx, &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watch.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	closeClient(t, cc)
	server.GracefulStop()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff(trace{"mesh", "single", "chained", "chained by grpc"}, unary); diff != "" {
		t.Errorf("unary (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(trace{"mesh", "single", "chained"}, stream); diff != "" {
		t.Errorf("stream (-want +got):\n%s", diff)
	}
}

// TestServerInterceptorTwice shows that gRPC still refuses a second one.
func TestServerInterceptorTwice(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("two unary interceptors were taken")
		}
	}()
	var tr trace
	grpc.NewServer(serverOptions([]grpc.ServerOption{
		UnaryInterceptor(tr.unary("a")), UnaryInterceptor(tr.unary("b")), UnaryInterceptor(tr.unary("c")),
	}, tr.unary("mesh"), tr.stream("mesh"))...)
}

// TestClientOptions shows what header matchers are told of a client.
func TestClientOptions(t *testing.T) {
	const own = "grpc-go/" + grpc.Version
	encrypts := WithTransportCredentials(credentials.NewTLS(nil))
	for _, test := range []struct {
		name string
		opts []DialOption
		want interceptors.ClientOptions
	}{
		{"nothing said", nil, interceptors.ClientOptions{Scheme: "http", UserAgent: own}},
		{"plaintext", []DialOption{WithInsecure()}, interceptors.ClientOptions{Scheme: "http", UserAgent: own}},
		{"encrypted", []DialOption{encrypts}, interceptors.ClientOptions{Scheme: "https", UserAgent: own}},
		{"the last counts", []DialOption{encrypts, WithInsecure()}, interceptors.ClientOptions{Scheme: "http", UserAgent: own}},
		{
			"headers of Envoy", []DialOption{WithEnvoyRequestHeaders()},
			interceptors.ClientOptions{Scheme: "http", UserAgent: own, EnvoyRequestHeaders: true},
		},
		{"a name", []DialOption{WithUserAgent("shop/1.0")}, interceptors.ClientOptions{Scheme: "http", UserAgent: "shop/1.0 " + own}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, readDialOptions(test.opts).clientOptions()); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
}
