package xdsserver_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/xdsserver"
)

// agent makes a node of a client as it describes itself.
func agent(name, version string) *corev3.Node {
	n := node("sidecar~10.0.0.1~test-1.default~default.svc.cluster.local", map[string]any{"NAMESPACE": "default"})
	n.UserAgentName = name
	n.UserAgentVersionType = &corev3.Node_UserAgentVersion{UserAgentVersion: version}
	return n
}

// Clients that are not served hear at once who is, and the log says once that they came.
func TestClientsThatAreNotServed(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		var out bytes.Buffer
		s := embedded(t, xdsserver.Options{Logger: slog.New(slog.NewTextHandler(&out, nil))}, reviews("10.0.1.1", ""))
		for _, n := range []*corev3.Node{
			agent("envoy", ""), agent("meshframe sidecar", "1.0.0"), agent("gRPC Go", "1.36.0"), agent("gRPC Java", "1.36.0"),
			agent("gRPC C-core linux", "C-core 14.0.0"), agent("gRPC Node Pure JS", "1.3.0"),
		} {
			name := n.GetUserAgentName()
			for range 2 {
				c := connect(t, dial(t, s.Dialer()), protocol, n)
				c.subscribe(cds, rcName)
				err := <-c.ended
				if status.Code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "xdsserver serves Meshframe's library and gRPC's own clients") {
					t.Errorf("%s: %v", name, err)
				}
				if old := strings.HasPrefix(name, "gRPC"); old != strings.Contains(err.Error(), "too old") {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		if n := strings.Count(out.String(), "a client is refused: "); n != 6 {
			t.Errorf("the log has it %d times:\n%s", n, &out)
		}
		var clients []any
		if get(t, s, "/debug/clients", &clients); len(clients) > 0 {
			t.Errorf("got %v", clients)
		}
	})
}

// What a client is sent and what is said about it goes by its release.
func TestReleases(t *testing.T) {
	const named, namedCluster = "named.example.com", "outbound|80||named.example.com"
	rules := []string{
		reviews("10.0.1.1", "10.0.2.1"), subsets("v1", "v2"), strings.Replace(routed("v1 1 v2 3"), "  - route:", "  - match: [{headers: {x: {exact: y}}}]\n    route:", 1), `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: policy}
spec: {host: reviews, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}}
`, `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: named}
spec: {host: ` + named + `, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x}}}}
`, `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: named}
spec: {hosts: [` + named + `], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
`,
	}
	const (
		least    = "spec.trafficPolicy.loadBalancer.simple degraded"
		ring     = "spec.trafficPolicy.loadBalancer.consistentHash.httpHeaderName degraded"
		whole    = " rejected"
		resolves = "spec.resolution rejected"
	)
	for _, k := range []struct {
		agent, version, as string
		balancer           clusterv3.Cluster_LbPolicy
		retried, resolved  bool
		said               []string
	}{
		{"meshframe", "1.0.0", "meshframe", clusterv3.Cluster_LEAST_REQUEST, true, true, nil},
		{"gRPC Go", "1.85.0", "grpc-go", clusterv3.Cluster_LEAST_REQUEST, true, true, nil},
		{"gRPC Go", "1.72.2", "grpc-go@1.56", clusterv3.Cluster_ROUND_ROBIN, true, true, []string{least}},
		{"gRPC Go", "1.40.0", "grpc-go@1.37", clusterv3.Cluster_ROUND_ROBIN, false, false, []string{least, ring, whole, resolves}},
		{"gRPC Java", "1.64.0", "grpc-java", clusterv3.Cluster_LEAST_REQUEST, true, true, nil},
		{"gRPC Java", "1.47.0", "grpc-java@1.40.1", clusterv3.Cluster_ROUND_ROBIN, true, true, []string{least}},
		{"gRPC C-core linux", "C-core 29.0.0", "grpc-core@1.51", clusterv3.Cluster_ROUND_ROBIN, true, true, []string{least}},
		{"gRPC C-core linux", "C-core 20.0.0", "grpc-core@1.40", clusterv3.Cluster_ROUND_ROBIN, true, false, []string{least, whole, resolves}},
		{"gRPC Node Pure JS", "1.14.0", "grpc-node", clusterv3.Cluster_ROUND_ROBIN, true, true, []string{least}},
		{"gRPC Node Pure JS", "1.7.0", "grpc-node@1.7", clusterv3.Cluster_ROUND_ROBIN, false, false, []string{least, ring, whole, resolves}},
	} {
		t.Run(k.as, func(t *testing.T) {
			bothProtocols(t, func(t *testing.T, protocol string) {
				s := embedded(t, xdsserver.Options{}, rules...)
				c := connect(t, dial(t, s.Dialer()), protocol, agent(k.agent, k.version))
				c.subscribe(rds, rcName)
				routes := c.expect("RDS +" + rcName)[0].resources[rcName].(*routev3.RouteConfiguration).GetVirtualHosts()[0].GetRoutes()
				if (routes[0].GetRoute().GetRetryPolicy() != nil) != k.retried {
					t.Errorf("got %v", routes[0])
				}
				own, names := k.agent == "meshframe", clusterv3.Cluster_LOGICAL_DNS
				if own {
					names = clusterv3.Cluster_STRICT_DNS
				}
				if h := routes[0].GetMatch().GetHeaders()[0]; (h.GetStringMatch() == nil) == own || (h.GetExactMatch() == "y") == own { // what older releases read
					t.Errorf("got %v", h)
				}
				if sum := routes[0].GetRoute().GetWeightedClusters().GetTotalWeight().GetValue(); !own && sum != 4 { // what older releases read
					t.Errorf("the weights add up to %d", sum)
				}
				c.subscribe(cds, v1Cluster)
				if m := c.expect("CDS +" + v1Cluster)[0].resources[v1Cluster].(*clusterv3.Cluster); m.GetLbPolicy() != k.balancer {
					t.Errorf("got %v", m)
				}
				c.subscribe(cds, namedCluster)
				if m, _ := c.got()[0].resources[namedCluster].(*clusterv3.Cluster); (m.GetType() == names) != k.resolved {
					t.Errorf("got %v", m)
				}

				var clients []struct {
					Agent, As string
					Support   []struct{ Field, Outcome string }
				}
				get(t, s, "/debug/clients", &clients)
				var said []string
				for _, e := range clients[0].Support {
					said = append(said, e.Field+" "+e.Outcome)
				}
				slices.Sort(said)
				slices.Sort(k.said)
				if got := clients[0]; got.As != k.as || got.Agent != k.agent+" "+k.version || !slices.Equal(said, k.said) {
					t.Errorf("got %v", clients)
				}
			})
		})
	}
}
