package decode_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/retry"
	"github.com/meshframe/meshframe/mesh/route"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/decode"
)

// oneRoute puts a route into a route configuration.
func oneRoute(r string) string {
	return `{"name": "rc", "virtual_hosts": [{"name": "vh", "domains": ["*"], "routes": [` + r + `]}]}`
}

func oneRouteValue(r *snapshot.Route) *snapshot.RouteConfiguration {
	return &snapshot.RouteConfiguration{Name: "rc", VirtualHosts: []*snapshot.VirtualHost{
		{Name: "vh", Domains: []string{"*"}, Routes: []*snapshot.Route{r}},
	}}
}

func to(cluster string) []snapshot.ClusterWeight {
	return []snapshot.ClusterWeight{{Cluster: cluster, Weight: 1}}
}

// matching is what a route with a match and a plain action becomes.
func matching(m route.Match) *snapshot.RouteConfiguration {
	return oneRouteValue(&snapshot.Route{Match: m, Clusters: to("c")})
}

func header(h route.HeaderMatch) *snapshot.RouteConfiguration {
	return matching(route.Match{Headers: []route.HeaderMatch{h}})
}

// anchored compiles a valid expression.
func anchored(expr string) *regexp.Regexp {
	re, _ := route.Anchor(expr)
	return re
}

func TestMatch(t *testing.T) {
	str := func(kind route.StringKind, value string) route.StringMatch {
		return route.StringMatch{Kind: kind, Value: value}
	}
	for match, want := range map[string]route.Match{
		`"prefix": "/"`:                                         {Path: route.PathPrefix, Value: "/"},
		`"prefix": ""`:                                          {},
		`"path": "/a.B/C"`:                                      {Path: route.PathExact, Value: "/a.B/C"},
		`"path_separated_prefix": "/a"`:                         {Path: route.PathSeparatedPrefix, Value: "/a"},
		`"safe_regex": {"regex": "a|b"}`:                        {Path: route.PathRegex, Regex: anchored("a|b")},
		`"prefix": "/A", "case_sensitive": false`:               {Value: "/A", IgnoreCase: true},
		`"prefix": "/A", "case_sensitive": true`:                {Value: "/A"},
		`"safe_regex": {"regex": "a"}, "case_sensitive": false`: {Path: route.PathRegex, Regex: anchored("a")},
		`"prefix": "", "grpc": {}`:                              {Headers: []route.HeaderMatch{{Name: "content-type", StringMatch: str(route.StringPrefix, "application/grpc")}}},
		`"prefix": "", "query_parameters": [{"name": "q"}]`:     {Query: []route.QueryMatch{{Name: "q", StringMatch: str(route.StringPresent, "")}}},
		`"prefix": "", "query_parameters": [{"name": "q", "present_match": true}]`:                                 {Query: []route.QueryMatch{{Name: "q", StringMatch: str(route.StringPresent, "")}}},
		`"prefix": "", "query_parameters": [{"name": "q", "string_match": {"exact": "x"}}]`:                        {Query: []route.QueryMatch{{Name: "q", StringMatch: str(route.StringExact, "x")}}},
		`"prefix": "", "runtime_fraction": {"default_value": {"numerator": 3}}`:                                    {HasFraction: true, Fraction: 30_000},
		`"prefix": "", "runtime_fraction": {"default_value": {}}`:                                                  {HasFraction: true},
		`"prefix": "", "runtime_fraction": {"default_value": {"numerator": 3, "denominator": "TEN_THOUSAND"}}`:     {HasFraction: true, Fraction: 300},
		`"prefix": "", "runtime_fraction": {"default_value": {"numerator": 3, "denominator": "MILLION"}}`:          {HasFraction: true, Fraction: 3},
		`"prefix": "", "runtime_fraction": {"default_value": {"numerator": 4294967295, "denominator": "HUNDRED"}}`: {HasFraction: true, Fraction: 1_000_000},
	} {
		t.Run(match, func(t *testing.T) {
			check(t, &routev3.RouteConfiguration{}, oneRoute(`{"match": {`+match+`}, "route": {"cluster": "c"}}`),
				decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{value: matching(want)})
		})
	}
}

func TestHeaderMatch(t *testing.T) {
	match := func(kind route.StringKind, value string) route.HeaderMatch {
		return route.HeaderMatch{Name: "h", StringMatch: route.StringMatch{Kind: kind, Value: value}}
	}
	with := func(h route.HeaderMatch, fn func(*route.HeaderMatch)) route.HeaderMatch { fn(&h); return h }
	invert := func(h *route.HeaderMatch) { h.Invert = true }
	ignoreCase := func(h *route.HeaderMatch) { h.IgnoreCase = true }
	regex := route.HeaderMatch{Name: "h", StringMatch: route.StringMatch{Kind: route.StringRegex, Regex: anchored("a+")}}
	for json, want := range map[string]route.HeaderMatch{
		`"name": "H"`:                                                            match(route.StringPresent, ""),
		`"name": "h", "present_match": true`:                                     match(route.StringPresent, ""),
		`"name": "h", "present_match": false`:                                    with(match(route.StringPresent, ""), invert),
		`"name": "h", "present_match": true, "invert_match": true`:               with(match(route.StringPresent, ""), invert),
		`"name": "h", "present_match": false, "invert_match": true`:              match(route.StringPresent, ""),
		`"name": "h", "exact_match": ""`:                                         match(route.StringExact, ""),
		`"name": "h", "exact_match": "a"`:                                        match(route.StringExact, "a"),
		`"name": "h", "prefix_match": "a"`:                                       match(route.StringPrefix, "a"),
		`"name": "h", "suffix_match": "a"`:                                       match(route.StringSuffix, "a"),
		`"name": "h", "contains_match": "a"`:                                     match(route.StringContains, "a"),
		`"name": "h", "safe_regex_match": {"regex": "a+"}`:                       regex,
		`"name": "h", "range_match": {"start": -3, "end": 9}`:                    {Name: "h", StringMatch: route.StringMatch{Kind: route.StringRange, Low: -3, High: 9}},
		`"name": "h", "string_match": {"exact": "a"}`:                            match(route.StringExact, "a"),
		`"name": "h", "string_match": {"exact": ""}`:                             match(route.StringExact, ""),
		`"name": "h", "string_match": {"prefix": "a"}`:                           match(route.StringPrefix, "a"),
		`"name": "h", "string_match": {"suffix": "a"}`:                           match(route.StringSuffix, "a"),
		`"name": "h", "string_match": {"contains": "a"}`:                         match(route.StringContains, "a"),
		`"name": "h", "string_match": {"exact": "A", "ignore_case": 1}`:          with(match(route.StringExact, "A"), ignoreCase),
		`"name": "h", "string_match": {"safe_regex": {"regex": "a+"}}`:           regex,
		`"name": "h", "exact_match": "a", "invert_match": true`:                  with(match(route.StringExact, "a"), invert),
		`"name": "h", "exact_match": "a", "treat_missing_header_as_empty": true`: with(match(route.StringExact, "a"), func(h *route.HeaderMatch) { h.TreatMissingAsEmpty = true }),
	} {
		json = strings.Replace(json, `"ignore_case": 1`, `"ignore_case": true`, 1)
		t.Run(json, func(t *testing.T) {
			check(t, &routev3.RouteConfiguration{}, oneRoute(`{"match": {"prefix": "", "headers": [{`+json+`}]}, "route": {"cluster": "c"}}`),
				decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{value: header(want)})
		})
	}
}

// A match that cannot be read refuses its virtual host, and only that.
func TestMatchRefusesVirtualHost(t *testing.T) {
	const where = `virtual_hosts[0].routes[1] "b": match`
	for match, reason := range map[string]string{
		``:                                 where + `: one of prefix, path, safe_regex and path_separated_prefix must be set`,
		`"connect_matcher": {}`:            where + `.connect_matcher: is not supported`,
		`"safe_regex": {"regex": "a("}`:    where + ".safe_regex.regex: error parsing regexp: missing closing ): `a(`",
		`"safe_regex": {"regex": "a)|(b"}`: where + ".safe_regex.regex: error parsing regexp: unexpected ): `a)|(b`",
		`"safe_regex": {"regex": ""}`:      where + `.safe_regex.regex: must not be empty`,
		`"path_separated_prefix": "/a/"`:   where + `.path_separated_prefix: "/a/" must begin with a slash, must not end in one, and has no query or fragment`,
		`"prefix": "", "tls_context": {}`:  where + `.tls_context: is not supported`,
		`"prefix": "", "headers": [{"name": "h", "exact_match": "x"}, {"name": ""}]`: where + `.headers[1].name: must be set`,
		`"prefix": "", "headers": [{"name": "h", "prefix_match": ""}]`:               where + `.headers[0] "h": prefix_match: must not be empty`,
		`"prefix": "", "headers": [{"name": "h", "string_match": {}}]`:               where + `.headers[0] "h": string_match: one of exact, prefix, suffix, contains and safe_regex must be set`,
		`"prefix": "", "query_parameters": [{"name": "q", "present_match": false}]`:  where + `.query_parameters[0] "q": present_match: false is not supported`,
		`"prefix": "", "runtime_fraction": {}`:                                       where + `.runtime_fraction.default_value: must be set`,
		`"prefix": "", "runtime_fraction": {"default_value": {"denominator": 7}}`:    where + `.runtime_fraction.default_value.denominator: 7 is not known`,
	} {
		t.Run(match, func(t *testing.T) {
			json := `{"name": "rc", "virtual_hosts": [
				{"name": "bad", "domains": ["a", "a.b"], "routes": [
					{"match": {"prefix": "/"}, "route": {"cluster": "c"}},
					{"name": "b", "match": {` + match + `}, "route": {"cluster": "c"}}]},
				{"name": "good", "domains": ["c"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "c"}}]}]}`
			check(t, &routev3.RouteConfiguration{}, json, decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{
				err: reason,
				value: &snapshot.RouteConfiguration{Name: "rc", VirtualHosts: []*snapshot.VirtualHost{
					{Name: "bad", Domains: []string{"a", "a.b"}, Refused: text(reason)},
					{Name: "good", Domains: []string{"c"}, Routes: []*snapshot.Route{{Match: route.Match{Value: "/"}, Clusters: to("c")}}},
				}},
			})
		})
	}
}

// An action that cannot be read refuses its route, which stays in its place.
func TestActionRefusesRoute(t *testing.T) {
	const where = `virtual_hosts[0].routes[0] "r": `
	weights := func(list string) string { return `"route": {"weighted_clusters": {"clusters": [` + list + `]}}` }
	for action, reason := range map[string]string{
		`"name": "r"`:                                   where[:len(where)-2] + `: one of route, redirect and direct_response must be set`,
		`"route": {}`:                                   where + `route: one of cluster and weighted_clusters must be set`,
		`"route": {"cluster": ""}`:                      where + `route.cluster: must not be empty`,
		`"route": {"cluster_header": "h"}`:              where + `route.cluster_header: is not supported`,
		`"route": {"cluster_specifier_plugin": "p"}`:    where + `route.cluster_specifier_plugin: is not supported`,
		`"filter_action": {}`:                           where + `filter_action: is not supported`,
		weights(`{"name": "a", "weight": 0}`):           where + `route.weighted_clusters.clusters: the sum of the weights must not be 0`,
		weights(`{"weight": 1}`):                        where + `route.weighted_clusters.clusters[0].name: must not be empty`,
		weights(`{"cluster_header": "h", "weight": 1}`): where + `route.weighted_clusters.clusters[0].cluster_header: is not supported`,
		weights(`{"name": "a", "weight": 4294967295}, {"name": "b", "weight": 1}`):                                     where + `route.weighted_clusters.clusters[1].weight: the sum of the weights is greater than 4294967295`,
		`"route": {"cluster": "c", "timeout": "-1s"}`:                                                                  where + `route.timeout: is -1s, must not be negative`,
		`"route": {"cluster": "c", "max_stream_duration": {"max_stream_duration": "-1s"}}`:                             where + `route.max_stream_duration.max_stream_duration: is -1s, must not be negative`,
		`"route": {"cluster": "c", "max_stream_duration": {"grpc_timeout_header_max": "-1s"}}`:                         where + `route.max_stream_duration.grpc_timeout_header_max: is -1s, must not be negative`,
		`"route": {"cluster": "c", "retry_policy": {"per_try_timeout": "-1s"}}`:                                        where + `route.retry_policy.per_try_timeout: is -1s, must not be negative`,
		`"route": {"cluster": "c", "retry_policy": {"retry_back_off": {}}}`:                                            where + `route.retry_policy.retry_back_off.base_interval: must be set`,
		`"route": {"cluster": "c", "retry_policy": {"retry_back_off": {"base_interval": "0s"}}}`:                       where + `route.retry_policy.retry_back_off.base_interval: is 0, must be positive`,
		`"route": {"cluster": "c", "retry_policy": {"retry_back_off": {"base_interval": "2s", "max_interval": "1s"}}}`: where + `route.retry_policy.retry_back_off.max_interval: is 1s, less than base_interval 2s`,
		`"route": {"cluster": "c", "retry_policy": {"host_selection_retry_max_attempts": -1}}`:                         where + `route.retry_policy.host_selection_retry_max_attempts: is -1, must not be negative`,
		`"route": {"cluster": "c", "retry_policy_typed_config": {}}`:                                                   where + `route.retry_policy_typed_config: is not supported`,
		`"route": {"cluster": "c"}, ` + perRoute(`"delay": {"fixed_delay": "0s"}`):                                     where + `typed_per_filter_config[envoy.filters.http.fault].delay.fixed_delay: is 0, must be positive`,
		`"route": {"cluster": "c"}, ` + perRoute(`"abort": {"http_status": 99}`):                                       where + `typed_per_filter_config[envoy.filters.http.fault].abort.http_status: is 99, must be between 200 and 599`,
	} {
		t.Run(action, func(t *testing.T) {
			if !strings.HasPrefix(action, `"name"`) {
				action = `"name": "r", ` + action
			}
			check(t, &routev3.RouteConfiguration{}, oneRoute(`{"match": {"prefix": "/"}, `+action+`}`),
				decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{
					err:   reason,
					value: oneRouteValue(&snapshot.Route{Name: "r", Match: route.Match{Value: "/"}, Refused: text(reason)}),
				})
		})
	}
}

// What is valid and cannot be done fails its calls without a NACK, and the
// last good version does not take its place.
func TestActionDenied(t *testing.T) {
	for action, reason := range map[string]string{
		`"non_forwarding_action": {}`: `virtual_hosts[0].routes[0]: non_forwarding_action is for servers: a client has nowhere to send the call`,
	} {
		t.Run(action, func(t *testing.T) {
			json := oneRoute(`{"match": {"prefix": "/"}, ` + action + `}`)
			check(t, &routev3.RouteConfiguration{}, json, decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{
				notes: []string{reason},
				value: oneRouteValue(&snapshot.Route{Match: route.Match{Value: "/"}, Refused: text(reason)}),
			})
			got := decode.RouteConfiguration("", marshal(t, &routev3.RouteConfiguration{}, json))
			wantDenied(t, got.Value.VirtualHosts[0].Routes[0].Refused)
		})
	}
}

func TestRouteAction(t *testing.T) {
	r := func(fn func(*snapshot.Route)) *snapshot.RouteConfiguration {
		out := &snapshot.Route{Match: route.Match{Value: "/"}, Clusters: to("c")}
		fn(out)
		return oneRouteValue(out)
	}
	for _, tt := range []struct {
		action string
		want   *snapshot.RouteConfiguration
		notes  []string
	}{
		{action: `"cluster": "c"`, want: r(func(*snapshot.Route) {})},
		{action: `"cluster": "c", "timeout": "0s"`, want: r(func(*snapshot.Route) {})},
		{action: `"cluster": "c", "timeout": "3.5s"`, want: r(func(r *snapshot.Route) { r.Timeout = 3500 * time.Millisecond })},
		{
			action: `"cluster": "c", "timeout": "3s", "max_stream_duration": {"max_stream_duration": "9s"}`,
			want:   r(func(r *snapshot.Route) { r.Timeout, r.Longest = 9*time.Second, 9*time.Second }),
		},
		{ // as Istio writes its timeout
			action: `"cluster": "c", "timeout": "3s", "max_stream_duration": {"max_stream_duration": "3s"}`,
			want:   r(func(r *snapshot.Route) { r.Timeout = 3 * time.Second }),
		},
		{
			action: `"cluster": "c", "timeout": "3s", "max_stream_duration": {"max_stream_duration": "0s"}`,
			want:   r(func(r *snapshot.Route) { r.Timeout = -1 }),
		},
		{
			action: `"cluster": "c", "max_grpc_timeout": "0s"`,
			want:   r(func(r *snapshot.Route) { r.HasMaxGRPCTimeout = true }),
		},
		{
			action: `"cluster": "c", "timeout": "3s", "max_grpc_timeout": "0s"`,
			want:   r(func(r *snapshot.Route) { r.HasMaxGRPCTimeout = true }),
		},
		{
			action: `"cluster": "c", "timeout": "3s", "max_grpc_timeout": "4s"`,
			want: r(func(r *snapshot.Route) {
				r.Timeout, r.HasMaxGRPCTimeout, r.MaxGRPCTimeout = 4*time.Second, true, 4*time.Second
			}),
		},
		{
			action: `"cluster": "c", "timeout": "3s", "max_grpc_timeout": "4s", "max_stream_duration": {"grpc_timeout_header_max": "2s"}`,
			want: r(func(r *snapshot.Route) {
				r.HasMaxGRPCTimeout, r.MaxGRPCTimeout, r.Longest = true, 2*time.Second, 2*time.Second
			}),
			notes: []string{
				`virtual_hosts[0].routes[0].route.max_grpc_timeout: has no effect beside max_stream_duration`,
				`virtual_hosts[0].routes[0].route.timeout: has no effect beside max_stream_duration`,
			},
		},
		{
			action: `"cluster": "c", "max_stream_duration": {"max_stream_duration": "9s", "grpc_timeout_header_max": "8s", "grpc_timeout_header_offset": "0.1s"}`,
			want: r(func(r *snapshot.Route) {
				r.Timeout, r.HasMaxGRPCTimeout, r.MaxGRPCTimeout, r.GRPCTimeoutOffset = 9*time.Second, true, 8*time.Second, 100*time.Millisecond
				r.Longest = 8 * time.Second
			}),
		},
		{
			action: `"weighted_clusters": {"clusters": [{"name": "a", "weight": 90}, {"name": "z", "weight": 0}, {"name": "b", "weight": 10}], "total_weight": 99}`,
			want: r(func(r *snapshot.Route) {
				r.Clusters = []snapshot.ClusterWeight{{Cluster: "a", Weight: 90}, {Cluster: "b", Weight: 10}}
			}),
			notes: []string{`virtual_hosts[0].routes[0].route.weighted_clusters.total_weight: is 99, the sum of the weights, 100, is used`},
		},
		{action: `"cluster": "c", "idle_timeout": "7s"`, want: r(func(r *snapshot.Route) { r.IdleTimeout = 7 * time.Second })},
		{
			action: `"cluster": "c", "hedge_policy": {"hedge_on_per_try_timeout": true, "initial_requests": 2}`,
			want:   r(func(r *snapshot.Route) { r.Hedge = true }),
			notes:  []string{`virtual_hosts[0].routes[0].route.hedge_policy.initial_requests: is not honoured yet`},
		},
	} {
		t.Run(tt.action, func(t *testing.T) {
			check(t, &routev3.RouteConfiguration{}, oneRoute(`{"match": {"prefix": "/"}, "decorator": {"operation": "o"}, "route": {`+tt.action+`}}`),
				decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{value: tt.want, notes: tt.notes})
		})
	}
}

func TestRetryPolicy(t *testing.T) {
	// base is what an empty policy becomes.
	base := func(fn func(*retry.Policy)) *retry.Policy {
		p := &retry.Policy{NumRetries: 1, BaseInterval: 25 * time.Millisecond, MaxInterval: 250 * time.Millisecond, HostSelectionAttempts: 1}
		fn(p)
		return p
	}
	const where = `virtual_hosts[0].routes[0].route.retry_policy.`
	for _, tt := range []struct {
		policy string
		want   *retry.Policy
		notes  []string
	}{
		{policy: ``, want: base(func(*retry.Policy) {})},
		{policy: `"num_retries": 0`, want: base(func(p *retry.Policy) { p.NumRetries = 0 })},
		{
			// As Istio writes its default.
			policy: `"retry_on": "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes", "num_retries": 2,
				"retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts",
					"typed_config": {"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}],
				"host_selection_retry_max_attempts": 5, "retriable_status_codes": [503, 418, 503]`,
			want: base(func(p *retry.Policy) {
				p.On = outcome.ConnectFailure | outcome.RefusedStream | outcome.GRPCUnavailable | outcome.GRPCCancelled | outcome.RetriableStatusCodes
				p.NumRetries, p.AvoidPreviousHosts, p.HostSelectionAttempts = 2, true, 5
				p.StatusCodes = []int{418, 503}
			}),
		},
		{
			policy: `"retry_on": "5xx,dance,429", "per_try_timeout": "0.7s", "retry_back_off": {"base_interval": "0.05s"}`,
			want: base(func(p *retry.Policy) {
				p.On, p.StatusCodes = outcome.Server5xx|outcome.RetriableStatusCodes, []int{429}
				p.PerTryTimeout = 700 * time.Millisecond
				p.BaseInterval, p.MaxInterval = 50*time.Millisecond, 500*time.Millisecond
			}),
			notes: []string{where + `retry_on: "dance" is not known and has no effect`},
		},
		{
			policy: `"retry_back_off": {"base_interval": "1s", "max_interval": "2s"}, "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts"}, {"name": "canary"}]`,
			want: base(func(p *retry.Policy) {
				p.BaseInterval, p.MaxInterval, p.AvoidPreviousHosts = time.Second, 2*time.Second, true
			}),
			notes: []string{where + `retry_host_predicate[1] "canary": is not honoured yet`},
		},
		{
			policy: `"retry_on": "retriable-headers", "retriable_headers": [{"name": "X-Retry", "string_match": {"prefix": "a"}}, {"name": "x", "invert_match": true, "treat_missing_header_as_empty": true}]`,
			want: base(func(p *retry.Policy) {
				p.On = outcome.RetriableHeaders
				p.Headers = []retry.HeaderMatch{
					{Name: "x-retry", Match: func(v string) bool { return strings.HasPrefix(v, "a") }},
					{Name: "x", Match: func(string) bool { return true }, Invert: true},
				}
			}),
			notes: []string{where + `retriable_headers[1] "x": treat_missing_header_as_empty: is not honoured yet`},
		},
		{
			policy: `"rate_limited_retry_back_off": {"reset_headers": [{"name": "Retry-After"}, {"name": "x-reset", "format": "UNIX_TIMESTAMP"}]}`,
			want: base(func(p *retry.Policy) {
				p.ResetHeaders, p.MaxResetInterval = []retry.ResetHeader{{Name: "retry-after"}, {Name: "x-reset", Unix: true}}, 300*time.Second
			}),
		},
		{
			policy: `"rate_limited_retry_back_off": {"reset_headers": [{"name": "h"}], "max_interval": "7s"}, "retry_priority": ` + previousPriorities(`2`),
			want: base(func(p *retry.Policy) {
				p.ResetHeaders, p.MaxResetInterval = []retry.ResetHeader{{Name: "h"}}, 7*time.Second
				p.AvoidPreviousPriorities, p.PriorityUpdates = true, 2
			}),
		},
		{
			policy: `"retry_priority": {"name": "p"}, "per_try_idle_timeout": "1s"`,
			want:   base(func(*retry.Policy) {}),
			notes:  []string{where + `per_try_idle_timeout: is not honoured yet`, where + `retry_priority: "p" is not honoured yet`},
		},
		{
			policy: `"retry_on": "reset", "retriable_request_headers": [{"name": "h", "exact_match": "x"}, {"name": ":path", "exact_match": "/p"}]`,
			want: base(func(p *retry.Policy) {
				p.On = outcome.Reset
				p.Meets = func(header func(string) (string, bool)) bool {
					h, _ := header("h")
					path, _ := header(":path")
					return h == "x" || path == "/p"
				}
			}),
		},
	} {
		t.Run(tt.policy, func(t *testing.T) {
			want := oneRouteValue(&snapshot.Route{Match: route.Match{Value: "/"}, Clusters: to("c"), Retry: tt.want})
			check(t, &routev3.RouteConfiguration{}, oneRoute(`{"match": {"prefix": "/"}, "route": {"cluster": "c", "retry_policy": {`+tt.policy+`}}}`),
				decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{value: want, notes: tt.notes})
		})
	}
}

const faultType = `"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"`

// perRoute configures the fault filter of a route, virtual host or weight.
func perRoute(config string) string {
	return `"typed_per_filter_config": {"envoy.filters.http.fault": {` + join(faultType, config) + `}}`
}

func join(parts ...string) string {
	kept := parts[:0]
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, ", ")
}

func TestFault(t *testing.T) {
	wrapped := func(fields string) string {
		return `"typed_per_filter_config": {"envoy.filters.http.fault": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", ` + fields + `}}`
	}
	for _, tt := range []struct {
		config string
		want   *fault.Policy
		notes  []string
	}{
		{config: perRoute(``), want: &fault.Policy{AbortGRPC: -1}},
		{
			config: perRoute(`"delay": {"fixed_delay": "7s", "percentage": {"numerator": 1000000, "denominator": "MILLION"}}`),
			want:   &fault.Policy{Delay: 7 * time.Second, DelayFraction: fault.Million, AbortGRPC: -1},
		},
		{
			config: perRoute(`"abort": {"http_status": 500, "percentage": {"numerator": 100}}, "max_active_faults": 3`),
			want:   &fault.Policy{AbortHTTP: 500, AbortFraction: fault.Million, AbortGRPC: -1, MaxActive: 3},
		},
		{
			config: perRoute(`"abort": {"grpc_status": 14, "percentage": {"numerator": 5, "denominator": "TEN_THOUSAND"}}`),
			want:   &fault.Policy{AbortGRPC: 14, AbortFraction: 500},
		},
		{config: perRoute(`"abort": {"http_status": 503}, "max_active_faults": 0`), want: &fault.Policy{AbortGRPC: -1}},
		{
			config: perRoute(`"delay": {"header_delay": {}, "percentage": {"numerator": 50}}, "abort": {"header_abort": {}, "percentage": {"numerator": 7, "denominator": "MILLION"}}`),
			want: &fault.Policy{
				HeaderDelay: true, DelayFraction: 500_000, DelayPer: 100,
				HeaderAbort: true, AbortFraction: 7, AbortPer: 1_000_000, AbortGRPC: -1,
			},
		},
		{
			config: perRoute(`"delay": {"fixed_delay": "7s", "percentage": {"numerator": 100}}, "headers": [{"name": "h", "exact_match": "x"}, {"name": "n", "present_match": true}]`),
			want: &fault.Policy{Delay: 7 * time.Second, DelayFraction: fault.Million, AbortGRPC: -1, Meets: func(header func(string) (string, bool)) bool {
				h, _ := header("h")
				_, ok := header("n")
				return h == "x" && ok
			}},
		},
		{
			config: perRoute(`"abort": {"http_status": 503, "percentage": {"numerator": 100}}, "downstream_nodes": ["a", "b"], "upstream_cluster": "c"`),
			want: &fault.Policy{AbortHTTP: 503, AbortFraction: fault.Million, AbortGRPC: -1, Cluster: "c", Meets: func(header func(string) (string, bool)) bool {
				node, _ := header("x-envoy-downstream-service-node")
				return node == "a" || node == "b"
			}},
		},
		{
			config: wrapped(`"config": {` + faultType + `, "abort": {"grpc_status": 14, "percentage": {"numerator": 100}}}`),
			want:   &fault.Policy{AbortGRPC: 14, AbortFraction: fault.Million},
		},
		{config: wrapped(`"disabled": true`), want: &fault.Policy{AbortGRPC: -1}},
		{config: wrapped(`"is_optional": true`)},
		{
			config: `"typed_per_filter_config": {"envoy.filters.http.cors": {"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy"}}`,
			notes:  []string{`virtual_hosts[0].routes[0].typed_per_filter_config[envoy.filters.http.cors]: envoy.extensions.filters.http.cors.v3.CorsPolicy is not honoured yet`},
		},
	} {
		t.Run(tt.config, func(t *testing.T) {
			want := oneRouteValue(&snapshot.Route{Match: route.Match{Value: "/"}, Clusters: to("c"), Fault: tt.want})
			check(t, &routev3.RouteConfiguration{}, oneRoute(`{"match": {"prefix": "/"}, "route": {"cluster": "c"}, `+tt.config+`}`),
				decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{value: want, notes: tt.notes})
		})
	}
}

// The narrower scope's fault stands beside the broader one's; the engine takes
// the narrowest.
func TestVirtualHost(t *testing.T) {
	abort := func(code int) string {
		return perRoute(fmt.Sprintf(`"abort": {"grpc_status": %d, "percentage": {"numerator": 100}}`, code))
	}
	policy := func(code int) *fault.Policy { return &fault.Policy{AbortGRPC: code, AbortFraction: fault.Million} }
	json := `{"name": "rc", ` + abort(1) + `, "virtual_hosts": [
		{"name": "a", "domains": ["A.example", "a.example"], "include_request_attempt_count": true, "retry_policy": {"num_retries": 3}, ` + abort(2) + `,
		 "routes": [{"match": {"prefix": "/"}, ` + abort(3) + `, "route": {"weighted_clusters": {"clusters": [{"name": "c", "weight": 1, ` + abort(4) + `}]}}}]},
		{"name": "b", "domains": ["*.example", "x.*", "*"], "routes": []}]}`
	check(t, &routev3.RouteConfiguration{}, json, decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{
		value: &snapshot.RouteConfiguration{Name: "rc", VirtualHosts: []*snapshot.VirtualHost{
			{
				Name: "a", Domains: []string{"a.example"}, AttemptCount: true, Fault: policy(2),
				Retry: &retry.Policy{NumRetries: 3, BaseInterval: 25 * time.Millisecond, MaxInterval: 250 * time.Millisecond, HostSelectionAttempts: 1},
				Routes: []*snapshot.Route{{
					Match: route.Match{Value: "/"}, Fault: policy(3),
					Clusters: []snapshot.ClusterWeight{{Cluster: "c", Weight: 1, Fault: policy(4)}},
				}},
			},
			{Name: "b", Domains: []string{"*.example", "x.*", "*"}, Fault: policy(1)},
		}},
	})
}

func TestVirtualHostRefused(t *testing.T) {
	for vh, reason := range map[string]string{
		`"domains": []`:                   `virtual_hosts[1].domains: must not be empty`,
		`"domains": ["a*b"]`:              `virtual_hosts[1].domains[0]: "a*b" is not a host, nor a host with a * at one end`,
		`"domains": ["first"]`:            `virtual_hosts[1].domains[0]: "first" belongs to virtual_hosts[0]`,
		`"domains": ["x"], "matcher": {}`: `virtual_hosts[1].matcher: is not supported`,
		`"domains": ["x"], "retry_policy": {"per_try_timeout": "-1s"}`: `virtual_hosts[1].retry_policy.per_try_timeout: is -1s, must not be negative`,
	} {
		t.Run(vh, func(t *testing.T) {
			json := `{"name": "rc", "virtual_hosts": [{"name": "0", "domains": ["first"]}, {"name": "1", ` + vh + `}]}`
			got := decode.RouteConfiguration("", marshal(t, &routev3.RouteConfiguration{}, json))
			if !got.Usable || errText(got.Err) != reason {
				t.Fatalf("Usable %v, Err %v; want %s", got.Usable, got.Err, reason)
			}
			if v := got.Value.VirtualHosts[1]; errText(v.Refused) != reason || len(v.Routes) != 0 {
				t.Errorf("virtual host: %+v", v)
			}
			if v := got.Value.VirtualHosts[0]; v.Refused != nil {
				t.Errorf("the other virtual host is refused: %v", v.Refused)
			}
		})
	}
}

// Every refusal of a resource is told at once, each by its place.
func TestAllRefusalsAreListed(t *testing.T) {
	json := oneRoute(`{"name": "a", "match": {"prefix": "/a"}, "route": {}}, {"name": "b", "match": {"prefix": "/b"}, "route": {"cluster": "c"}}, {"match": {"prefix": "/c"}}`)
	got := decode.RouteConfiguration("other", marshal(t, &routev3.RouteConfiguration{}, json))
	want := `virtual_hosts[0].routes[0] "a": route: one of cluster and weighted_clusters must be set; ` +
		`virtual_hosts[0].routes[2]: one of route, redirect and direct_response must be set`
	if errText(got.Err) != want {
		t.Errorf("Err:\n got %v\nwant %s", got.Err, want)
	}
	if got.Name != "other" || got.Value.Name != "other" {
		t.Errorf("the name that the client asked for is lost: %q, %q", got.Name, got.Value.Name)
	}
	if r := got.Value.VirtualHosts[0].Routes; len(r) != 3 || r[0].Refused == nil || r[1].Refused != nil || r[2].Refused == nil {
		t.Errorf("routes: %+v", r)
	}
}
