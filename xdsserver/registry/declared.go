package registry

import (
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// declaration is everything that the configuration says about one host.
type declaration struct {
	services []*config.Service       // Kubernetes': at most one
	slices   []*config.EndpointSlice // of that service
	entries  []*config.ServiceEntry
	// selected are the workloads that the objects above select, by the object.
	selected map[*config.Meta][]*config.WorkloadEntry

	inputs []any // the contents of the above: two declarations with the same inputs make the same services
}

// declarations sorts the objects of a model by host.
func declarations(m *config.Model) map[string]*declaration {
	out := map[string]*declaration{}
	of := func(host string) *declaration {
		if out[host] == nil {
			out[host] = &declaration{selected: map[*config.Meta][]*config.WorkloadEntry{}}
		}
		return out[host]
	}
	all := newWorkloads(m)
	for _, s := range m.Services {
		d := of(s.Host)
		d.services = append(d.services, s)
		d.inputs = append(d.inputs, s.Spec)
		d.choose(all, s.Meta, s.Spec.Spec.Selector)
	}
	for _, s := range m.EndpointSlices {
		if d := out[s.Host]; d != nil {
			d.slices = append(d.slices, s)
			d.inputs = append(d.inputs, s.Spec)
		}
	}
	for _, e := range m.ServiceEntries {
		for _, host := range e.Hosts {
			d := of(host)
			d.entries = append(d.entries, e)
			d.inputs = append(d.inputs, e.Spec)
			d.choose(all, e.Meta, e.Spec.GetWorkloadSelector().GetLabels())
		}
	}
	return out
}

// choose adds the workloads that an object selects; one without a selector selects none.
func (d *declaration) choose(all *workloads, object *config.Meta, selector map[string]string) {
	if len(selector) == 0 {
		return
	}
	selected := all.selected(object.Namespace, selector)
	d.selected[object] = selected
	for _, w := range selected {
		d.inputs = append(d.inputs, w.Spec)
	}
}

// make makes the services of a host, one for each namespace that declares it, the first first.
func (d *declaration) make(host string, dns *names) []*Service {
	var out []*Service
	for _, s := range d.services {
		out = join(out, kubernetesService(s, d.slices, d.selected[s.Meta], dns))
	}
	for _, e := range d.entries {
		out = join(out, entryService(host, e, d.selected[e.Meta], dns))
	}
	return out
}

// join adds a service, or adds its ports and endpoints to the one of the same namespace.
func join(all []*Service, s *Service) []*Service {
	i := slices.IndexFunc(all, func(o *Service) bool { return o.Namespace == s.Namespace })
	if i < 0 {
		return append(all, s)
	}
	first := all[i]
	for _, p := range s.Ports {
		if first.Port(p.Number) == nil {
			first.Ports = append(first.Ports, p)
		}
	}
	if first.Resolution == Static && s.Resolution == Static {
		first.Endpoints = append(first.Endpoints, s.Endpoints...)
	}
	return all
}

func entryService(host string, e *config.ServiceEntry, selected []*config.WorkloadEntry, dns *names) *Service {
	s := &Service{
		Host: host, Namespace: e.Namespace, Addresses: e.Spec.Addresses, Labels: e.Labels, ExportTo: e.ExportTo,
		External: e.Spec.Location == networking.ServiceEntry_MESH_EXTERNAL, Source: e.Meta,
		Distribution: config.DistributionOf(nil, e.Annotations),
	}
	for _, p := range e.Spec.Ports {
		s.Ports = append(s.Ports, Port{Number: p.Number, Name: p.Name, Protocol: strings.ToUpper(p.Protocol)})
	}
	switch e.Spec.Resolution {
	case networking.ServiceEntry_NONE:
		s.Resolution = None
	case networking.ServiceEntry_DNS, networking.ServiceEntry_DNS_ROUND_ROBIN:
		given := e.Spec.Endpoints
		if len(given) == 0 && e.Spec.WorkloadSelector == nil && !config.IsWildcard(host) {
			given = []*networking.WorkloadEntry{{Address: host}}
		}
		s.setNamed(append(entryEndpoints(given, e), entryWorkloads(selected, e, true)...), dns)
		if s.Resolution == DNS && e.Spec.Resolution == networking.ServiceEntry_DNS_ROUND_ROBIN {
			s.Resolution = DNSRoundRobin
		}
	default:
		s.Endpoints = append(entryEndpoints(e.Spec.Endpoints, e), entryWorkloads(selected, e, false)...)
	}
	return s
}

func entryEndpoints(given []*networking.WorkloadEntry, e *config.ServiceEntry) []Endpoint {
	out := make([]Endpoint, 0, len(given))
	for _, w := range given {
		if w.Address == "" {
			continue // reached through a gateway between networks, which is not supported yet
		}
		out = append(out, Endpoint{
			Address: unixAddress(w.Address), Ports: entryPorts(w, e.Spec.Ports), Labels: w.Labels, Weight: w.Weight,
			Locality: w.Locality, Network: w.Network, Namespace: e.Namespace, ServiceAccount: w.ServiceAccount,
		})
	}
	return out
}

// unixAddress writes the address of a socket as gRPC does: "unix:/path".
func unixAddress(a string) string {
	if path, ok := strings.CutPrefix(a, "unix://"); ok {
		return "unix:" + path
	}
	return a
}

func entryPorts(w *networking.WorkloadEntry, ports []*networking.ServicePort) map[uint32]uint32 {
	out := make(map[uint32]uint32, len(ports))
	for _, p := range ports {
		own, named := w.Ports[p.Name]
		switch {
		case strings.HasPrefix(w.Address, "unix://"):
			out[p.Number] = 0
		case named:
			out[p.Number] = own
		case p.TargetPort != 0:
			out[p.Number] = p.TargetPort
		default:
			out[p.Number] = p.Number
		}
	}
	return out
}

// setNamed takes endpoints whose addresses may be names. A single name is left for the client to look up; of several
// each is looked up here and stands for its addresses.
func (s *Service) setNamed(endpoints []Endpoint, dns *names) {
	if len(endpoints) == 1 && isName(endpoints[0].Address) {
		s.Resolution, s.Endpoints = DNS, endpoints
		return
	}
	for _, e := range endpoints {
		if !isName(e.Address) {
			s.Endpoints = append(s.Endpoints, e)
			continue
		}
		for _, address := range dns.lookup(e.Address, s.Host) {
			e.Address = address
			s.Endpoints = append(s.Endpoints, e)
		}
	}
}

func kubernetesService(s *config.Service, all []*config.EndpointSlice, selected []*config.WorkloadEntry, dns *names) *Service {
	spec := &s.Spec.Spec
	out := &Service{
		Host: s.Host, Namespace: s.Namespace, Labels: s.Labels, ExportTo: s.ExportTo, Source: s.Meta,
		Headless:     spec.ClusterIP == corev1.ClusterIPNone,
		Distribution: config.DistributionOf(spec.TrafficDistribution, s.Annotations),
		NodeLocal:    value(spec.InternalTrafficPolicy) == corev1.ServiceInternalTrafficPolicyLocal,
	}
	for _, ip := range append([]string{spec.ClusterIP}, spec.ClusterIPs...) {
		if ip != "" && ip != corev1.ClusterIPNone && !slices.Contains(out.Addresses, ip) {
			out.Addresses = append(out.Addresses, ip)
		}
	}
	for _, p := range spec.Ports {
		out.Ports = append(out.Ports, Port{Number: uint32(p.Port), Name: p.Name, Protocol: servicePortProtocol(p)})
	}
	if spec.Type == corev1.ServiceTypeExternalName {
		out.External = true
		out.setNamed([]Endpoint{{Address: spec.ExternalName, Ports: samePorts(out.Ports), Namespace: s.Namespace}}, dns)
		return out
	}
	var endpoints []Endpoint
	named := false
	for _, slice := range all {
		endpoints = append(endpoints, sliceEndpoints(slice, spec)...)
		named = named || slice.Spec.AddressType == discoveryv1.AddressTypeFQDN
	}
	endpoints = append(endpoints, serviceWorkloads(selected, spec)...)
	if named {
		out.setNamed(endpoints, dns)
	} else {
		out.Endpoints = endpoints
	}
	return out
}

func samePorts(ports []Port) map[uint32]uint32 {
	out := make(map[uint32]uint32, len(ports))
	for _, p := range ports {
		out[p.Number] = p.Number
	}
	return out
}

// servicePortProtocol finds the protocol as Istio does: by appProtocol, else by the port's name up to the first dash.
func servicePortProtocol(p corev1.ServicePort) string {
	if p.Protocol == corev1.ProtocolUDP || p.Protocol == corev1.ProtocolSCTP {
		return string(p.Protocol)
	}
	name := strings.ToLower(p.Name)
	if p.AppProtocol != nil {
		switch name = strings.ToLower(*p.AppProtocol); name {
		case "kubernetes.io/h2c":
			return "HTTP2"
		case "kubernetes.io/ws":
			return "HTTP"
		case "kubernetes.io/wss":
			return "HTTPS"
		}
	}
	if name == "grpc-web" || strings.HasPrefix(name, "grpc-web-") {
		return "GRPC-WEB"
	}
	prefix, _, _ := strings.Cut(name, "-")
	switch prefix {
	case "http", "http2", "https", "grpc", "tcp", "tls", "mongo", "mysql", "redis", "udp":
		return strings.ToUpper(prefix)
	}
	return ""
}

// sliceEndpoints are the endpoints of a slice that get or recently got calls. A slice does not say which labels its pods
// have; labels that someone gives the slice stand for them, so that subsets can be told apart.
func sliceEndpoints(slice *config.EndpointSlice, spec *corev1.ServiceSpec) []Endpoint {
	ports := slicePorts(slice.Spec.Ports, spec.Ports)
	labels := maps.Clone(slice.Labels)
	maps.DeleteFunc(labels, func(k, _ string) bool { return strings.Contains(k, "kubernetes.io/") })
	var out []Endpoint
	for _, e := range slice.Spec.Endpoints {
		health, ok := sliceHealth(e.Conditions, spec.PublishNotReadyAddresses)
		if !ok {
			continue
		}
		made := Endpoint{Ports: ports, Labels: labels, Health: health, Namespace: slice.Namespace}
		if e.Zone != nil && *e.Zone != "" {
			made.Locality = "/" + *e.Zone // slices do not say which region the zone is in
		}
		if e.NodeName != nil {
			made.Node = *e.NodeName
		}
		if e.TargetRef != nil {
			made.Workload = e.TargetRef.Name
		}
		// The addresses of an endpoint all lead to the same place, Kubernetes says, and asks to use the first.
		made.Address = e.Addresses[0]
		out = append(out, made)
	}
	return out
}

// slicePorts finds the endpoint's port for each port of the service: it has the same name.
func slicePorts(own []discoveryv1.EndpointPort, service []corev1.ServicePort) map[uint32]uint32 {
	out := make(map[uint32]uint32, len(service))
	for _, p := range service {
		for _, o := range own {
			if o.Port != nil && value(o.Name) == p.Name {
				out[uint32(p.Port)] = uint32(*o.Port)
			}
		}
	}
	return out
}

func value[T any](p *T) T {
	var zero T
	if p == nil {
		return zero
	}
	return *p
}

// sliceHealth reads the conditions: unknown ones count as good, endpoints that are not ready get nothing unless the
// service asks for it.
func sliceHealth(c discoveryv1.EndpointConditions, all bool) (Health, bool) {
	ready := c.Ready == nil || *c.Ready
	serving := ready
	if c.Serving != nil {
		serving = *c.Serving
	}
	switch {
	case ready || all:
		return Healthy, true
	case serving && value(c.Terminating):
		return Draining, true
	default:
		return Unhealthy, false
	}
}
