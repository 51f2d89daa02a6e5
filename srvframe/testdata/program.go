// A program as it is written against package grpc: the test builds it with the
// import swapped. It uses what programs use, deprecated parts included.
package main

import (
	"context"
	"crypto/tls"
	"log"
	"net"
	"net/http"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection"
)

type server struct {
	healthpb.UnimplementedHealthServer
}

func main() {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	s := newServer()
	go func() {
		if err := s.Serve(lis); err != nil && err != grpc.ErrServerStopped {
			log.Print(err)
		}
	}()
	defer s.GracefulStop()
	time.AfterFunc(time.Minute, s.Stop)
	for name, info := range s.GetServiceInfo() {
		var methods []grpc.MethodInfo = info.Methods
		log.Print(name, len(methods))
	}

	conn, err := grpc.NewClient("reviews:9080", clientOptions()...)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	call(conn)
	old, err := grpc.DialContext(context.Background(), "reviews:9080", grpc.WithInsecure(), grpc.WithBlock(), grpc.WithTimeout(time.Second))
	if err != nil {
		log.Fatal(err)
	}
	call(old)
	var _ http.Handler = s
}

func newServer() *grpc.Server {
	s := grpc.NewServer(
		grpc.Creds(insecure.NewCredentials()),
		grpc.MaxRecvMsgSize(1<<20),
		grpc.KeepaliveParams(keepalive.ServerParameters{}),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			if err := grpc.SetHeader(ctx, metadata.Pairs("k", "v")); err != nil {
				return nil, err
			}
			return handler(ctx, req)
		}),
		grpc.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
			return handler(srv, ss)
		}),
		grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return grpc.Errorf(codes.Unimplemented, "no") }),
	)
	register(s, &server{})
	healthpb.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	return s
}

func register(r grpc.ServiceRegistrar, impl any) {
	r.RegisterService(&grpc.ServiceDesc{
		ServiceName: "test.Service",
		Methods: []grpc.MethodDesc{{MethodName: "Get", Handler: func(_ any, _ context.Context, _ func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			return nil, grpc.ErrServerStopped
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Watch", ServerStreams: true, Handler: func(any, grpc.ServerStream) error { return nil }}},
	}, impl)
}

func clientOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{})),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig}),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`),
		grpc.WithDefaultCallOptions(grpc.WaitForReady(true), grpc.UseCompressor(gzip.Name)),
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoker(ctx, method, req, reply, cc, opts...)
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Minute}),
	}
}

func call(cc grpc.ClientConnInterface) {
	var header metadata.MD
	_, err := healthpb.NewHealthClient(cc).Check(context.Background(), &healthpb.HealthCheckRequest{}, grpc.Header(&header), grpc.MaxCallRecvMsgSize(1<<20))
	if grpc.Code(err) != codes.OK {
		log.Print(grpc.ErrorDesc(err), header)
	}
}
