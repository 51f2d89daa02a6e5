package decode

import (
	"errors"
	"math"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// Envoy's defaults.
const (
	defaultConnectTimeout = 5 * time.Second
	defaultDNSRefreshRate = 5 * time.Second
	defaultPanicThreshold = 50
	defaultBudgetPercent  = 20
	defaultMinRetries     = 3
)

const typeAggregate = typePrefix + "envoy.extensions.clusters.aggregate.v3.ClusterConfig"

const (
	typeRawBuffer     = typePrefix + "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
	typeProxyProtocol = typePrefix + "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"
)

var (
	clusterFields = newFields("name", "alt_stat_name", "stats_matcher", "metadata", "type", "cluster_type",
		"eds_cluster_config", "load_assignment", "lb_policy", "load_balancing_policy", "least_request_lb_config",
		"common_lb_config", "circuit_breakers", "outlier_detection", "connect_timeout", "dns_refresh_rate",
		"transport_socket", "transport_socket_matches", "lb_subset_config", "ring_hash_lb_config",
		"maglev_lb_config", "round_robin_lb_config", "track_timeout_budgets", "track_cluster_stats",
		"typed_extension_protocol_options", "upstream_connection_options")
	commonLBFields = newFields("healthy_panic_threshold", "locality_weighted_lb_config", "update_merge_window",
		"consistent_hashing_lb_config", "override_host_status")
	// Of an aggregate cluster the rest is that of the clusters behind it.
	aggregateLBFields = newFields("update_merge_window", "override_host_status")
	edsFields         = newFields("eds_config", "service_name")
	aggregateFields   = newFields("clusters")
	// When the source answers, and in which version, is for the client's own stream.
	sourceFields        = newFields("ads", "self", "authorities", "initial_fetch_timeout", "resource_api_version", "path", "path_config_source", "api_config_source")
	healthSetFields     = newFields("statuses")
	selfFields          = newFields("transport_api_version")
	circuitBreakerField = newFields("thresholds")
	thresholdFields     = newFields("priority", "max_connections", "max_pending_requests", "max_requests",
		"max_retries", "retry_budget", "track_remaining")
	retryBudgetFields = newFields("budget_percent", "budget_interval", "min_retry_concurrency")
)

// Cluster reads a CDS resource (envoy.config.cluster.v3). A cluster that cannot
// be read is usable: as one whose calls fail with the reason.
//
// Circuit breaker limits that are not set do not limit, as in Istio; gRPC and
// Envoy would take 1024 requests.
//
// What no standard field says is read from filter_metadata["meshframe"], of which
// every key must be known. Durations are texts ("10s", "1.5s"); keys that are
// absent have the defaults given here:
//
//	error        a text: every call that draws the cluster fails with it, and
//	             nothing else of the cluster is read
//	fallback     see RouteConfiguration; for routes without their own
//	half_open    {minVolume: 10, errorPercent: 10, window: "10s", openFor: "10s", probes: 3}:
//	             the breaker that opens by error ratio
//	session      {cookie: {name, path: "/", ttl: "0s"}} or {header: "name"}, and
//	             strict: false: keeps clients on the host that answered first
//	peak_ewma    {decay: "10s"}: the load-balancing policy, in place of lb_policy
//	slow_start   {window, aggression: 1, minWeightPercent: 10}, for every policy
//	subset_size  a number: at most so many hosts are used
func Cluster(name string, body []byte) Result[*snapshot.Cluster] {
	m := &clusterv3.Cluster{}
	name, err := open(name, body, m, m.GetName)
	if err != nil {
		return Result[*snapshot.Cluster]{Name: name, Err: err}
	}
	if text := marker(m.GetMetadata()); text != "" {
		c := &snapshot.Cluster{Name: name, Refused: &DeniedError{Err: errors.New(text)}}
		return Result[*snapshot.Cluster]{Name: name, Value: c, Usable: true}
	}
	r := &report{}
	c, err := root(r).cluster(name, m)
	if err != nil {
		r.refuse(err)
		c = &snapshot.Cluster{Name: name, Refused: err}
	}
	return Result[*snapshot.Cluster]{Name: name, Value: c, Usable: true, Err: r.err(), Notes: r.notes}
}

func (s *scope) cluster(name string, m *clusterv3.Cluster) (*snapshot.Cluster, error) {
	if err := s.plaintext(m); err != nil {
		return nil, err
	}
	if len(m.GetLbSubsetConfig().GetSubsetSelectors()) > 0 {
		return nil, s.at("lb_subset_config").errorf("is not supported")
	}
	s.noteRest(m, clusterFields)
	out := &snapshot.Cluster{Name: name}
	for _, read := range []func(*clusterv3.Cluster, *snapshot.Cluster) error{
		s.discovery, s.loadBalancing, s.circuitBreakers, s.outliers, s.timing, s.connections, s.clusterExtension,
	} {
		if err := read(m, out); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (s *scope) outliers(m *clusterv3.Cluster, out *snapshot.Cluster) (err error) {
	out.Outlier, err = s.at("outlier_detection").outlierDetection(m.GetOutlierDetection())
	return err
}

// plaintext denies a cluster that asks for anything but bare connections:
// leaving TLS out would send in the clear what was meant to be protected.
func (s *scope) plaintext(m *clusterv3.Cluster) error {
	if t := m.GetTransportSocket(); t != nil && !bare(t) && t.GetTypedConfig().GetTypeUrl() != typeProxyProtocol {
		return s.at("transport_socket").deny("%q: TLS is not supported yet", t.GetName())
	}
	for i, t := range m.GetTransportSocketMatches() {
		if !bare(t.GetTransportSocket()) {
			return s.item("transport_socket_matches", i, t.GetName()).deny("TLS is not supported yet")
		}
	}
	return nil
}

func bare(t *corev3.TransportSocket) bool {
	return t.GetTypedConfig().GetTypeUrl() == typeRawBuffer
}

// bareSettings notes what is said of bare connections: there is nothing to say.
func (s *scope) bareSettings(t *corev3.TransportSocket) {
	s.noteRest(t, extensionFields)
	if len(t.GetTypedConfig().GetValue()) > 0 {
		s.at("typed_config").notef("has settings, of which none is known")
	}
}

func (s *scope) discovery(m *clusterv3.Cluster, out *snapshot.Cluster) error {
	if c := m.GetClusterType(); c != nil {
		s.at("cluster_type").noteRest(c, extensionFields)
		if c.GetTypedConfig().GetTypeUrl() == typeAggregate {
			return s.at("cluster_type").aggregate(c.GetTypedConfig(), out)
		}
		return s.at("cluster_type").errorf("%q is not supported", c.GetName())
	}
	switch m.GetType() {
	case clusterv3.Cluster_EDS:
		out.Discovery = snapshot.EDS
		return s.at("eds_cluster_config").eds(m.GetEdsClusterConfig(), out)
	case clusterv3.Cluster_STATIC:
		out.Discovery = snapshot.Static
	case clusterv3.Cluster_STRICT_DNS:
		out.Discovery = snapshot.StrictDNS
	case clusterv3.Cluster_LOGICAL_DNS:
		out.Discovery = snapshot.LogicalDNS
	default:
		return s.at("type").errorf("%v is not supported", m.GetType())
	}
	if m.GetLoadAssignment() == nil {
		return s.at("load_assignment").errorf("must be set")
	}
	var err error
	out.Assignment, err = s.at("load_assignment").assignment(out.Name, m.GetLoadAssignment())
	if err == nil && out.Discovery == snapshot.LogicalDNS && !single(out.Assignment) {
		err = s.at("load_assignment").errorf("must have exactly one locality with one endpoint for LOGICAL_DNS")
	}
	return err
}

// aggregate reads the clusters that stand behind one name (gRFC A37). Of one
// that is listed twice the first counts.
func (s *scope) aggregate(a *anypb.Any, out *snapshot.Cluster) error {
	m := &aggregatev3.ClusterConfig{}
	if err := proto.Unmarshal(a.GetValue(), m); err != nil {
		return s.errorf("not a ClusterConfig: %w", err)
	}
	s.noteRest(m, aggregateFields)
	out.Discovery = snapshot.Aggregate
	for i, name := range m.GetClusters() {
		if name == "" || name == out.Name {
			return s.item("clusters", i, "").errorf("%q is not the name of another cluster", name)
		}
		if !slices.Contains(out.Aggregate, name) {
			out.Aggregate = append(out.Aggregate, name)
		}
	}
	if len(out.Aggregate) == 0 {
		return s.at("clusters").errorf("must not be empty")
	}
	return nil
}

func single(a *snapshot.ClusterLoadAssignment) bool {
	return len(a.Localities) == 1 && len(a.Localities[0].Endpoints) == 1
}

func (s *scope) eds(m *clusterv3.Cluster_EdsClusterConfig, out *snapshot.Cluster) error {
	s.noteRest(m, edsFields)
	out.ServiceName = m.GetServiceName()
	if out.ServiceName == "" {
		out.ServiceName = out.Name
	}
	return s.at("eds_config").aggregated(m.GetEdsConfig())
}

// aggregated refuses a configuration source other than the stream that the
// resource came on.
func (s *scope) aggregated(m *corev3.ConfigSource) error {
	s.noteRest(m, sourceFields)
	switch c := m.GetConfigSourceSpecifier().(type) {
	case *corev3.ConfigSource_Ads:
		s.at("ads").noteRest(c.Ads, noFields)
		return nil
	case *corev3.ConfigSource_Self:
		s.at("self").noteRest(c.Self, selfFields)
		return nil
	default:
		return s.errorf("must be ads or self")
	}
}

// commonLB reads common_lb_config. With load_balancing_policy only the panic
// threshold of it and the health of the hosts of sessions count, as in Envoy.
func (s *scope) commonLB(m *clusterv3.Cluster, out *snapshot.Cluster) (err error) {
	common, at := m.GetCommonLbConfig(), s.at("common_lb_config")
	at.noteRest(common, commonLBFields)
	out.LB.PanicThreshold = defaultPanicThreshold
	if p := common.GetHealthyPanicThreshold(); p != nil {
		if out.LB.PanicThreshold, err = at.at("healthy_panic_threshold").percent(p); err != nil {
			return err
		}
	}
	at.at("override_host_status").overrideHealth(common.GetOverrideHostStatus(), &out.LB)
	if m.GetLoadBalancingPolicy() != nil {
		return nil
	}
	if common.GetLocalityWeightedLbConfig() != nil {
		out.LB.LocalityWeighted = true
	}
	at.at("consistent_hashing_lb_config").noteRest(common.GetConsistentHashingLbConfig(), consistentHashFields)
	out.LB.HashByHostname = common.GetConsistentHashingLbConfig().GetUseHostnameForHashing()
	return nil
}

// aggregateLB reads common_lb_config of an aggregate cluster that has no policy of
// its own.
func (s *scope) aggregateLB(m *clusterv3.Cluster, out *snapshot.Cluster) {
	common, at := m.GetCommonLbConfig(), s.at("common_lb_config")
	at.noteRest(common, aggregateLBFields)
	at.at("override_host_status").overrideHealth(common.GetOverrideHostStatus(), &out.LB)
}

// overrideHealth reads which health the host of a session may have.
func (s *scope) overrideHealth(m *corev3.HealthStatusSet, out *pick.Config) {
	s.noteRest(m, healthSetFields)
	for _, status := range m.GetStatuses() {
		out.OverrideHealth |= 1 << health(status)
	}
	if m != nil && out.OverrideHealth == 0 {
		s.notef("is empty, which is not honoured: hosts of sessions may be healthy or degraded")
	}
}

// percent reads a percentage, rounded to a whole one.
func (s *scope) percent(p *typev3.Percent) (uint32, error) {
	v, err := s.exactPercent(p)
	return uint32(math.Round(v)), err
}

func (s *scope) exactPercent(p *typev3.Percent) (float64, error) {
	v := p.GetValue()
	if !(v >= 0 && v <= 100) { // written so that NaN is refused
		return 0, s.errorf("is %v, must be between 0 and 100", v)
	}
	return v, s.refuseUnknown(p)
}

func (s *scope) circuitBreakers(m *clusterv3.Cluster, out *snapshot.Cluster) error {
	out.Limits = breaker.NoLimits
	at := s.at("circuit_breakers")
	at.noteRest(m.GetCircuitBreakers(), circuitBreakerField)
	seen := false
	for i, t := range m.GetCircuitBreakers().GetThresholds() {
		at := at.item("thresholds", i, "")
		if t.GetPriority() != corev3.RoutingPriority_DEFAULT || seen {
			at.notef("is not honoured: only the first of priority DEFAULT is")
			continue
		}
		seen = true
		at.noteRest(t, thresholdFields)
		out.Limits = breaker.Limits{
			MaxConnections:     number(t.GetMaxConnections(), breaker.Unlimited),
			MaxPendingRequests: number(t.GetMaxPendingRequests(), breaker.Unlimited),
			MaxRequests:        number(t.GetMaxRequests(), breaker.Unlimited),
			MaxRetries:         number(t.GetMaxRetries(), breaker.Unlimited),
		}
		if err := at.at("retry_budget").retryBudget(t.GetRetryBudget(), &out.Limits); err != nil {
			return err
		}
	}
	return nil
}

func (s *scope) retryBudget(m *clusterv3.CircuitBreakers_Thresholds_RetryBudget, out *breaker.Limits) (err error) {
	if m == nil {
		return nil
	}
	s.noteRest(m, retryBudgetFields)
	out.HasBudget, out.BudgetPercent = true, defaultBudgetPercent
	out.MinRetries = number(m.GetMinRetryConcurrency(), defaultMinRetries)
	if p := m.GetBudgetPercent(); p != nil {
		if out.BudgetPercent, err = s.at("budget_percent").exactPercent(p); err != nil {
			return err
		}
	}
	out.BudgetInterval, err = s.at("budget_interval").duration(m.GetBudgetInterval())
	return err
}

func (s *scope) timing(m *clusterv3.Cluster, out *snapshot.Cluster) (err error) {
	if out.ConnectTimeout, err = s.at("connect_timeout").positive(m.GetConnectTimeout(), defaultConnectTimeout); err != nil {
		return err
	}
	out.DNSRefreshRate, err = s.at("dns_refresh_rate").positive(m.GetDnsRefreshRate(), defaultDNSRefreshRate)
	return err
}
