package translate

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
)

// localities returns the rule's settings of localities; nil when they are switched off.
func (p *trafficPolicy) localities() *networking.LocalityLoadBalancerSetting {
	l := p.balancer.value.GetLocalityLbSetting()
	if l.GetEnabled() != nil && !l.GetEnabled().GetValue() {
		return nil
	}
	return l
}

// place is a group of endpoints that one priority and one weight hold for.
type place struct {
	locality string
	priority int
}

// preference says which endpoints a client prefers by where it and they are, as Istio does: with outlier detection those
// in its own subzone, zone and region, in this order, or what failover and failoverPriority say instead; without it, the
// client would never leave the nearest.
func (t *translation) preference(p trafficPolicy, s *registry.Service) func(*registry.Endpoint) place {
	if zones := p.balancer.value.GetZoneAwareLbSetting(); zones != nil {
		return t.regional(zones)
	}
	setting := p.balancer.value.GetLocalityLbSetting()
	if labels := distributions[s.Distribution]; labels != nil && setting == nil {
		return func(e *registry.Endpoint) place { return place{e.Locality, t.distant(labels, e)} }
	}
	if setting != nil && p.localities() == nil || len(setting.GetDistribute()) > 0 || !p.ejects() {
		return indifferent
	}
	if len(setting.GetFailoverPriority()) > 0 && len(setting.GetFailover()) == 0 {
		return t.tiers(setting.GetFailoverPriority(), func(string) int { return 0 })
	}
	return t.tiers(setting.GetFailoverPriority(), func(locality string) int {
		return distance(t.client.Locality, locality, setting.GetFailover())
	})
}

// regional prefers the client's own region to others, among endpoints that are alike by failoverPriority, as Istio does
// for zone aware routing: with outlier detection and without. Zones make no difference.
func (t *translation) regional(setting *networking.ZoneAwareLoadBalancerSetting) func(*registry.Endpoint) place {
	if setting.GetEnabled() != nil && !setting.GetEnabled().GetValue() {
		return indifferent
	}
	return t.tiers(setting.GetFailoverPriority(), func(locality string) int {
		if d := distance(t.client.Locality, locality, setting.GetFailover()); d >= otherRegion {
			return d
		}
		return 0
	})
}

func indifferent(e *registry.Endpoint) place { return place{locality: e.Locality} }

// tiers prefers endpoints by labels, and those that are alike by how far away their locality is. To a client that does not
// know where it is none is far.
func (t *translation) tiers(labels []string, far func(locality string) int) func(*registry.Endpoint) place {
	known := map[string]int{}
	return func(e *registry.Endpoint) place {
		d, ok := known[e.Locality]
		if !ok && t.client.Locality != "" {
			d = far(e.Locality)
			known[e.Locality] = d
		}
		return place{e.Locality, t.mismatch(labels, e)*(farthest+1) + d}
	}
}

// Labels by which endpoints are near or far.
const (
	networkLabel = "topology.istio.io/network"
	regionLabel  = "topology.kubernetes.io/region"
	zoneLabel    = "topology.kubernetes.io/zone"
	subzoneLabel = "topology.istio.io/subzone"
	// NodeLabel is the label of a client that names its node.
	NodeLabel = "kubernetes.io/hostname"
)

// distributions are what trafficDistribution stands for, as in Istio: a failoverPriority that needs no outlier detection.
var distributions = map[config.Distribution][]string{
	config.SameZone: {networkLabel, regionLabel, zoneLabel},
	config.SameNode: {networkLabel, regionLabel, zoneLabel, subzoneLabel, NodeLabel},
}

// distant says how far away an endpoint is by labels of which the first is the network: as mismatch, but that endpoints
// in another network come after all others, in the same order. What a client does not know of itself does not count, nor
// does a region or subzone that an endpoint's slice does not tell.
func (t *translation) distant(labels []string, e *registry.Endpoint) int {
	far := 0
	for i, label := range labels {
		own := topology(t.client.Labels, t.client.Locality, "", "", label)
		other := topology(e.Labels, e.Locality, e.Network, e.Node, label)
		switch {
		case own == other, own == "" && i > 0, other == "" && (label == regionLabel || label == subzoneLabel):
		case i == 0:
			far = len(labels)
		default:
			return far + len(labels) - i
		}
	}
	return far
}

// reachable is a service with the endpoints that the client may reach.
func (t *translation) reachable(s *registry.Service) *registry.Service {
	if !s.NodeLocal {
		return s
	}
	local := *s
	local.Endpoints = slices.DeleteFunc(slices.Clone(s.Endpoints), func(e registry.Endpoint) bool {
		return e.Node != t.client.Labels[NodeLabel]
	})
	return &local
}

// Distances of other regions.
const (
	otherRegion = 3
	farthest    = 4 // no distance is greater
)

// failover says which region stands in for another.
type failover interface {
	GetFrom() string
	GetTo() string
}

// distance is 0 for the same subzone, 1 for the same zone, 2 for the same region, 3 for another region, and 4 for one that
// failover does not name where it names one for the client's.
func distance[F failover](from, to string, stands []F) int {
	a, b := split(from), split(to)
	for i := range a {
		if a[i] == b[i] {
			continue
		}
		if i > 0 {
			return len(a) - i
		}
		for _, f := range stands {
			if f.GetFrom() != a[0] {
				continue
			}
			if f.GetTo() != b[0] {
				return farthest
			}
			break
		}
		return len(a)
	}
	return 0
}

// mismatch says how many labels from the first that differs an endpoint is away: 0 when it has all of them. A label with
// "=" is compared with what it says, others with the client's.
func (t *translation) mismatch(labels []string, e *registry.Endpoint) int {
	for i, label := range labels {
		key, want, fixed := strings.Cut(label, "=")
		if !fixed {
			want = topology(t.client.Labels, t.client.Locality, "", "", key)
		}
		if topology(e.Labels, e.Locality, e.Network, e.Node, key) != want {
			return len(labels) - i
		}
	}
	return 0
}

// topology returns a label, where that is absent by what is known of a place.
func topology(labels map[string]string, locality, network, node, key string) string {
	if v, ok := labels[key]; ok {
		return v
	}
	switch key {
	case regionLabel:
		return split(locality)[0]
	case zoneLabel:
		return split(locality)[1]
	case subzoneLabel:
		return split(locality)[2]
	case networkLabel:
		return network
	case NodeLabel:
		return node
	default:
		return ""
	}
}

// split reads "region/zone/subzone", of which the end may be missing.
func split(locality string) [3]string {
	var out [3]string
	copy(out[:], strings.SplitN(locality, "/", 3))
	return out
}

func protoLocality(s string) *corev3.Locality {
	parts := split(s)
	return &corev3.Locality{Region: parts[0], Zone: parts[1], SubZone: parts[2]}
}

// contiguous numbers the priorities of groups from 0 without gaps and puts the groups in their order.
func contiguous(groups []*endpointv3.LocalityLbEndpoints) {
	used := map[uint32]bool{}
	for _, g := range groups {
		if g.GetPriority() != groups[0].GetPriority() {
			used[groups[0].GetPriority()], used[g.GetPriority()] = true, true
		}
	}
	if len(used) == 0 { // all are alike
		for _, g := range groups {
			g.Priority = 0
		}
		return
	}
	order := slices.Sorted(maps.Keys(used))
	for _, g := range groups {
		at, _ := slices.BinarySearch(order, g.GetPriority())
		g.Priority = uint32(at)
	}
	slices.SortStableFunc(groups, func(a, b *endpointv3.LocalityLbEndpoints) int { return cmp.Compare(a.GetPriority(), b.GetPriority()) })
}

// distribute gives localities the weights that a rule has for the client's, and leaves out those that it has none for.
func (t *translation) distribute(groups []*endpointv3.LocalityLbEndpoints, p trafficPolicy) []*endpointv3.LocalityLbEndpoints {
	if t.client.Locality == "" {
		return groups
	}
	for _, d := range p.localities().GetDistribute() {
		if within(protoLocality(t.client.Locality), d.GetFrom()) {
			return weighted(groups, d.GetTo())
		}
	}
	return groups
}

// weighted gives each group its part of the weight of the most specific pattern that covers it.
func weighted(groups []*endpointv3.LocalityLbEndpoints, to map[string]uint32) []*endpointv3.LocalityLbEndpoints {
	patterns := slices.SortedFunc(maps.Keys(to), func(a, b string) int {
		return cmp.Or(cmp.Compare(strings.Count(b, "/"), strings.Count(a, "/")), cmp.Compare(len(b), len(a)), strings.Compare(a, b))
	})
	var out []*endpointv3.LocalityLbEndpoints
	left := slices.Clone(groups)
	for _, pattern := range patterns {
		covered := func(g *endpointv3.LocalityLbEndpoints) bool { return within(g.GetLocality(), pattern) }
		total := uint64(0)
		for _, g := range left {
			if covered(g) {
				total += uint64(g.GetLoadBalancingWeight().GetValue())
			}
		}
		for _, g := range left {
			if covered(g) {
				g.LoadBalancingWeight.Value = uint32(math.Ceil(float64(g.GetLoadBalancingWeight().GetValue()) * float64(to[pattern]) / float64(total)))
				out = append(out, g)
			}
		}
		left = slices.DeleteFunc(left, covered)
	}
	return out
}

// within reports whether a pattern such as "region/*" covers a locality.
func within(l *corev3.Locality, pattern string) bool {
	want := split(pattern)
	for i, have := range []string{l.GetRegion(), l.GetZone(), l.GetSubZone()} {
		if want[i] != "*" && want[i] != have && !(i > 0 && want[i] == "") {
			return false
		}
	}
	return true
}
