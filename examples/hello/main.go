// Command hello is the smallest program of a mesh: a server and a client, as they
// would be written with package grpc, but for one import.
//
//	go run ./cmd/xdsserver --config examples/hello/hello.yaml
//	MESH_XDS=127.0.0.1:15010 MESH_SERVICE=hello:9080 MESH_LABELS=version=v1 go run ./examples/hello serve v1
//	MESH_XDS=127.0.0.1:15010 MESH_SERVICE=hello:9080 MESH_LABELS=version=v2 go run ./examples/hello serve v2
//	MESH_XDS=127.0.0.1:15010 go run ./examples/hello call
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"syscall"

	pb "google.golang.org/grpc/interop/grpc_testing" // any generated code

	grpc "github.com/meshframe/meshframe/srvframe" // was "google.golang.org/grpc"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "hello:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("want: hello serve VERSION, or hello call")

func run(ctx context.Context, args []string, out io.Writer) error {
	switch {
	case len(args) == 2 && args[0] == "serve":
		return serve(ctx, args[1], out)
	case len(args) == 1 && args[0] == "call":
		return call(ctx, out)
	}
	return errUsage
}

type hello struct {
	pb.UnimplementedTestServiceServer

	version string
}

// UnaryCall says which version answers.
func (h *hello) UnaryCall(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	return &pb.SimpleResponse{ServerId: h.version}, nil
}

func serve(ctx context.Context, version string, out io.Writer) error {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	pb.RegisterTestServiceServer(s, &hello{version: version})
	context.AfterFunc(ctx, s.GracefulStop) // withdraws it first
	fmt.Fprintf(out, "hello %s at %s\n", version, lis.Addr())
	return s.Serve(lis) // registers it as MESH_SERVICE
}

func call(ctx context.Context, out io.Writer) error {
	conn, err := grpc.NewClient("hello:9080") // the name in the YAML, wherever its servers are
	if err != nil {
		return err
	}
	defer conn.Close()
	answers := map[string]int{}
	for range 1000 {
		reply, err := pb.NewTestServiceClient(conn).UnaryCall(ctx, &pb.SimpleRequest{})
		if err != nil {
			return err
		}
		answers[reply.GetServerId()]++
	}
	fmt.Fprintln(out, answers)
	return nil
}
