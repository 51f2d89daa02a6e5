package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	faultcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const nodeID = "bench"

type echo struct {
	testpb.UnimplementedBenchmarkServiceServer
}

func (echo) UnaryCall(_ context.Context, r *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return &testpb.SimpleResponse{Payload: r.GetPayload()}, nil
}

// serve runs three echo servers and an ADS server, says where, and ends with
// its input.
func serve(out io.Writer, in io.Reader) error {
	var e environment
	for range 3 {
		s := grpc.NewServer()
		testpb.RegisterBenchmarkServiceServer(s, echo{})
		addr, err := listen(s)
		if err != nil {
			return err
		}
		e.Backends = append(e.Backends, addr)
	}
	snapshot, err := configuration(e.Backends)
	if err != nil {
		return err
	}
	c := cache.NewSnapshotCache(false, cache.IDHash{}, nil)
	if err := c.SetSnapshot(context.Background(), nodeID, snapshot); err != nil {
		return err
	}
	s := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, server.NewServer(context.Background(), c, nil))
	if e.XDS, err = listen(s); err != nil {
		return err
	}
	if err := json.NewEncoder(out).Encode(e); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

func listen(s *grpc.Server) (string, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = s.Serve(lis) }()
	return lis.Addr().String(), nil
}

// configuration holds one listener for each contender: the same calls, with
// more or less to decide.
func configuration(backends []string) (*cache.Snapshot, error) {
	full := fullRoutes()
	byPath, byHeader := []*routev3.Route{}, []*routev3.Route{}
	for i := range 1000 - len(full) {
		byPath = append(byPath, &routev3.Route{Match: match(fmt.Sprintf("/bench.Other%03d/", i), nil), Action: full[0].Action})
		byHeader = append(byHeader, &routev3.Route{Match: match("/", header("x-customer", fmt.Sprintf("customer-%03d", i))), Action: full[0].Action})
	}
	resources := map[resource.Type][]types.Resource{}
	for name, routes := range map[string][]*routev3.Route{
		"routing":  {{Match: match("/", nil), Action: action("plain")}},
		"full":     full,
		"routes":   append(byPath, full...),
		"headers":  append(byHeader, full...),
		"policies": policyRoutes(),
		"untimed":  untimed(policyRoutes()),
	} {
		resources[resource.ListenerType] = append(resources[resource.ListenerType], listener(name))
		resources[resource.RouteType] = append(resources[resource.RouteType], &routev3.RouteConfiguration{
			Name: name, VirtualHosts: []*routev3.VirtualHost{{Name: name, Domains: []string{"*"}, Routes: routes}},
		})
	}
	for _, name := range []string{"plain", "stable", "canary", "stable-policies", "canary-policies"} {
		resources[resource.ClusterType] = append(resources[resource.ClusterType], cluster(name))
		resources[resource.EndpointType] = append(resources[resource.EndpointType], assignment(name, backends))
	}
	return cache.NewSnapshot("1", resources)
}

// fullRoutes are a route by a header that calls do not have, and the route they
// take.
func fullRoutes() []*routev3.Route {
	weighted := action("")
	weighted.Route.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: &routev3.WeightedCluster{Clusters: []*routev3.WeightedCluster_ClusterWeight{
		{Name: "stable", Weight: wrapperspb.UInt32(90)},
		{Name: "canary", Weight: wrapperspb.UInt32(10)},
	}}}
	routes := []*routev3.Route{
		{Match: match("/", header("x-canary", "yes")), Action: action("canary")},
		{Match: match("/grpc.testing.BenchmarkService/", nil), Action: weighted},
	}
	for _, r := range routes {
		a := r.GetRoute()
		a.RetryPolicy = &routev3.RetryPolicy{RetryOn: "unavailable", NumRetries: wrapperspb.UInt32(3)}
		a.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: durationpb.New(2 * time.Second)}
	}
	return routes
}

// policyRoutes are those of fullRoutes with every further policy that can be
// configured and do nothing in a call.
func policyRoutes() []*routev3.Route {
	routes := fullRoutes()
	routes[0].RequestHeadersToAdd = []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "x-colour", Value: "yellow"}}}
	routes[0].GetRoute().PrefixRewrite = "/canary/"
	for _, r := range routes {
		a := r.GetRoute()
		a.RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{
			Cluster: "plain", RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{}},
		}}
		a.HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true} // there is no per-try timeout
		a.HashPolicy = []*routev3.RouteAction_HashPolicy{{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
			Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: "x-customer"},
		}}}
		a.RetryPolicy.RetryHostPredicate = []*routev3.RetryPolicy_RetryHostPredicate{{Name: "envoy.retry_host_predicates.previous_hosts"}}
		a.RetryPolicy.HostSelectionRetryMaxAttempts = 5
		r.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"meshframe": {Fields: map[string]*structpb.Value{
			"fallback": structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{"cluster": structpb.NewStringValue("plain")}}),
		}}}}
	}
	for _, w := range routes[1].GetRoute().GetWeightedClusters().GetClusters() {
		w.Name += "-policies"
	}
	return routes
}

// untimed are the routes without their timeouts.
func untimed(routes []*routev3.Route) []*routev3.Route {
	for _, r := range routes {
		r.GetRoute().MaxStreamDuration = nil
	}
	return routes
}

func match(prefix string, h *routev3.HeaderMatcher) *routev3.RouteMatch {
	m := &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: prefix}}
	if h != nil {
		m.Headers = []*routev3.HeaderMatcher{h}
	}
	return m
}

func header(name, value string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
		StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: value}},
	}}
}

func action(cluster string) *routev3.Route_Route {
	return &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}}}
}

var ads = &corev3.ConfigSource{
	ResourceApiVersion:    corev3.ApiVersion_V3,
	ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
}

func listener(name string) *listenerv3.Listener {
	hcm := &hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads, RouteConfigName: name}},
	}
	if name != "routing" {
		never := &typev3.FractionalPercent{}
		hcm.HttpFilters = append(hcm.HttpFilters, filter("envoy.filters.http.fault", &faultv3.HTTPFault{
			Delay: &faultcommonv3.FaultDelay{FaultDelaySecifier: &faultcommonv3.FaultDelay_FixedDelay{FixedDelay: durationpb.New(time.Second)}, Percentage: never},
			Abort: &faultv3.FaultAbort{ErrorType: &faultv3.FaultAbort_GrpcStatus{GrpcStatus: 14}, Percentage: never},
		}))
	}
	hcm.HttpFilters = append(hcm.HttpFilters, filter("envoy.filters.http.router", &routerv3.Router{}))
	return &listenerv3.Listener{Name: name, ApiListener: &listenerv3.ApiListener{ApiListener: packed(hcm)}}
}

func filter(name string, m proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(m)}}
}

// packed is m as an Any. Marshalling a message of this file cannot fail.
func packed(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	return a
}

func cluster(name string) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads},
	}
	if name == "plain" {
		return c
	}
	c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{MaxRequests: wrapperspb.UInt32(1 << 20)}}}
	c.OutlierDetection = &clusterv3.OutlierDetection{
		Interval: durationpb.New(10 * time.Second), BaseEjectionTime: durationpb.New(30 * time.Second), MaxEjectionPercent: wrapperspb.UInt32(30),
		EnforcingSuccessRate:       wrapperspb.UInt32(100),
		FailurePercentageThreshold: wrapperspb.UInt32(50), EnforcingFailurePercentage: wrapperspb.UInt32(100),
		FailurePercentageMinimumHosts: wrapperspb.UInt32(3), FailurePercentageRequestVolume: wrapperspb.UInt32(50),
	}
	if strings.HasSuffix(name, "-policies") {
		addPolicies(c)
	}
	return c
}

// addPolicies configures what does nothing in a call that goes well.
func addPolicies(c *clusterv3.Cluster) {
	limits := c.GetCircuitBreakers().GetThresholds()[0]
	limits.MaxPendingRequests, limits.MaxRetries = wrapperspb.UInt32(100), wrapperspb.UInt32(100)
	limits.RetryBudget = &clusterv3.CircuitBreakers_Thresholds_RetryBudget{BudgetPercent: &typev3.Percent{Value: 20}}
	c.OutlierDetection.Consecutive_5Xx = wrapperspb.UInt32(5)
	c.OutlierDetection.ConsecutiveGatewayFailure, c.OutlierDetection.EnforcingConsecutiveGatewayFailure = wrapperspb.UInt32(5), wrapperspb.UInt32(100)
	c.OutlierDetection.SplitExternalLocalOriginErrors = true
	c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: 50}}
	c.UpstreamConnectionOptions = &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{KeepaliveTime: wrapperspb.UInt32(60)}}
}

func assignment(cluster string, backends []string) *endpointv3.ClusterLoadAssignment {
	l := &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{Region: "here"}, LoadBalancingWeight: wrapperspb.UInt32(1)}
	for _, b := range backends {
		host, port, _ := net.SplitHostPort(b)
		n, _ := strconv.ParseUint(port, 10, 16)
		l.LbEndpoints = append(l.LbEndpoints, &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(n)},
			}}},
		}}})
	}
	return &endpointv3.ClusterLoadAssignment{ClusterName: cluster, Endpoints: []*endpointv3.LocalityLbEndpoints{l}}
}
