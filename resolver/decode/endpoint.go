package decode

import (
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

const (
	defaultOverprovisioning = 140 // percent
	maxPriority             = 128 // Envoy's limit
	maxSumOfWeights         = uint64(math.MaxUint32)
)

// The metadata of an endpoint that hash policies hash in place of its address, as
// in Envoy: filter_metadata["envoy.lb"]["hash_key"], a text.
const (
	hashKeyNamespace = "envoy.lb"
	hashKey          = "hash_key"
)

var (
	assignmentFields = newFields("cluster_name", "endpoints", "policy", "named_endpoints")
	policyFields     = newFields("overprovisioning_factor")
	localityFields   = newFields("locality", "metadata", "lb_endpoints", "load_balancing_weight", "priority")
	lbEndpointFields = newFields("endpoint", "health_status", "metadata", "load_balancing_weight")
	endpointFields   = newFields("address", "hostname", "health_check_config", "observability_name")
	socketAddrFields = newFields("protocol", "address", "port_value", "ipv4_compat")
)

// ClusterLoadAssignment reads an EDS resource (envoy.config.endpoint.v3). One
// that cannot be read is usable: as one that is refused as a whole.
//
// As in gRPC (gRFC A27) priorities must be contiguous from 0, a locality must
// not appear twice in one priority nor an address twice at all, and a locality
// of weight 0 is left out. Unlike there, an endpoint without a weight has weight
// 1 and a locality without one that of its endpoints together: control planes
// written for Envoy seldom set them, and mean that endpoints are alike.
func ClusterLoadAssignment(name string, body []byte) Result[*snapshot.ClusterLoadAssignment] {
	m := &endpointv3.ClusterLoadAssignment{}
	name, err := open(name, body, m, m.GetClusterName)
	if err != nil {
		return Result[*snapshot.ClusterLoadAssignment]{Name: name, Err: err}
	}
	r := &report{}
	a, err := root(r).assignment(name, m)
	if err != nil {
		r.refuse(err)
		a = &snapshot.ClusterLoadAssignment{Name: name, Refused: err}
	}
	return Result[*snapshot.ClusterLoadAssignment]{Name: name, Value: a, Usable: true, Err: r.err(), Notes: r.notes}
}

func (s *scope) assignment(name string, m *endpointv3.ClusterLoadAssignment) (*snapshot.ClusterLoadAssignment, error) {
	s.noteRest(m, assignmentFields)
	out := &snapshot.ClusterLoadAssignment{Name: name}
	at := s.at("policy")
	at.noteRest(m.GetPolicy(), policyFields)
	out.OverprovisioningFactor = number(m.GetPolicy().GetOverprovisioningFactor(), defaultOverprovisioning)
	if out.OverprovisioningFactor == 0 {
		return nil, at.at("overprovisioning_factor").errorf("must be positive")
	}
	seen := newAssignmentChecks()
	for i, l := range m.GetEndpoints() {
		le, err := s.item("endpoints", i, "").locality(l, seen)
		if err != nil {
			return nil, err
		}
		if le.Weight > 0 {
			out.Localities = append(out.Localities, le)
		}
	}
	return out, seen.contiguous(s)
}

// assignmentChecks hold what must be unique or bounded across the localities
// of one assignment.
type assignmentChecks struct {
	addresses  map[string]bool
	localities map[localityKey]bool
	weights    map[uint32]uint64 // sum by priority, of the localities in use
	noted      map[string]bool   // fields of endpoints that were noted, each once
}

type localityKey struct {
	priority uint32
	locality snapshot.Locality
}

func newAssignmentChecks() *assignmentChecks {
	return &assignmentChecks{
		addresses:  make(map[string]bool),
		localities: make(map[localityKey]bool),
		weights:    make(map[uint32]uint64),
		noted:      make(map[string]bool),
	}
}

// contiguous refuses a gap in the priorities.
func (c *assignmentChecks) contiguous(s *scope) error {
	next := uint32(0)
	for _, p := range slices.Sorted(maps.Keys(c.weights)) {
		if p != next {
			return s.at("endpoints").errorf("priority %d has no locality, but a higher one has", next)
		}
		next++
	}
	return nil
}

func (s *scope) locality(m *endpointv3.LocalityLbEndpoints, seen *assignmentChecks) (snapshot.LocalityEndpoints, error) {
	out := snapshot.LocalityEndpoints{
		Locality: snapshot.Locality{
			Region:  m.GetLocality().GetRegion(),
			Zone:    m.GetLocality().GetZone(),
			SubZone: m.GetLocality().GetSubZone(),
		},
		Priority: m.GetPriority(),
		Weight:   number(m.GetLoadBalancingWeight(), 1),
	}
	if err := s.refuseRest(m, localityFields); err != nil {
		return out, err
	}
	if err := s.at("locality").refuseUnknown(m.GetLocality()); err != nil {
		return out, err
	}
	if out.Priority > maxPriority {
		return out, s.at("priority").errorf("is %d, must be at most %d", out.Priority, maxPriority)
	}
	if out.Weight == 0 {
		return out, nil
	}
	key := localityKey{out.Priority, out.Locality}
	if seen.localities[key] {
		return out, s.at("locality").errorf("%+v appears twice in priority %d", out.Locality, out.Priority)
	}
	seen.localities[key] = true
	var err error
	if out.Endpoints, err = s.endpoints(m, seen); err != nil {
		return out, err
	}
	if m.GetLoadBalancingWeight() == nil {
		out.Weight = sumOfWeights(out.Endpoints)
	}
	if seen.weights[out.Priority] += uint64(out.Weight); seen.weights[out.Priority] > maxSumOfWeights {
		return out, s.at("load_balancing_weight").errorf("the sum of the weights in priority %d is greater than %d", out.Priority, maxSumOfWeights)
	}
	return out, nil
}

// sumOfWeights is what endpoints weigh together, which was found to be no more
// than fits; at least 1.
func sumOfWeights(endpoints []snapshot.Endpoint) uint32 {
	var sum uint32
	for i := range endpoints {
		sum += endpoints[i].Weight
	}
	return max(sum, 1)
}

func (s *scope) endpoints(m *endpointv3.LocalityLbEndpoints, seen *assignmentChecks) ([]snapshot.Endpoint, error) {
	out := make([]snapshot.Endpoint, 0, len(m.GetLbEndpoints()))
	var sum uint64
	for i, e := range m.GetLbEndpoints() {
		at := s.item("lb_endpoints", i, "")
		ep, err := at.endpoint(e, seen)
		if err != nil {
			return nil, err
		}
		if seen.addresses[ep.Address] {
			return nil, at.errorf("address %s appears twice", ep.Address)
		}
		seen.addresses[ep.Address] = true
		if sum += uint64(ep.Weight); sum > maxSumOfWeights {
			return nil, at.at("load_balancing_weight").errorf("the sum of the weights in the locality is greater than %d", maxSumOfWeights)
		}
		out = append(out, ep)
	}
	return out, nil
}

func (s *scope) endpoint(m *endpointv3.LbEndpoint, seen *assignmentChecks) (snapshot.Endpoint, error) {
	out := snapshot.Endpoint{
		Hostname: m.GetEndpoint().GetHostname(),
		HashKey:  m.GetMetadata().GetFilterMetadata()[hashKeyNamespace].GetFields()[hashKey].GetStringValue(),
		Weight:   max(m.GetLoadBalancingWeight().GetValue(), 1),
		Health:   health(m.GetHealthStatus()),
	}
	if _, named := m.GetHostIdentifier().(*endpointv3.LbEndpoint_EndpointName); named {
		return out, s.at("endpoint_name").errorf("is not supported")
	}
	s.noteOnce(m, lbEndpointFields, seen.noted)
	s.at("endpoint").noteOnce(m.GetEndpoint(), endpointFields, seen.noted)
	var err error
	out.Address, err = s.at("endpoint").at("address").address(m.GetEndpoint().GetAddress())
	return out, err
}

// health reads a health status; one that is not known is not trusted.
func health(h corev3.HealthStatus) snapshot.Health {
	switch h {
	case corev3.HealthStatus_UNKNOWN, corev3.HealthStatus_HEALTHY:
		return snapshot.Healthy
	case corev3.HealthStatus_DRAINING:
		return snapshot.Draining
	case corev3.HealthStatus_DEGRADED:
		return snapshot.Degraded
	default:
		return snapshot.Unhealthy
	}
}

func (s *scope) address(m *corev3.Address) (string, error) {
	if err := s.refuseUnknown(m); err != nil {
		return "", err
	}
	switch a := m.GetAddress().(type) {
	case *corev3.Address_SocketAddress:
		return s.at("socket_address").socketAddress(a.SocketAddress)
	case *corev3.Address_Pipe:
		if a.Pipe.GetPath() == "" {
			return "", s.at("pipe").at("path").errorf("must not be empty")
		}
		return "unix:" + a.Pipe.GetPath(), s.at("pipe").refuseUnknown(a.Pipe)
	case nil:
		return "", s.errorf("must be set")
	default:
		return "", s.unsupported(m, "address")
	}
}

// socketAddress reads host:port. The host is an IP address, or a name that is
// resolved when it is connected to.
func (s *scope) socketAddress(m *corev3.SocketAddress) (string, error) {
	if m.GetProtocol() != corev3.SocketAddress_TCP {
		return "", s.at("protocol").errorf("%v is not supported", m.GetProtocol())
	}
	if err := s.refuseRest(m, socketAddrFields); err != nil {
		return "", err
	}
	port := m.GetPortValue()
	if port == 0 || port > math.MaxUint16 {
		return "", s.at("port_value").errorf("is %d, must be between 1 and %d", port, math.MaxUint16)
	}
	host := m.GetAddress()
	if ip, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(ip, uint16(port)).String(), nil
	}
	if host == "" || strings.ContainsAny(host, ":/[] ") {
		return "", s.at("address").errorf("%q is neither an IP address nor a host name", host)
	}
	return host + ":" + strconv.Itoa(int(port)), nil
}
