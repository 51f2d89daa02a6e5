package decode

import (
	"errors"
	"math"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// Envoy's defaults.
const (
	defaultConnectTimeout = 5 * time.Second
	defaultDNSRefreshRate = 5 * time.Second
	defaultPanicThreshold = 50
)

// The metadata by which a control plane refuses a cluster: filter_metadata
// ["meshframe"]["error"] is a text, and every call that draws the cluster fails
// with it.
const (
	markerNamespace = "meshframe"
	markerError     = "error"
)

const typeRawBuffer = typePrefix + "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"

var (
	clusterFields = newFields("name", "alt_stat_name", "stats_matcher", "metadata", "type", "cluster_type",
		"eds_cluster_config", "load_assignment", "lb_policy", "load_balancing_policy", "least_request_lb_config",
		"common_lb_config", "circuit_breakers", "outlier_detection", "connect_timeout", "dns_refresh_rate",
		"transport_socket", "transport_socket_matches", "lb_subset_config", "ring_hash_lb_config",
		"maglev_lb_config", "round_robin_lb_config", "track_timeout_budgets", "track_cluster_stats")
	commonLBFields      = newFields("healthy_panic_threshold", "locality_weighted_lb_config", "update_merge_window")
	edsFields           = newFields("eds_config", "service_name")
	circuitBreakerField = newFields("thresholds")
	thresholdFields     = newFields("priority", "max_connections", "max_pending_requests", "max_requests",
		"max_retries", "track_remaining")
)

// Cluster reads a CDS resource (envoy.config.cluster.v3). A cluster that cannot
// be read is usable: as one whose calls fail with the reason.
//
// Circuit breaker limits that are not set do not limit, as in Istio; gRPC and
// Envoy would take 1024 requests. Affinity (ring hash, maglev) is not honoured
// yet: such a cluster is served round robin, with a note.
func Cluster(name string, body []byte) Result[*snapshot.Cluster] {
	m := &clusterv3.Cluster{}
	name, err := open(name, body, m, m.GetName)
	if err != nil {
		return Result[*snapshot.Cluster]{Name: name, Err: err}
	}
	if text := marker(m); text != "" {
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

func marker(m *clusterv3.Cluster) string {
	ours := m.GetMetadata().GetFilterMetadata()[markerNamespace]
	return ours.GetFields()[markerError].GetStringValue()
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
		s.discovery, s.loadBalancing, s.commonLB, s.circuitBreakers, s.timing,
	} {
		if err := read(m, out); err != nil {
			return nil, err
		}
	}
	var err error
	out.Outlier, err = s.at("outlier_detection").outlierDetection(m.GetOutlierDetection())
	if err != nil {
		return nil, err
	}
	return out, nil
}

// plaintext denies a cluster that asks for anything but bare connections:
// leaving TLS out would send in the clear what was meant to be protected.
func (s *scope) plaintext(m *clusterv3.Cluster) error {
	if t := m.GetTransportSocket(); t != nil && !bare(t) {
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

func (s *scope) discovery(m *clusterv3.Cluster, out *snapshot.Cluster) error {
	if c := m.GetClusterType(); c != nil {
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
	switch m.GetConfigSourceSpecifier().(type) {
	case *corev3.ConfigSource_Ads, *corev3.ConfigSource_Self:
		return nil
	default:
		return s.errorf("must be ads or self")
	}
}

func (s *scope) commonLB(m *clusterv3.Cluster, out *snapshot.Cluster) error {
	common, at := m.GetCommonLbConfig(), s.at("common_lb_config")
	at.noteRest(common, commonLBFields)
	out.LB.PanicThreshold = defaultPanicThreshold
	if p := common.GetHealthyPanicThreshold(); p != nil {
		var err error
		out.LB.PanicThreshold, err = at.at("healthy_panic_threshold").percent(p)
		return err
	}
	return nil
}

// percent reads a percentage, rounded to a whole one.
func (s *scope) percent(p *typev3.Percent) (uint32, error) {
	v := p.GetValue()
	if !(v >= 0 && v <= 100) { // written so that NaN is refused
		return 0, s.errorf("is %v, must be between 0 and 100", v)
	}
	return uint32(math.Round(v)), nil
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
	}
	return nil
}

func (s *scope) timing(m *clusterv3.Cluster, out *snapshot.Cluster) (err error) {
	if out.ConnectTimeout, err = s.at("connect_timeout").positive(m.GetConnectTimeout(), defaultConnectTimeout); err != nil {
		return err
	}
	out.DNSRefreshRate, err = s.at("dns_refresh_rate").positive(m.GetDnsRefreshRate(), defaultDNSRefreshRate)
	return err
}
