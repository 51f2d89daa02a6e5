package registry

import "github.com/meshframe/meshframe/xdsserver/config"

// Resolution says how the addresses of a service's endpoints are found.
type Resolution uint8

const (
	// Static: Endpoints holds IP addresses (or unix paths), complete.
	Static Resolution = iota
	// DNS: Endpoints holds exactly one name for each port set, which whoever connects resolves; all its addresses are
	// endpoints (Envoy's STRICT_DNS). A service whose configuration gives several names is resolved here and is Static.
	DNS
	// DNSRoundRobin is DNS with one of the addresses as the endpoint (Envoy's LOGICAL_DNS).
	DNSRoundRobin
	// None: the caller's own address is used; there are no endpoints.
	None
)

// ByName reports whether whoever connects looks the endpoints up, by a name.
func (r Resolution) ByName() bool { return r == DNS || r == DNSRoundRobin }

// String returns "static", "dns", "dns-round-robin" or "none".
func (r Resolution) String() string {
	switch r {
	case Static:
		return "static"
	case DNS:
		return "dns"
	case DNSRoundRobin:
		return "dns-round-robin"
	default:
		return "none"
	}
}

// Service is one service as clients may call it. It is immutable: a change makes a new one.
type Service struct {
	Host      string // fully qualified; "*.example.com" for a wildcard ServiceEntry
	Namespace string
	Ports     []Port // in the order of the configuration
	// Resolution says what Endpoints holds.
	Resolution Resolution
	// Endpoints in the order of the configuration, self-registered ones after them, sorted by address.
	Endpoints []Endpoint
	Addresses []string // virtual IPs and CIDRs of the service, may be empty
	Labels    map[string]string
	ExportTo  config.Visibility
	// External says that the service is outside of the mesh (ServiceEntry location MESH_EXTERNAL).
	External bool
	// Headless says that clients address endpoints, not a virtual IP (Kubernetes clusterIP None).
	Headless bool
	// Distribution says which endpoints callers prefer.
	Distribution config.Distribution
	// NodeLocal says that callers reach endpoints on their own node only (Kubernetes internalTrafficPolicy Local).
	NodeLocal bool
	// Source is the object that declares the service, nil for one that exists because a server registered for it.
	Source *config.Meta
}

// Port returns the port with a number, nil when the service has none such.
func (s *Service) Port(number uint32) *Port {
	for i := range s.Ports {
		if s.Ports[i].Number == number {
			return &s.Ports[i]
		}
	}
	return nil
}

// Port is one port of a service.
type Port struct {
	Number uint32
	Name   string
	// Protocol is one of "HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTPS", "TLS", "TCP", "MONGO", "MYSQL", "REDIS", "UDP",
	// or "" when the configuration does not say; upper case.
	Protocol string
}

// Health says whether an endpoint should get calls.
type Health uint8

const (
	// Healthy endpoints get calls.
	Healthy Health = iota
	// Draining endpoints finish what they have and get nothing new.
	Draining
	// Unhealthy endpoints get calls only when there is nothing better.
	Unhealthy
)

// Endpoint is one place where a service can be reached.
type Endpoint struct {
	// Address is an IP, a host name (Resolution.ByName) or "unix:PATH". It has no port.
	Address string
	// Ports maps a port number of the service to the endpoint's own port; a service port that is missing here is not
	// served by this endpoint. With a unix address the values are 0.
	Ports    map[uint32]uint32
	Labels   map[string]string
	Weight   uint32 // 0 counts as 1
	Locality string // "region/zone/subzone", "" unknown
	Network  string
	Health   Health
	// Namespace, Workload, ServiceAccount and Node identify the workload; each may be empty.
	Namespace, Workload, ServiceAccount, Node string
	// Registered says that the endpoint registered itself.
	Registered bool
}

// Port returns the endpoint's own port for a port of the service; false when it does not serve it.
func (e *Endpoint) Port(servicePort uint32) (uint32, bool) {
	p, ok := e.Ports[servicePort]
	return p, ok
}

// Matches reports whether the endpoint has all the labels: whether it belongs to a subset.
func (e *Endpoint) Matches(labels map[string]string) bool {
	for k, v := range labels {
		if got, ok := e.Labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}
