package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/xds"
)

type echo struct {
	grpc_testing.UnimplementedTestServiceServer
}

func (echo) EmptyCall(context.Context, *grpc_testing.Empty) (*grpc_testing.Empty, error) {
	return &grpc_testing.Empty{}, nil
}

// startProgram runs the program until it is killed and waits until it serves.
func startProgram(t *testing.T, binary, listen, state string) (address string, kill func()) {
	t.Helper()
	cmd := exec.Command(binary, "--listen", listen, "--admin", "", "--state", state, "--outbound-policy", "registry-only")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if _, rest, ok := strings.Cut(lines.Text(), "ready: serving xDS\" address="); ok {
			address, _, _ = strings.Cut(rest, " ")
			break
		}
	}
	if address == "" {
		t.Fatal("it does not serve")
	}
	read := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, stderr)
		close(read)
	}()
	return address, func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
	}
}

func xdsBootstrap(t *testing.T, address string) []byte {
	t.Helper()
	b, err := json.Marshal(map[string]any{
		"xds_servers":                            []any{map[string]any{"server_uri": address, "channel_creds": []any{map[string]any{"type": "insecure"}}, "server_features": []string{"xds_v3"}}},
		"node":                                   map[string]any{"id": "sidecar~127.0.0.1~echo.default~x", "metadata": map[string]any{"GENERATOR": "grpc", "MESH_SERVICES": []any{"echo:80"}}},
		"server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s",
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The control plane is killed four times under load, sometimes before anybody has come back to it: no call is lost, and
// a server that registered itself is not forgotten, with a state directory and without.
func TestKilledUnderLoad(t *testing.T) {
	binary := program(t)
	t.Run("with state", func(t *testing.T) { killUnderLoad(t, binary, t.TempDir()) })
	t.Run("without", func(t *testing.T) { killUnderLoad(t, binary, "") })
}

func killUnderLoad(t *testing.T, binary, state string) {
	t.Helper()
	address, kill := startProgram(t, binary, "127.0.0.1:0", state)
	defer func() { kill() }()
	bootstrap := xdsBootstrap(t, address)

	serving := make(chan struct{}, 10)
	server, err := xds.NewGRPCServer(xds.BootstrapContentsForTesting(bootstrap), xds.ServingModeCallback(func(_ net.Addr, args xds.ServingModeChangeArgs) {
		if args.Mode == connectivity.ServingModeServing {
			serving <- struct{}{}
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	grpc_testing.RegisterTestServiceServer(server, echo{})
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	defer func() { server.Stop(); <-served }()
	<-serving

	newClient := func() (grpc_testing.TestServiceClient, func()) {
		builder, err := xds.NewXDSResolverWithConfigForTesting(bootstrap)
		if err != nil {
			t.Fatal(err)
		}
		cc, err := grpc.NewClient("xds:///echo:80", grpc.WithResolvers(builder), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		return grpc_testing.NewTestServiceClient(cc), func() { _ = cc.Close() }
	}
	client, closeClient := newClient()
	defer closeClient()
	call := func(c grpc_testing.TestServiceClient, opts ...grpc.CallOption) error {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := c.EmptyCall(ctx, &grpc_testing.Empty{}, opts...)
		return err
	}
	for deadline := time.Now().Add(10 * time.Second); call(client) != nil; {
		if time.Now().After(deadline) {
			t.Fatal("no call gets through")
		}
		<-time.After(10 * time.Millisecond)
	}

	ctx, stop := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	var calls atomic.Int64
	go func() {
		defer close(failed)
		for ctx.Err() == nil {
			if err := call(client); err != nil {
				failed <- err
				return
			}
			calls.Add(1)
		}
	}()
	if state != "" { // a registration that is on disk is one that a crash cannot take away
		for deadline := time.Now().Add(10 * time.Second); ; <-time.After(5 * time.Millisecond) {
			if kept, _ := os.ReadFile(filepath.Join(state, "registrations.json")); strings.Contains(string(kept), "echo") {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the registration is not kept")
			}
		}
	}
	for i := range 4 {
		kill()
		for before := calls.Load(); calls.Load() < before+500 && len(failed) == 0; {
			<-time.After(time.Millisecond)
		}
		_, kill = startProgram(t, binary, address, state)
		if i%2 == 0 {
			continue // killed again at once, whether or not the server has come back
		}
		// Who comes only now finds the server, whether it has come back or not.
		late, closeLate := newClient()
		if err := call(late); err != nil {
			t.Errorf("after restart %d: %v", i+1, err)
		}
		closeLate()
	}
	stop()
	if err := <-failed; err != nil {
		t.Errorf("after %d calls: %v", calls.Load(), err)
	}
}
