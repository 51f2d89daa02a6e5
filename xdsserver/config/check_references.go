package config

import (
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// checkRuleHost warns about policies for services that nothing declares.
func (b *builder) checkRuleHost(known *places, d *DestinationRule) {
	if known.service(d.Host) != nil || isWildcard(d.Host) && known.any(d.Host) {
		return
	}
	if b.opts.OpenRegistration {
		b.report(Info, d.Meta, "spec.host", "nothing declares the service %s: it is there while a server registers for it", d.Host)
		return
	}
	b.report(Warning, d.Meta, "spec.host", "nothing declares the service %s", d.Host)
}

// any reports whether there is a service that a wildcard has a name in common with.
func (p *places) any(wildcard string) bool {
	for host := range p.hosts {
		if hostMatches(wildcard, host) {
			return true
		}
	}
	return false
}

// checkCalledPorts warns about destinations without a port that lack one that can be called: where the destination has
// several ports, requests go to the one that the caller named. It says so once for each port.
func (b *builder) checkCalledPorts(known *places, v *VirtualService, d destination) {
	host := ResolveHost(d.to.Host, v.Namespace, b.opts.Domain)
	to := known.hosts[host]
	if to == nil || len(to.ports) < 2 || !v.InMesh() {
		return
	}
	told := map[uint32]bool{}
	for _, h := range v.Hosts {
		called := known.hosts[h]
		if called == nil {
			continue
		}
		for _, port := range slices.Sorted(maps.Keys(called.ports)) {
			if !to.ports[port] && !told[port] {
				told[port] = true
				b.report(Warning, v.Meta, d.path, "calls to port %d of %s fail: the service %s has several ports, and not this one; write port: {number: ...}", port, h, host)
			}
		}
	}
}

// gateways are the hosts of Gateways, by namespace/name.
func gateways(m *Model) map[string][]string {
	out := map[string][]string{}
	for _, o := range m.Other {
		if g, ok := o.Spec.(*networking.Gateway); ok {
			id := o.Namespace + "/" + o.Name
			out[id] = []string{}
			for _, s := range g.Servers {
				for _, h := range s.Hosts {
					out[id] = append(out[id], withNamespace(h, o.Namespace))
				}
			}
		}
	}
	return out
}

// withNamespace writes a gateway's host as namespace/host.
func withNamespace(h, own string) string {
	switch ns, name, cut := strings.Cut(PlainHost(h), "/"); {
	case !cut:
		return "*/" + ns
	case ns == ".":
		return own + "/" + name
	default:
		return ns + "/" + name
	}
}

// checkGatewaysOf warns about gateways that there are not, and about those that have none of the rule's hosts.
func (b *builder) checkGatewaysOf(v *VirtualService, all map[string][]string) {
	for i, name := range v.Gateways {
		if ns, plain, _ := strings.Cut(name, "/"); name == MeshGateway || !isLabel(ns) || !isLabel(plain) {
			continue // what is no name is reported as such
		}
		at := element("spec.gateways", i)
		hosts, ok := all[name]
		if !ok {
			b.report(Warning, v.Meta, at, "there is no Gateway %s: the rule is for none of its requests%s", name, meshHint(name))
			continue
		}
		served := func(h string) bool {
			ns, host, _ := strings.Cut(h, "/")
			return (ns == "*" || ns == v.Namespace) && slices.ContainsFunc(v.Hosts, func(own string) bool { return hostMatches(own, host) })
		}
		if len(v.Hosts) > 0 && !slices.ContainsFunc(hosts, served) {
			b.report(Warning, v.Meta, at, "the Gateway %s has none of the rule's hosts: the rule is for none of its requests", name)
		}
	}
}

func meshHint(name string) string {
	_, name, _ = strings.Cut(name, "/")
	if nearest(name, []string{MeshGateway}) != "" {
		return "; did you mean mesh?"
	}
	return ""
}

// checkSidecars warns about Sidecars of which another one, of the same workloads, is taken.
func (b *builder) checkSidecars(m *Model) {
	for _, namespace := range slices.Sorted(maps.Keys(m.sidecars)) {
		all := m.sidecars[namespace]
		for i, s := range all {
			labels := s.Spec.GetWorkloadSelector().GetLabels()
			hides := func(o *Sidecar) bool {
				others := o.Spec.GetWorkloadSelector().GetLabels()
				return (len(others) == 0) == (len(labels) == 0) && Selects(others, labels)
			}
			if j := slices.IndexFunc(all[:min(i, maxBroad)], hides); j >= 0 {
				b.report(Warning, s.Meta, "spec.workloadSelector", "never used: %s is for the same workloads, and the first one counts", describeMeta(all[j].Meta))
			}
		}
	}
}

// checkProtocols warns about services that several ServiceEntries declare with different protocols.
func (b *builder) checkProtocols(m *Model) {
	type port struct {
		host   string
		number uint32
	}
	type declared struct {
		by       *ServiceEntry
		protocol string
	}
	first := map[port]declared{}
	for _, e := range m.ServiceEntries {
		for i, p := range e.Spec.Ports {
			told := false // of one host is enough
			for _, h := range e.Hosts {
				key, protocol := port{h, p.Number}, strings.ToUpper(p.Protocol)
				older, ok := first[key]
				switch {
				case !ok:
					first[key] = declared{e, protocol}
				case told:
				case older.protocol != protocol && audiencesMeet(older.by.ExportTo, e.ExportTo):
					told = true
					b.report(Warning, e.Meta, field(element("spec.ports", i), "protocol"), "port %d of %s is %s here and %s in %s",
						p.Number, h, orUnset(protocol), orUnset(older.protocol), describeMeta(older.by.Meta))
				}
			}
		}
	}
}

func orUnset(protocol string) string {
	if protocol == "" {
		return "without protocol"
	}
	return protocol
}
