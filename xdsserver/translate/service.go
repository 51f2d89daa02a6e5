package translate

import (
	"slices"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
)

// service returns the service that the client means by a host, nil when it may not call such a host. A host that the
// registry does not know is a service of its own where a rule or the outbound policy says so.
func (t *translation) service(host string, port uint32) *registry.Service {
	if isIP(host) {
		t.dep(Everything, "")
		if s := t.byAddress(host); s != nil && t.sees(s, s.Host, port) {
			t.uses(s.Source)
			return s
		}
	}
	candidates := config.Candidates(host, t.client.Namespace, t.index.Model.Domain)
	for _, c := range candidates {
		t.dep(Definition, c)
	}
	if s := t.index.Find(host, t.client.Namespace); s != nil && t.sees(s, host, port) {
		t.dep(Definition, s.Host)
		t.uses(s.Source)
		if s.Host[0] != '*' {
			return s
		}
		if s.Port(port) != nil { // else it says nothing about this host
			return concrete(s, host)
		}
	}
	t.unsettled = t.unsettled || !t.opts.Declared
	for _, c := range candidates {
		if t.virtualService(c) != nil {
			host = c
			break
		}
	}
	if t.registryOnly() && t.virtualService(host) == nil {
		return nil
	}
	return unknown(host, port, !t.registryOnly())
}

// byAddress returns the service with a virtual address.
func (t *translation) byAddress(address string) *registry.Service {
	for _, host := range t.index.Hosts() {
		s := t.index.Find(host, t.client.Namespace)
		if s != nil && slices.ContainsFunc(s.Addresses, func(a string) bool { return config.PlainHost(a) == address }) {
			return s
		}
	}
	return nil
}

// concrete is a service with a wildcard host as the one host that is asked for.
func concrete(s *registry.Service, host string) *registry.Service {
	c := *s
	c.Host = host
	if c.Resolution != registry.Static {
		c = *atName(&c)
	}
	return &c
}

// atName makes a service whose endpoint is its own name: one of its addresses, as for clients without a mesh.
func atName(s *registry.Service) *registry.Service {
	c := *s
	c.Resolution = registry.DNSRoundRobin
	ports := map[uint32]uint32{}
	for _, p := range s.Ports {
		ports[p.Number] = p.Number
	}
	c.Endpoints = []registry.Endpoint{{Address: s.Host, Ports: ports}}
	return &c
}

// unknown is a host that the registry does not know: a name to resolve, or one that only routing rules give a meaning.
func unknown(host string, port uint32, resolve bool) *registry.Service {
	s := &registry.Service{
		Host:     host,
		Ports:    []registry.Port{{Number: port, Protocol: "GRPC"}},
		External: true,
	}
	if resolve {
		return atName(s)
	}
	return s
}

// port returns the port of a service that a client asks for; 0 means the only one.
func port(s *registry.Service, number uint32) *registry.Port {
	if number == 0 {
		if len(s.Ports) == 1 {
			return &s.Ports[0]
		}
		return nil
	}
	return s.Port(number)
}

// opaque says that Istio's HTTP rules do not apply to a port, because of its protocol.
func opaque(protocol string) bool {
	switch protocol {
	case "TCP", "TLS", "HTTPS", "MONGO", "MYSQL", "REDIS", "UDP":
		return true
	default:
		return false
	}
}

// virtualService returns the rule for a host: of the most specific host, what is private to the client's namespace
// first, then the oldest.
func (t *translation) virtualService(host string) (found *config.VirtualService) {
	t.dep(Routing, host)
	scope := t.scope()
	t.rules.virtual.find(host, func(_ string, list []*config.VirtualService) bool {
		for _, v := range list {
			switch {
			case !v.ExportTo.In(t.client.Namespace) || !follows(scope, v):
			case !v.ExportTo.Everywhere():
				found = v
				return true
			case found == nil:
				found = v
			}
		}
		return found != nil
	})
	return found
}
