package translate

import (
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// reads is what the rules of a model read of a client beside its type and namespace. Clients that differ in nothing of it
// are sent the same.
type reads struct {
	labels   []string // sorted
	locality bool
	serving  []string // hosts, exact and wildcard, whose servers a rule treats differently; sorted
}

func newReads(m *config.Model) reads {
	var out reads
	labels, serving := map[string]bool{}, map[string]bool{}
	note := func(selector map[string]string) {
		for k := range selector {
			labels[k] = true
		}
	}
	for _, v := range m.VirtualServices {
		for _, http := range v.Spec.GetHttp() {
			for _, match := range http.GetMatch() {
				note(match.GetSourceLabels())
			}
		}
	}
	for _, d := range m.DestinationRules {
		note(d.Spec.GetWorkloadSelector().GetMatchLabels())
		for _, p := range settingsOf(d.Spec) {
			l := p.GetLoadBalancer()
			out.locality = out.locality || p.GetOutlierDetection() != nil || l.GetLocalityLbSetting() != nil || l.GetZoneAwareLbSetting() != nil
			for _, label := range slices.Concat(l.GetLocalityLbSetting().GetFailoverPriority(), l.GetZoneAwareLbSetting().GetFailoverPriority()) {
				if key, _, fixed := strings.Cut(label, "="); !fixed {
					labels[key] = true
				}
			}
		}
	}
	out.locality = readNearness(m, labels) || out.locality
	for _, s := range m.Sidecars {
		note(s.Spec.GetWorkloadSelector().GetLabels())
	}
	for _, p := range m.Policies {
		out.locality = out.locality || p.Spec.OutlierDetection != nil
		if p.Spec.MaxConcurrentRequests != 0 || p.Spec.RateLimit != nil && p.Spec.RateLimit.Server != nil {
			serving[p.Host] = true
		}
	}
	out.labels, out.serving = slices.Sorted(maps.Keys(labels)), slices.Sorted(maps.Keys(serving))
	return out
}

// readNearness adds the labels by which services tell near endpoints from far ones, and reports whether any reads the
// client's locality.
func readNearness(m *config.Model, labels map[string]bool) (locality bool) {
	near := func(d config.Distribution) {
		for _, label := range distributions[d] {
			labels[label], locality = true, true
		}
	}
	for _, s := range m.Services {
		near(config.DistributionOf(s.Spec.Spec.TrafficDistribution, s.Annotations))
		if p := s.Spec.Spec.InternalTrafficPolicy; p != nil && *p == corev1.ServiceInternalTrafficPolicyLocal {
			labels[NodeLabel] = true
		}
	}
	for _, e := range m.ServiceEntries {
		near(config.DistributionOf(nil, e.Annotations))
	}
	return locality
}

// settings is what the policy of a rule and that of one of its ports have in common.
type settings interface {
	GetLoadBalancer() *networking.LoadBalancerSettings
	GetConnectionPool() *networking.ConnectionPoolSettings
	GetOutlierDetection() *networking.OutlierDetection
	GetTls() *networking.ClientTLSSettings
}

// settingsOf lists the settings of a rule, of its subsets and of all their ports.
func settingsOf(d *networking.DestinationRule) []settings {
	policies := []*networking.TrafficPolicy{d.GetTrafficPolicy()}
	for _, s := range d.GetSubsets() {
		policies = append(policies, s.GetTrafficPolicy())
	}
	var out []settings
	for _, p := range policies {
		out = append(out, p)
		for _, l := range p.GetPortLevelSettings() {
			out = append(out, l)
		}
	}
	return out
}

// Restrict returns the client without what makes no difference: what no rule reads, and between which releases.
func (w *World) Restrict(c Client) Client {
	r := w.rules.reads
	kept := map[string]string{}
	for _, k := range r.labels {
		if v, ok := c.Labels[k]; ok {
			kept[k] = v
		}
	}
	c.Labels, c.Release = kept, c.Kind().Canonical().Release
	if !r.locality {
		c.Locality = ""
	}
	var serves []Served
	for _, s := range c.Serves {
		if c.ours() && r.serves(config.Candidates(s.Host, c.Namespace, w.rules.model.Domain)) {
			serves = append(serves, s)
		}
	}
	c.Serves = serves
	return c
}

// serves reports whether servers of any of the hosts are treated differently.
func (r *reads) serves(hosts []string) bool {
	for _, rule := range r.serving {
		for _, h := range hosts {
			if rule == h || Matches(rule, h) {
				return true
			}
		}
	}
	return false
}

// SameViews reports whether the rules of two worlds read the same of clients: whether Restrict is the same.
func SameViews(a, b *World) bool {
	if a.rules == b.rules {
		return true
	}
	x, y := a.rules.reads, b.rules.reads
	return slices.Equal(x.labels, y.labels) && x.locality == y.locality && slices.Equal(x.serving, y.serving)
}
