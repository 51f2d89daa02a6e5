package registry

import (
	"fmt"
	"maps"
	"slices"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// Lint reports services and subsets that have no endpoints in the configuration. It asks no DNS: services whose endpoints
// have names are left out. open says that servers may register, so that having none is worth an Info only.
func Lint(m *config.Model, open bool) []config.Problem {
	l := linter{rules: map[string][]*config.DestinationRule{}, severity: config.Warning}
	for _, d := range m.DestinationRules {
		l.rules[d.Host] = append(l.rules[d.Host], d)
	}
	if open {
		l.severity = config.Info
	}
	all := declarations(m)
	for _, host := range slices.Sorted(maps.Keys(all)) {
		if d := all[host]; !d.resolves() {
			for _, s := range d.make(host, nil) {
				l.service(s)
			}
		}
	}
	return l.problems
}

// Configured returns the services of the configuration alone. It asks no DNS: endpoints that have names are left out.
func Configured(m *config.Model) *Index {
	all := map[string][]*Service{}
	for host, d := range declarations(m) {
		all[host] = d.make(host, nil)
	}
	return (&Index{}).with(m, all)
}

type linter struct {
	rules    map[string][]*config.DestinationRule // by host
	severity config.Severity
	problems []config.Problem
}

// resolves reports whether the addresses of a host are for DNS to say, or there are none.
func (d *declaration) resolves() bool {
	return slices.ContainsFunc(d.entries, func(e *config.ServiceEntry) bool { return e.Spec.Resolution != networking.ServiceEntry_STATIC })
}

func (l *linter) report(s config.Severity, o *config.Meta, field, format string, args ...any) {
	l.problems = append(l.problems, config.Problem{
		Severity: s, File: o.Source.File, Line: o.LineOf(field), Kind: o.Kind, Namespace: o.Namespace, Name: o.Name,
		Field: field, Message: fmt.Sprintf(format, args...),
	})
}

func (l *linter) service(s *Service) {
	if s.Resolution != Static {
		return
	}
	if len(s.Endpoints) == 0 {
		l.none(s)
		return
	}
	for _, p := range s.Ports {
		if !slices.ContainsFunc(s.Endpoints, func(e Endpoint) bool { _, ok := e.Port(p.Number); return ok }) {
			l.report(config.Warning, s.Source, "spec.ports", "no endpoint of %s serves the port %d", s.Host, p.Number)
		}
	}
	for _, d := range l.rules[s.Host] {
		l.subsets(s, d)
	}
}

func (l *linter) none(s *Service) {
	if l.severity == config.Info {
		l.report(config.Info, s.Source, "spec", "%s has no endpoints in the configuration, only those of servers that register", s.Host)
		return
	}
	l.report(config.Warning, s.Source, "spec", "%s has no endpoints: requests sent there fail", s.Host)
}

func (l *linter) subsets(s *Service, d *config.DestinationRule) {
	for i, sub := range d.Spec.Subsets {
		if !slices.ContainsFunc(s.Endpoints, func(e Endpoint) bool { return e.Matches(sub.Labels) }) {
			l.report(config.Warning, d.Meta, fmt.Sprintf("spec.subsets[%d].labels", i), "none of the %d endpoints of %s has these labels: the subset %q is empty",
				len(s.Endpoints), s.Host, sub.Name)
		}
	}
}
