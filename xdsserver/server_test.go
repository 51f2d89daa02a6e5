package xdsserver_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/meshframe/meshframe/xdsserver"
	"github.com/meshframe/meshframe/xdsserver/config"
)

// embedded starts a control plane in the bubble of the test.
func embedded(t *testing.T, opts xdsserver.Options, files ...string) *xdsserver.Server {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := xdsserver.New(t.Context(), opts)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	if len(files) > 0 {
		apply(t, s, files...)
	}
	return s
}

func apply(t *testing.T, s *xdsserver.Server, files ...string) {
	t.Helper()
	set := map[string][]byte{}
	for i, f := range files {
		set[fmt.Sprintf("%d.yaml", i)] = []byte(f)
	}
	_, err := s.Apply(set)
	must(t, err)
}

func grpcNode() *corev3.Node {
	return node("sidecar~10.0.0.1~test-1.default~default.svc.cluster.local", map[string]any{"GENERATOR": "grpc", "NAMESPACE": "default"})
}

// inBubble runs a test for both protocols.
func bothProtocols(t *testing.T, fn func(t *testing.T, protocol string)) {
	t.Helper()
	for _, protocol := range []string{"delta", "sotw"} {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { fn(t, protocol) })
		})
	}
}

// pass lets time pass in a bubble.
func pass(d time.Duration) { <-time.After(d) }

// reviews is a service with two versions and, per version, the given endpoints.
func reviews(v1, v2 string) string {
	list := func(addresses, version string) (out string) {
		for a := range strings.FieldsSeq(addresses) {
			out += fmt.Sprintf("  - {address: %s, labels: {version: %s}}\n", a, version)
		}
		return out
	}
	return `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints:
` + list(v1, "v1") + list(v2, "v2")
}

func subsets(names ...string) string {
	out := `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets:
`
	for _, n := range names {
		out += fmt.Sprintf("  - {name: %s, labels: {version: %s}}\n", n, n)
	}
	return out
}

// routed sends calls to subsets by weight: "v1 90 v2 10".
func routed(weights string) string {
	out := `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
`
	words := strings.Fields(weights)
	for i := 0; i < len(words); i += 2 {
		out += fmt.Sprintf("    - {destination: {host: reviews, subset: %s}, weight: %s}\n", words[i], words[i+1])
	}
	return out
}

const (
	v1Cluster = "outbound|9080|v1|reviews.default.svc.cluster.local"
	v2Cluster = "outbound|9080|v2|reviews.default.svc.cluster.local"
	rcName    = "outbound|9080||reviews.default.svc.cluster.local"
)

func TestTranscript(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{}, reviews("10.0.1.1", "10.0.2.1"), subsets("v1", "v2"), routed("v1 100"))
		c := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		c.subscribe(lds, "reviews:9080")
		c.expect("LDS +reviews:9080")
		c.subscribe(rds, rcName)
		c.expect("RDS +" + rcName)
		c.subscribe(cds, v1Cluster)
		c.expect("CDS +" + v1Cluster)
		c.subscribe(eds, v1Cluster)
		c.expect("EDS +" + v1Cluster)

		// Weights change: the routes, and nothing else.
		apply(t, s, reviews("10.0.1.1", "10.0.2.1"), subsets("v1", "v2"), routed("v1 50 v2 50"))
		m := c.expect("RDS +" + rcName)
		weights := m[0].resources[rcName].(*routev3.RouteConfiguration).GetVirtualHosts()[0].GetRoutes()[0].GetRoute().GetWeightedClusters().GetClusters()
		if len(weights) != 2 || weights[1].GetName() != v2Cluster || weights[1].GetWeight().GetValue() != 50 {
			t.Errorf("got %v", weights)
		}
		c.subscribe(cds, v2Cluster)
		if protocol == "delta" {
			c.expect("CDS +" + v2Cluster)
		} else {
			c.expect("CDS +" + v1Cluster + " +" + v2Cluster)
		}
		c.subscribe(eds, v2Cluster)
		c.expect("EDS +" + v2Cluster)

		// One endpoint changes: one assignment.
		apply(t, s, reviews("10.0.1.1", "10.0.2.1 10.0.2.2"), subsets("v1", "v2"), routed("v1 50 v2 50"))
		c.expect("EDS +" + v2Cluster)

		// The same again, and what nobody asked for: nothing.
		apply(t, s, "# a comment", reviews("10.0.1.1", "10.0.2.1 10.0.2.2"), subsets("v1", "v2"), routed("v1 50 v2 50"),
			strings.ReplaceAll(reviews("10.9.9.9", ""), "reviews", "ratings"))
		c.expect()
	})
}

// One endpoint's change reaches those who subscribe to it with one message, and nobody else.
func TestEndpointChangeIsOneMessage(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		ratings := strings.ReplaceAll(reviews("10.0.3.1", ""), "reviews", "ratings")
		const other = "outbound|9080||ratings.default.svc.cluster.local"
		s := embedded(t, xdsserver.Options{}, reviews("10.0.1.1", ""), ratings)
		both := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		both.subscribe(eds, rcName, other)
		both.expect("EDS +" + other + " +" + rcName)
		one := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		one.subscribe(eds, other)
		one.expect("EDS +" + other)
		for i := range 3 {
			apply(t, s, reviews(fmt.Sprintf("10.0.1.%d", i+2), ""), ratings)
			both.expect("EDS +" + rcName)
			one.expect()
		}
	})
}

// A change costs the translation of what it reaches, and of nothing else.
func TestOnlyWhatChangedIsTranslated(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		ratings := strings.ReplaceAll(reviews("10.0.3.1", "")+"---"+subsets("v1")+"---"+routed("v1 1"), "reviews", "ratings")
		s := embedded(t, xdsserver.Options{}, reviews("10.0.1.1", ""), subsets("v1"), routed("v1 1"), ratings)
		for range 3 { // who share one view
			c := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
			for _, service := range []string{"reviews", "ratings"} {
				c.subscribe(lds, service+":9080")
				c.drain()
				c.subscribe(rds, strings.ReplaceAll(rcName, "reviews", service))
				c.drain()
				c.subscribe(cds, strings.ReplaceAll(v1Cluster, "reviews", service))
				c.drain()
				c.subscribe(eds, strings.ReplaceAll(v1Cluster, "reviews", service))
				c.drain()
			}
		}
		count := func() (list []string) {
			for line := range strings.Lines(get(t, s, "/metrics", nil)) {
				if rest, ok := strings.CutPrefix(line, `meshframe_xdsserver_translate_seconds_count{type="`); ok {
					list = append(list, strings.TrimSpace(strings.Replace(rest, `"}`, "", 1)))
				}
			}
			return list
		}
		check := func(want ...string) {
			t.Helper()
			if got := count(); !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		check("Cluster 2", "ClusterLoadAssignment 2", "Listener 2", "RouteConfiguration 2")
		apply(t, s, reviews("10.0.1.2", ""), subsets("v1"), routed("v1 1"), ratings)
		check("Cluster 2", "ClusterLoadAssignment 3", "Listener 2", "RouteConfiguration 2")
		apply(t, s, reviews("10.0.1.2", ""), subsets("v1"), routed("v1 2"), ratings)
		check("Cluster 2", "ClusterLoadAssignment 3", "Listener 2", "RouteConfiguration 3")
		apply(t, s, reviews("10.0.1.2", ""), subsets("v1", "v2"), routed("v1 2"), ratings) // subsets matter to all but listeners
		check("Cluster 3", "ClusterLoadAssignment 4", "Listener 2", "RouteConfiguration 4")
	})
}

// A cluster that the rules no longer have stays until its subscribers have left it, or for ten seconds.
func TestMakeBeforeBreak(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{}, reviews("10.0.1.1", "10.0.2.1"), subsets("v1", "v2"), routed("v2 100"))
		c := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		c.subscribe(rds, rcName)
		c.subscribe(cds, v2Cluster)
		c.subscribe(eds, v2Cluster)
		c.drain()
		apply(t, s, reviews("10.0.1.1", "10.0.2.1"), subsets("v1"), routed("v1 100"))
		c.expect("RDS +" + rcName) // and neither cluster nor endpoints are gone
		slow := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		slow.subscribe(cds, v2Cluster)
		slow.expect("CDS +" + v2Cluster)
		c.unsubscribe(cds, v2Cluster)
		c.unsubscribe(eds, v2Cluster)
		c.expect()
		pass(9 * time.Second)
		slow.expect()
		pass(2 * time.Second)
		slow.expectGone(v2Cluster)
		c.expect()
		// It comes back before the time is over: nobody notices.
		apply(t, s, reviews("10.0.1.1", "10.0.2.1"), subsets("v1", "v2"), routed("v1 100"))
		slow.expect("CDS +" + v2Cluster)
		apply(t, s, reviews("10.0.1.1", "10.0.2.1"), subsets("v1"), routed("v1 100"))
		slow.expect()
		pass(5 * time.Second)
		apply(t, s, reviews("10.0.1.1", "10.0.2.1"), subsets("v1", "v2"), routed("v1 100"))
		pass(10 * time.Second)
		slow.expect()
	})
}

// Nor does a client lose what is gone too soon because the same change lets it see by other rules than before.
func TestMakeBeforeBreakInAnotherView(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{}, reviews("10.0.1.1", "10.0.2.1"), subsets("v1", "v2"), routed("v2 100"))
		n := grpcNode()
		n.Locality = &corev3.Locality{Region: "eu"}
		c := connect(t, dial(t, s.Dialer()), protocol, n)
		c.subscribe(rds, rcName)
		c.subscribe(cds, v2Cluster)
		c.subscribe(eds, v2Cluster)
		c.drain()
		apply(t, s, reviews("10.0.1.1", "10.0.2.1"), subsets("v1")+"  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}}\n", routed("v1 100"))
		c.expect("RDS +" + rcName)
		pass(9 * time.Second)
		c.expect()
		pass(2 * time.Second)
		for _, m := range c.drain() {
			if m.typeURL != cds && m.typeURL != eds {
				t.Errorf("got %v", m)
			}
		}
		c.unsubscribe(eds, v2Cluster)
		c.unsubscribe(cds, v2Cluster)
		c.subscribe(cds, v2Cluster)
		c.expectGone(v2Cluster)
	})
}

// What stays for a while does not stay for longer because a client moves to another view meanwhile.
func TestRetentionGoesOnInAnotherView(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{}, reviews("10.0.1.1", "10.0.2.1"), subsets("v1", "v2"), routed("v2 100"))
		var clients []*ads
		for _, region := range []string{"eu", "us"} {
			n := grpcNode()
			n.Locality = &corev3.Locality{Region: region}
			c := connect(t, dial(t, s.Dialer()), protocol, n)
			c.subscribe(cds, v2Cluster)
			c.expect("CDS +" + v2Cluster)
			clients = append(clients, c)
		}
		apply(t, s, reviews("10.0.1.1", "10.0.2.1"), subsets("v1"), routed("v1 100"))
		pass(6 * time.Second)
		apply(t, s, reviews("10.0.1.1", "10.0.2.1"), subsets("v1")+"  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 5}}\n", routed("v1 100"))
		pass(3 * time.Second)
		for _, c := range clients {
			c.expect()
		}
		pass(2 * time.Second)
		for _, c := range clients {
			c.expectGone(v2Cluster)
		}
	})
}

// What goes while the server has just started stays as long as later.
func TestMakeBeforeBreakAtTheStart(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{OutboundPolicy: xdsserver.RegistryOnly})
		server := connect(t, dial(t, s.Dialer()), protocol, serverNode("s1", "reviews:9080"))
		server.subscribe(lds, inbound+"10.0.8.1:7000")
		server.drain()
		c := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		c.subscribe(cds, rcName)
		c.expect("CDS +" + rcName)
		pass(28 * time.Second)
		server.unsubscribe(lds, inbound+"10.0.8.1:7000")
		pass(9 * time.Second)
		c.expect()
		pass(2 * time.Second)
		if len(c.drain()) == 0 {
			t.Error("the cluster has not changed")
		}
	})
}

// A burst of changes is sent as one.
func TestBurst(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{}, reviews("10.0.1.1", ""))
		watcher := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		watcher.subscribe(eds, rcName)
		watcher.expect("EDS +" + rcName)
		// Fifty servers register at once.
		servers := connect(t, dial(t, s.Dialer()), protocol, node("servers", map[string]any{"MESH_SERVICES": []any{"reviews:9080"}}))
		var names []string
		for i := range 50 {
			names = append(names, fmt.Sprintf("xds.istio.io/grpc/lds/inbound/10.0.7.%d:9080", i+1))
		}
		servers.subscribe(lds, names...)
		servers.drain()
		var pushes int
		for _, m := range watcher.drain() {
			if strings.HasPrefix(m.String(), "EDS") {
				pushes++
			}
		}
		pass(time.Second)
		for range watcher.drain() {
			pushes++
		}
		if pushes == 0 || pushes > 3 {
			t.Errorf("%d pushes for one burst", pushes)
		}
	})
}

func TestUnknownHost(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		const cluster = "outbound|9080||httpbin.org"
		s := embedded(t, xdsserver.Options{OutboundPolicy: xdsserver.RegistryOnly})
		c := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		pass(5 * time.Second) // a server of that name might have come back
		c.subscribe(lds, "httpbin.org:9080")
		c.subscribe(cds, cluster)
		if protocol == "delta" {
			c.expect("LDS -httpbin.org:9080", "CDS -"+cluster)
		} else {
			m := c.expect("LDS +httpbin.org:9080", "CDS +"+cluster)
			if !hollow(m[1].resources[cluster]) {
				t.Errorf("got %v", m[1].resources[cluster])
			}
			l := m[0].resources["httpbin.org:9080"].(*listenerv3.Listener)
			if hosts := listenerRoutes(t, l).GetVirtualHosts(); len(hosts) != 0 {
				t.Errorf("got virtual hosts %v", hosts)
			}
		}
		// It becomes known.
		apply(t, s, strings.ReplaceAll(reviews("10.0.1.1", ""), "reviews.default.svc.cluster.local", "httpbin.org"), "")
		c.expect("CDS +"+cluster, "LDS +httpbin.org:9080")
	})
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{})
		c := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		pass(5 * time.Second)
		c.subscribe(lds, "httpbin.org:9080")
		c.expect("LDS +httpbin.org:9080")
		c.subscribe(cds, "outbound|9080||httpbin.org")
		m := c.expect("CDS +outbound|9080||httpbin.org")
		if got := m[0].resources["outbound|9080||httpbin.org"].(*clusterv3.Cluster).GetType(); got != clusterv3.Cluster_LOGICAL_DNS {
			t.Errorf("got %v", got)
		}
	})
}

// Clients share what they see unless a rule tells them apart; and when a rule comes that does, they part.
func TestViews(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{}, reviews("10.0.1.1", "10.0.2.1"), subsets("v1", "v2"), routed("v1 100"))
		as := func(app string) *ads {
			return connect(t, dial(t, s.Dialer()), protocol, node(app, map[string]any{"NAMESPACE": "default", "LABELS": map[string]any{"app": app, "pod": app + "-1"}}))
		}
		one, two := as("one"), as("two")
		for _, c := range []*ads{one, two} {
			c.subscribe(rds, rcName)
			c.expect("RDS +" + rcName)
		}
		apply(t, s, reviews("10.0.1.1", "10.0.2.1"), subsets("v1", "v2"), strings.Replace(routed("v1 100"), "  - route:",
			"  - match: [{sourceLabels: {app: one}}]\n    route: [{destination: {host: reviews, subset: v2}}]\n  - route:", 1))
		one.expect("RDS +" + rcName)
		two.expect()
		one.subscribe(cds, v1Cluster)
		one.expect("CDS +" + v1Cluster)
		apply(t, s, reviews("10.0.1.1", "10.0.2.1"), subsets("v1", "v2"), routed("v1 100"))
		one.expect("RDS +" + rcName)
		two.expect()
		apply(t, s, reviews("10.0.1.1", "10.0.2.1"), subsets("v1", "v2"), routed("v2 100"))
		one.expect("RDS +" + rcName)
		two.expect("RDS +" + rcName)
	})
}

// A rule that asks for TLS takes its cluster away at once: never plaintext.
func TestTLSRefusedAtOnce(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{}, reviews("10.0.1.1", ""))
		c := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		c.subscribe(cds, rcName)
		c.expect("CDS +" + rcName)
		ours := connect(t, dial(t, s.Dialer()), protocol, &corev3.Node{Id: "x", UserAgentName: "meshframe"})
		ours.subscribe(cds, rcName)
		ours.expect("CDS +" + rcName)
		apply(t, s, reviews("10.0.1.1", ""), `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}
`)
		c.expectGone(rcName)
		m := ours.expect("CDS +" + rcName)
		marker := m[0].resources[rcName].(*clusterv3.Cluster).GetMetadata().GetFilterMetadata()["meshframe"].GetFields()["error"].GetStringValue()
		if !strings.Contains(marker, "DestinationRule default/reviews") {
			t.Errorf("got %q", marker)
		}
	})
}

func TestBadReloadKeepsWhatWasGood(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{}, reviews("10.0.1.1", ""), routed("v1 100"))
		c := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		c.subscribe(eds, rcName)
		c.expect("EDS +" + rcName)
		problems, err := s.Apply(map[string][]byte{
			"0.yaml": []byte(reviews("10.0.1.9", "")),
			"1.yaml": []byte("\n" + strings.Replace(routed("v1 100"), "spec:", "spec:\n  htttp: []", 1)),
		})
		var bad *config.Errors
		if !errors.As(err, &bad) || len(bad.Problems) == 0 || bad.Problems[0].File != "1.yaml" || bad.Problems[0].Line == 0 {
			t.Fatalf("got %v", err)
		}
		if len(problems) == 0 {
			t.Error("no problems")
		}
		c.expect("EDS +" + rcName) // the good file applies
		var dump struct {
			Refused  []string
			Problems []struct {
				File string
				Line int
			}
			Objects []struct{ Kind string }
		}
		get(t, s, "/debug/config", &dump)
		if !slices.Contains(dump.Refused, "1.yaml") || len(dump.Problems) == 0 || len(dump.Objects) != 2 {
			t.Errorf("got %+v", dump)
		}
	})
}

// get reads an admin page.
func get(t *testing.T, s *xdsserver.Server, path string, into any) string {
	t.Helper()
	w := httptest.NewRecorder()
	s.Admin().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	if into != nil {
		must(t, json.Unmarshal(w.Body.Bytes(), into))
	}
	return fmt.Sprint(w.Code, " ", w.Body)
}

func TestAdmin(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{}, reviews("10.0.1.1", ""))
		c := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		c.subscribe(eds, rcName)
		first := c.got()
		c.ack(first[0])
		apply(t, s, reviews("10.0.1.2", ""))
		second := c.got()
		c.nack(second[0], "cannot read it")
		c.expect()
		var clients []struct {
			Node, Protocol, Kind, Namespace string
			Types                           []struct {
				Type, Sent, Acked, Nacked, Error string
				Names, Pushes                    int
			}
		}
		get(t, s, "/debug/clients", &clients)
		if len(clients) != 1 || clients[0].Protocol != protocol || clients[0].Kind != "grpc-go" || clients[0].Namespace != "default" || len(clients[0].Types) != 1 {
			t.Fatalf("got %+v", clients)
		}
		e := clients[0].Types[0]
		if e.Type != "ClusterLoadAssignment" || e.Names != 1 || e.Pushes != 2 || e.Sent != second[0].version || e.Acked != first[0].version ||
			e.Nacked != second[0].version || e.Error != "cannot read it" {
			t.Errorf("got %+v", e)
		}
		metrics := get(t, s, "/metrics", nil)
		for _, want := range []string{
			`meshframe_xdsserver_pushes_total{type="ClusterLoadAssignment"} 2`,
			`meshframe_xdsserver_acks_total{type="ClusterLoadAssignment"} 1`,
			`meshframe_xdsserver_nacks_total{type="ClusterLoadAssignment"} 1`,
			`meshframe_xdsserver_clients{kind="grpc-go",protocol="` + protocol + `"} 1`,
			`meshframe_xdsserver_config_problems{severity="error"} 0`,
			`meshframe_xdsserver_translate_seconds_count{type="ClusterLoadAssignment"}`,
		} {
			if !strings.Contains(metrics, want) {
				t.Errorf("no %s in the metrics", want)
			}
		}
		if got := get(t, s, "/healthz", nil); got != "200 ok\n" {
			t.Error(got)
		}
		if got := get(t, s, "/readyz", nil); got != "200 ready\n" {
			t.Error(got)
		}
		must(t, s.Close())
		if got := get(t, s, "/readyz", nil); !strings.HasPrefix(got, "503") {
			t.Error(got)
		}
		if err := <-c.ended; status.Code(err) != codes.Unavailable {
			t.Errorf("the stream ended with %v", err)
		}
		must(t, s.Close())
		if _, err := s.Apply(nil); err != nil {
			t.Error(err)
		}
	})
}

// A client whose node is taken gets headers at once, also when nothing is there for it to hear.
func TestHeadersAtOnce(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{})
		c := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		c.subscribe("type.googleapis.com/envoy.service.runtime.v3.Runtime", "a")
		c.expect()
		if !c.hasHeader() {
			t.Error("no headers")
		}
		refused := connect(t, dial(t, s.Dialer()), protocol, &corev3.Node{Id: "e", UserAgentName: "envoy"})
		refused.subscribe(cds, "a")
		<-refused.ended
		if refused.hasHeader() {
			t.Error("headers for a client that is refused")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, dial(t, serveCache(t, "register", xdsserver.NewCache())), "delta", grpcNode())
		if !c.hasHeader() {
			t.Error("no headers from a cache of its own")
		}
	})
}

// Clients may ping as often as gRPC lets them.
func TestPings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := embedded(t, xdsserver.Options{})
		often := grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, PermitWithoutStream: true})
		c := connect(t, dial(t, s.Dialer(), often), "delta", grpcNode())
		pass(10 * time.Minute)
		select {
		case err := <-c.ended:
			t.Error(err)
		default:
		}
	})
}

// What is not what we serve is said at once.
func TestRefusedClients(t *testing.T) {
	bothProtocols(t, func(t *testing.T, protocol string) {
		s := embedded(t, xdsserver.Options{})
		nobody := connect(t, dial(t, s.Dialer()), protocol, nil)
		nobody.subscribe(cds, "a")
		if err := <-nobody.ended; status.Code(err) != codes.InvalidArgument {
			t.Error(err)
		}
		odd := connect(t, dial(t, s.Dialer()), protocol, grpcNode())
		odd.subscribe("type.googleapis.com/envoy.service.runtime.v3.Runtime", "a")
		odd.subscribe(lds, "", ":", "a:b:c", "[::1", "x|y", "h:99999", "xds.istio.io/grpc/lds/inbound/x")
		odd.subscribe(cds, "", "outbound", "outbound|x||h", "outbound|80||", "refused|because")
		odd.subscribe(rds, "outbound|80|v1|h", "x")
		odd.subscribe(eds, "outbound|80|none|h", "x")
		for _, m := range odd.drain() {
			if protocol == "delta" && len(m.resources) > 0 {
				t.Errorf("got %v", m)
			}
		}
	})
}

// expectGone expects to hear that a cluster does not exist.
func (c *ads) expectGone(cluster string) {
	c.Helper()
	if c.isDelta() {
		c.expect("CDS -" + cluster)
		return
	}
	m := c.expect("CDS +" + cluster)
	if !hollow(m[0].resources[cluster]) {
		c.Errorf("got %v", m[0].resources[cluster])
	}
}

// hollow reports whether a cluster is one that grpc-go finds no endpoints by.
func hollow(m proto.Message) bool {
	return m.(*clusterv3.Cluster).GetClusterType().GetName() == "envoy.clusters.aggregate"
}

func listenerRoutes(t *testing.T, l *listenerv3.Listener) *routev3.RouteConfiguration {
	t.Helper()
	m, err := l.GetApiListener().GetApiListener().UnmarshalNew()
	must(t, err)
	return m.(interface {
		GetRouteConfig() *routev3.RouteConfiguration
	}).GetRouteConfig()
}

// addresses lists the endpoints of an assignment.
func addresses(m proto.Message) (list []string) {
	for _, l := range m.(*endpointv3.ClusterLoadAssignment).GetEndpoints() {
		for _, e := range l.GetLbEndpoints() {
			a := e.GetEndpoint().GetAddress().GetSocketAddress()
			list = append(list, fmt.Sprintf("%s:%d", a.GetAddress(), a.GetPortValue()))
		}
	}
	slices.Sort(list)
	return list
}
