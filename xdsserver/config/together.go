package config

import (
	"fmt"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

func (b *builder) warn(o *Object, path, format string, args ...any) {
	b.report(Warning, &o.Meta, path, format, args...)
}

func (b *builder) report(s Severity, m *Meta, path, format string, args ...any) {
	r := newReader(m)
	r.at(s, m.LineOf(path), path, format, args...)
	b.problems = append(b.problems, r.problems...)
}

// checkTogether warns about what only all objects together show. Nothing of it is an error: the other object may come
// later, or a server may register.
func (b *builder) checkTogether(m *Model) {
	known := b.knownHosts(m)
	known.subsets = subsetsOf(m)
	for _, v := range m.views {
		rule, ok := v.object.Spec.(*networking.VirtualService)
		if !ok {
			continue
		}
		seen := map[string]bool{}
		for _, d := range ruleDestinations(rule) {
			b.checkKnown(known, v.object, d)
			if d.to.Port == nil && !seen[d.to.Host] {
				seen[d.to.Host] = true
				b.checkCalledPorts(known, v.made.(*VirtualService), d)
			}
		}
	}
	served := gateways(m)
	for _, v := range m.VirtualServices {
		b.checkGatewaysOf(v, served)
	}
	for _, d := range m.DestinationRules {
		b.checkRuleHost(known, d)
	}
	b.checkRivals(m)
	b.checkRuleRivals(m)
	b.checkSidecars(m)
	b.checkProtocols(m)
	b.checkSelections(m)
	b.checkPolicies(m, known)
	b.checkPorts(m, known.hosts)
}

// places are where requests can be sent, so that to look one up costs the same however many there are.
type places struct {
	hosts     map[string]*knownService
	wildcards []string // of hosts, the longest first
	subsets   subsets
}

// subsets are those that DestinationRules declare: by host, and by host with a wildcard.
type subsets struct{ exact, wildcard map[string]map[string]bool }

func subsetsOf(m *Model) subsets {
	s := subsets{exact: map[string]map[string]bool{}, wildcard: map[string]map[string]bool{}}
	for _, d := range m.DestinationRules {
		of := s.exact
		if isWildcard(d.Host) {
			of = s.wildcard
		}
		if of[d.Host] == nil {
			of[d.Host] = map[string]bool{}
		}
		for _, subset := range d.Spec.Subsets {
			of[d.Host][subset.Name] = true
		}
	}
	return s
}

// has reports whether some rule for the host, which may be a wildcard, has the subset.
func (s subsets) has(host, subset string) bool {
	if s.exact[host][subset] || s.wildcard[host][subset] {
		return true
	}
	for wildcard, names := range s.wildcard {
		if names[subset] && covers(wildcard, host) {
			return true
		}
	}
	return false
}

// knownService is what the configuration says about the ports of a host.
type knownService struct {
	ports map[uint32]bool
}

func (b *builder) knownHosts(m *Model) *places {
	out := map[string]*knownService{}
	add := func(host string, port uint32) {
		if out[host] == nil {
			out[host] = &knownService{ports: map[uint32]bool{}}
		}
		if port != 0 {
			out[host].ports[port] = true
		}
	}
	for _, e := range m.ServiceEntries {
		for _, h := range e.Hosts {
			add(h, 0)
			for _, p := range e.Spec.Ports {
				add(h, p.Number)
			}
		}
	}
	for _, s := range m.Services {
		add(s.Host, 0)
		for _, p := range s.Spec.Spec.Ports {
			add(s.Host, uint32(p.Port))
		}
	}
	p := &places{hosts: out}
	for host := range out {
		if isWildcard(host) {
			p.wildcards = append(p.wildcards, host)
		}
	}
	slices.SortFunc(p.wildcards, func(a, b string) int { return len(b) - len(a) })
	return p
}

// service returns what is known of a host, by its own name or the longest wildcard that covers it; nil is nothing.
func (p *places) service(host string) *knownService {
	if s := p.hosts[host]; s != nil {
		return s
	}
	for _, wildcard := range p.wildcards {
		if covers(wildcard, host) {
			return p.hosts[wildcard]
		}
	}
	return nil
}

func (b *builder) checkKnown(known *places, o *Object, d destination) {
	host := ResolveHost(d.to.Host, o.Namespace, b.opts.Domain)
	b.checkTarget(known, &o.Meta, d.path, host, d.to.Subset, d.to.GetPort().GetNumber(), "port.number")
}

// checkTarget warns about a place to send requests to that the configuration does not have. portField is the name of the
// field that holds the port.
func (b *builder) checkTarget(known *places, o *Meta, path, host, subset string, number uint32, portField string) {
	s := known.service(host)
	switch {
	case s == nil && b.opts.OpenRegistration:
		b.report(Info, o, field(path, "host"), "nothing declares the service %s: it is there while a server registers for it", host)
	case s == nil:
		b.report(Warning, o, field(path, "host"), "nothing declares the service %s", host)
	case number != 0 && len(s.ports) > 0 && !s.ports[number]:
		b.report(Warning, o, field(path, portField), "the service %s has no port %d", host, number)
	}
	if subset != "" && !known.subsets.has(host, subset) {
		b.report(Warning, o, field(path, "subset"), "no DestinationRule for %s has a subset %q: requests sent there fail", host, subset)
	}
}

// checkRivals warns about rules for a host that an older rule has already. A rule for some namespaces is no rival of one for
// all: those namespaces go by theirs.
func (b *builder) checkRivals(m *Model) {
	first := map[[2]string]*VirtualService{} // by host and namespace, which is "*" for all of them
	for _, v := range m.VirtualServices {
		if !v.InMesh() {
			continue
		}
		audience := []string{"*"}
		if !v.ExportTo.Everywhere() {
			audience = v.ExportTo.namespaces
		}
		for i, h := range v.Hosts {
			var lost []string
			var older *VirtualService
			for _, namespace := range audience {
				switch key := [2]string{h, namespace}; {
				case first[key] == nil:
					first[key] = v
				case first[key] != v:
					older, lost = first[key], append(lost, namespace)
				}
			}
			where := ""
			if len(lost) > 0 && len(lost) < len(audience) {
				where = " by callers of the namespace " + strings.Join(lost, ", ")
			}
			if older != nil {
				b.report(Warning, v.Meta, element("spec.hosts", i), "%s already routes %s, and only the first rule of a host counts: this one is not used for it%s",
					describeMeta(older.Meta), h, where)
			}
		}
	}
}

// checkRuleRivals warns about policies for a host that an older rule of the same namespace has already.
func (b *builder) checkRuleRivals(m *Model) {
	first := map[string]*DestinationRule{}
	for _, d := range m.DestinationRules {
		key := d.Namespace + "/" + d.Host
		older := first[key]
		if older == nil {
			first[key] = d
			continue
		}
		if d.Spec.TrafficPolicy != nil && older.Spec.TrafficPolicy != nil {
			b.report(Warning, d.Meta, "spec.trafficPolicy", "%s already has a policy for %s: this one is not used", describeMeta(older.Meta), d.Host)
		}
		for i, s := range d.Spec.Subsets {
			if slices.ContainsFunc(older.Spec.Subsets, func(o *networking.Subset) bool { return o.Name == s.Name }) {
				b.report(Warning, d.Meta, element("spec.subsets", i), "%s already has the subset %q of %s: this one is not used", describeMeta(older.Meta), s.Name, d.Host)
			}
		}
	}
}

// audiencesMeet reports whether some namespace sees both.
func audiencesMeet(a, b Visibility) bool {
	switch {
	case a.Everywhere():
		return b.Everywhere() || len(b.namespaces) > 0
	case b.Everywhere():
		return len(a.namespaces) > 0
	default:
		return slices.ContainsFunc(a.namespaces, b.In)
	}
}

func describeMeta(m *Meta) string {
	return fmt.Sprintf("%s (%s:%d)", m.ID(), m.Source.File, m.Source.Line)
}
