package translate

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
	"github.com/meshframe/meshframe/xdsserver/support"
)

// Cluster translates a cluster (CDS).
//
// A cluster whose calls must fail does not exist for gRPC's own clients; to Meshframe's it is sent with
// filter_metadata["meshframe"]["error"], a text that its calls fail with.
//
// Clients of the state-of-the-world protocol are sent a cluster without endpoints for one that does not exist: gRPC
// gives a cluster that it has never seen 15 s to appear, and until then keeps all of its old configuration.
func (w *World) Cluster(c Client, name string) Result {
	t := w.begin(c)
	if reason, ok := refusedReason(name); ok {
		return t.refused(name, reason)
	}
	none := t.hollow(name, name)
	n, ok := ParseClusterName(name)
	if !ok {
		return t.missing(none)
	}
	s := t.service(n.Host, n.Port)
	if s == nil || s.Port(n.Port) == nil {
		return t.missing(none)
	}
	d := t.destination(s)
	_, sub, ok := d.subsetLabels(n.Subset)
	if !ok {
		return t.missing(none)
	}
	p := t.policyFor(s, &d, n.Port, sub)
	if reason := p.refusal(); reason != "" {
		return t.refused(name, reason)
	}
	if t.byName(s) && !c.knows(support.NamedClusters) {
		return t.unnamed(name, s)
	}
	m := &clusterv3.Cluster{Name: name, AltStatName: name + ";", Metadata: origin(d, n.Subset)}
	t.discovery(m, s, n)
	t.balancer(m, p)
	t.limits(m, p)
	t.outlier(m, p)
	if c.ours() {
		extend(&m.Metadata, t.clusterExtension(s, n, p))
	}
	return t.found(m)
}

func refusedReason(name string) (reason string, ok bool) {
	if len(name) < len(RefusedPrefix) || name[:len(RefusedPrefix)] != RefusedPrefix {
		return "", false
	}
	return name[len(RefusedPrefix):], true
}

func (t *translation) refused(name, reason string) Result {
	none := t.hollow(name, RefusedPrefix+reason)
	r := t.missing(none)
	r.Refused = true
	if t.client.ours() {
		extend(&none.Metadata, object{"error": text(reason)})
		r.Message, r.Instead = none, nil
	}
	return r
}

// hollow is a cluster without endpoints, by whose name or that of its assignment errors say what is wrong. grpc-go's
// errors do not have the name of an assignment that is empty, but that of an aggregate that leads nowhere.
func (t *translation) hollow(name, assignment string) *clusterv3.Cluster {
	if t.client.Type == support.GRPCGo && t.client.knows(support.NamedClusters) {
		return &clusterv3.Cluster{
			Name: name,
			ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
				Name:        "envoy.clusters.aggregate",
				TypedConfig: packed(&aggregatev3.ClusterConfig{Clusters: []string{name}}),
			}},
		}
	}
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: assignment},
	}
}

func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

// unnamed refuses a cluster to a client that does not look names up.
func (t *translation) unnamed(name string, s *registry.Service) Result {
	reason := s.Host + " is a name to look up, which this release of gRPC does not do"
	if s.Source != nil {
		t.say(s.Source, "", support.Verdict{Outcome: support.Rejected, Reason: "calls fail: " + reason})
	}
	return t.refused(name, reason)
}

// byName reports whether clients look the endpoints of a service up themselves.
func (t *translation) byName(s *registry.Service) bool {
	return s.Resolution.ByName() || s.Resolution == registry.None
}

// discovery says where the endpoints come from: EDS, or the one name that the client resolves. gRPC's own clients know
// names by LOGICAL_DNS only.
func (t *translation) discovery(m *clusterv3.Cluster, s *registry.Service, n ClusterName) {
	if !s.Resolution.ByName() {
		if s.Resolution == registry.None {
			s = atName(s)
		} else {
			m.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
			m.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: m.Name}
			return
		}
	}
	t.dep(Endpoints, s.Host)
	m.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_LOGICAL_DNS}
	if s.Resolution == registry.DNS && t.client.ours() {
		m.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STRICT_DNS}
	}
	m.LoadAssignment = &endpointv3.ClusterLoadAssignment{ClusterName: m.Name}
	for i := range s.Endpoints {
		if own, ok := s.Endpoints[i].Port(n.Port); ok {
			m.LoadAssignment.Endpoints = []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socketAddress(s.Endpoints[i].Address, own)}},
			}}}}
			return
		}
	}
}

// origin names the rule that a cluster comes from, as Istio's tools expect it.
func origin(d destination, subset string) *corev3.Metadata {
	if len(d.rules) == 0 {
		return nil
	}
	fields := object{"config": text(configPath(d.rules[0].Meta, "destination-rule"))}
	if subset != "" {
		fields["subset"] = text(subset)
	}
	return metadata("istio", fields)
}

func configPath(o *config.Meta, kind string) string {
	return "/apis/" + o.APIVersion + "/namespaces/" + o.Namespace + "/" + kind + "/" + o.Name
}
