package meshtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

const (
	fenceFile      = "meshtest-fence.yaml"
	fenceNamespace = "meshtest"
	fenceMethod    = "/meshtest.Fence/Pass"
	// fenceTimeout bounds the wait for the mesh to be in step: only a bug
	// makes it this long.
	fenceTimeout = 20 * time.Second
)

// fence tells when a member is in step with the control plane. Each change of
// the configuration brings a service under a name that was never there before;
// a member that can call it has gone through listener, routes, cluster and
// endpoints of that name, one after the other on its only stream, and so has
// received whatever of each type was to be sent before.
type fence struct {
	server *grpc.Server
	addr   *net.TCPAddr
	served sync.WaitGroup

	mu    sync.Mutex
	round int
}

// newFence starts the server behind the fence's services.
func newFence(n *memory) (*fence, error) {
	lis, err := listen(n)
	if err != nil {
		return nil, err
	}
	tcp, ok := lis.Addr().(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("listener of type %T", lis.Addr())
	}
	f := &fence{addr: tcp, server: grpc.NewServer(grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var request emptypb.Empty
		if err := stream.RecvMsg(&request); err != nil {
			return err
		}
		return stream.SendMsg(&emptypb.Empty{})
	}))}
	f.served.Go(func() { _ = f.server.Serve(lis) }) // ends with close
	return f, nil
}

// close stops the server.
func (f *fence) close() {
	if f != nil {
		f.server.Stop()
		f.served.Wait()
	}
}

// host is the name of the service of a round.
func host(round int) string { return fmt.Sprintf("round-%d.fence.meshtest", round) }

// next begins a round and returns the YAML of all services so far: members stay
// subscribed to those of earlier rounds for a while.
func (f *fence) next() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.round++
	hosts := make([]string, f.round)
	for i := range hosts {
		hosts[i] = host(i + 1)
	}
	return fmt.Appendf(nil, `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: fence, namespace: %s}
spec:
  hosts: [%s]
  ports: [{number: 80, name: grpc, protocol: GRPC}]
  location: MESH_INTERNAL
  resolution: STATIC
  endpoints: [{address: %v, ports: {grpc: %d}}]
`, fenceNamespace, strings.Join(hosts, ", "), f.addr.IP, f.addr.Port)
}

// pass returns when the member can call this round's service.
func (f *fence) pass(ctx context.Context, p *Member) error {
	f.mu.Lock()
	target := host(f.round) + ":80"
	f.mu.Unlock()
	cc, err := p.newClient(target)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fenceTimeout)
	defer cancel()
	err = cc.Invoke(ctx, fenceMethod, &emptypb.Empty{}, &emptypb.Empty{}, grpc.WaitForReady(true))
	// A rule for every host may fault the call; it was decided all the same.
	if err != nil && ctx.Err() == nil {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("the mesh did not come into step within %v: %w", fenceTimeout, err)
	}
	return errors.Join(err, cc.Close())
}
