package config

import (
	"slices"

	networking "istio.io/api/networking/v1alpha3"
)

// checkPorts warns about ports that the services do not have: what is said for them has no effect.
func (b *builder) checkPorts(m *Model, known map[string]*knownService) {
	lacks := func(host string, port uint32) bool {
		s := known[host]
		return s != nil && len(s.ports) > 0 && !s.ports[port]
	}
	for _, v := range m.views {
		if rule, ok := v.object.Spec.(*networking.VirtualService); ok {
			b.checkMatchPorts(v.object, rule, lacks)
		}
	}
	for _, d := range m.DestinationRules {
		check := func(path string, p *networking.TrafficPolicy) {
			for i, s := range p.GetPortLevelSettings() {
				if n := s.GetPort().GetNumber(); badPort(n) == "" && lacks(d.Host, n) {
					b.report(Warning, d.Meta, element(field(path, "portLevelSettings"), i)+".port.number", "the service %s has no port %d: the settings do nothing", d.Host, n)
				}
			}
		}
		check("spec.trafficPolicy", d.Spec.TrafficPolicy)
		for i, s := range d.Spec.Subsets {
			check(element("spec.subsets", i)+".trafficPolicy", s.TrafficPolicy)
		}
	}
	for _, p := range m.Policies {
		if p.Spec.Port != 0 && lacks(p.Host, p.Spec.Port) {
			b.report(Warning, p.Meta, "spec.port", "the service %s has no port %d: the policy does nothing", p.Host, p.Spec.Port)
		}
	}
}

// checkMatchPorts warns about matches by a port that no host of the rule has. Ports of gateways are not known.
func (b *builder) checkMatchPorts(o *Object, rule *networking.VirtualService, lacks func(string, uint32) bool) {
	inMesh := func(gateways []string) bool {
		return !slices.ContainsFunc(gateways, func(g string) bool { return g != MeshGateway })
	}
	if len(rule.Hosts) == 0 || !inMesh(rule.Gateways) {
		return
	}
	for i, route := range rule.Http {
		for j, match := range route.Match {
			served := func(host string) bool { return !lacks(ResolveHost(host, o.Namespace, b.opts.Domain), match.Port) }
			if match.Port != 0 && inMesh(match.Gateways) && !slices.ContainsFunc(rule.Hosts, served) {
				b.warn(o, element(field(element("spec.http", i), "match"), j)+".port", "no host of the rule has a port %d: the match is never true", match.Port)
			}
		}
	}
}

// checkNeeds warns about policies that add to what no VirtualService asks for.
func (b *builder) checkNeeds(m *Model, p *MeshPolicy) {
	hedges, faults := p.Spec.Hedge != nil && p.Spec.Hedge.OnPerTryTimeout, p.Spec.Fault != nil
	if !hedges && !faults {
		return
	}
	hedged, faulty := false, false
	for _, v := range m.views {
		rule, ok := v.object.Spec.(*networking.VirtualService)
		if !ok {
			continue
		}
		for _, route := range rule.Http {
			to := func(d *networking.HTTPRouteDestination) bool {
				return covers(p.Host, ResolveHost(d.GetDestination().GetHost(), v.object.Namespace, b.opts.Domain))
			}
			if slices.ContainsFunc(route.Route, to) {
				hedged = hedged || route.GetRetries().GetPerTryTimeout() != nil
				faulty = faulty || route.Fault != nil
			}
		}
	}
	if hedges && !hedged {
		b.report(Warning, p.Meta, "spec.hedge.onPerTryTimeout", "no VirtualService has a perTryTimeout for requests to %s: none is hedged", p.Host)
	}
	if faults && !faulty {
		b.report(Warning, p.Meta, "spec.fault", "no VirtualService injects faults into requests to %s: it does nothing", p.Host)
	}
}
