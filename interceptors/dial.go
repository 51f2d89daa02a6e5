package interceptors

import (
	"context"
	"net"
	"strings"
	"time"
)

// Dial connects to an endpoint of the channel's target within the connect
// timeout of its cluster (Envoy Cluster.connect_timeout). Addresses of Unix
// sockets are written unix:PATH. It is a function for grpc.WithContextDialer.
func (c *Client) Dial(ctx context.Context, address string) (net.Conn, error) {
	if d := c.connectTimeout(address); d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	return c.dialer.DialContext(ctx, network, address)
}

// connectTimeout is the shortest of the clusters that have the address; 0 is
// none.
func (c *Client) connectTimeout(address string) time.Duration {
	s := c.target.Snapshot()
	if s == nil {
		return 0
	}
	var shortest time.Duration
	for _, u := range s.Upstreams {
		if u.Cluster == nil || u.Cluster.ConnectTimeout <= 0 || shortest > 0 && shortest <= u.Cluster.ConnectTimeout {
			continue
		}
		for i := range u.Hosts {
			if u.Hosts[i].Address == address {
				shortest = u.Cluster.ConnectTimeout
				break
			}
		}
	}
	return shortest
}
