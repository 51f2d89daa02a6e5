package interceptors_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/meshframe/meshframe/interceptors"
	"github.com/meshframe/meshframe/internal/xdstest"
)

// dialing returns a client whose clusters c and d have the address of a server,
// c as edited.
func dialing(t *testing.T, edit func(c *clusterv3.Cluster)) (ic *interceptors.Client, addr string) {
	t.Helper()
	addr = server(t, "ok").Addr
	f := newFixture(t, nil)
	c, d := xdstest.Cluster("c"), xdstest.Cluster("d")
	d.ConnectTimeout = durationpb.New(time.Hour)
	edit(c)
	f.Set(c, d)
	f.Set(xdstest.Endpoints("c", addr), xdstest.Endpoints("d", addr), xdstest.Routes(target, xdstest.Route(nil, "c", "d")), xdstest.Listener(target))
	if _, err := f.call(t.Context()); err != nil { // there is a snapshot
		t.Fatal(err)
	}
	return interceptors.NewClient(f.manager.Target(target), interceptors.ClientOptions{}), addr
}

func keepalive(k *corev3.TcpKeepalive) func(*clusterv3.Cluster) {
	return func(c *clusterv3.Cluster) {
		c.UpstreamConnectionOptions = &clusterv3.UpstreamConnectionOptions{TcpKeepalive: k}
	}
}

// brokenConn cannot set probes.
type brokenConn struct {
	net.Conn

	closed bool
}

var errProbes = errors.New("no probes")

func (*brokenConn) SetKeepAliveConfig(net.KeepAliveConfig) error { return errProbes }

func (c *brokenConn) Close() error {
	c.closed = true
	return nil
}

func TestDialersOfTheCaller(t *testing.T) {
	t.Parallel()
	ic, addr := dialing(t, func(c *clusterv3.Cluster) {
		c.ConnectTimeout = durationpb.New(70 * time.Millisecond)
		keepalive(&corev3.TcpKeepalive{})(c)
	})
	hang := ic.Within(func(ctx context.Context, _ string) (net.Conn, error) {
		if d, ok := ctx.Deadline(); !ok || time.Until(d) > 70*time.Millisecond {
			t.Errorf("connecting may take until %v", d)
		}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if _, err := hang(t.Context(), addr); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	free := ic.Within(func(ctx context.Context, _ string) (net.Conn, error) {
		if _, ok := ctx.Deadline(); ok {
			t.Error("an address of no cluster has a deadline")
		}
		return nil, errProbes
	})
	if _, err := free(t.Context(), "127.0.0.1:1"); !errors.Is(err, errProbes) {
		t.Errorf("got %v", err)
	}
	// A connection without probes is used as it is; one whose probes cannot be set
	// is not used.
	local, remote := net.Pipe()
	defer local.Close()
	defer remote.Close()
	conn, err := ic.Within(func(context.Context, string) (net.Conn, error) { return local, nil })(t.Context(), addr)
	if err != nil || conn != local {
		t.Errorf("got %v, %v", conn, err)
	}
	broken := &brokenConn{}
	if _, err := ic.Within(func(context.Context, string) (net.Conn, error) { return broken, nil })(t.Context(), addr); !errors.Is(err, errProbes) || !broken.closed {
		t.Errorf("got %v, closed %v", err, broken.closed)
	}
}
