package interceptors_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	proxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	"github.com/pires/go-proxyproto"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
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

func introducedWith(version corev3.ProxyProtocolConfig_Version) func(*clusterv3.Cluster) {
	socket := func(m proto.Message) *corev3.TransportSocket {
		packed, err := anypb.New(m)
		if err != nil {
			panic(err) // it is always possible
		}
		return &corev3.TransportSocket{Name: "socket", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed}}
	}
	return func(c *clusterv3.Cluster) {
		c.TransportSocket = socket(&proxyv3.ProxyProtocolUpstreamTransport{
			Config: &corev3.ProxyProtocolConfig{Version: version}, TransportSocket: socket(&rawv3.RawBuffer{}),
		})
	}
}

// aside returns a client that has a snapshot with a cluster of one address, as edited, to which it makes no connection.
func aside(t *testing.T, addr string, edit func(*clusterv3.Cluster)) *interceptors.Client {
	t.Helper()
	f := newFixture(t, nil)
	c, d := xdstest.Cluster("c"), xdstest.Cluster("d")
	edit(c)
	f.Set(c, d)
	never := xdstest.Route(func(r *routev3.Route) {
		r.Match = &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/never"}}
	}, "c")
	f.Set(xdstest.Endpoints("c", addr), xdstest.Endpoints("d", server(t, "ok").Addr), xdstest.Listener(target), xdstest.Routes(target, never, xdstest.Route(nil, "d")))
	if _, err := f.call(t.Context()); err != nil {
		t.Fatal(err)
	}
	return interceptors.NewClient(f.manager.Target(target), interceptors.ClientOptions{})
}

// Connections begin with the header that the cluster asks for, over the dialer of the caller too.
func TestConnectionsAreIntroduced(t *testing.T) {
	t.Parallel()
	for version, want := range map[corev3.ProxyProtocolConfig_Version]byte{corev3.ProxyProtocolConfig_V1: 1, corev3.ProxyProtocolConfig_V2: 2} {
		lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer lis.Close()
		addr := lis.Addr().String()
		ic := aside(t, addr, introducedWith(version))
		own := func(ctx context.Context, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", address)
		}
		for name, dial := range map[string]interceptors.Dialer{"its own": ic.Dial, "the caller's": ic.Within(own)} {
			conn, err := dial(t.Context(), addr)
			if err != nil {
				t.Fatal(err)
			}
			accepted, err := lis.Accept()
			for err == nil && accepted.RemoteAddr().String() != conn.LocalAddr().String() {
				accepted.Close() // the channel of the fixture connects too
				accepted, err = lis.Accept()
			}
			if err != nil {
				t.Fatal(err)
			}
			h, err := proxyproto.Read(bufio.NewReader(accepted))
			if err != nil || h.Version != want || h.Command != proxyproto.PROXY || h.SourceAddr.String() != conn.LocalAddr().String() || h.DestinationAddr.String() != addr {
				t.Errorf("%s: %+v, %v", name, h, err)
			}
			conn.Close()
			accepted.Close()
		}
	}
}

// A peer that does not read the header holds a caller up no longer than connecting may take.
func TestHeadersThatNobodyReads(t *testing.T) {
	t.Parallel()
	const addr = "127.0.0.1:1"
	ic := aside(t, addr, func(c *clusterv3.Cluster) {
		introducedWith(corev3.ProxyProtocolConfig_V2)(c)
		c.ConnectTimeout = durationpb.New(30 * time.Millisecond)
	})
	local, remote := net.Pipe()
	defer remote.Close()
	_, err := ic.Within(func(context.Context, string) (net.Conn, error) { return local, nil })(t.Context(), addr)
	if err == nil || !strings.HasPrefix(err.Error(), "header of the PROXY protocol: ") {
		t.Errorf("got %v", err)
	}
	if _, err := local.Write(nil); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the connection is not closed: %v", err)
	}
}
