package srvframe_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/internal/xdstest"
	"github.com/meshframe/meshframe/srvframe"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	target = "reviews:9080"
	method = "/test.Service/Get"
)

// syncBuffer is a log that a test reads while others write.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// serve makes the control plane route the target to the addresses.
func serve(cp *xdstest.ControlPlane, edit func(*routev3.Route), addrs ...string) {
	cp.Set(xdstest.Listener(target), xdstest.Routes(target, xdstest.Route(edit, "c")), xdstest.Cluster("c"), xdstest.Endpoints("c", addrs...))
}

// join joins the mesh of a control plane until the end of the test.
func join(t *testing.T, options srvframe.Options) (*srvframe.Mesh, *syncBuffer) {
	t.Helper()
	log := &syncBuffer{}
	options.Logger = slog.New(slog.NewTextHandler(log, nil))
	m, err := srvframe.Join(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m, log
}

// client makes a client until the end of the test.
func client(t *testing.T, m *srvframe.Mesh, target string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	cc, err := m.NewClient(target, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cc.Close(); err != nil {
			t.Error(err)
		}
	})
	return cc
}

// answers checks that a call through cc gets the answer.
func answers(t *testing.T, cc grpc.ClientConnInterface, want string) {
	t.Helper()
	got, err := xdstest.Call(t.Context(), cc, method)
	if err != nil || got != want {
		t.Errorf("call = %q, %v; want %q", got, err, want)
	}
}

// TestTargets makes a call through every form of a target of the mesh, without
// a word about credentials.
func TestTargets(t *testing.T) {
	cp := xdstest.NewControlPlane(t)
	backend := xdstest.NewServer(t, xdstest.Answer("v1", nil))
	serve(cp, nil, backend.Addr)
	m, log := join(t, srvframe.Options{XDS: cp.Addr()})
	for _, target := range []string{"reviews:9080", "Reviews:9080", "mesh:///reviews:9080", "xds:///reviews:9080"} {
		cc := client(t, m, target)
		if got := cc.Target(); got != "mesh:///reviews:9080" {
			t.Errorf("target %q became %q", target, got)
		}
		answers(t, cc, "v1")
	}
	if n := strings.Count(log.String(), "not encrypted"); n != 1 {
		t.Errorf("that calls are not encrypted was said %d times:\n%s", n, log)
	}
}

// TestOutside shows that other targets stay plain gRPC, which is said once each.
func TestOutside(t *testing.T) {
	backend := xdstest.NewServer(t, xdstest.Answer("plain", nil))
	m, log := join(t, srvframe.Options{XDS: "127.0.0.1:1"})
	plain := grpc.WithTransportCredentials(insecure.NewCredentials())
	dial := srvframe.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", backend.Addr)
	})
	for range 2 {
		answers(t, client(t, m, backend.Addr, plain), "plain")
		answers(t, client(t, m, "passthrough:///"+backend.Addr, plain), "plain")
		answers(t, client(t, m, "passthrough:///anything", plain, dial), "plain")
		cc := client(t, m, "reviews:9080", plain, dial)
		if got := cc.Target(); got != "reviews:9080" {
			t.Errorf("a bare target with a custom dialer became %q", got)
		}
	}
	if n := strings.Count(log.String(), "outside the mesh"); n != 4 {
		t.Errorf("%d targets were said to be outside, want 4:\n%s", n, log)
	}
	if _, err := m.NewClient("localhost:80"); err == nil || !strings.Contains(err.Error(), "no transport security") {
		t.Errorf("without credentials: error %v, want gRPC's own", err)
	}
}

// handshakes counts the handshakes of credentials that do not encrypt.
type handshakes struct {
	credentials.TransportCredentials

	mu sync.Mutex
	n  int
}

func (h *handshakes) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	h.mu.Lock()
	h.n++
	h.mu.Unlock()
	return h.TransportCredentials.ClientHandshake(ctx, authority, conn)
}

func (h *handshakes) Clone() credentials.TransportCredentials { return h }

type bundle struct {
	creds credentials.TransportCredentials
}

func (b bundle) TransportCredentials() credentials.TransportCredentials { return b.creds }
func (bundle) PerRPCCredentials() credentials.PerRPCCredentials         { return nil }
func (b bundle) NewWithMode(string) (credentials.Bundle, error)         { return b, nil }

// TestCallersCredentials shows that the caller's credentials are used, whichever
// package's option brings them.
func TestCallersCredentials(t *testing.T) {
	cp := xdstest.NewControlPlane(t)
	backend := xdstest.NewServer(t, xdstest.Answer("v1", nil))
	serve(cp, nil, backend.Addr)
	m, log := join(t, srvframe.Options{XDS: cp.Addr()})
	for name, option := range map[string]func(*handshakes) grpc.DialOption{
		"ours":          func(h *handshakes) grpc.DialOption { return srvframe.WithTransportCredentials(h) },
		"grpc's":        func(h *handshakes) grpc.DialOption { return grpc.WithTransportCredentials(h) },
		"our bundle":    func(h *handshakes) grpc.DialOption { return srvframe.WithCredentialsBundle(bundle{h}) },
		"grpc's bundle": func(h *handshakes) grpc.DialOption { return grpc.WithCredentialsBundle(bundle{h}) },
	} {
		t.Run(name, func(t *testing.T) {
			h := &handshakes{TransportCredentials: insecure.NewCredentials()}
			answers(t, client(t, m, target, option(h)), "v1")
			if h.n == 0 {
				t.Error("the credentials were not used")
			}
		})
	}
	if strings.Contains(log.String(), "not encrypted") {
		t.Errorf("said that calls are not encrypted:\n%s", log)
	}
	// The backend speaks no TLS: the call fails, and in no case goes out plain.
	cc := client(t, m, target, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13})))
	if _, err := xdstest.Call(t.Context(), cc, method); status.Code(err) != codes.Unavailable {
		t.Errorf("with TLS: error %v, want UNAVAILABLE", err)
	}
}

// TestCallersInterceptors shows that the caller's interceptors run once for a
// call of two attempts, around the mesh's own.
func TestCallersInterceptors(t *testing.T) {
	cp := xdstest.NewControlPlane(t)
	failing := xdstest.NewServer(t, xdstest.Answer("", status.Error(codes.Unavailable, "down")))
	serve(cp, retries, failing.Addr)
	m, _ := join(t, srvframe.Options{XDS: cp.Addr()})
	var ran []string
	interceptor := func(name string) grpc.UnaryClientInterceptor {
		return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			ran = append(ran, name)
			return invoker(ctx, method, req, reply, cc, opts...)
		}
	}
	cc := client(t, m, target,
		srvframe.WithChainUnaryInterceptor(interceptor("chained")),
		grpc.WithChainUnaryInterceptor(interceptor("chained by grpc")),
		srvframe.WithUnaryInterceptor(interceptor("single")))
	if _, err := xdstest.Call(t.Context(), cc, method); status.Code(err) != codes.Unavailable {
		t.Errorf("call: %v, want UNAVAILABLE", err)
	}
	if n := failing.Calls.Load(); n != 3 {
		t.Errorf("%d attempts, want 3", n)
	}
	if diff := cmp.Diff([]string{"single", "chained", "chained by grpc"}, ran); diff != "" {
		t.Errorf("interceptors (-want +got):\n%s", diff)
	}
}

// retries gives a route two retries.
func retries(r *routev3.Route) {
	r.GetRoute().RetryPolicy = &routev3.RetryPolicy{RetryOn: "unavailable", NumRetries: wrapperspb.UInt32(2), RetryBackOff: &routev3.RetryPolicy_RetryBackOff{
		BaseInterval: durationpb.New(time.Millisecond), MaxInterval: durationpb.New(time.Millisecond),
	}}
}

// TestCallersServiceConfig shows that method configurations are kept less their
// retries, and that this is said.
func TestCallersServiceConfig(t *testing.T) {
	cp := xdstest.NewControlPlane(t)
	hanging := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
		<-ss.Context().Done()
		return ss.Context().Err()
	})
	serve(cp, nil, hanging.Addr)
	m, log := join(t, srvframe.Options{XDS: cp.Addr()})
	cc := client(t, m, target, srvframe.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"pick_first":{}}],
		"methodConfig":[{"name":[{}],"timeout":"0.05s","retryPolicy":{"maxAttempts":4,"initialBackoff":"1s","maxBackoff":"1s",
		"backoffMultiplier":1,"retryableStatusCodes":["DEADLINE_EXCEEDED"]}}]}`))
	if _, err := xdstest.Call(t.Context(), cc, method); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("call: %v, want DEADLINE_EXCEEDED", err)
	}
	if n := hanging.Calls.Load(); n != 1 {
		t.Errorf("%d attempts, want 1", n)
	}
	if want := `ignored="[loadBalancingConfig retryPolicy]"`; !strings.Contains(log.String(), want) {
		t.Errorf("the log does not have %s:\n%s", want, log)
	}
	if _, err := m.NewClient(target, srvframe.WithDefaultServiceConfig(`{`)); err == nil || !strings.Contains(err.Error(), "default service config") {
		t.Errorf("a service config that is not JSON: %v", err)
	}
}

// TestMethodConfig shows that a service config's waitForReady holds while there is no
// configuration, by gRPC's rules: the most precise name counts, and the call's own
// options before it.
func TestMethodConfig(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := lis.Addr().String()
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	m, _ := join(t, srvframe.Options{XDS: away})
	cc := client(t, m, target, srvframe.WithDefaultServiceConfig(`{"methodConfig":[
		{"name":[{}],"timeout":"3s","WaitForReady":true},
		{"name":[{"service":"a.Fails"}],"waitForReady":false},
		{"name":[{"service":"a.Fails","method":"Waits"},{"service":"a.B"}],"waitForReady":true},
		{"name":[{"service":"a.B","method":"SaysNothing"}],"timeout":"1s"}]}`))
	for _, test := range []struct {
		method string
		opts   []grpc.CallOption
		want   codes.Code
	}{
		{"/any.Other/Method", nil, codes.DeadlineExceeded},
		{"/a.Fails/Method", nil, codes.Unavailable},
		{"/a.Fails/Waits", nil, codes.DeadlineExceeded},
		{"/a.B/Method", nil, codes.DeadlineExceeded},
		{"/a.B/SaysNothing", nil, codes.Unavailable},
		{"/a.B/Method", []grpc.CallOption{grpc.WaitForReady(false)}, codes.Unavailable},
		{"/a.Fails/Method", []grpc.CallOption{grpc.WaitForReady(false), grpc.WaitForReady(true)}, codes.DeadlineExceeded},
	} {
		t.Run(test.method, func(t *testing.T) {
			timeout := time.Minute
			if test.want == codes.DeadlineExceeded {
				timeout = 50 * time.Millisecond
			}
			unary, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			if _, err := xdstest.Call(unary, cc, test.method, test.opts...); status.Code(err) != test.want {
				t.Errorf("unary: %v, want %v", err, test.want)
			}
			stream, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			if _, err := cc.NewStream(stream, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, test.method, test.opts...); status.Code(err) != test.want {
				t.Errorf("stream: %v, want %v", err, test.want)
			}
		})
	}
}

// TestMethodTimeout shows that a service config's timeout is that of the call with
// all its attempts, as in gRPC.
func TestMethodTimeout(t *testing.T) {
	cp := xdstest.NewControlPlane(t)
	failing := xdstest.NewServer(t, func(any, grpc.ServerStream) error { return status.Error(codes.Unavailable, "not now") })
	serve(cp, func(r *routev3.Route) {
		r.GetRoute().RetryPolicy = &routev3.RetryPolicy{
			RetryOn: "unavailable", NumRetries: wrapperspb.UInt32(50),
			RetryBackOff: &routev3.RetryPolicy_RetryBackOff{BaseInterval: durationpb.New(time.Hour), MaxInterval: durationpb.New(time.Hour)},
		}
	}, failing.Addr)
	m, _ := join(t, srvframe.Options{XDS: cp.Addr()})
	cc := client(t, m, target, srvframe.WithDefaultServiceConfig(`{"methodConfig":[{"name":[{}],"timeout":"0.1s"}]}`))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := xdstest.Call(ctx, cc, method); err == nil || ctx.Err() != nil {
		t.Errorf("call: %v, and its own context: %v; want an error well before it ends", err, ctx.Err())
	}
}

// TestTwoMeshes shows that two meshes in a process know nothing of each other.
func TestTwoMeshes(t *testing.T) {
	for _, name := range []string{"one", "two"} {
		cp := xdstest.NewControlPlane(t)
		backend := xdstest.NewServer(t, xdstest.Answer(name, nil))
		serve(cp, nil, backend.Addr)
		m, _ := join(t, srvframe.Options{XDS: cp.Addr()})
		cc := client(t, m, target)
		defer answers(t, cc, name) // when both exist
	}
}

// TestDialBlocks shows that Dial with WithBlock returns a client that is connected.
func TestDialBlocks(t *testing.T) {
	cp := xdstest.NewControlPlane(t)
	backend := xdstest.NewServer(t, xdstest.Answer("v1", nil))
	serve(cp, nil, backend.Addr)
	srvframe.SetEnvironment(t, map[string]string{"MESH_XDS": cp.Addr()})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	cc, err := srvframe.DialContext(ctx, target, srvframe.WithBlock())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cc.Close() }()
	if got := cc.GetState().String(); got != "READY" {
		t.Errorf("state %s after a blocking dial", got)
	}
	answers(t, cc, "v1")
}

// TestControlPlaneIsAway shows what a call gets that has no configuration.
func TestControlPlaneIsAway(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := lis.Addr().String()
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	m, _ := join(t, srvframe.Options{XDS: away})
	_, err = xdstest.Call(t.Context(), client(t, m, target), method)
	if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), away) || !strings.Contains(err.Error(), target) {
		t.Errorf("error %v, want UNAVAILABLE that names %s and %s", err, away, target)
	}
}

// several is a bootstrap of control planes in order of preference.
func several(t *testing.T, planes ...*xdstest.ControlPlane) []byte {
	t.Helper()
	var servers []string
	for _, cp := range planes {
		servers = append(servers, fmt.Sprintf(`{"server_uri":%q,"channel_creds":[{"type":"insecure"}]}`, cp.Addr()))
	}
	return fmt.Appendf(nil, `{"xds_servers":[%s],"node":{"id":"test"}}`, strings.Join(servers, ","))
}

// TestFallbackOfOneTarget shows that a target that has what it needs stays with it
// when another one has to go to the next control plane (gRFC A71), also after a
// start from what was kept.
func TestFallbackOfOneTarget(t *testing.T) {
	const other = "ratings:9080"
	first, next := xdstest.NewControlPlane(t), xdstest.NewControlPlane(t)
	serve(first, nil, xdstest.NewServer(t, xdstest.Answer("first", nil)).Addr)
	serve(next, nil, xdstest.NewServer(t, xdstest.Answer("next", nil)).Addr)
	next.Set(xdstest.Listener(other), xdstest.Routes(other, xdstest.Route(nil, "d")), xdstest.Cluster("d"),
		xdstest.Endpoints("d", xdstest.NewServer(t, xdstest.Answer("other", nil)).Addr))
	dir := t.TempDir()
	m, _ := join(t, srvframe.Options{Bootstrap: several(t, first, next), StateDir: dir})
	cc := client(t, m, target)
	answers(t, cc, "first")
	first.Stop()
	answers(t, client(t, m, other), "other")
	answers(t, cc, "first")
	answers(t, client(t, m, target), "first")
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}

	next.Stop()
	again, _ := join(t, srvframe.Options{Bootstrap: several(t, first, next), StateDir: dir})
	answers(t, client(t, again, target), "first")
	answers(t, client(t, again, other), "other")
}

// targetsOf are the targets that have a client of the control planes.
func targetsOf(m *srvframe.Mesh) string {
	var names []string
	for _, c := range m.Status().Clients[1:] {
		names = append(names, c.Target)
	}
	return strings.Join(names, " ")
}

// dial makes a client to the target that the test closes.
func dial(t *testing.T, m *srvframe.Mesh) *grpc.ClientConn {
	t.Helper()
	cc, err := m.NewClient(target)
	if err != nil {
		t.Fatal(err)
	}
	return cc
}

// TestClosedChannelsLeaveNothing shows that the connection to the control planes
// that a target has goes with the last channel to it, and comes back with the next.
func TestClosedChannelsLeaveNothing(t *testing.T) {
	const other = "ratings:9080"
	first, next := xdstest.NewControlPlane(t), xdstest.NewControlPlane(t)
	serve(first, nil, xdstest.NewServer(t, xdstest.Answer("first", nil)).Addr)
	first.Set(xdstest.Listener(other), xdstest.Routes(other, xdstest.Route(nil, "d")), xdstest.Cluster("d"),
		xdstest.Endpoints("d", xdstest.NewServer(t, xdstest.Answer("other", nil)).Addr))
	m, err := srvframe.JoinForgetful(srvframe.Options{Bootstrap: several(t, first, next), Logger: slog.New(slog.DiscardHandler)}, time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	kept := client(t, m, other)
	answers(t, kept, "other")
	for range 3 {
		one, another := dial(t, m), dial(t, m)
		answers(t, one, "first")
		answers(t, another, "first")
		if got := targetsOf(m); got != other+" "+target {
			t.Fatalf("clients of %s", got)
		}
		goroutines := runtime.NumGoroutine()
		one.Close()
		answers(t, another, "first")
		another.Close()
		for end := time.Now().Add(10 * time.Second); targetsOf(m) != other || runtime.NumGoroutine() >= goroutines; runtime.Gosched() {
			if time.Now().After(end) {
				t.Fatalf("clients of %s and %d goroutines of %d are left", targetsOf(m), runtime.NumGoroutine(), goroutines)
			}
		}
		_, err := xdstest.Call(t.Context(), one, method)
		if status.Code(err) != codes.Canceled {
			t.Errorf("a call of a closed channel: %v", err)
		}
	}
	answers(t, kept, "other")
}

// TestClosedWithoutConfiguration shows that calls do not wait for the configuration
// of a channel that was closed.
func TestClosedWithoutConfiguration(t *testing.T) {
	cp := xdstest.NewControlPlane(t)
	m, _ := join(t, srvframe.Options{XDS: cp.Addr()})
	cc := dial(t, m)
	ended := make(chan error, 1)
	go func() {
		_, err := xdstest.Call(t.Context(), cc, method, grpc.WaitForReady(true))
		ended <- err
	}()
	for !cc.WaitForStateChange(t.Context(), connectivity.Idle) {
	}
	cc.Close()
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Errorf("a call under way: %v", err)
	}
	if _, err := xdstest.Call(t.Context(), cc, method, grpc.WaitForReady(true)); status.Code(err) != codes.Canceled {
		t.Errorf("a later call: %v", err)
	}
}

// TestClose shows that Close may be called by many and often, and what is left
// of a mesh then.
func TestClose(t *testing.T) {
	cp := xdstest.NewControlPlane(t)
	backend := xdstest.NewServer(t, xdstest.Answer("v1", nil))
	serve(cp, nil, backend.Addr)
	m, _ := join(t, srvframe.Options{XDS: cp.Addr()})
	cc := client(t, m, target)
	answers(t, cc, "v1")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	answers(t, cc, "v1")
	if _, err := m.NewClient(target); !errors.Is(err, srvframe.ErrMeshClosed) {
		t.Errorf("NewClient after Close: %v, want ErrMeshClosed", err)
	}
}

// TestJoinRefuses shows what options get that cannot be meant.
func TestJoinRefuses(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx  context.Context
		o    srvframe.Options
		want string
	}{
		{t.Context(), srvframe.Options{}, "nothing names a control plane"},
		{t.Context(), srvframe.Options{XDS: "a:1", Bootstrap: []byte("{}")}, "want one of them"},
		{t.Context(), srvframe.Options{XDS: "nonsense"}, "want host:port"},
		{t.Context(), srvframe.Options{Bootstrap: []byte("{")}, "bootstrap"},
		{t.Context(), srvframe.Options{XDS: "a:1", Service: "reviews"}, "want host:port"},
		{t.Context(), srvframe.Options{XDS: "a:1", Service: "reviews:9080=x"}, "after the equals sign"},
		{t.Context(), srvframe.Options{XDS: "a:1", Address: "example.com"}, "want the IP address"},
		{ended, srvframe.Options{XDS: "a:1"}, "canceled"},
	} {
		if _, err := srvframe.Join(test.ctx, test.o); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("Join(%+v): error %v, want %q", test.o, err, test.want)
		}
	}
}

// TestStateDir shows a process that starts while the control plane is away: with
// what an earlier one kept its calls go as before.
func TestStateDir(t *testing.T) {
	cp := xdstest.NewControlPlane(t)
	backend := xdstest.NewServer(t, xdstest.Answer("v1", nil))
	serve(cp, nil, backend.Addr)
	options := srvframe.Options{XDS: cp.Addr(), StateDir: filepath.Join(t.TempDir(), "state")}
	first, _ := join(t, options)
	answers(t, client(t, first, target), "v1")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	cp.Stop()

	second, _ := join(t, options)
	cc := client(t, second, target)
	if got, err := xdstest.Call(t.Context(), cc, method); err != nil || got != "v1" {
		t.Errorf("call = %q, %v; want %q", got, err, "v1")
	}
	options.StateDir = ""
	third, _ := join(t, options)
	if _, err := xdstest.Call(t.Context(), client(t, third, target), method); status.Code(err) != codes.Unavailable {
		t.Errorf("without a directory: %v, want UNAVAILABLE", err)
	}
}
