package translate

import (
	"math"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
)

// Cluster translates a cluster (CDS).
//
// A cluster whose calls must fail does not exist for gRPC's own clients; to Meshframe's it is sent with
// filter_metadata["meshframe"]["error"], a text that its calls fail with.
//
// Clients of the state-of-the-world protocol are sent a cluster without endpoints for one that does not exist: gRPC
// gives a cluster that it has never seen 15 s to appear, and until then keeps all of its old configuration.
func (w *World) Cluster(c Client, name string) Result {
	t := w.begin(c)
	if reason, ok := refusedReason(name); ok {
		return t.refused(name, reason)
	}
	none := t.hollow(name, name)
	n, ok := ParseClusterName(name)
	if !ok {
		return t.missing(none)
	}
	s := t.service(n.Host, n.Port)
	if s == nil || s.Port(n.Port) == nil {
		return t.missing(none)
	}
	d := t.destination(s)
	_, sub, ok := d.subsetLabels(n.Subset)
	if !ok {
		return t.missing(none)
	}
	p := d.policyFor(n.Port, sub)
	if reason := p.refusal(); reason != "" {
		return t.refused(name, reason)
	}
	m := &clusterv3.Cluster{Name: name, AltStatName: name + ";"}
	t.discovery(m, s, n)
	t.policy(m, p)
	t.origin(m, d, n.Subset)
	return t.found(m)
}

func refusedReason(name string) (reason string, ok bool) {
	if len(name) < len(RefusedPrefix) || name[:len(RefusedPrefix)] != RefusedPrefix {
		return "", false
	}
	return name[len(RefusedPrefix):], true
}

func (t *translation) refused(name, reason string) Result {
	none := t.hollow(name, RefusedPrefix+reason)
	r := t.missing(none)
	r.Refused = true
	if t.client.Kind == Meshframe {
		none.Metadata = metadata("meshframe", "error", reason)
		r.Message, r.Instead = none, nil
	}
	return r
}

// hollow is a cluster without endpoints, by whose name or that of its assignment errors say what is wrong. grpc-go's
// errors do not have the name of an assignment that is empty, but that of an aggregate that leads nowhere.
func (t *translation) hollow(name, assignment string) *clusterv3.Cluster {
	if t.client.Kind == GRPC && t.client.Implementation == GRPCGo {
		return &clusterv3.Cluster{
			Name: name,
			ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
				Name:        "envoy.clusters.aggregate",
				TypedConfig: packed(&aggregatev3.ClusterConfig{Clusters: []string{name}}),
			}},
		}
	}
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: assignment},
	}
}

func metadata(namespace, key, value string) *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{
		namespace: {Fields: map[string]*structpb.Value{key: structpb.NewStringValue(value)}},
	}}
}

func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

// discovery says where the endpoints come from: EDS, or the one name that the client resolves.
func (t *translation) discovery(m *clusterv3.Cluster, s *registry.Service, n ClusterName) {
	if s.Resolution != registry.DNS {
		if s.Resolution == registry.None {
			s = atName(s)
		} else {
			m.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
			m.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: m.Name}
			return
		}
	}
	t.dep(Endpoints, s.Host)
	m.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_LOGICAL_DNS}
	m.LoadAssignment = &endpointv3.ClusterLoadAssignment{ClusterName: m.Name}
	for i := range s.Endpoints {
		if own, ok := s.Endpoints[i].Port(n.Port); ok {
			m.LoadAssignment.Endpoints = []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socketAddress(s.Endpoints[i].Address, own)}},
			}}}}
			return
		}
	}
}

// origin names the rules that a cluster comes from, as Istio's tools expect it.
func (t *translation) origin(m *clusterv3.Cluster, d destination, subset string) {
	if len(d.rules) == 0 {
		return
	}
	m.Metadata = metadata("istio", "config", configPath(d.rules[0].Meta, "destination-rule"))
	if subset != "" {
		m.Metadata.FilterMetadata["istio"].Fields["subset"] = structpb.NewStringValue(subset)
	}
}

func configPath(o *config.Meta, kind string) string {
	return "/apis/" + o.APIVersion + "/namespaces/" + o.Namespace + "/" + kind + "/" + o.Name
}

// policy writes the traffic policy into the cluster, as far as the client interprets it as it is meant.
func (t *translation) policy(m *clusterv3.Cluster, p trafficPolicy) {
	t.balancer(m, p.balancer)
	t.pool(m, p)
	t.outlier(m, p.outlier)
	if p.tunnel.value != nil {
		t.note(p.tunnel.rule, p.tunnel.field, Degraded, "connections are made directly, not through the tunnel")
	}
	if p.proxy.value != nil {
		t.note(p.proxy.rule, p.proxy.field, Degraded, "the PROXY protocol is not spoken")
	}
	if p.budget.value != nil {
		t.note(p.budget.rule, p.budget.field, Degraded, "retries are not limited by a budget")
	}
}

// pool writes connection limits and the connect timeout. What is not set does not limit: gRPC would take 1024 requests
// for that.
func (t *translation) pool(m *clusterv3.Cluster, p trafficPolicy) {
	tcp, http := p.pool.value.GetTcp(), p.pool.value.GetHttp()
	limits := &clusterv3.CircuitBreakers_Thresholds{MaxRequests: limit(http.GetHttp2MaxRequests())}
	m.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{limits}}
	if t.client.Kind == Meshframe {
		limits.MaxConnections = limit(tcp.GetMaxConnections())
		limits.MaxPendingRequests = limit(http.GetHttp1MaxPendingRequests())
		limits.MaxRetries = limit(http.GetMaxRetries())
		m.ConnectTimeout = durationpb.New(defaultConnectTimeout)
		if d := tcp.GetConnectTimeout(); d != nil {
			m.ConnectTimeout = d
		}
	}
	if p.pool.value != nil {
		t.poolNotes(p.pool)
	}
}

func limit(n int32) *wrapperspb.UInt32Value {
	if n <= 0 {
		return wrapperspb.UInt32(math.MaxUint32)
	}
	return wrapperspb.UInt32(uint32(n))
}

// poolNotes reports the settings of a connection pool that have no effect.
func (t *translation) poolNotes(p setting[*networking.ConnectionPoolSettings]) {
	tcp, http := p.value.GetTcp(), p.value.GetHttp()
	grpc := t.client.Kind == GRPC
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"tcp.maxConnections", tcp.GetMaxConnections() != 0},
		{"tcp.connectTimeout", tcp.GetConnectTimeout() != nil && grpc},
		{"tcp.tcpKeepalive", tcp.GetTcpKeepalive() != nil},
		{"tcp.maxConnectionDuration", tcp.GetMaxConnectionDuration() != nil},
		{"tcp.idleTimeout", tcp.GetIdleTimeout() != nil},
		{"http.http1MaxPendingRequests", http.GetHttp1MaxPendingRequests() != 0 && grpc},
		{"http.maxRetries", http.GetMaxRetries() != 0 && grpc},
		{"http.maxRequestsPerConnection", http.GetMaxRequestsPerConnection() != 0},
		{"http.idleTimeout", http.GetIdleTimeout() != nil},
		{"http.maxConcurrentStreams", http.GetMaxConcurrentStreams() != 0},
		{"http.http2KeepAlive", http.GetHttp2KeepAlive() != nil},
	} {
		if f.set {
			t.note(p.rule, p.field+"."+f.name, Degraded, "has no effect: there is one HTTP/2 connection per endpoint, which the client manages")
		}
	}
}

// outlier writes outlier detection by Istio's terms. gRPC's own clients know only success rate and failure percentage,
// and would take the fields for the former.
func (t *translation) outlier(m *clusterv3.Cluster, o setting[*networking.OutlierDetection]) {
	v := o.value
	if v == nil {
		return
	}
	if t.client.Kind == GRPC {
		t.note(o.rule, o.field, Degraded, "endpoints are not ejected: gRPC cannot count consecutive errors")
		return
	}
	out := &clusterv3.OutlierDetection{
		EnforcingSuccessRate: wrapperspb.UInt32(0),
		Interval:             v.GetInterval(),
		BaseEjectionTime:     v.GetBaseEjectionTime(),
	}
	m.OutlierDetection = out
	if n := v.GetConsecutive_5XxErrors(); n != nil {
		out.Consecutive_5Xx, out.EnforcingConsecutive_5Xx = n, enforce(n)
	}
	gateway := v.GetConsecutiveGatewayErrors()
	if n := v.GetConsecutiveErrors(); gateway == nil && n > 0 {
		gateway = wrapperspb.UInt32(uint32(n))
	}
	if gateway != nil {
		out.ConsecutiveGatewayFailure, out.EnforcingConsecutiveGatewayFailure = gateway, enforce(gateway)
	}
	if v.GetMaxEjectionPercent() > 0 {
		out.MaxEjectionPercent = wrapperspb.UInt32(uint32(v.GetMaxEjectionPercent()))
	}
	if out.SplitExternalLocalOriginErrors = v.GetSplitExternalLocalOriginErrors(); out.SplitExternalLocalOriginErrors {
		if n := v.GetConsecutiveLocalOriginFailures(); n != nil {
			out.ConsecutiveLocalOriginFailure, out.EnforcingConsecutiveLocalOriginFailure = n, enforce(n)
		}
		out.EnforcingLocalOriginSuccessRate = wrapperspb.UInt32(0)
	}
	m.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{
		HealthyPanicThreshold: &typev3.Percent{Value: float64(max(v.GetMinHealthPercent(), 0))},
	}
}

// enforce turns a detector on when its count is not 0.
func enforce(n *wrapperspb.UInt32Value) *wrapperspb.UInt32Value {
	if n.GetValue() == 0 {
		return wrapperspb.UInt32(0)
	}
	return wrapperspb.UInt32(100)
}
