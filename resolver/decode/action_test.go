package decode_test

import (
	"regexp"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/route"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/decode"
)

// checkRoute decodes a route with an action and further fields.
func checkRoute(t *testing.T, fields string, want snapshot.Route, notes ...string) {
	t.Helper()
	want.Match = route.Match{Value: "/"}
	check(t, &routev3.RouteConfiguration{}, oneRoute(`{"match": {"prefix": "/"}, `+fields+`}`),
		decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{value: oneRouteValue(&want), notes: notes})
}

// forwarding is the action that sends calls to cluster c.
func forwarding(fields string) string {
	return `"route": {` + join(`"cluster": "c"`, fields) + `}`
}

// onRoute is where the fields of the only route are.
const onRoute = `virtual_hosts[0].routes[0].`

func TestRedirect(t *testing.T) {
	for fields, want := range map[string]snapshot.Redirect{
		``:                         {Status: 301},
		`"https_redirect": true`:   {Status: 301, Scheme: "https"},
		`"https_redirect": false`:  {Status: 301},
		`"scheme_redirect": "ftp"`: {Status: 301, Scheme: "ftp"},
		`"host_redirect": "h", "port_redirect": 8080, "strip_query": true, "response_code": "FOUND"`: {Status: 302, Host: "h", Port: 8080, DropQuery: true},
		`"path_redirect": "/p?q=1", "response_code": "SEE_OTHER"`:                                    {Status: 303, Path: "/p?q=1"},
		`"prefix_rewrite": "", "response_code": "TEMPORARY_REDIRECT"`:                                {Status: 307, Rewrite: &snapshot.Rewrite{HasPrefix: true}},
		`"prefix_rewrite": "/x", "response_code": "PERMANENT_REDIRECT"`:                              {Status: 308, Rewrite: &snapshot.Rewrite{HasPrefix: true, Prefix: "/x"}},
		`"regex_rewrite": {"pattern": {"regex": "a(b)"}, "substitution": "\\1"}`:                     {Status: 301, Rewrite: &snapshot.Rewrite{Regex: regexRewrite("a(b)", "${1}")}},
	} {
		t.Run(fields, func(t *testing.T) {
			checkRoute(t, `"redirect": {`+fields+`}, `+perRoute(`"max_active_faults": 3`), snapshot.Route{
				Redirect: &want, Fault: &fault.Policy{AbortGRPC: -1, MaxActive: 3},
			})
		})
	}
}

func TestDirectResponse(t *testing.T) {
	checkRoute(t, `"direct_response": {"status": 404}`, snapshot.Route{DirectResponse: &snapshot.DirectResponse{Status: 404}})
	checkRoute(t, `"direct_response": {"status": 200, "body": {"inline_string": "b"}, "body_format": {}}`,
		snapshot.Route{DirectResponse: &snapshot.DirectResponse{Status: 200, Body: "b"}}, onRoute+`direct_response.body_format: is not honoured yet`)
	checkRoute(t, `"direct_response": {"status": 200, "body": {"inline_bytes": "Yg=="}}`,
		snapshot.Route{DirectResponse: &snapshot.DirectResponse{Status: 200, Body: "b"}})
}

func regexRewrite(pattern, substitution string) *snapshot.RegexRewrite {
	return &snapshot.RegexRewrite{Pattern: regexp.MustCompile(pattern), Substitution: substitution}
}

func TestRewrite(t *testing.T) {
	regex := func(pattern, substitution string) string {
		return `"regex_rewrite": {"pattern": {"google_re2": {}, "regex": "` + pattern + `"}, "substitution": "` + substitution + `"}`
	}
	for _, tt := range []struct {
		fields string
		want   *snapshot.Rewrite
		notes  []string
	}{
		{fields: `"prefix_rewrite": "/x"`, want: &snapshot.Rewrite{HasPrefix: true, Prefix: "/x"}},
		{fields: `"prefix_rewrite": ""`},
		{fields: regex(`^/a/(.*)/(.*)$`, `/\\2/\\1`), want: &snapshot.Rewrite{Regex: regexRewrite(`^/a/(.*)/(.*)$`, "/${2}/${1}")}},
		{fields: regex(`a`, `\\0$1\\\\x`), want: &snapshot.Rewrite{Regex: regexRewrite(`a`, `${0}$$1\x`)}},
		{fields: `"host_rewrite_literal": "h"`, want: &snapshot.Rewrite{Host: "h"}},
		{fields: `"prefix_rewrite": "/x", "host_rewrite_literal": "h"`, want: &snapshot.Rewrite{HasPrefix: true, Prefix: "/x", Host: "h"}},
		{fields: `"auto_host_rewrite": false`},
		{fields: `"auto_host_rewrite": true`, notes: []string{onRoute + `route.auto_host_rewrite: is not honoured yet: the authority stays`}},
	} {
		t.Run(tt.fields, func(t *testing.T) {
			checkRoute(t, forwarding(tt.fields), snapshot.Route{Clusters: to("c"), Rewrite: tt.want}, tt.notes...)
		})
	}
}

func TestMirrors(t *testing.T) {
	for _, tt := range []struct {
		list  string
		want  []snapshot.Mirror
		notes []string
	}{
		{list: `{"cluster": "m"}`, want: []snapshot.Mirror{{Cluster: "m", Fraction: fault.Million}}},
		{
			list:  `{"cluster": "m", "runtime_fraction": {"default_value": {}}, "disable_shadow_host_suffix_append": true}, {"cluster": "n", "runtime_fraction": {"default_value": {"numerator": 7}, "runtime_key": "k"}, "trace_sampled": false}`,
			want:  []snapshot.Mirror{{Cluster: "m", KeepAuthority: true}, {Cluster: "n", Fraction: 70_000}},
			notes: []string{onRoute + `route.request_mirror_policies[1].trace_sampled: is not honoured yet`, onRoute + `route.request_mirror_policies[1].runtime_fraction.runtime_key: is not honoured yet`},
		},
	} {
		t.Run(tt.list, func(t *testing.T) {
			checkRoute(t, forwarding(`"request_mirror_policies": [`+tt.list+`]`), snapshot.Route{Clusters: to("c"), Mirrors: tt.want}, tt.notes...)
		})
	}
}

func TestHashPolicies(t *testing.T) {
	for _, tt := range []struct {
		policy string
		want   []snapshot.HashPolicy
		notes  []string
	}{
		{policy: `"header": {"header_name": "X-User"}, "terminal": true`, want: []snapshot.HashPolicy{{Name: "x-user", Terminal: true}}},
		{
			policy: `"header": {"header_name": "h", "regex_rewrite": {"pattern": {"regex": "^(.).*"}, "substitution": "\\1"}}`,
			want:   []snapshot.HashPolicy{{Name: "h", Regex: regexRewrite("^(.).*", "${1}")}},
		},
		{policy: `"cookie": {"name": "n"}`, want: []snapshot.HashPolicy{{Kind: snapshot.HashCookie, Name: "n"}}},
		{
			policy: `"cookie": {"name": "n", "ttl": "0s", "path": "/p", "attributes": [{"name": "SameSite", "value": "Strict"}, {"name": "Secure"}]}`,
			want: []snapshot.HashPolicy{{
				Kind: snapshot.HashCookie, Name: "n", HasTTL: true, Path: "/p",
				Attributes: []snapshot.HeaderEdit{{Name: "SameSite", Value: "Strict"}, {Name: "Secure"}},
			}},
		},
		{policy: `"cookie": {"name": "n", "ttl": "9s"}`, want: []snapshot.HashPolicy{{Kind: snapshot.HashCookie, Name: "n", HasTTL: true, TTL: 9 * time.Second}}},
		{policy: `"connection_properties": {"source_ip": true}`, want: []snapshot.HashPolicy{{Kind: snapshot.HashSourceIP}}},
		{policy: `"connection_properties": {}`, notes: []string{onRoute + `route.hash_policy[0].connection_properties: has no effect without source_ip`}},
		{policy: `"query_parameter": {"name": "Q"}`, want: []snapshot.HashPolicy{{Kind: snapshot.HashQuery, Name: "Q"}}},
		{policy: `"filter_state": {"key": "io.grpc.channel_id"}`, want: []snapshot.HashPolicy{{Kind: snapshot.HashChannel}}},
		{policy: `"filter_state": {"key": "k"}`, notes: []string{onRoute + `route.hash_policy[0].filter_state: "k" is not known and has no effect`}},
	} {
		t.Run(tt.policy, func(t *testing.T) {
			checkRoute(t, forwarding(`"hash_policy": [{`+tt.policy+`}]`), snapshot.Route{Clusters: to("c"), Hash: tt.want}, tt.notes...)
		})
	}
}

// What a route does not say itself its virtual host says, and for mirrors the
// route configuration.
func TestInherited(t *testing.T) {
	mirror := func(name string) []snapshot.Mirror {
		return []snapshot.Mirror{{Cluster: name, Fraction: fault.Million}}
	}
	json := `{"name": "rc", "request_mirror_policies": [{"cluster": "rc"}], "virtual_hosts": [
		{"name": "a", "domains": ["a"], "request_mirror_policies": [{"cluster": "vh"}], "hedge_policy": {"hedge_on_per_try_timeout": true},
		 "routes": [{"match": {"prefix": "/"}, ` + forwarding(``) + `}, {"match": {"prefix": "/"}, ` + forwarding(`"hedge_policy": {}`) + `}]},
		{"name": "b", "domains": ["b"]}]}`
	all := route.Match{Value: "/"}
	check(t, &routev3.RouteConfiguration{}, json, decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{
		value: &snapshot.RouteConfiguration{Name: "rc", VirtualHosts: []*snapshot.VirtualHost{
			{
				Name: "a", Domains: []string{"a"}, Mirrors: mirror("vh"),
				Routes: []*snapshot.Route{{Match: all, Clusters: to("c"), Hedge: true}, {Match: all, Clusters: to("c")}},
			},
			{Name: "b", Domains: []string{"b"}, Mirrors: mirror("rc")},
		}},
	})
}

func TestPoliciesRefuseRoute(t *testing.T) {
	const where = `virtual_hosts[0].routes[0] "r": `
	for action, reason := range map[string]string{
		`"redirect": {"response_code": 9}`:                                                     `redirect.response_code: 9 is not known`,
		`"redirect": {"port_redirect": 65536}`:                                                 `redirect.port_redirect: is 65536, must be at most 65535`,
		`"redirect": {"host_redirect": "a\r\nb"}`:                                              `redirect: "a\r\nb" is not the value of a header`,
		`"redirect": {"regex_rewrite": {"pattern": {"regex": ""}}}`:                            `redirect.regex_rewrite.pattern.regex: must not be empty`,
		`"direct_response": {"status": 99}`:                                                    `direct_response.status: is 99, must be between 200 and 599`,
		`"direct_response": {"status": 200, "body": {"filename": "f"}}`:                        `direct_response.body.filename: is not supported`,
		`"direct_response": {"status": 200, "body": {"environment_variable": "V"}}`:            `direct_response.body.environment_variable: is not supported`,
		forwarding(`"prefix_rewrite": "/x", "regex_rewrite": {"pattern": {"regex": "a"}}`):     `route: only one of prefix_rewrite and regex_rewrite may be set`,
		forwarding(`"regex_rewrite": {"pattern": {"regex": "a("}}`):                            `route.regex_rewrite.pattern.regex: error parsing regexp: missing closing ): ` + "`a(`",
		forwarding(`"regex_rewrite": {"pattern": {"regex": "(a)"}, "substitution": "\\2"}`):    `route.regex_rewrite.substitution: \2: the expression has 1 groups`,
		forwarding(`"regex_rewrite": {"pattern": {"regex": "a"}, "substitution": "x\\"}`):      `route.regex_rewrite.substitution: a backslash must come before a digit or another backslash`,
		forwarding(`"path_rewrite_policy": {}`):                                                `route.path_rewrite_policy: is not supported`,
		forwarding(`"path_rewrite": "/x"`):                                                     `route.path_rewrite: is not supported`,
		forwarding(`"host_rewrite_header": "h"`):                                               `route.host_rewrite_header: is not supported`,
		forwarding(`"host_rewrite_path_regex": {}`):                                            `route.host_rewrite_path_regex: is not supported`,
		forwarding(`"host_rewrite_literal": "a\nb"`):                                           `route.host_rewrite_literal: "a\nb" is not the value of a header`,
		forwarding(`"request_mirror_policies": [{}]`):                                          `route.request_mirror_policies[0].cluster: must not be empty`,
		forwarding(`"request_mirror_policies": [{"cluster_header": "h"}]`):                     `route.request_mirror_policies[0].cluster_header: is not supported`,
		forwarding(`"request_mirror_policies": [{"cluster": "m", "runtime_fraction": {}}]`):    `route.request_mirror_policies[0].runtime_fraction.default_value: must be set`,
		forwarding(`"hash_policy": [{}]`):                                                      `route.hash_policy[0]: one of header, cookie, connection_properties, query_parameter and filter_state must be set`,
		forwarding(`"hash_policy": [{"header": {}}]`):                                          `route.hash_policy[0].header.header_name: must be set`,
		forwarding(`"hash_policy": [{"cookie": {"name": "a b"}}]`):                             `route.hash_policy[0].cookie.name: "a b" is not the name of a header`,
		forwarding(`"hash_policy": [{"cookie": {"name": "a", "ttl": "-1s"}}]`):                 `route.hash_policy[0].cookie.ttl: is -1s, must not be negative`,
		forwarding(`"hash_policy": [{"query_parameter": {}}]`):                                 `route.hash_policy[0].query_parameter.name: must be set`,
		forwarding(`"idle_timeout": "-1s"`):                                                    `route.idle_timeout: is -1s, must not be negative`,
		forwarding(`"retry_policy": {"retriable_headers": [{}]}`):                              `route.retry_policy.retriable_headers[0].name: must be set`,
		forwarding(`"retry_policy": {"rate_limited_retry_back_off": {}}`):                      `route.retry_policy.rate_limited_retry_back_off.reset_headers: must not be empty`,
		forwarding(`"retry_policy": {"rate_limited_retry_back_off": {"reset_headers": [{}]}}`): `route.retry_policy.rate_limited_retry_back_off.reset_headers[0].name: must be set`,
		forwarding(`"retry_policy": {"retry_priority": ` + previousPriorities(`0`) + `}`):      `route.retry_policy.retry_priority.update_frequency: is 0, must be positive`,
		forwarding(`"weighted_clusters": null`) + `, "metadata": ` + ours(`"half_open": {}`):   `metadata.filter_metadata[meshframe].half_open: is not known`,
	} {
		t.Run(action, func(t *testing.T) {
			check(t, &routev3.RouteConfiguration{}, oneRoute(`{"name": "r", "match": {"prefix": "/"}, `+action+`}`),
				decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{
					err:   where + reason,
					value: oneRouteValue(&snapshot.Route{Name: "r", Match: route.Match{Value: "/"}, Refused: text(where + reason)}),
				})
		})
	}
}

func previousPriorities(frequency string) string {
	return `{"name": "envoy.retry_priorities.previous_priorities", "typed_config": {
		"@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig", "update_frequency": ` + frequency + `}}`
}
