package decode_test

import (
	"errors"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/outlier"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/decode"
)

// eds is the smallest cluster that is accepted, with further fields.
func eds(fields string) string {
	return `{` + join(`"name": "c", "type": "EDS", "eds_cluster_config": {"eds_config": {"ads": {}}}`, fields) + `}`
}

// http2 are options of HTTP/2 upstreams.
func http2(fields string) string {
	return options(`"explicit_http_config": {"http2_protocol_options": {` + fields + `}}`)
}

// edsValue is what eds("") becomes.
func edsValue(fn func(*snapshot.Cluster)) *snapshot.Cluster {
	c := &snapshot.Cluster{
		Name: "c", ServiceName: "c",
		LB:             pick.Config{Policy: pick.RoundRobin, ChoiceCount: 2, PanicThreshold: 50, LocalityWeighted: true},
		Limits:         breaker.NoLimits,
		ConnectTimeout: 5 * time.Second, DNSRefreshRate: 5 * time.Second,
	}
	fn(c)
	return c
}

func TestCluster(t *testing.T) {
	for _, tt := range []struct {
		name, json string
		want       func(*snapshot.Cluster)
		notes      []string
	}{
		{name: "defaults", json: eds(``), want: func(*snapshot.Cluster) {}},
		{
			name: "self, service name",
			json: `{"name": "c", "type": "EDS", "eds_cluster_config": {"eds_config": {"self": {}}, "service_name": "s"}}`,
			want: func(c *snapshot.Cluster) { c.ServiceName = "s" },
		},
		{
			name: "timing",
			json: eds(`"connect_timeout": "1.5s", "dns_refresh_rate": "7s"`),
			want: func(c *snapshot.Cluster) {
				c.ConnectTimeout, c.DNSRefreshRate = 1500*time.Millisecond, 7*time.Second
			},
		},
		{name: "panic off", json: eds(`"common_lb_config": {"healthy_panic_threshold": {}}`), want: func(c *snapshot.Cluster) { c.LB.PanicThreshold = 0 }},
		{
			name:  "panic",
			json:  eds(`"common_lb_config": {"healthy_panic_threshold": {"value": 33.4}, "zone_aware_lb_config": {}}`),
			want:  func(c *snapshot.Cluster) { c.LB.PanicThreshold = 33 },
			notes: []string{`common_lb_config.zone_aware_lb_config: is not honoured yet`},
		},
		{
			name: "circuit breakers",
			json: eds(`"circuit_breakers": {"thresholds": [{"priority": "HIGH", "max_requests": 1}, {"max_requests": 5, "max_retries": 0}, {"max_requests": 6}]}`),
			want: func(c *snapshot.Cluster) {
				c.Limits = breaker.Limits{MaxConnections: breaker.Unlimited, MaxPendingRequests: breaker.Unlimited, MaxRequests: 5}
			},
			notes: []string{
				`circuit_breakers.thresholds[0]: is not honoured: only the first of priority DEFAULT is`,
				`circuit_breakers.thresholds[2]: is not honoured: only the first of priority DEFAULT is`,
			},
		},
		{
			name: "connections",
			json: eds(`"upstream_connection_options": {"tcp_keepalive": {"keepalive_probes": 3, "keepalive_time": 60}},
				"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
					"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
					"common_http_protocol_options": {"max_requests_per_connection": 10, "max_connection_duration": "60s", "idle_timeout": "5s", "max_headers_count": 7},
					"explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 20, "allow_connect": true}}}}`),
			want: func(c *snapshot.Cluster) {
				c.Connections = snapshot.ConnectionPool{
					MaxRequests: 10, MaxStreams: 20, MaxDuration: time.Minute, IdleTimeout: 5 * time.Second,
					Keepalive: &snapshot.TCPKeepalive{Probes: 3, Time: time.Minute},
				}
			},
			notes: []string{
				`typed_extension_protocol_options "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": common_http_protocol_options.max_headers_count: is not honoured yet`,
				`typed_extension_protocol_options "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": explicit_http_config.http2_protocol_options.allow_connect: is not honoured yet`,
			},
		},
		{
			name: "connections for few streams, without an idle timeout",
			json: eds(http2(`"max_concurrent_streams": 1`)),
			want: func(c *snapshot.Cluster) {
				c.Connections = snapshot.ConnectionPool{MaxStreams: 1, IdleTimeout: time.Hour}
			},
		},
		{name: "connections for any number of streams", json: eds(http2(`"max_concurrent_streams": 1073741824`)), want: func(*snapshot.Cluster) {}},
		{
			name: "keepalive off",
			json: eds(`"upstream_connection_options": {"tcp_keepalive": {"keepalive_probes": 0}}`),
			want: func(c *snapshot.Cluster) { c.Connections.Keepalive = &snapshot.TCPKeepalive{Off: true} },
		},
		{
			name:  "options of another protocol",
			json:  eds(`"typed_extension_protocol_options": {"o": {"@type": "type.googleapis.com/google.protobuf.Empty"}}`),
			want:  func(*snapshot.Cluster) {},
			notes: []string{`typed_extension_protocol_options "o": is not honoured yet`},
		},
		{
			name: "retry budget, defaults",
			json: eds(`"circuit_breakers": {"thresholds": [{"retry_budget": {}}]}`),
			want: func(c *snapshot.Cluster) {
				c.Limits.HasBudget, c.Limits.BudgetPercent, c.Limits.MinRetries = true, 20, 3
			},
		},
		{
			name: "retry budget",
			json: eds(`"circuit_breakers": {"thresholds": [{"retry_budget": {"budget_percent": {"value": 12.5}, "min_retry_concurrency": 0, "budget_interval": "1s"}}]}`),
			want: func(c *snapshot.Cluster) {
				c.Limits.HasBudget, c.Limits.BudgetPercent, c.Limits.BudgetInterval = true, 12.5, time.Second
			},
		},
		{
			name: "outlier detection, defaults",
			json: eds(`"outlier_detection": {}`),
			want: func(c *snapshot.Cluster) { c.Outlier = outlierDefaults() },
		},
		{
			name: "outlier detection, as Istio",
			json: eds(`"outlier_detection": {"consecutive_5xx": 3, "consecutive_gateway_failure": 4, "enforcing_consecutive_gateway_failure": 100,
				"interval": "1s", "base_ejection_time": "400s", "max_ejection_percent": 100, "enforcing_success_rate": 0,
				"split_external_local_origin_errors": true, "consecutive_local_origin_failure": 7, "enforcing_consecutive_local_origin_failure": 50,
				"enforcing_local_origin_success_rate": 30, "enforcing_failure_percentage_local_origin": 40, "max_ejection_time_jitter": "1s"}`),
			want: func(c *snapshot.Cluster) {
				o := outlierDefaults()
				o.Consecutive5xx, o.ConsecutiveGateway, o.EnforcingConsecutiveGateway = 3, 4, 100
				o.Interval, o.BaseEjectionTime, o.MaxEjectionTime = time.Second, 400*time.Second, 400*time.Second
				o.MaxEjectionPercent, o.EnforcingSuccessRate = 100, 0
				o.SplitLocalOrigin, o.ConsecutiveLocalOrigin, o.EnforcingConsecutiveLocal = true, 7, 50
				o.EnforcingLocalOriginSuccessRate, o.EnforcingFailurePercentageLocalOrigin = 30, 40
				o.Jitter = time.Second
				c.Outlier = o
			},
		},
		{
			name: "errors of outlier detection, as Istio has them",
			json: eds(`"outlier_detection": {"monitors": [{"name": "m"}], "detect_degraded_hosts": true}, ` + options(`"outlier_detection": {"error_matcher": {"or_match": {"rules": [`+
				statusIs("429")+`,`+statusIs("503")+`]}}}, "explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 3}}, "common_http_protocol_options": {"idle_timeout": "9s"}`)),
			want: func(c *snapshot.Cluster) {
				c.Outlier = outlierDefaults()
				c.Outlier.Errors = statuses(429, 503)
				c.Connections = snapshot.ConnectionPool{MaxStreams: 3, IdleTimeout: 9 * time.Second}
			},
			notes: []string{
				`outlier_detection.detect_degraded_hosts: is not honoured yet`,
				`outlier_detection.monitors: is not honoured yet`,
			},
		},
		{
			name: "errors that are not, and all of several",
			json: eds(`"outlier_detection": {"always_eject_one_host": true}, ` + options(`"outlier_detection": {"error_matcher": {"and_match": {"rules": [
				{"http_response_headers_match": {"headers": [{"name": ":status", "range_match": {"start": 498, "end": 502}}]}}, {"not_match": `+statusIs("500")+`}, {"any_match": true}]}}}`)),
			want: func(c *snapshot.Cluster) {
				c.Outlier = outlierDefaults()
				c.Outlier.AlwaysEjectOne, c.Outlier.Errors = true, statuses(498, 499, 501)
			},
		},
		{
			name: "protocols without a meaning, and unknown ones",
			json: eds(`"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
				"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}},
				"other": {"@type": "type.googleapis.com/google.protobuf.Empty"}}`),
			want:  func(*snapshot.Cluster) {},
			notes: []string{`typed_extension_protocol_options "other": is not honoured yet`},
		},
		{
			name: "health of the hosts of sessions",
			json: eds(`"common_lb_config": {"override_host_status": {"statuses": ["UNKNOWN", "HEALTHY", "DRAINING"]}}`),
			want: func(c *snapshot.Cluster) { c.LB.OverrideHealth = 1<<pick.Healthy | 1<<pick.Draining },
		},
		{
			name:  "no health of the hosts of sessions",
			json:  eds(`"common_lb_config": {"override_host_status": {}}`),
			want:  func(*snapshot.Cluster) {},
			notes: []string{`common_lb_config.override_host_status: is empty, which is not honoured: hosts of sessions may be healthy or degraded`},
		},
		{
			name: "plain transport socket",
			json: eds(`"transport_socket": {"name": "raw", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}`),
			want: func(*snapshot.Cluster) {},
		},
		{
			name: "static",
			json: `{"name": "c", "type": "STATIC", "load_assignment": {"endpoints": [{"lb_endpoints": [` + lbEndpoint("::1", 80) + `]}]}}`,
			want: func(c *snapshot.Cluster) {
				c.Discovery, c.ServiceName, c.Assignment = snapshot.Static, "", inline("[::1]:80")
			},
		},
		{
			name: "strict dns",
			json: `{"name": "c", "type": "STRICT_DNS", "load_assignment": {"endpoints": [{"lb_endpoints": [` + lbEndpoint("a.example", 80) + `,` + lbEndpoint("b.example", 80) + `]}]}}`,
			want: func(c *snapshot.Cluster) {
				c.Discovery, c.ServiceName, c.Assignment = snapshot.StrictDNS, "", inline("a.example:80", "b.example:80")
			},
		},
		{
			name: "logical dns",
			json: `{"name": "c", "type": "LOGICAL_DNS", "load_assignment": {"endpoints": [{"lb_endpoints": [` + lbEndpoint("a.example", 80) + `]}]}}`,
			want: func(c *snapshot.Cluster) {
				c.Discovery, c.ServiceName, c.Assignment = snapshot.LogicalDNS, "", inline("a.example:80")
			},
		},
		{
			name:  "not honoured",
			json:  eds(`"health_checks": [{}], "metadata": {"filter_metadata": {"istio": {"x": "y"}}}`),
			want:  func(*snapshot.Cluster) {},
			notes: []string{`health_checks: is not honoured yet`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, &clusterv3.Cluster{}, tt.json, decode.Cluster, verdict[*snapshot.Cluster]{value: edsValue(tt.want), notes: tt.notes})
		})
	}
}

// options is the field of a cluster that has options of HTTP upstreams.
func options(fields string) string {
	return `"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
		"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", ` + fields + `}}`
}

// statusIs is a predicate of responses.
func statusIs(status string) string {
	return `{"http_response_headers_match": {"headers": [{"name": ":status", "string_match": {"exact": "` + status + `"}}]}}`
}

func statuses(list ...int) *outlier.StatusSet {
	s := &outlier.StatusSet{}
	for _, status := range list {
		s.Add(status)
	}
	return s
}

// aggregate is an aggregate cluster over a list of names.
func aggregate(list string, fields ...string) string {
	return `{` + join(append([]string{`"name": "c", "cluster_type": {"name": "envoy.clusters.aggregate", "typed_config": {
		"@type": "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig", "clusters": [` + list + `]}}`}, fields...)...) + `}`
}

func TestAggregate(t *testing.T) {
	value := func(lb pick.Config) *snapshot.Cluster {
		return edsValue(func(c *snapshot.Cluster) {
			c.Discovery, c.ServiceName, c.Aggregate, c.LB = snapshot.Aggregate, "", []string{"b", "a"}, lb
		})
	}
	// Without a policy it has that of the clusters behind it: there is nothing of its own.
	for json, notes := range map[string][]string{
		aggregate(`"b", "a", "b"`, `"lb_policy": "CLUSTER_PROVIDED"`):                      nil,
		aggregate(`"b", "a"`, `"lb_policy": "RANDOM"`):                                     {`lb_policy: has no effect: the clusters of the aggregate have their own`},
		aggregate(`"b", "a"`, policies(policy("cluster_provided.v3.ClusterProvided", ``))): nil,
		aggregate(`"b", "a"`, `"lb_policy": "CLUSTER_PROVIDED", "common_lb_config": {"healthy_panic_threshold": {"value": 30}}`): {
			`common_lb_config.healthy_panic_threshold: is not honoured yet`,
		},
	} {
		check(t, &clusterv3.Cluster{}, json, decode.Cluster, verdict[*snapshot.Cluster]{value: value(pick.Config{}), notes: notes})
	}
	for json, lb := range map[string]pick.Config{
		policies(policy("random.v3.Random", ``)):                                   {Policy: pick.Random, ChoiceCount: 2, PanicThreshold: 50},
		policies(policy("round_robin.v3.RoundRobin", ``)):                          {ChoiceCount: 2, PanicThreshold: 50},
		`"common_lb_config": {"override_host_status": {"statuses": ["DRAINING"]}}`: {OverrideHealth: 1 << pick.Draining},
	} {
		check(t, &clusterv3.Cluster{}, aggregate(`"b", "a"`, json, `"lb_policy": "CLUSTER_PROVIDED"`), decode.Cluster, verdict[*snapshot.Cluster]{value: value(lb)})
	}
}

func outlierDefaults() *outlier.Config {
	return &outlier.Config{
		Interval: 10 * time.Second, BaseEjectionTime: 30 * time.Second, MaxEjectionTime: 300 * time.Second, MaxEjectionPercent: 10,
		Consecutive5xx: 5, EnforcingConsecutive5xx: 100, ConsecutiveGateway: 5,
		ConsecutiveLocalOrigin: 5, EnforcingConsecutiveLocal: 100,
		SuccessRateMinimumHosts: 5, SuccessRateRequestVolume: 100, SuccessRateStdevFactor: 1900, EnforcingSuccessRate: 100, EnforcingLocalOriginSuccessRate: 100,
		FailurePercentageThreshold: 85, FailurePercentageMinimumHosts: 5, FailurePercentageRequestVolume: 50,
	}
}

// inline is an assignment of one locality named after the cluster.
func inline(addresses ...string) *snapshot.ClusterLoadAssignment {
	l := snapshot.LocalityEndpoints{Weight: uint32(len(addresses))}
	for _, a := range addresses {
		l.Endpoints = append(l.Endpoints, snapshot.Endpoint{Address: a, Weight: 1})
	}
	return &snapshot.ClusterLoadAssignment{Name: "c", OverprovisioningFactor: 140, Localities: []snapshot.LocalityEndpoints{l}}
}

// A cluster that cannot be read is one whose calls fail with the reason.
func TestClusterRefused(t *testing.T) {
	endpoints := func(kind, list string) string {
		return `{"name": "c", "type": "` + kind + `", "load_assignment": {"endpoints": [{"lb_endpoints": [` + list + `]}]}}`
	}
	for _, tt := range []struct{ name, json, want string }{
		{"cluster type", `{"name": "c", "cluster_type": {"name": "envoy.clusters.redis"}}`, `cluster_type: "envoy.clusters.redis" is not supported`},
		{"aggregate, empty", aggregate(``), `cluster_type.clusters: must not be empty`},
		{"aggregate of itself", aggregate(`"a", "c"`), `cluster_type.clusters[1]: "c" is not the name of another cluster`},
		{"retry budget", eds(`"circuit_breakers": {"thresholds": [{"retry_budget": {"budget_percent": {"value": 101}}}]}`), `circuit_breakers.thresholds[0].retry_budget.budget_percent: is 101, must be between 0 and 100`},
		{"original dst", `{"name": "c", "type": "ORIGINAL_DST"}`, `type: ORIGINAL_DST is not supported`},
		{"eds not on this stream", `{"name": "c", "type": "EDS", "eds_cluster_config": {"eds_config": {"path": "x"}}}`, `eds_cluster_config.eds_config: must be ads or self`},
		{"eds config absent", `{"name": "c", "type": "EDS"}`, `eds_cluster_config.eds_config: must be ads or self`},
		{"no assignment", `{"name": "c", "type": "STATIC"}`, `load_assignment: must be set`},
		{"bad assignment", endpoints("STATIC", lbEndpoint("", 80)), `load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address.address: "" is neither an IP address nor a host name`},
		{"logical dns, two", endpoints("LOGICAL_DNS", lbEndpoint("a", 80)+","+lbEndpoint("b", 80)), `load_assignment: must have exactly one locality with one endpoint for LOGICAL_DNS`},
		{"cluster provided", eds(`"lb_policy": "CLUSTER_PROVIDED"`), `lb_policy: CLUSTER_PROVIDED is not supported`},
		{"panic", eds(`"common_lb_config": {"healthy_panic_threshold": {"value": 101}}`), `common_lb_config.healthy_panic_threshold: is 101, must be between 0 and 100`},
		{"panic NaN", eds(`"common_lb_config": {"healthy_panic_threshold": {"value": "NaN"}}`), `common_lb_config.healthy_panic_threshold: is NaN, must be between 0 and 100`},
		{"percent", eds(`"outlier_detection": {"max_ejection_percent": 101}`), `outlier_detection.max_ejection_percent: is 101, must be between 0 and 100`},
		{"interval", eds(`"outlier_detection": {"interval": "0s"}`), `outlier_detection.interval: is 0, must be positive`},
		{"ejection times", eds(`"outlier_detection": {"max_ejection_time": "1s"}`), `outlier_detection.max_ejection_time: is 1s, less than base_ejection_time 30s`},
		{"connection duration", eds(`"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
			"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
			"common_http_protocol_options": {"max_connection_duration": "-1s"}}}`), `typed_extension_protocol_options "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": common_http_protocol_options.max_connection_duration: is -1s, must not be negative`},
		{"HTTP options", eds(`"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
			"@type": "type.googleapis.com/google.protobuf.Empty"}}`), `typed_extension_protocol_options "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": "type.googleapis.com/google.protobuf.Empty" is not supported`},
		{"streams", eds(http2(`"max_concurrent_streams": 0`)), `typed_extension_protocol_options "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": explicit_http_config.http2_protocol_options.max_concurrent_streams: is 0, must be positive`},
		{"connect timeout", eds(`"connect_timeout": "-1s"`), `connect_timeout: is -1s, must not be negative`},
		{"subsets", eds(`"lb_subset_config": {"subset_selectors": [{"keys": ["k"]}]}`), `lb_subset_config: is not supported`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, &clusterv3.Cluster{}, tt.json, decode.Cluster, verdict[*snapshot.Cluster]{
				err: tt.want, value: &snapshot.Cluster{Name: "c", Refused: text(tt.want)},
			})
		})
	}
}

// A matcher of errors that cannot be read is noted: what counts is what does
// without one.
func TestErrorMatcherThatCannotBeRead(t *testing.T) {
	const at = `typed_extension_protocol_options "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": outlier_detection.error_matcher.`
	for json, note := range map[string]string{
		`{"http_response_headers_match": {"headers": [{"name": "grpc-status"}]}}`: `http_response_headers_match.headers[0].name: "grpc-status" is not supported: only :status is`,
		`{"not_match": {"http_request_headers_match": {}}}`:                       `not_match.http_request_headers_match: is not supported`,
		`{"or_match": {"rules": [{}]}}`:                                           `or_match.rules[0]: must have a rule`,
	} {
		check(t, &clusterv3.Cluster{}, eds(`"outlier_detection": {}, `+options(`"outlier_detection": {"error_matcher": `+json+`}`)), decode.Cluster, verdict[*snapshot.Cluster]{
			value: edsValue(func(c *snapshot.Cluster) { c.Outlier = outlierDefaults() }),
			notes: []string{at + note + ": every 5xx counts as an error"},
		})
	}
}

const rawSocket = `{"name": "raw", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}`

// proxySocket is the field of a cluster that has connections begin with a header,
// over an inner socket.
func proxySocket(fields, inner string) string {
	return `"transport_socket": {"name": "proxy", "typed_config": {` +
		join(`"@type": "type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport", "transport_socket": `+inner, fields) + `}}`
}

func TestProxyProtocol(t *testing.T) {
	for _, tt := range []struct {
		fields string
		want   uint8
		notes  []string
	}{
		{fields: ``, want: 1},
		{fields: `"config": {"version": "V1", "pass_through_tlvs": {}}, "allow_unspecified_address": true`, want: 1},
		{fields: `"config": {"version": "V2"}`, want: 2},
		{fields: `"config": {"added_tlvs": [{"type": 5}]}`, want: 1, notes: []string{`transport_socket.typed_config.config.added_tlvs: is not honoured yet`}},
	} {
		check(t, &clusterv3.Cluster{}, eds(proxySocket(tt.fields, rawSocket)), decode.Cluster, verdict[*snapshot.Cluster]{
			value: edsValue(func(c *snapshot.Cluster) { c.Connections.ProxyProtocol = tt.want }), notes: tt.notes,
		})
	}
	for json, want := range map[string]string{
		proxySocket(`"config": {"version": 7}`, rawSocket): `transport_socket.typed_config.config.version: 7 is not known`,
		`"transport_socket": {"name": "proxy", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"}}`: `transport_socket.typed_config.transport_socket: must be set`,
	} {
		check(t, &clusterv3.Cluster{}, eds(json), decode.Cluster, verdict[*snapshot.Cluster]{err: want, value: &snapshot.Cluster{Name: "c", Refused: text(want)}})
	}
}

// Leaving TLS out would be plaintext in silence, and so would be keeping the
// version before it.
func TestClusterThatAsksForTLSIsDenied(t *testing.T) {
	const tls = `{"name": "tls", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"}}`
	for json, want := range map[string]string{
		eds(`"transport_socket": ` + tls): `transport_socket: "tls": TLS is not supported yet`,
		eds(proxySocket(``, tls)):         `transport_socket.typed_config.transport_socket: "tls": TLS is not supported yet`,
		eds(`"transport_socket_matches": [{"name": "m", "transport_socket": ` + tls + `}]`): `transport_socket_matches[0] "m": TLS is not supported yet`,
	} {
		check(t, &clusterv3.Cluster{}, json, decode.Cluster, verdict[*snapshot.Cluster]{
			err: want, value: &snapshot.Cluster{Name: "c", Refused: text(want)},
		})
		wantDenied(t, decode.Cluster("", marshal(t, &clusterv3.Cluster{}, json)).Value.Refused)
	}
}

// A control plane refuses a cluster by metadata; that is no reason to NACK.
func TestClusterRefusedByControlPlane(t *testing.T) {
	json := eds(`"lb_policy": "CLUSTER_PROVIDED", "metadata": {"filter_metadata": {"meshframe": {"error": "reviews.yaml:3: tls is not supported"}}}`)
	check(t, &clusterv3.Cluster{}, json, decode.Cluster, verdict[*snapshot.Cluster]{
		value: &snapshot.Cluster{Name: "c", Refused: text("reviews.yaml:3: tls is not supported")},
	})
	wantDenied(t, decode.Cluster("", marshal(t, &clusterv3.Cluster{}, json)).Value.Refused)
}

func wantDenied(t *testing.T, err error) {
	t.Helper()
	var denial interface{ Deny() bool }
	if !errors.As(err, &denial) || !denial.Deny() {
		t.Errorf("%v is not a DeniedError", err)
	}
}
