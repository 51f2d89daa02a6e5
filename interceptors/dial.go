package interceptors

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

// Dialer connects to an address. It is a function for grpc.WithContextDialer.
type Dialer = func(ctx context.Context, address string) (net.Conn, error)

// Dial connects to an endpoint of the channel's target within the connect
// timeout of its cluster (Envoy Cluster.connect_timeout), and has TCP probe the
// connection as the cluster says. Addresses of Unix sockets are written
// unix:PATH. It is a Dialer.
func (c *Client) Dial(ctx context.Context, address string) (net.Conn, error) {
	timeout, keepalive := c.connecting(address)
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
	if keepalive != nil {
		if dialer.KeepAliveConfig = keepaliveConfig(keepalive); keepalive.Off {
			dialer.KeepAlive = -1
		}
	}
	return dialer.DialContext(ctx, network, address)
}

// Within returns a Dialer that connects with the caller's, whose context ends
// with the connect timeout of the cluster. The probes of TCP are set where the
// connection has a method SetKeepAliveConfig, as *net.TCPConn has; those that the
// cluster does not set stay the caller's.
func (c *Client) Within(dial Dialer) Dialer {
	return func(ctx context.Context, address string) (net.Conn, error) {
		timeout, keepalive := c.connecting(address)
		if timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		conn, err := dial(ctx, address)
		if err != nil || keepalive == nil {
			return conn, err
		}
		tcp, ok := conn.(interface {
			SetKeepAliveConfig(config net.KeepAliveConfig) error
		})
		if !ok {
			return conn, nil
		}
		if err := tcp.SetKeepAliveConfig(keepaliveConfig(keepalive)); err != nil {
			_ = conn.Close() // the error that matters is the first
			return nil, fmt.Errorf("keepalive of the connection to %s: %w", address, err)
		}
		return conn, nil
	}
}

// keepaliveConfig leaves what is not set as it is.
func keepaliveConfig(k *snapshot.TCPKeepalive) net.KeepAliveConfig {
	return net.KeepAliveConfig{
		Enable: !k.Off, Idle: cmp.Or(k.Time, -1), Interval: cmp.Or(k.Interval, -1), Count: cmp.Or(int(k.Probes), -1),
	}
}

// connecting says how to connect to an address: by the strictest of the clusters
// that have it. A timeout of 0 is none, nil are the probes that there are anyway.
func (c *Client) connecting(address string) (timeout time.Duration, keepalive *snapshot.TCPKeepalive) {
	s := c.target.Snapshot()
	if s == nil {
		return 0, nil
	}
	var pool snapshot.ConnectionPool
	for _, u := range s.Upstreams {
		if u.Cluster == nil || u.Cluster.Discovery == snapshot.Aggregate || !has(u, address) {
			continue
		}
		pool.Tighten(&u.Cluster.Connections)
		if d := u.Cluster.ConnectTimeout; d > 0 && (timeout == 0 || d < timeout) {
			timeout = d
		}
	}
	return timeout, pool.Keepalive
}

func has(u *snapshot.Upstream, address string) bool {
	for i := range u.Hosts {
		if u.Hosts[i].Address == address {
			return true
		}
	}
	return false
}
