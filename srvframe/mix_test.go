package srvframe_test

import (
	"context"
	"net/http"
	"testing"

	realgrpc "google.golang.org/grpc"
	"google.golang.org/grpc/channelz/service"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/internal/xdstest"
	grpc "github.com/meshframe/meshframe/srvframe"
)

// What follows is code as others write it, against package grpc itself. That it
// takes what srvframe makes is half of the test.

// registerGateway is what grpc-gateway generates: it insists on a *ClientConn.
func registerGateway(mux *http.ServeMux, conn *realgrpc.ClientConn) {
	client := testpb.NewTestServiceClient(conn)
	mux.HandleFunc("/empty", func(w http.ResponseWriter, r *http.Request) {
		if _, err := client.EmptyCall(r.Context(), &testpb.Empty{}); err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
		}
	})
}

// registerStandard puts what every server of a company has into a server.
func registerStandard(r realgrpc.ServiceRegistrar) {
	healthpb.RegisterHealthServer(r, health.NewServer())
}

// standardOptions are a company's options.
func standardOptions(count *int) []realgrpc.DialOption {
	return []realgrpc.DialOption{
		realgrpc.WithTransportCredentials(insecure.NewCredentials()),
		realgrpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *realgrpc.ClientConn, invoker realgrpc.UnaryInvoker, opts ...realgrpc.CallOption) error {
			*count++
			return invoker(ctx, method, req, reply, cc, opts...)
		}),
	}
}

// testServer is an implementation of generated interfaces.
type testServer struct {
	testpb.UnimplementedTestServiceServer
}

func (testServer) EmptyCall(ctx context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
	if err := grpc.SetTrailer(ctx, nil); err != nil {
		return nil, err
	}
	return &testpb.Empty{}, nil
}

func (testServer) StreamingOutputCall(_ *testpb.StreamingOutputCallRequest, stream grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
	return stream.Send(&testpb.StreamingOutputCallResponse{})
}

// responseWriter keeps the status of an answer.
type responseWriter struct {
	header http.Header
	code   int
}

func (w *responseWriter) Header() http.Header         { return w.header }
func (w *responseWriter) Write(p []byte) (int, error) { return len(p), nil }
func (w *responseWriter) WriteHeader(code int)        { w.code = code }

// TestMixedImports runs a program that imports both packages: values of one pass
// to code of the other.
func TestMixedImports(t *testing.T) {
	cp := xdstest.NewControlPlane(t)
	m, _ := join(t, grpc.Options{XDS: cp.Addr()})
	var served int
	s := m.NewServer(realgrpc.ChainUnaryInterceptor(func(ctx context.Context, req any, _ *realgrpc.UnaryServerInfo, handler realgrpc.UnaryHandler) (any, error) {
		served++
		return handler(ctx, req)
	}))
	registerStandard(s)
	reflection.Register(s)
	service.RegisterChannelzServiceToServer(s)
	testpb.RegisterTestServiceServer(s, testServer{})
	running := start(t, s, "127.0.0.1:0")
	serve(cp, nil, running.addr)

	var calls int
	conn := client(t, m, target, standardOptions(&calls)...)
	mux := http.NewServeMux()
	registerGateway(mux, conn)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/empty", nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &responseWriter{header: http.Header{}, code: http.StatusOK}
	mux.ServeHTTP(w, request)
	if w.code != http.StatusOK || calls != 1 || served != 1 {
		t.Errorf("gateway: status %d, %d client and %d server interceptors ran; want 200, 1 and 1", w.code, calls, served)
	}

	var stream realgrpc.ServerStreamingClient[testpb.StreamingOutputCallResponse]
	stream, err = testpb.NewTestServiceClient(conn).StreamingOutputCall(t.Context(), &testpb.StreamingOutputCallRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Errorf("stream: %v", err)
	}
	err = conn.Invoke(t.Context(), "/grpc.testing.TestService/Unknown", &testpb.Empty{}, &testpb.Empty{}, realgrpc.WaitForReady(true))
	if status.Code(err) != codes.Unimplemented || grpc.Code(err) != codes.Unimplemented {
		t.Errorf("unknown method: %v, want UNIMPLEMENTED", err)
	}
	for _, want := range []string{"grpc.health.v1.Health", "grpc.testing.TestService", "grpc.reflection.v1.ServerReflection", "grpc.channelz.v1.Channelz"} {
		if _, ok := s.GetServiceInfo()[want]; !ok {
			t.Errorf("service %s is not registered", want)
		}
	}
	var _ reflection.ServiceInfoProvider = s
	var _ http.Handler = s
}
