package translate

import (
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/xdsserver/registry"
)

// Endpoints translates the cluster load assignment (EDS) of a cluster.
func (w *World) Endpoints(c Client, name string) Result {
	t := w.begin(c)
	empty := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	n, ok := ParseClusterName(name)
	if !ok {
		return t.missing(empty)
	}
	s := t.service(n.Host, n.Port)
	if s == nil || s.Port(n.Port) == nil || s.Resolution.ByName() {
		return t.missing(empty)
	}
	t.dep(Endpoints, s.Host)
	t.unsettled = t.unsettled || s.Source == nil || len(s.Endpoints) == 0 ||
		slices.ContainsFunc(s.Endpoints, func(e registry.Endpoint) bool { return e.Registered })
	d := t.destination(s)
	labels, sub, ok := d.subsetLabels(n.Subset)
	if !ok {
		return t.missing(empty)
	}
	p := t.policyFor(s, &d, n.Port, sub)
	groups := grouped(t.reachable(s), n.Port, labels, t.preference(p, s))
	contiguous(groups)
	return t.found(&endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: t.distribute(groups, p)})
}

// grouped groups the endpoints of a port that have the labels by where they are and how much they are preferred, in the
// order in which the groups first appear. A group weighs as much as its endpoints together.
func grouped(s *registry.Service, port uint32, labels map[string]string, prefer func(*registry.Endpoint) place) []*endpointv3.LocalityLbEndpoints {
	var list []*endpointv3.LocalityLbEndpoints
	at := map[place]*endpointv3.LocalityLbEndpoints{}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		own, ok := e.Port(port)
		if !ok || !e.Matches(labels) || strings.HasPrefix(e.Address, "unix:") {
			continue
		}
		where := prefer(e)
		l := at[where]
		if l == nil {
			l = &endpointv3.LocalityLbEndpoints{
				Locality: protoLocality(e.Locality), Priority: uint32(where.priority), LoadBalancingWeight: wrapperspb.UInt32(0),
			}
			at[where] = l
			list = append(list, l)
		}
		weight := max(e.Weight, 1)
		l.LoadBalancingWeight.Value += weight
		l.LbEndpoints = append(l.LbEndpoints, &endpointv3.LbEndpoint{
			HealthStatus:        health(e.Health),
			LoadBalancingWeight: wrapperspb.UInt32(weight),
			HostIdentifier:      &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socketAddress(e.Address, own)}},
		})
	}
	return list
}

func health(h registry.Health) corev3.HealthStatus {
	switch h {
	case registry.Draining:
		return corev3.HealthStatus_DRAINING
	case registry.Unhealthy:
		return corev3.HealthStatus_UNHEALTHY
	default:
		return corev3.HealthStatus_UNKNOWN // clients take it for healthy
	}
}

func socketAddress(host string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       host,
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}
