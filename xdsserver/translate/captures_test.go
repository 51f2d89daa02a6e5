package translate_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/support"
	"github.com/meshframe/meshframe/xdsserver/translate"
)

// TestCaptures compares with what istiod sent for the same configuration. XDS_CAPTURES names the directory of the
// captures: SCENARIO/input/*.yaml, SCENARIO/NODE/{node,lds,rds,cds,eds}.json.
func TestCaptures(t *testing.T) {
	dir := os.Getenv("XDS_CAPTURES")
	if dir == "" {
		t.Skip("XDS_CAPTURES names no directory of captures of istiod")
	}
	nodes, err := filepath.Glob(filepath.Join(dir, "*", "grpc-*"))
	if err != nil || len(nodes) == 0 {
		t.Fatal("no captures in ", dir, err)
	}
	for _, node := range nodes {
		scenario, name := filepath.Base(filepath.Dir(node)), filepath.Base(node)
		t.Run(scenario+"/"+name, func(t *testing.T) {
			c := &capture{T: t, dir: node, world: capturedWorld(t, filepath.Dir(node)), client: capturedClient(t, node)}
			c.listeners()
			c.routes()
			c.clusters()
			c.endpoints()
		})
	}
}

type capture struct {
	*testing.T
	dir    string
	world  *translate.World
	client translate.Client
}

func capturedWorld(t *testing.T, scenario string) *translate.World {
	t.Helper()
	inputs, err := filepath.Glob(filepath.Join(scenario, "input", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var files []config.File
	for _, input := range inputs {
		data, err := os.ReadFile(input)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, config.Parse(filepath.Base(input), data))
	}
	return worldOf(t, translate.Options{RegistryOnly: true}, files...)
}

func capturedClient(t *testing.T, dir string) translate.Client {
	t.Helper()
	n := &corev3.Node{}
	readJSON(t, filepath.Join(dir, "node.json"), n)
	fields := n.GetMetadata().GetFields()
	c := translate.Client{Type: support.GRPCCore, Namespace: fields["NAMESPACE"].GetStringValue(), Labels: map[string]string{}}
	l := n.GetLocality()
	c.Locality = strings.Join([]string{l.GetRegion(), l.GetZone(), l.GetSubZone()}, "/")
	for k, v := range fields["LABELS"].GetStructValue().GetFields() {
		c.Labels[k] = v.GetStringValue()
	}
	return c
}

func readJSON(t *testing.T, file string, m proto.Message) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := protojson.Unmarshal(data, m); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

// resources reads what was answered for one type; nil when it was not asked for.
func resources[T proto.Message](c *capture, file string, fresh func() T) (list []T) {
	c.Helper()
	data, err := os.ReadFile(filepath.Join(c.dir, file))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		c.Fatal(err)
	}
	var doc struct{ Resources []json.RawMessage }
	if err := json.Unmarshal(data, &doc); err != nil {
		c.Fatal(err)
	}
	for _, r := range doc.Resources {
		m := fresh()
		if err := protojson.Unmarshal(r, m); err != nil {
			c.Fatalf("%s: %v", file, err)
		}
		list = append(list, m)
	}
	return list
}

func (c *capture) compare(name string, want, got proto.Message) {
	c.Helper()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		c.Errorf("%s (-istiod +ours):\n%s", name, diff)
	}
}

func (c *capture) listeners() {
	for _, want := range resources(c, "lds.json", func() *listenerv3.Listener { return &listenerv3.Listener{} }) {
		got, ok := c.world.Listener(c.client, want.GetName()).Message.(*listenerv3.Listener)
		if !ok {
			c.Errorf("no listener %s", want.GetName())
			continue
		}
		// Istio leaves the virtual host of inbound listeners without a name.
		for _, f := range got.GetFilterChains() {
			f.GetFilters()[0].ConfigType = nil
		}
		for _, f := range want.GetFilterChains() {
			f.GetFilters()[0].ConfigType = nil
		}
		c.compare(want.GetName(), want, got)
	}
}

// routes are compared as this project's own client gets them, because that is nearest to what istiod sends.
func (c *capture) routes() {
	client := c.client
	client.Type = support.Meshframe
	for _, want := range resources(c, "rds.json", func() *routev3.RouteConfiguration { return &routev3.RouteConfiguration{} }) {
		got, ok := c.world.Route(client, want.GetName()).Message.(*routev3.RouteConfiguration)
		if !ok {
			c.Errorf("no routes %s", want.GetName())
			continue
		}
		normalize(want)
		normalize(got)
		unhashed(want, got)
		c.compare(want.GetName(), want, got)
	}
}

// normalize takes away what this project leaves out on purpose, and what means the same.
func normalize(rc *routev3.RouteConfiguration) {
	for _, v := range rc.GetVirtualHosts() {
		slices.Sort(v.Domains)
		v.Routes = slices.DeleteFunc(v.Routes, func(r *routev3.Route) bool { return len(r.GetMatch().GetQueryParameters()) > 0 })
		for _, r := range v.Routes {
			r.Decorator = nil // names a span
			delete(r.TypedPerFilterConfig, "envoy.filters.http.cors")
			a := r.GetRoute()
			if a == nil {
				continue
			}
			a.MaxGrpcTimeout = nil // older clients'; the default route has only this
			if a.GetMaxStreamDuration().GetMaxStreamDuration().AsDuration() == 0 {
				a.MaxStreamDuration = nil
			}
			for _, m := range a.GetRequestMirrorPolicies() {
				m.TraceSampled = nil
				m.DisableShadowHostSuffixAppend = false // istiod lets copies pass for the calls themselves
			}
			if p := a.GetRetryPolicy().GetRetryPriority(); p != nil {
				p.ConfigType = nil // how often priorities are left out anew
			}
			if len(r.TypedPerFilterConfig) == 0 {
				r.TypedPerFilterConfig = nil
			}
		}
	}
}

// unhashed takes away the hash policies that istiod makes of a rule whose subset has another policy than to hash, which
// say nothing, and what comes of them.
func unhashed(want, got *routev3.RouteConfiguration) {
	for i, v := range want.GetVirtualHosts() {
		for j, r := range v.GetRoutes() {
			if i >= len(got.GetVirtualHosts()) || j >= len(got.GetVirtualHosts()[i].GetRoutes()) {
				return
			}
			ours := got.GetVirtualHosts()[i].GetRoutes()[j].GetRoute()
			if theirs := r.GetRoute(); len(theirs.GetHashPolicy()) > 0 && len(ours.GetHashPolicy()) == 0 && ours.GetRetryPolicy() != nil {
				theirs.HashPolicy, ours.RetryPolicy.RetryHostPredicate = nil, nil
			}
		}
	}
}

func (c *capture) clusters() {
	for _, want := range resources(c, "cds.json", func() *clusterv3.Cluster { return &clusterv3.Cluster{} }) {
		r := c.world.Cluster(c.client, want.GetName())
		got, ok := r.Message.(*clusterv3.Cluster)
		if !ok {
			// istiod sends clusters in plaintext whose rule asks for TLS.
			if !r.Refused {
				c.Errorf("no cluster %s", want.GetName())
			}
			continue
		}
		got.Metadata = nil
		if want.GetCircuitBreakers() == nil {
			got.CircuitBreakers = nil // said explicitly: gRPC's own default would limit
		}
		switch {
		case want.GetLbPolicy() == clusterv3.Cluster_MAGLEV: // gRPC refuses it
			want.LbPolicy, want.LbConfig = clusterv3.Cluster_ROUND_ROBIN, nil
		case want.GetLbPolicy() == clusterv3.Cluster_RING_HASH && got.GetLbPolicy() == clusterv3.Cluster_ROUND_ROBIN:
			want.LbPolicy, want.LbConfig = clusterv3.Cluster_ROUND_ROBIN, nil // by what gRPC cannot hash
		case got.GetLbPolicy() == clusterv3.Cluster_LEAST_REQUEST: // istiod does not know that gRPC can
			got.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
		}
		c.compare(want.GetName(), want, got)
	}
}

func (c *capture) endpoints() {
	for _, want := range resources(c, "eds.json", func() *endpointv3.ClusterLoadAssignment { return &endpointv3.ClusterLoadAssignment{} }) {
		got, ok := c.world.Endpoints(c.client, want.GetClusterName()).Message.(*endpointv3.ClusterLoadAssignment)
		if !ok {
			c.Errorf("no assignment %s", want.GetClusterName())
			continue
		}
		for _, l := range want.GetEndpoints() {
			for _, e := range l.GetLbEndpoints() {
				e.Metadata = nil
			}
		}
		slices.SortFunc(want.Endpoints, byLocality)
		slices.SortFunc(got.Endpoints, byLocality)
		c.compare(want.GetClusterName(), want, got)
	}
}

func byLocality(a, b *endpointv3.LocalityLbEndpoints) int {
	return strings.Compare(a.GetLocality().String(), b.GetLocality().String())
}
