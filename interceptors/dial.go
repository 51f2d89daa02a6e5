package interceptors

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

// Dialer connects to an address. It is a function for grpc.WithContextDialer.
type Dialer = func(ctx context.Context, address string) (net.Conn, error)

// Dial connects to an endpoint of the channel's target within the connect
// timeout of its cluster (Envoy Cluster.connect_timeout), and has TCP probe the
// connection as the cluster says. The connection begins with a header of the PROXY
// protocol where the cluster asks for one. Addresses of Unix sockets are written
// unix:PATH. It is a Dialer.
func (c *Client) Dial(ctx context.Context, address string) (net.Conn, error) {
	timeout, pool := c.connecting(address)
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	dialer := c.dialer
	if pool.Keepalive != nil {
		if dialer.KeepAliveConfig = keepaliveConfig(pool.Keepalive); pool.Keepalive.Off {
			dialer.KeepAlive = -1
		}
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return introduced(ctx, conn, pool.ProxyProtocol)
}

// Within returns a Dialer that connects with the caller's, whose context ends
// with the connect timeout of the cluster. The probes of TCP are set where the
// connection has a method SetKeepAliveConfig, as *net.TCPConn has; those that the
// cluster does not set stay the caller's.
func (c *Client) Within(dial Dialer) Dialer {
	return func(ctx context.Context, address string) (net.Conn, error) {
		timeout, pool := c.connecting(address)
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		conn, err := dial(ctx, address)
		if err != nil {
			return conn, err
		}
		tcp, ok := conn.(interface {
			SetKeepAliveConfig(config net.KeepAliveConfig) error
		})
		if ok && pool.Keepalive != nil {
			if err := tcp.SetKeepAliveConfig(keepaliveConfig(pool.Keepalive)); err != nil {
				_ = conn.Close() // the error that matters is the first
				return nil, fmt.Errorf("keepalive of the connection to %s: %w", address, err)
			}
		}
		return introduced(ctx, conn, pool.ProxyProtocol)
	}
}

// introduced writes the header of the PROXY protocol, of which version 0 is none:
// the connection comes from this process itself. One whose addresses are not those
// of IP says that they are not known.
func introduced(ctx context.Context, conn net.Conn, version uint8) (net.Conn, error) {
	if version == 0 {
		return conn, nil
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Unix(0, 1)) })
	_, err := proxyproto.HeaderProxyFromAddrs(version, conn.LocalAddr(), conn.RemoteAddr()).WriteTo(conn)
	if !stop() && err == nil {
		err = ctx.Err() // the connection may have the deadline, or get it in a moment
	}
	if err != nil {
		_ = conn.Close() // the error that matters is the first
		return nil, fmt.Errorf("header of the PROXY protocol: %w", err)
	}
	return conn, nil
}

// keepaliveConfig leaves what is not set as it is.
func keepaliveConfig(k *snapshot.TCPKeepalive) net.KeepAliveConfig {
	return net.KeepAliveConfig{
		Enable: !k.Off, Idle: cmp.Or(k.Time, -1), Interval: cmp.Or(k.Interval, -1), Count: cmp.Or(int(k.Probes), -1),
	}
}

// connecting says how to connect to an address: by the strictest of the clusters
// that have it. A timeout of 0 is none.
func (c *Client) connecting(address string) (timeout time.Duration, pool snapshot.ConnectionPool) {
	s := c.target.Snapshot()
	if s == nil {
		return 0, pool
	}
	for _, u := range s.Upstreams {
		if u.Cluster == nil || u.Cluster.Discovery == snapshot.Aggregate || !has(u, address) {
			continue
		}
		pool.Tighten(&u.Cluster.Connections)
		if d := u.Cluster.ConnectTimeout; d > 0 && (timeout == 0 || d < timeout) {
			timeout = d
		}
	}
	return timeout, pool
}

func has(u *snapshot.Upstream, address string) bool {
	for i := range u.Hosts {
		if u.Hosts[i].Address == address {
			return true
		}
	}
	return false
}
