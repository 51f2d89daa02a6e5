package snapshot

import (
	"time"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/outlier"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/ratelimit"
	"github.com/meshframe/meshframe/mesh/retry"
	"github.com/meshframe/meshframe/mesh/route"
)

// The types of this file are what decoders write and Build reads: one xDS
// resource each, validated, with every default filled in. Nothing writes to
// them after they were handed over; an unchanged pointer means an unchanged
// resource, which is what makes building incremental.
//
// Where a field Refused is set, the last good version stays in force. If the
// error, or one that it wraps, has a method Deny() bool that returns true, it
// does not: calls fail with the error.

// Listener is an LDS resource: for clients an API listener, for servers the
// inbound listener of one address.
type Listener struct {
	Name string
	// RouteConfigName is the RDS resource to use; empty when Routes is inline.
	RouteConfigName string
	Routes          *RouteConfiguration
	// MaxStreamDuration is the HTTP connection manager's; 0 means none.
	MaxStreamDuration time.Duration
	// Fault is the fault filter's own configuration, nil when the filter is not
	// in the chain: then per-route faults have no effect either.
	Fault *fault.Policy
	// RateLimit is the local rate limit filter's own configuration: for inbound
	// listeners it holds for every call.
	RateLimit *ratelimit.Policy
	// Session is the stateful session filter's own configuration, nil when the
	// filter is not in the chain: then sessions of routes have no effect either.
	Session *Session
	// MaxConcurrent bounds the calls that an inbound listener serves at once; 0
	// means no limit. More are refused at once.
	MaxConcurrent uint32
	// Inbound is set for listeners with filter chains (server side).
	Inbound bool
}

// RouteConfiguration is an RDS resource.
type RouteConfiguration struct {
	Name         string
	VirtualHosts []*VirtualHost
	// RequestHeaders and ResponseHeaders are edits for all routes; nil is none.
	RequestHeaders, ResponseHeaders *HeaderEdits
	// SpecificLast applies edits of the route configuration first and those of
	// the weighted cluster last; without it the order is the reverse (Envoy
	// most_specific_header_mutations_wins).
	SpecificLast bool
}

// VirtualHost is one virtual host.
type VirtualHost struct {
	Name    string
	Domains []string
	Routes  []*Route
	Retry   *retry.Policy // for routes without their own; nil means none
	Fault   *fault.Policy // overrides the listener's; nil means not set
	// AttemptCount asks for the x-envoy-attempt-count request header.
	AttemptCount                    bool
	RequestHeaders, ResponseHeaders *HeaderEdits
	RateLimit                       *ratelimit.Policy
	Session                         *Session     // overrides the listener's; nil means not set
	Mirrors                         []Mirror     // for routes without their own
	Hash                            []HashPolicy // for routes without their own
	// Refused says why this virtual host could not be read at all. Build keeps
	// its last good version; without one, its calls fail with this error.
	Refused error
}

// Route is one route of a virtual host.
type Route struct {
	Name  string
	Match route.Match
	// Clusters are the destinations; weights are relative. One entry for a
	// single cluster. Empty when Refused is set, and for routes of inbound
	// listeners, which serve the call themselves.
	Clusters []ClusterWeight
	// Timeout is the total deadline of a call including its retries (Envoy
	// RouteAction.timeout or max_stream_duration, in gRPC's precedence); 0
	// means the listener's MaxStreamDuration, below 0 none.
	Timeout time.Duration
	// MaxGRPCTimeout bounds the caller's own deadline when HasMaxGRPCTimeout
	// is set; 0 then means the caller's deadline is used as it is (gRFC A31).
	HasMaxGRPCTimeout bool
	MaxGRPCTimeout    time.Duration
	// GRPCTimeoutOffset is by how much the route gives up before the caller's own
	// deadline, as MaxGRPCTimeout bounds it, and only with that (Envoy
	// grpc_timeout_header_offset).
	GRPCTimeoutOffset time.Duration
	// Longest bounds what a request may ask for in place of Timeout (see
	// mesh.Decision.Override); 0 does not.
	Longest time.Duration
	Retry   *retry.Policy
	Fault   *fault.Policy

	// What the route does beside forwarding. With Redirect or DirectResponse it
	// does not forward, and Clusters is empty.
	Redirect                        *Redirect
	DirectResponse                  *DirectResponse
	Rewrite                         *Rewrite
	RequestHeaders, ResponseHeaders *HeaderEdits
	Mirrors                         []Mirror
	Hash                            []HashPolicy
	// Hedge makes the per-try timeout start another attempt beside the first
	// (Envoy hedge_policy.hedge_on_per_try_timeout).
	Hedge bool
	// IdleTimeout ends a stream on which nothing was sent or received for so
	// long; 0 is none.
	IdleTimeout time.Duration
	RateLimit   *ratelimit.Policy
	Session     *Session // overrides the virtual host's; nil means not set
	// Fallback is what happens to calls that find no host; nil is an error.
	Fallback *Fallback

	// Refused says why the route could not be read although its match could.
	// Build keeps the last good version of the same identity; without one, the
	// calls it catches fail with this error.
	Refused error
}

// ClusterWeight is one destination of a route.
type ClusterWeight struct {
	Cluster                         string
	Weight                          uint32
	Fault                           *fault.Policy // overrides the route's; nil means not set
	Session                         *Session      // likewise
	RequestHeaders, ResponseHeaders *HeaderEdits
	HostRewrite                     string // where the route sets none; "" means not set
}

// Discovery says where the endpoints of a cluster come from.
type Discovery uint8

// The kinds of discovery (Envoy Cluster.DiscoveryType).
const (
	EDS Discovery = iota
	Static
	StrictDNS
	LogicalDNS
	Aggregate
)

// Cluster is a CDS resource.
type Cluster struct {
	Name      string
	Discovery Discovery
	// ServiceName is the EDS resource to use; default the cluster's name.
	ServiceName string
	// Assignment holds the inline endpoints of Static, StrictDNS and
	// LogicalDNS clusters; for DNS their addresses are host:port to resolve.
	Assignment *ClusterLoadAssignment
	// DNSRefreshRate is how often DNS clusters resolve again; default 5 s.
	DNSRefreshRate time.Duration
	LB             pick.Config
	Limits         breaker.Limits
	Outlier        *outlier.Config // nil means off
	ConnectTimeout time.Duration   // default 5 s
	// Connections is what holds for each connection to an endpoint. Aggregate
	// clusters have none: the clusters behind them count.
	Connections ConnectionPool
	// Aggregate are the clusters of an aggregate cluster, the first with a usable
	// host is used; Discovery is then Aggregate.
	Aggregate []string
	// HalfOpen is the breaker by error ratio; nil means off.
	HalfOpen *breaker.HalfOpen
	// Session keeps clients on the host that answered first, for routes without
	// their own; nil means off.
	Session *Session
	// Fallback is what happens to calls that find no host here, for routes
	// without their own; nil is an error.
	Fallback *Fallback
	// Refused says why the resource could not be read. Build keeps the last
	// good version; without one, the calls that draw it fail with this error.
	Refused error
}

// Locality is where endpoints are.
type Locality struct{ Region, Zone, SubZone string }

// ClusterLoadAssignment is an EDS resource.
type ClusterLoadAssignment struct {
	Name       string
	Localities []LocalityEndpoints
	// OverprovisioningFactor in percent; default 140.
	OverprovisioningFactor uint32
	Refused                error
}

// LocalityEndpoints are the endpoints of one locality and priority.
type LocalityEndpoints struct {
	Locality  Locality
	Priority  uint32
	Weight    uint32
	Endpoints []Endpoint
}

// Health is the health that the control plane reports.
type Health = pick.Health

// The health states that matter to picking. Draining endpoints get no new
// calls; connections to them stay until their calls end.
const (
	Healthy   = pick.Healthy
	Unhealthy = pick.Unhealthy
	Draining  = pick.Draining
	Degraded  = pick.Degraded
)

// Endpoint is one endpoint.
type Endpoint struct {
	Address  string // host:port, IPv6 in brackets; a path for Unix sockets as unix:PATH
	Hostname string
	HashKey  string // what hash policies hash in place of the address; may be empty
	Weight   uint32 // at least 1
	Health   Health
}

// Update is everything about one target (one listener name), joined. It is
// complete: resources that the target no longer uses are absent.
type Update struct {
	Target    string
	Authority string // of the target's channel: host:port
	Listener  *Listener
	Routes    *RouteConfiguration
	// Clusters by name. A name that a route uses and that is absent here does
	// not exist or has not arrived: calls that draw it fail with Missing[name].
	Clusters map[string]*Cluster
	// Endpoints by cluster name (resolved ones for DNS clusters).
	Endpoints map[string]*ClusterLoadAssignment
	Missing   map[string]error
	// Err, when set, is why the target has no configuration (the listener or
	// route configuration does not exist, say): every call fails with it.
	Err error
}
