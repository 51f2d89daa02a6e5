package xdsclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
)

// DefaultWatchExpiry is the time after which a resource that the server never
// answered is reported missing, as gRFC A27 and Envoy's initial_fetch_timeout
// have it.
const DefaultWatchExpiry = 15 * time.Second

// DefaultCacheBytes is the default of Config.CacheBytes.
const DefaultCacheBytes = 64 << 20

// DefaultMaxDelay is the longest pause between two attempts to reach a server,
// before jitter. gRPC's 120 s would leave whoever comes through a long outage
// without news, and a server without its registration, for two minutes after the
// control plane is back; one attempt in 20 s costs neither side anything.
const DefaultMaxDelay = 20 * time.Second

// Config says whom to ask, and as whom. It is read once by New.
type Config struct {
	// Servers are the control planes in order of preference; at least one is
	// needed. The first is used; a later one is asked when those before it cannot
	// be reached and a watched resource is not cached (gRFC A71).
	Servers []Server

	// Node identifies this process to the server. It goes out with the first
	// request of each stream. nil is an empty node. The client adds its user
	// agent name where there is none, and the client features it implements.
	Node *corev3.Node

	// Protocol selects the variant of the transport protocol. Default: Auto.
	Protocol Protocol

	// WatchExpiry is how long a server may leave a subscription unanswered on a
	// live stream before the resource is reported missing. Zero means
	// DefaultWatchExpiry; negative means never.
	WatchExpiry time.Duration

	// Backoff paces attempts to open a stream. The zero value means 1 s, times
	// 1.6 up to DefaultMaxDelay, with 20 % jitter; of other values, fields that
	// are out of range are the default's. It starts over once a stream has brought
	// headers or a response, or was open for BaseDelay.
	Backoff backoff.Config

	// Cache, if set, keeps the resources that were accepted last. They are
	// delivered, marked as stale, when no server can be reached. A client has a
	// store for itself.
	Cache Store

	// CacheBytes bounds what is in Cache. Resources that nobody watches give way
	// first. Zero means DefaultCacheBytes.
	CacheBytes int64

	// Logger receives what an operator should know: connections lost and
	// regained, refused resources. nil discards it.
	Logger *slog.Logger
}

// Server is a control plane that serves ADS.
type Server struct {
	// URI is a gRPC target such as "127.0.0.1:15010", "dns:///xds.example:443"
	// or "unix:///etc/istio/proxy/XDS".
	URI string

	// Credentials secure the connection. There is no default: plaintext must be
	// asked for with insecure.NewCredentials(). They may be nil only if
	// DialOptions bring credentials.
	Credentials credentials.TransportCredentials

	// Dialer, if set, makes the connections, for instance in memory. It gets
	// the URI as written: a URI without a scheme is then not resolved by name.
	Dialer func(ctx context.Context, address string) (net.Conn, error)

	// DialOptions are applied after the client's own and may override them
	// (keep-alive: a ping after 30 s of silence, whose answer may take 10 s;
	// messages up to 256 MiB). Servers that permit fewer pings, as those of gRPC
	// do unless their keepalive.EnforcementPolicy says otherwise, close the
	// connection over it once; from then on a ping follows 6 minutes of silence.
	DialOptions []grpc.DialOption

	// IgnoreResourceDeletion keeps resources that the server deletes (gRFC
	// A53, server feature "ignore_resource_deletion").
	IgnoreResourceDeletion bool
}

// Protocol is a variant of the xDS transport protocol.
type Protocol uint8

const (
	// Auto tries Delta, and StateOfTheWorld when the server answers
	// UNIMPLEMENTED, which holds as long as the connection.
	Auto Protocol = iota
	// Delta is the incremental variant (DeltaAggregatedResources).
	Delta
	// StateOfTheWorld is the variant in which each response and each request
	// carries the whole state of a type (StreamAggregatedResources).
	StateOfTheWorld
)

// String returns the name of the protocol, such as "delta".
func (p Protocol) String() string {
	switch p {
	case Auto:
		return "auto"
	case Delta:
		return "delta"
	case StateOfTheWorld:
		return "state-of-the-world"
	}
	return fmt.Sprintf("Protocol(%d)", uint8(p))
}

// withDefaults checks the configuration and fills it in.
func (c Config) withDefaults() (Config, error) {
	if len(c.Servers) == 0 {
		return c, errors.New("xdsclient: Config.Servers is empty: at least one server is needed")
	}
	for i, s := range c.Servers {
		if s.URI == "" {
			return c, fmt.Errorf("xdsclient: Config.Servers[%d].URI is empty: a gRPC target such as 127.0.0.1:15010 is needed", i)
		}
	}
	if c.Protocol > StateOfTheWorld {
		return c, fmt.Errorf("xdsclient: Config.Protocol is %v: want Auto, Delta or StateOfTheWorld", c.Protocol)
	}
	if c.WatchExpiry == 0 {
		c.WatchExpiry = DefaultWatchExpiry
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = DefaultCacheBytes
	}
	c.Backoff = withDefaultBackoff(c.Backoff)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

// withDefaultBackoff fills in what would make attempts follow without a pause.
func withDefaultBackoff(b backoff.Config) backoff.Config {
	d := backoff.DefaultConfig
	d.MaxDelay = DefaultMaxDelay
	if b == (backoff.Config{}) {
		return d
	}
	if b.BaseDelay <= 0 {
		b.BaseDelay = d.BaseDelay
	}
	if b.Multiplier < 1 {
		b.Multiplier = d.Multiplier
	}
	if b.MaxDelay <= 0 {
		b.MaxDelay = d.MaxDelay
	}
	if b.Jitter < 0 || b.Jitter >= 1 {
		b.Jitter = d.Jitter
	}
	return b
}
