package config

import (
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

func checkServiceEntry(r *reader, s *networking.ServiceEntry) {
	checkEntryHosts(r, s)
	checkAddresses(r, s)
	ports := checkServicePorts(r, s.Ports)
	switch s.Resolution {
	case networking.ServiceEntry_NONE:
		if len(s.Endpoints) > 0 {
			r.errorf("spec.endpoints", "a service with resolution NONE has no endpoints; write resolution: STATIC")
		}
		if s.WorkloadSelector != nil {
			r.warnf("spec.workloadSelector", "does nothing: a service with resolution NONE has no endpoints; write resolution: STATIC")
		}
	case networking.ServiceEntry_STATIC:
		checkStaticEndpoints(r, s, ports)
	case networking.ServiceEntry_DNS, networking.ServiceEntry_DNS_ROUND_ROBIN:
		checkDNSEndpoints(r, s, ports)
	case networking.ServiceEntry_DYNAMIC_DNS:
		checkDynamicDNS(r, s)
	default:
		r.errorf("spec.resolution", "%s is not supported", s.Resolution)
	}
	if sel := s.WorkloadSelector; sel != nil {
		if len(s.Endpoints) > 0 {
			r.errorf("spec.workloadSelector", "write workloadSelector or endpoints, not both")
		}
		if len(sel.Labels) == 0 {
			r.warnf("spec.workloadSelector", "selects no workload: it names no label")
		} else {
			checkSelectorLabels(r, "spec.workloadSelector", sel.Labels)
		}
	}
	checkExportTo(r, s.ExportTo, true)
}

func checkEntryHosts(r *reader, s *networking.ServiceEntry) {
	for i, h := range s.Hosts {
		path := element("spec.hosts", i)
		switch {
		case h == "*":
			r.errorf(path, "the host * would be every service there is")
		case slices.Contains(s.Hosts[:i], h):
			r.warnf(path, "%s is written twice", shorten(h))
		case badHost(h) != "":
			r.errorf(path, "%s", badHost(h))
		case isWildcard(h) && !strings.HasPrefix(h, "*.") && s.Resolution != networking.ServiceEntry_DYNAMIC_DNS:
			r.warnf(path, "wildcards stand for whole parts of a name: write *.example.com")
		}
	}
	if len(s.Hosts) < 2 || s.Resolution == networking.ServiceEntry_NONE {
		return
	}
	for i, p := range s.Ports {
		switch path := element("spec.ports", i); {
		case !protocolIsHTTP(p.Protocol) && !protocolIsTLS(p.Protocol):
			r.errorf(path, "with several hosts every port must be HTTP or TLS: nothing else says which host is meant")
			return
		case len(s.Addresses) > 0 && protocolIsTLS(p.Protocol) && s.Resolution != networking.ServiceEntry_STATIC:
			r.warnf(path, "with addresses and a port that is not HTTP write a single host: connections to the addresses do not say which is meant")
			return
		}
	}
}

func checkAddresses(r *reader, s *networking.ServiceEntry) {
	for i, a := range s.Addresses {
		path := element("spec.addresses", i)
		r.judge(path, badCIDR(a))
		if strings.Contains(a, "/") && s.Resolution != networking.ServiceEntry_NONE && s.Resolution != networking.ServiceEntry_STATIC {
			r.errorf(path, "address blocks go with resolution NONE or STATIC only")
		}
	}
}

// checkServicePorts returns the names of the ports.
func checkServicePorts(r *reader, ports []*networking.ServicePort) map[string]bool {
	names, numbers := map[string]bool{}, map[uint32]bool{}
	for i, p := range ports {
		path := element("spec.ports", i)
		if names[p.Name] {
			r.errorf(field(path, "name"), "the port name %q is written twice", shorten(p.Name))
		}
		if numbers[p.Number] {
			r.errorf(field(path, "number"), "the port %d is written twice", p.Number)
		}
		names[p.Name], numbers[p.Number] = true, true
		r.judge(field(path, "number"), badPort(p.Number))
		r.judge(field(path, "name"), badPortName(p.Name))
		r.judge(field(path, "protocol"), badProtocol(p.Protocol))
		if p.TargetPort != 0 {
			r.judge(field(path, "targetPort"), badPort(p.TargetPort))
		}
	}
	return names
}

func checkStaticEndpoints(r *reader, s *networking.ServiceEntry, ports map[string]bool) {
	for i, e := range s.Endpoints {
		path := element("spec.endpoints", i)
		checkEndpoint(r, path, e, ports)
		switch {
		case strings.HasPrefix(e.Address, unixPrefix):
			if len(ports) != 1 {
				r.errorf(field(path, "address"), "a unix socket serves one port, the service has %d", len(ports))
			}
		case e.Address != "" && !isIP(e.Address):
			r.errorf(field(path, "address"), "%q is no IP address, and with resolution STATIC nothing looks names up; write resolution: DNS", shorten(e.Address))
		}
	}
}

func checkDNSEndpoints(r *reader, s *networking.ServiceEntry, ports map[string]bool) {
	if len(s.Endpoints) == 0 {
		for i, h := range s.Hosts {
			if isWildcard(h) {
				r.errorf(element("spec.hosts", i), "a wildcard cannot be looked up: with resolution %s write endpoints", s.Resolution)
			} else {
				r.judge(element("spec.hosts", i), badFQDN(h))
			}
		}
	}
	if s.Resolution == networking.ServiceEntry_DNS_ROUND_ROBIN && len(s.Endpoints) > 1 {
		r.errorf("spec.endpoints", "with resolution DNS_ROUND_ROBIN there is at most one endpoint")
	}
	for i, e := range s.Endpoints {
		path := element("spec.endpoints", i)
		checkEndpoint(r, path, e, ports)
		switch {
		case strings.HasPrefix(e.Address, unixPrefix):
			r.errorf(field(path, "address"), "a unix socket goes with resolution STATIC only")
		case e.Address == "" && e.Network != "":
			r.errorf(field(path, "address"), "missing, but required by the resolution %s", s.Resolution)
		case e.Address != "" && !isIP(e.Address):
			r.judge(field(path, "address"), badFQDN(e.Address))
		}
	}
}

// checkEndpoint checks what endpoints of every resolution have in common. ports are the names of the service's ports,
// nil where the service is unknown.
func checkEndpoint(r *reader, path string, e *networking.WorkloadEntry, ports map[string]bool) {
	switch {
	case e.Address == "" && e.Network == "":
		r.errorf(field(path, "address"), "missing, but required")
	case e.Address == "":
		r.warnf(path, "has no address, only a network; gateways between networks are not supported yet")
	case strings.HasPrefix(e.Address, unixPrefix):
		r.judge(field(path, "address"), badUnixPath(strings.TrimPrefix(e.Address, unixPrefix)))
		if len(e.Ports) > 0 {
			r.errorf(field(path, "ports"), "a unix socket has no ports")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Ports)) {
		at := element(field(path, "ports"), name)
		if ports != nil && !ports[name] {
			r.errorf(at, "the service has no port named %q; it has %s", shorten(name), strings.Join(slices.Sorted(maps.Keys(ports)), ", "))
		}
		r.judge(at, badPortName(name))
		r.judge(at, badPort(e.Ports[name]))
	}
	checkLabels(r, field(path, "labels"), e.Labels)
	if bad := badLocality(e.Locality); e.Locality != "" && bad != "" {
		r.warnf(field(path, "locality"), "%s: callers do not take it for near", bad)
	}
}

// checkDynamicDNS checks services whose hosts are looked up when they are called.
func checkDynamicDNS(r *reader, s *networking.ServiceEntry) {
	const spec = "spec.resolution"
	r.warnf(spec, "DYNAMIC_DNS is not supported yet: the service has no endpoints")
	for i, h := range s.Hosts {
		if !isWildcard(h) {
			r.errorf(element("spec.hosts", i), "with resolution DYNAMIC_DNS want a wildcard such as *.example.com; write resolution: DNS for a single host")
		}
	}
	if len(s.Addresses) > 0 {
		r.errorf("spec.addresses", "a service with resolution DYNAMIC_DNS has none: its hosts are looked up")
	}
	if len(s.Endpoints) > 0 {
		r.errorf("spec.endpoints", "a service with resolution DYNAMIC_DNS has none: its hosts are looked up")
	}
	protocols := []string{"HTTP", "HTTP2", "GRPC", "TLS"}
	for i, p := range s.Ports {
		if !slices.Contains(protocols, strings.ToUpper(p.Protocol)) {
			r.errorf(field(element("spec.ports", i), "protocol"), "with resolution DYNAMIC_DNS want one of %s", strings.Join(protocols, ", "))
		}
	}
	waypoint := r.meta.Labels["istio.io/use-waypoint"]
	if s.Location == networking.ServiceEntry_MESH_INTERNAL && waypoint != "" && !strings.EqualFold(waypoint, "none") {
		r.errorf("spec.location", "MESH_INTERNAL with resolution DYNAMIC_DNS does not go with a waypoint")
	}
}

func checkWorkloadEntry(r *reader, e *networking.WorkloadEntry) {
	checkEndpoint(r, "spec", e, nil)
	if e.Address != "" && !strings.HasPrefix(e.Address, unixPrefix) && !isIP(e.Address) {
		r.judge("spec.address", badFQDN(e.Address))
	}
}

func checkWorkloadGroup(r *reader, g *networking.WorkloadGroup) {
	checkLabels(r, "spec.metadata.labels", g.GetMetadata().GetLabels())
	for _, name := range slices.Sorted(maps.Keys(g.GetTemplate().GetPorts())) {
		r.judge(element("spec.template.ports", name), badPortName(name))
	}
	p := g.Probe
	if p == nil {
		return
	}
	for name, n := range map[string]int32{"periodSeconds": p.PeriodSeconds, "initialDelaySeconds": p.InitialDelaySeconds,
		"timeoutSeconds": p.TimeoutSeconds, "successThreshold": p.SuccessThreshold, "failureThreshold": p.FailureThreshold} {
		checkCount(r, "spec.probe."+name, n)
	}
	checkProbeMethod(r, "spec.probe", p)
}

func checkProbeMethod(r *reader, path string, p *networking.ReadinessProbe) {
	if p.HealthCheckMethod == nil {
		r.errorf(path, "want httpGet, tcpSocket, exec or grpc")
	}
	if h := p.GetHttpGet(); h != nil {
		r.judge(field(path, "httpGet.port"), badPort(h.Port))
		if h.Scheme != "" && h.Scheme != "HTTP" && h.Scheme != "HTTPS" {
			r.errorf(field(path, "httpGet.scheme"), "want HTTP or HTTPS, have %q", shorten(h.Scheme))
		}
		for i, header := range h.HttpHeaders {
			if name := header.GetName(); strings.Trim(name, probeHeader) != "" || name == "" {
				r.errorf(field(element(field(path, "httpGet.httpHeaders"), i), "name"), "want letters, digits and '-', have %q", shorten(name))
			}
		}
	}
	if t := p.GetTcpSocket(); t != nil {
		r.judge(field(path, "tcpSocket.port"), badPort(t.Port))
	}
	if g := p.GetGrpc(); g != nil && g.Port != 0 {
		r.judge(field(path, "grpc.port"), badPort(g.Port))
	}
	for i, word := range p.GetExec().GetCommand() {
		if word == "" {
			r.errorf(element(field(path, "exec.command"), i), "must not be empty")
		}
	}
}

// probeHeader are the characters of the names of headers that Kubernetes probes with.
const probeHeader = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
