package config

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// selection is a selector of workloads.
type selection struct {
	object *Meta
	field  string // where it is written
	labels map[string]string
	names  bool // whether workloads may have a name for an address
	used   bool // whether it selects any workload
}

// checkSelections warns about workloads and selectors that do not find each other.
func (b *builder) checkSelections(m *Model) {
	byNamespace := map[string][]*selection{}
	var entries []*selection
	for _, e := range m.ServiceEntries {
		if labels := e.Spec.GetWorkloadSelector().GetLabels(); len(labels) > 0 {
			s := &selection{object: e.Meta, field: "spec.workloadSelector", labels: labels, names: e.Spec.Resolution != networking.ServiceEntry_STATIC}
			entries = append(entries, s)
			byNamespace[e.Namespace] = append(byNamespace[e.Namespace], s)
		}
	}
	for _, s := range m.Services {
		if labels := s.Spec.Spec.Selector; len(labels) > 0 {
			byNamespace[s.Namespace] = append(byNamespace[s.Namespace], &selection{object: s.Meta, labels: labels})
		}
	}
	for _, w := range m.WorkloadEntries {
		b.checkSelected(w, byNamespace[w.Namespace])
	}
	if len(m.WorkloadEntries) == 0 && b.opts.OpenRegistration {
		return
	}
	for _, s := range entries {
		if !s.used {
			b.report(Info, s.object, s.field, "selects no WorkloadEntry of the namespace %s", s.object.Namespace)
		}
	}
}

func (b *builder) checkSelected(w *WorkloadEntry, all []*selection) {
	chosen := false
	for _, s := range all {
		if !Selects(s.labels, w.Selectable) {
			continue
		}
		chosen, s.used = true, true
		if a := w.Spec.Address; !s.names && a != "" && !isIP(a) && !strings.HasPrefix(a, unixPrefix) {
			b.report(Warning, w.Meta, "spec.address", "is a name, which %s does not look up: write resolution: DNS there, or an IP address here", describeMeta(s.object))
		}
	}
	if !chosen {
		b.report(Warning, w.Meta, "spec.labels", "no ServiceEntry or Service of the namespace %s selects it: it gets no calls", w.Namespace)
	}
}

// checkPolicies warns about policies for what is not there, and about those that an older one hides.
func (b *builder) checkPolicies(m *Model, known *places) {
	for _, p := range m.Policies {
		if p.Spec.Subset != "" && !known.subsets.has(p.Host, p.Spec.Subset) {
			b.report(Warning, p.Meta, "spec.subset", "no DestinationRule for %s has a subset %q: the policy does nothing", p.Host, p.Spec.Subset)
		}
		if f := p.Spec.Fallback; f != nil && f.Destination != nil {
			d := f.Destination
			b.checkTarget(known, p.Meta, "spec.fallback.destination", d.Host, d.Subset, d.Port, "port")
		}
		b.checkNeeds(m, p)
		b.checkPolicyRivals(m, p)
	}
}

func (b *builder) checkPolicyRivals(m *Model, p *MeshPolicy) {
	all := m.policies[p.Host]
	for _, older := range all[:slices.Index(all, p)] {
		if older.Namespace != p.Namespace || older.Spec.Subset != p.Spec.Subset || older.Spec.Port != p.Spec.Port {
			continue
		}
		for _, section := range p.Spec.sections() {
			if slices.Contains(older.Spec.sections(), section) {
				b.report(Warning, p.Meta, "spec."+section, "%s already has it for %s: this one is not used", describeMeta(older.Meta), p.Host)
			}
		}
	}
}
