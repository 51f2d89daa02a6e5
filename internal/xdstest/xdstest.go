// Package xdstest is a control plane and a set of servers for tests of the data
// plane: a plain go-control-plane ADS server whose resources a test sets one by
// one, and gRPC servers that say who they are. It stands outside the flow.
//
// This package makes no promise of a stable API.
package xdstest

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// ControlPlane is an ADS server on loopback.
type ControlPlane struct {
	t      testing.TB
	caches map[string]*cache.LinearCache

	mu   sync.Mutex
	addr string
	srv  *grpc.Server
}

// NewControlPlane starts a control plane that serves nothing yet. It stops with
// the test.
func NewControlPlane(t testing.TB) *ControlPlane {
	t.Helper()
	c := &ControlPlane{t: t, caches: map[string]*cache.LinearCache{}}
	for _, url := range []string{resource.ListenerType, resource.RouteType, resource.ClusterType, resource.EndpointType} {
		c.caches[url] = cache.NewLinearCache(url)
	}
	c.addr = "127.0.0.1:0"
	c.Start()
	t.Cleanup(c.Stop)
	return c
}

// Start serves, at the same address as before.
func (c *ControlPlane) Start() {
	c.t.Helper()
	lis, err := net.Listen("tcp", c.addr)
	if err != nil {
		c.t.Fatal(err)
	}
	caches := map[string]cache.Cache{}
	for url, l := range c.caches {
		caches[url] = l
	}
	mux := &cache.MuxCache{
		Classify:      func(r *cache.Request) string { return r.GetTypeUrl() },
		ClassifyDelta: func(r *cache.DeltaRequest) string { return r.GetTypeUrl() },
		Caches:        caches,
	}
	s := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, server.NewServer(context.Background(), mux, nil))
	c.mu.Lock()
	c.addr, c.srv = lis.Addr().String(), s
	c.mu.Unlock()
	go func() { _ = s.Serve(lis) }()
}

// Stop ends every stream and stops listening.
func (c *ControlPlane) Stop() {
	c.mu.Lock()
	s := c.srv
	c.mu.Unlock()
	s.Stop()
}

// Addr is where the control plane listens.
func (c *ControlPlane) Addr() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addr
}

// Set serves the resources, beside and instead of what there was of the same
// names. Clusters and endpoints go out before the routes that need them.
func (c *ControlPlane) Set(resources ...types.Resource) {
	c.t.Helper()
	byType := map[string]map[string]types.Resource{}
	for _, r := range resources {
		url := "type.googleapis.com/" + string(r.ProtoReflect().Descriptor().FullName())
		if byType[url] == nil {
			byType[url] = map[string]types.Resource{}
		}
		byType[url][cache.GetResourceName(r)] = r
	}
	for _, url := range []string{resource.EndpointType, resource.ClusterType, resource.RouteType, resource.ListenerType} {
		if len(byType[url]) == 0 {
			continue
		}
		if err := c.caches[url].UpdateResources(byType[url], nil); err != nil {
			c.t.Fatal(err)
		}
	}
}

// Delete stops serving a resource.
func (c *ControlPlane) Delete(url, name string) {
	c.t.Helper()
	if err := c.caches[url].DeleteResource(name); err != nil {
		c.t.Fatal(err)
	}
}

// Bootstrap is gRPC's bootstrap for this control plane.
func (c *ControlPlane) Bootstrap() []byte {
	return fmt.Appendf(nil, `{"xds_servers":[{"server_uri":%q,"channel_creds":[{"type":"insecure"}],"server_features":["xds_v3"]}],"node":{"id":"test"}}`, c.Addr())
}

var ads = &corev3.ConfigSource{
	ResourceApiVersion:    corev3.ApiVersion_V3,
	ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
}

// Listener is an API listener whose routes come by RDS under its own name, with
// fault and router filter.
func Listener(name string) *listenerv3.Listener {
	hcm := &hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads, RouteConfigName: name}},
		HttpFilters: []*hcmv3.HttpFilter{
			{Name: "envoy.filters.http.fault", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: Any(&faultv3.HTTPFault{})}},
			{Name: "envoy.filters.http.router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: Any(&routerv3.Router{})}},
		},
	}
	return &listenerv3.Listener{Name: name, ApiListener: &listenerv3.ApiListener{ApiListener: Any(hcm)}}
}

// Any is m, packed.
func Any(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err) // a message that a test wrote cannot fail to marshal
	}
	return a
}

// Routes is a route configuration with one virtual host for every authority.
func Routes(name string, routes ...*routev3.Route) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{{Name: name, Domains: []string{"*"}, Routes: routes}}}
}

// Route sends every path to the clusters, by equal weights; edit makes of it
// what the test needs.
func Route(edit func(*routev3.Route), clusters ...string) *routev3.Route {
	a := &routev3.RouteAction{}
	if len(clusters) == 1 {
		a.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: clusters[0]}
	} else {
		w := &routev3.WeightedCluster{}
		for _, c := range clusters {
			w.Clusters = append(w.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: c, Weight: wrapperspb.UInt32(1)})
		}
		a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: w}
	}
	r := &routev3.Route{
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_Route{Route: a},
	}
	if edit != nil {
		edit(r)
	}
	return r
}

// Cluster is an EDS cluster.
func Cluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads},
	}
}

// Endpoints are the endpoints of a cluster, in one locality.
func Endpoints(cluster string, addrs ...string) *endpointv3.ClusterLoadAssignment {
	l := &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{Region: "here"}, LoadBalancingWeight: wrapperspb.UInt32(1)}
	for _, a := range addrs {
		host, port, _ := net.SplitHostPort(a)
		n, _ := strconv.ParseUint(port, 10, 16)
		l.LbEndpoints = append(l.LbEndpoints, &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(n)},
			}}},
		}}})
	}
	a := &endpointv3.ClusterLoadAssignment{ClusterName: cluster}
	if len(addrs) > 0 {
		a.Endpoints = []*endpointv3.LocalityLbEndpoints{l}
	}
	return a
}

// Server is a gRPC server on loopback that counts its calls.
type Server struct {
	Addr  string
	Calls atomic.Int64
	srv   *grpc.Server
}

// NewServer starts a server that answers every method, of any shape, with
// handle. It stops with the test.
func NewServer(t testing.TB, handle grpc.StreamHandler) *Server {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Addr: lis.Addr().String()}
	s.srv = grpc.NewServer(grpc.UnknownServiceHandler(func(srv any, ss grpc.ServerStream) error {
		s.Calls.Add(1)
		return handle(srv, ss)
	}))
	go func() { _ = s.srv.Serve(lis) }()
	t.Cleanup(s.Stop)
	return s
}

// Stop ends the server and its calls.
func (s *Server) Stop() { s.srv.Stop() }

// Echo answers one message with itself.
func Echo(_ any, ss grpc.ServerStream) error {
	var m wrapperspb.StringValue
	if err := ss.RecvMsg(&m); err != nil {
		return err
	}
	return ss.SendMsg(&m)
}

// Answer is a handler that answers one message with the given text, or fails
// with err.
func Answer(text string, err error) grpc.StreamHandler {
	return func(_ any, ss grpc.ServerStream) error {
		var m wrapperspb.StringValue
		if e := ss.RecvMsg(&m); e != nil {
			return e
		}
		if err != nil {
			return err
		}
		return ss.SendMsg(wrapperspb.String(text))
	}
}

// Call makes a unary call and returns what the server said.
func Call(ctx context.Context, cc grpc.ClientConnInterface, method string, opts ...grpc.CallOption) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var reply wrapperspb.StringValue
	err := cc.Invoke(ctx, method, wrapperspb.String("hello"), &reply, opts...)
	return reply.GetValue(), err
}
