package decode_test

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/decode"
)

// summary is what all results have in common.
type summary struct {
	name      string
	hasValue  bool
	valueName string
	usable    bool
	err       error
}

// decoders are all decoders, without their value types.
var decoders = map[string]func(string, []byte) summary{
	"Listener":              summarise(decode.Listener, func(v *snapshot.Listener) string { return v.Name }),
	"RouteConfiguration":    summarise(decode.RouteConfiguration, func(v *snapshot.RouteConfiguration) string { return v.Name }),
	"Cluster":               summarise(decode.Cluster, func(v *snapshot.Cluster) string { return v.Name }),
	"ClusterLoadAssignment": summarise(decode.ClusterLoadAssignment, func(v *snapshot.ClusterLoadAssignment) string { return v.Name }),
}

func summarise[V any](fn func(string, []byte) decode.Result[*V], name func(*V) string) func(string, []byte) summary {
	return func(n string, body []byte) summary {
		r := fn(n, body)
		s := summary{name: r.Name, hasValue: r.Value != nil, usable: r.Usable, err: r.Err}
		if r.Value != nil {
			s.valueName = name(r.Value)
		}
		return s
	}
}

func TestBytesThatAreNotTheMessage(t *testing.T) {
	for kind, fn := range decoders {
		t.Run(kind, func(t *testing.T) {
			if got := fn("name", []byte{0xff}); got.usable || got.err == nil || got.name != "name" {
				t.Errorf("bad bytes: %+v", got)
			}
			if got := fn("", nil); got.usable || got.err == nil {
				t.Errorf("no name: %+v", got)
			}
		})
	}
}

func fuzz(f *testing.F, kind string, seeds ...proto.Message) {
	f.Helper()
	for _, m := range seeds {
		body, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add("", body)
		f.Add("name", body)
	}
	fn := decoders[kind]
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		got := fn(name, body)
		if name != "" && got.name != name {
			t.Errorf("name %q became %q", name, got.name)
		}
		if !got.usable && got.err == nil {
			t.Error("neither usable nor refused")
		}
		if got.usable && (!got.hasValue || got.valueName != got.name || got.name == "") {
			t.Errorf("usable without a value or a name: %+v", got)
		}
	})
}

// parse reads a protojson literal for a fuzz seed.
func parse[M proto.Message](f *testing.F, m M, json string) M {
	f.Helper()
	if err := proto.Unmarshal(marshal(f, m, json), m); err != nil {
		f.Fatal(err)
	}
	return m
}

func FuzzListener(f *testing.F) {
	fuzz(f, "Listener",
		parse(f, &listenerv3.Listener{}, apiListener(rds, filters(isFault+","+router))),
		parse(f, &listenerv3.Listener{}, inbound(`"name": "x"`, filters(rbac+","+router))),
		parse(f, &listenerv3.Listener{}, inbound(``, filters(localLimit(join(bucket, enforced))+","+session("StatefulSession", cookieState)+","+router))))
}

func FuzzRouteConfiguration(f *testing.F) {
	fuzz(f, "RouteConfiguration",
		parse(f, &routev3.RouteConfiguration{}, oneRoute(`{"match": {"safe_regex": {"regex": "a+"}, "headers": [{"name": "h", "range_match": {"end": 3}}]},
			"route": {"weighted_clusters": {"clusters": [{"name": "a", "weight": 3}]}, "retry_policy": {"retry_on": "5xx,503"}}, `+perRoute(`"delay": {"fixed_delay": "1s"}`)+`}`)),
		parse(f, &routev3.RouteConfiguration{}, oneRoute(`{"match": {"prefix": ""}, "redirect": {"regex_rewrite": {"pattern": {"regex": "(a)"}, "substitution": "$\\1"}}}`)),
		parse(f, &routev3.RouteConfiguration{}, oneRoute(`{"match": {"prefix": "/"}, `+added("a", "%% %B%")+`, `+
			forwarding(`"prefix_rewrite": "/x", "hash_policy": [{"cookie": {"name": "n"}}], "request_mirror_policies": [{"cluster": "m"}],
				"rate_limits": [{"actions": [{"remote_address": {}}]}]`)+`, `+
			limitOnRoute(`"descriptors": [{"entries": [{"key": "remote_address"}], `+bucket+`}]`)+`,
			"metadata": `+ours(`"rate_limit": {"maxTokens": 1, "fillInterval": "1s", "keyed": [{}]}, "fallback": {"grpc": {"code": 14}}`)+`}`)))
}

func FuzzCluster(f *testing.F) {
	fuzz(f, "Cluster",
		parse(f, &clusterv3.Cluster{}, eds(`"outlier_detection": {"interval": "1s"}, "circuit_breakers": {"thresholds": [{"max_requests": 5}]}, `+policies(policy("least_request.v3.LeastRequest", ``)))),
		parse(f, &clusterv3.Cluster{}, aggregate(`"a", "b"`)),
		parse(f, &clusterv3.Cluster{}, eds(`"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 65537}, "metadata": `+
			ours(`"half_open": {}, "session": {"cookie": {"name": "n"}}, "slow_start": {"window": "1s"}, "subset_size": 3, "peak_ewma": {}`))),
		parse(f, &clusterv3.Cluster{}, eds(policies(policy("override_host.v3.OverrideHost", `"fallback_policy": `+policyList(policy(ringHash, ``)))))),
		parse(f, &clusterv3.Cluster{}, `{"name": "c", "type": "LOGICAL_DNS", "load_assignment": {"endpoints": [{"lb_endpoints": [`+lbEndpoint("a", 80)+`]}]}}`))
}

func FuzzClusterLoadAssignment(f *testing.F) {
	fuzz(f, "ClusterLoadAssignment",
		parse(f, &endpointv3.ClusterLoadAssignment{}, assignment(`{"locality": {"zone": "z"}, "priority": 1, "lb_endpoints": [`+lbEndpoint("::1", 80)+`]}`)))
}
