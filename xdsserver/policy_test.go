package xdsserver_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/meshframe/meshframe/xdsserver"
)

// ours makes a node as this project's library describes itself.
func ours(id string, metadata map[string]any) *corev3.Node {
	n := node(id, metadata)
	n.UserAgentName = "meshframe"
	return n
}

// sidecar lets the clients of the namespace see only these hosts.
func sidecar(hosts ...string) string {
	return `
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: scope}
spec:
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  egress: [{hosts: ["` + strings.Join(hosts, `", "`) + `"]}]
`
}

// What a Sidecar hides goes, and comes back with it; the clients of other namespaces hear nothing of it.
func TestSidecarScope(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		const name = "reviews.default:9080"
		s := embedded(t, xdsserver.Options{}, reviews("10.0.1.1", ""))
		c := connect(t, dial(t, s.Dialer()), protocol, ours("a", map[string]any{"NAMESPACE": "default"}))
		other := connect(t, dial(t, s.Dialer()), protocol, ours("b", map[string]any{"NAMESPACE": "other"}))
		for _, c := range []*ads{c, other} {
			c.subscribe(lds, name)
			c.expect("LDS +" + name)
		}
		apply(t, s, reviews("10.0.1.1", ""), sidecar("./ratings.default.svc.cluster.local"))
		hidden := c.got()
		if len(hidden) != 1 || protocol == "delta" && !slices.Contains(hidden[0].removed, name) {
			t.Fatalf("got %v", hidden)
		}
		if l, ok := hidden[0].resources[name].(*listenerv3.Listener); ok && len(listenerRoutes(t, l).GetVirtualHosts()) > 0 {
			t.Errorf("got %v", l)
		}
		c.ack(hidden[0])
		other.expect()

		// A rule that the client follows sends calls there.
		rule := strings.NewReplacer("hosts: [reviews]", "hosts: [ratings]", ", subset: v1", "").Replace(routed("v1 100"))
		apply(t, s, reviews("10.0.1.1", ""), sidecar("./ratings.default.svc.cluster.local"), rule)
		c.expect("LDS +" + name)
		apply(t, s, reviews("10.0.1.1", ""), sidecar("./ratings.default.svc.cluster.local"))
		c.ack(c.got()[0])
		apply(t, s, reviews("10.0.1.1", ""))
		c.expect("LDS +" + name)
		other.expect()

		// One of the root namespace is for all namespaces without one.
		root := strings.Replace(sidecar("./ratings.default.svc.cluster.local"), "{name: scope}", "{name: scope, namespace: istio-system}", 1)
		apply(t, s, reviews("10.0.1.1", ""), root)
		for _, c := range []*ads{c, other} {
			if m := c.got(); len(m) != 1 {
				t.Errorf("got %v", m)
			}
		}
	})
}

// What a Sidecar hides under ALLOW_ANY is a name like any other that is left to DNS; services of the mesh itself are not
// hidden.
func TestSidecarThatAllowsAny(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{OutboundPolicy: xdsserver.RegistryOnly, SystemNamespace: "system"}, reviews("10.0.1.1", ""),
			strings.Replace(sidecar("./ratings.default.svc.cluster.local"), "REGISTRY_ONLY", "ALLOW_ANY", 1),
			strings.NewReplacer("{name: reviews}", "{name: own, namespace: system}", "reviews.", "own.").Replace(reviews("10.0.1.1", "")))
		pass(time.Minute) // of registrations that may come back
		c := connect(t, dial(t, s.Dialer()), protocol, ours("a", map[string]any{"NAMESPACE": "default"}))
		for name, want := range map[string]clusterv3.Cluster_DiscoveryType{
			"reviews.default.svc.cluster.local": clusterv3.Cluster_LOGICAL_DNS,
			"own.default.svc.cluster.local":     clusterv3.Cluster_EDS,
		} {
			cluster := "outbound|9080||" + name
			c.subscribe(cds, cluster)
			got := c.drain()
			if len(got) == 0 {
				t.Errorf("nothing about %s", name)
				continue
			}
			if m, _ := got[len(got)-1].resources[cluster].(*clusterv3.Cluster); m.GetType() != want {
				t.Errorf("%s: got %v", name, m)
			}
		}
	})
}

// Where clients are makes a difference from when a rule says so.
func TestLocalityViews(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		places := strings.NewReplacer("10.0.1.1,", "10.0.1.1, locality: eu/a,", "10.0.2.1,", "10.0.2.1, locality: us/a,").Replace(reviews("10.0.1.1", "10.0.2.1"))
		s := embedded(t, xdsserver.Options{}, places)
		at := func(region string) *ads {
			n := ours(region, map[string]any{"NAMESPACE": "default"})
			n.Locality = &corev3.Locality{Region: region, Zone: "a"}
			c := connect(t, dial(t, s.Dialer()), protocol, n)
			c.subscribe(eds, rcName)
			return c
		}
		eu, us := at("eu"), at("us")
		first := func(c *ads) string {
			c.Helper()
			m := c.expect("EDS +" + rcName)
			return m[0].resources[rcName].(*endpointv3.ClusterLoadAssignment).GetEndpoints()[0].GetLocality().GetRegion()
		}
		if a, b := first(eu), first(us); a != b {
			t.Errorf("without a rule: %s, %s", a, b)
		}
		apply(t, s, places, `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}}}
`)
		if a, b := first(eu), first(us); a != "eu" || b != "us" {
			t.Errorf("with a rule: %s, %s", a, b)
		}
	})
}

// The servers of a service that a MeshPolicy limits are told, and no others.
func TestServerLimits(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		const name = inbound + "10.0.8.1:7000"
		s := embedded(t, xdsserver.Options{}, reviews("10.0.1.1", ""))
		server := func(service string) *ads {
			n := serverNode(service, service)
			n.UserAgentName = "meshframe"
			c := connect(t, dial(t, s.Dialer()), protocol, n)
			c.subscribe(lds, name)
			return c
		}
		reviewed, other := server("reviews:9080"), server("other:9080")
		reviewed.expect("LDS +" + name)
		other.expect("LDS +" + name)
		limit := func(n string) string {
			return `
apiVersion: networking.meshframe.dev/v1alpha1
kind: MeshPolicy
metadata: {name: reviews}
spec: {host: reviews, maxConcurrentRequests: ` + n + `}
`
		}
		for _, n := range []float64{8, 16} {
			apply(t, s, reviews("10.0.1.1", ""), limit(map[float64]string{8: "8", 16: "16"}[n]))
			m := reviewed.expect("LDS +" + name)
			got := m[0].resources[name].(*listenerv3.Listener).GetMetadata().GetFilterMetadata()["meshframe"].GetFields()["max_concurrent"].GetNumberValue()
			if got != n {
				t.Errorf("got %v, want %v", got, n)
			}
			other.expect()
		}
	})
}

// What clients do not do is said once in the log, and at any time by the admin endpoint.
func TestSupportIsReported(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		var out bytes.Buffer
		rule := strings.Replace(routed("v1 100"), "  - route:", "  - corsPolicy: {allowMethods: [GET]}\n    rewrite: {authority: a.example.com}\n    route:", 1)
		s := embedded(t, xdsserver.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))}, reviews("10.0.1.1", ""), subsets("v1"), rule)
		logged := func(field, client string) int {
			n := 0
			for line := range strings.Lines(out.String()) {
				if strings.Contains(line, "not done as it is configured") && strings.Contains(line, field) && strings.Contains(line, "client="+client+" ") {
					n++
				}
			}
			return n
		}
		if n := logged("corsPolicy", "meshframe"); n != 1 {
			t.Errorf("the log has it %d times:\n%s", n, &out)
		}
		if n := logged("rewrite", "grpc-go"); n != 0 {
			t.Errorf("the log has it %d times although no such client is there:\n%s", n, &out)
		}
		for _, id := range []string{"a", "b"} {
			c := connect(t, dial(t, s.Dialer()), protocol, node(id, map[string]any{"NAMESPACE": "default"}))
			c.subscribe(rds, rcName)
			c.drain()
		}
		apply(t, s, reviews("10.0.1.2", ""), subsets("v1"), "\n\n"+rule)
		for field, client := range map[string]string{"corsPolicy": "meshframe", "rewrite.authority": "grpc-go"} {
			if n := logged(field, client); n != 1 {
				t.Errorf("the log has %s for %s %d times:\n%s", field, client, n, &out)
			}
		}

		type entry struct{ Client, File, Field, Outcome, Reason string }
		var all map[string][]entry
		get(t, s, "/debug/support", &all)
		fields := func(list []entry) (out []string) {
			for _, e := range list {
				out = append(out, e.Field+" "+e.Outcome)
			}
			return out
		}
		want := []string{"spec.http[0].corsPolicy degraded", "spec.http[0].rewrite.authority degraded"}
		if got := fields(all["grpc-go"]); !slices.Equal(got, want) {
			t.Errorf("got %v", got)
		}
		if got := fields(all["meshframe"]); !slices.Equal(got, want[:1]) {
			t.Errorf("got %v", got)
		}
		apply(t, s, strings.Replace(reviews("10.0.1.2", ""), "{number: 9080, ", "{number: 27017, name: mongo, protocol: MONGO}, {number: 9080, ", 1), subsets("v1"), rule)
		get(t, s, "/debug/support?client=meshframe", &all)
		if got := all["meshframe"]; len(got) != 2 || got[1].Field != "spec.http" || !strings.HasPrefix(got[1].Reason, "it does not apply to port 27017 of reviews") {
			t.Errorf("got %v", got)
		}
		var one map[string][]entry
		get(t, s, "/debug/support?client=grpc-java", &one)
		if len(one) != 1 || len(one["grpc-java"]) != 3 {
			t.Errorf("got %v", one)
		}
		if got := get(t, s, "/debug/support?client=telnet", nil); !strings.HasPrefix(got, "400 ") {
			t.Errorf("got %s", got)
		}
		var clients []struct {
			Kind    string
			Support []entry
		}
		get(t, s, "/debug/clients", &clients)
		for _, c := range clients {
			if got := fields(c.Support); c.Kind != "grpc-go" || !slices.Equal(got, want) {
				t.Errorf("%s: got %v", c.Kind, got)
			}
		}
	})
}
