package decode_test

import (
	"strings"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/meshframe/meshframe/mesh/ratelimit"
	"github.com/meshframe/meshframe/mesh/route"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/decode"
)

const (
	limitType = `"@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"`
	bucket    = `"token_bucket": {"max_tokens": 9, "tokens_per_fill": 3, "fill_interval": "2s"}`
	enforced  = `"filter_enabled": {"default_value": {"numerator": 100}}, "filter_enforced": {"default_value": {"numerator": 100}}`

	cookieState = `"session_state": {"name": "cookie", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.http.stateful_session.cookie.v3.CookieBasedSessionState", "cookie": {"name": "n"}}}`
)

// localLimit is the rate limit filter of a listener.
func localLimit(fields string) string {
	return `{"name": "limit", "typed_config": {` + join(limitType, fields) + `}}`
}

// session is a configuration of the filter for sessions, as a filter.
func session(message string, fields ...string) string {
	return `{"name": "session", "typed_config": {` + join(`"@type": "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.`+message+`"`, strings.Join(fields, ",")) + `}}`
}

// limitOnRoute configures the rate limit filter of a route, virtual host or
// route configuration.
func limitOnRoute(fields string) string {
	return `"typed_per_filter_config": {"limit": {` + join(limitType, bucket, enforced, fields) + `}}`
}

// limit is what bucket and enforced become.
func limit(fn func(*ratelimit.Policy)) *ratelimit.Policy {
	p := &ratelimit.Policy{
		Bucket:  ratelimit.Bucket{MaxTokens: 9, TokensPerFill: 3, FillInterval: 2 * time.Second},
		MaxKeys: 10_000, Enforced: 1_000_000, Status: 429,
	}
	fn(p)
	return p
}

func TestLocalRateLimit(t *testing.T) {
	const at = `virtual_hosts[0].routes[0].typed_per_filter_config[limit].`
	off := &ratelimit.Policy{Status: 429}
	for _, tt := range []struct {
		name, config string
		want         *ratelimit.Policy
		notes        []string
	}{
		{name: "plain", config: join(bucket, enforced), want: limit(func(*ratelimit.Policy) {})},
		{
			name:   "defaults",
			config: join(`"token_bucket": {"max_tokens": 1, "fill_interval": "0.05s"}`, enforced),
			want: limit(func(p *ratelimit.Policy) {
				p.Bucket = ratelimit.Bucket{MaxTokens: 1, TokensPerFill: 1, FillInterval: 50 * time.Millisecond}
			}),
		},
		{
			name:   "status",
			config: join(bucket, enforced, `"status": {"code": 503}, "max_dynamic_descriptors": 5, "rate_limited_as_resource_exhausted": true`),
			want:   limit(func(p *ratelimit.Policy) { p.Status, p.MaxKeys = 503, 5 }),
			notes:  []string{at + `rate_limited_as_resource_exhausted: is not honoured yet`},
		},
		{name: "status that is none", config: join(bucket, enforced, `"status": {"code": 200}`), want: limit(func(*ratelimit.Policy) {})},
		{
			name:   "not enforced",
			config: join(bucket, `"filter_enabled": {"default_value": {"numerator": 100}}`),
			want:   off,
			notes:  []string{at + `filter_enforced: nothing is refused unless filter_enabled and filter_enforced say so`},
		},
		{
			name:   "partly",
			config: join(bucket, `"filter_enabled": {"default_value": {"numerator": 50}}, "filter_enforced": {"default_value": {"numerator": 10}}`),
			want:   limit(func(p *ratelimit.Policy) { p.Enforced = 50_000 }),
			notes:  []string{at + `filter_enabled: every call takes a token: only the share of refusals is lowered`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			checkRoute(t, forwarding(``)+`, "typed_per_filter_config": {"limit": {`+join(limitType, tt.config)+`}}`,
				snapshot.Route{Clusters: to("c"), RateLimit: tt.want}, tt.notes...)
		})
	}
	t.Run("disabled", func(t *testing.T) {
		checkRoute(t, forwarding(``)+`, "typed_per_filter_config": {"envoy.filters.http.local_ratelimit": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true}}`,
			snapshot.Route{Clusters: to("c"), RateLimit: off})
	})
}

// Descriptors become buckets by the rate_limits that give their keys.
func TestRateLimitDescriptors(t *testing.T) {
	const at = `virtual_hosts[0].routes[0].typed_per_filter_config[limit].`
	const user = `{"request_headers": {"header_name": "X-User", "descriptor_key": "user"}}`
	small := ratelimit.Bucket{MaxTokens: 1, TokensPerFill: 1, FillInterval: time.Second}
	descriptor := func(entries string) string {
		return `"always_consume_default_token_bucket": false, "descriptors": [{"entries": [` + entries + `], "token_bucket": {"max_tokens": 1, "fill_interval": "1s"}}]`
	}
	actions := func(list string, fields ...string) string {
		return `"rate_limits": [{` + join(append([]string{`"actions": [` + list + `]`}, fields...)...) + `}]`
	}
	keyed := func(parts ...ratelimit.KeyPart) func(*ratelimit.Policy) {
		return func(p *ratelimit.Policy) { p.Keyed = []ratelimit.Keyed{{Key: parts, Bucket: small}} }
	}
	none := func(*ratelimit.Policy) {}
	const unused = at + `descriptors[0]: has no effect: no entry of rate_limits beside it gives its keys`
	for _, tt := range []struct {
		name, config, route, vh string
		want                    func(*ratelimit.Policy)
		notes                   []string
	}{
		{
			name: "header", config: descriptor(`{"key": "user", "value": "ann"}`), route: actions(user),
			want: keyed(ratelimit.KeyPart{Header: "x-user", Value: "ann"}),
		},
		{
			name: "each value", config: descriptor(`{"key": "user"}, {"key": "remote_address"}`), route: actions(user + `, {"remote_address": {}}`),
			want: keyed(ratelimit.KeyPart{Header: "x-user"}, ratelimit.KeyPart{Source: true}),
		},
		{
			name: "generic key", config: descriptor(`{"key": "generic_key", "value": "a"}, {"key": "user"}`), route: actions(`{"generic_key": {"descriptor_value": "a"}}, ` + user),
			want: keyed(ratelimit.KeyPart{Header: "x-user"}),
		},
		{
			name: "generic key of a name, alone", config: descriptor(`{"key": "k"}`), route: actions(`{"generic_key": {"descriptor_key": "k", "descriptor_value": "a"}}`),
			want: keyed(),
		},
		{name: "the filter's own", config: descriptor(`{"key": "user"}`) + `, ` + actions(user), route: actions(`{"remote_address": {}}`), want: keyed(ratelimit.KeyPart{Header: "x-user"})},
		{name: "of the virtual host", config: descriptor(`{"key": "user"}`), vh: actions(user), want: keyed(ratelimit.KeyPart{Header: "x-user"})},
		{
			name: "route in place of the virtual host", config: descriptor(`{"key": "user"}`), route: actions(`{"remote_address": {}}`), vh: actions(user),
			want: none, notes: []string{unused},
		},
		{
			name: "both", config: descriptor(`{"key": "user"}`) + `, "vh_rate_limits": "INCLUDE"`, route: actions(`{"remote_address": {}}`), vh: actions(user),
			want: keyed(ratelimit.KeyPart{Header: "x-user"}),
		},
		{name: "virtual host ignored", config: descriptor(`{"key": "user"}`) + `, "vh_rate_limits": "IGNORE"`, vh: actions(user), want: none, notes: []string{unused}},
		{name: "other value", config: descriptor(`{"key": "generic_key", "value": "b"}`), route: actions(`{"generic_key": {"descriptor_value": "a"}}`), want: none, notes: []string{unused}},
		{name: "more keys", config: descriptor(`{"key": "user"}, {"key": "user"}`), route: actions(user), want: none, notes: []string{unused}},
		{name: "another stage", config: descriptor(`{"key": "user"}`), route: actions(user, `"stage": 1`), want: none, notes: []string{unused}},
		{
			name: "default bucket as well", config: strings.Replace(descriptor(`{"key": "user"}`), "false", "true", 1), route: actions(user),
			want:  keyed(ratelimit.KeyPart{Header: "x-user"}),
			notes: []string{at + `always_consume_default_token_bucket: true, the default, is not honoured: calls with a descriptor take no token of token_bucket`},
		},
		{
			name: "unknown action", config: descriptor(`{"key": "user"}`), route: actions(`{"source_cluster": {}}`), want: none,
			notes: []string{at + `rate_limits of the route[0].actions[0].source_cluster: is not supported, so the entry has no effect`, unused},
		},
		{
			name: "unknown field", config: descriptor(`{"key": "user"}`), route: actions(user, `"disable_key": "k"`), want: none,
			notes: []string{at + `rate_limits of the route[0].disable_key: is not supported, so the entry has no effect`, unused},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			vh := join(`"name": "vh", "domains": ["*"]`, tt.vh)
			json := `{"name": "rc", "virtual_hosts": [{` + vh + `, "routes": [{"match": {"prefix": "/"}, ` + forwarding(tt.route) + `, ` + limitOnRoute(tt.config) + `}]}]}`
			var notes []string
			if tt.vh != "" {
				notes = []string{`virtual_hosts[0].rate_limits: is honoured only by a local rate limit that is configured beside it`}
			}
			check(t, &routev3.RouteConfiguration{}, json, decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{
				value: oneRouteValue(&snapshot.Route{Match: route.Match{Value: "/"}, Clusters: to("c"), RateLimit: limit(tt.want)}),
				notes: append(notes, tt.notes...),
			})
		})
	}
}

// A rate limit may stand at each level; one of a route configuration is for the
// virtual hosts without their own.
func TestRateLimitOfAllLevels(t *testing.T) {
	status := func(n int) *ratelimit.Policy { return limit(func(p *ratelimit.Policy) { p.Status = n }) }
	json := `{"name": "rc", ` + limitOnRoute(`"status": {"code": 501}`) + `, "virtual_hosts": [
		{"name": "a", "domains": ["a"], ` + limitOnRoute(`"status": {"code": 502}`) + `, "routes": [
			{"match": {"prefix": "/"}, ` + limitOnRoute(`"status": {"code": 503}`) + `, "route": {"weighted_clusters": {"clusters": [
				{"name": "c", "weight": 1, ` + limitOnRoute(``) + `}]}}}]},
		{"name": "b", "domains": ["b"], "rate_limits": [{}]}]}`
	check(t, &routev3.RouteConfiguration{}, json, decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{
		value: &snapshot.RouteConfiguration{Name: "rc", VirtualHosts: []*snapshot.VirtualHost{
			{
				Name: "a", Domains: []string{"a"}, RateLimit: status(502),
				Routes: []*snapshot.Route{{Match: route.Match{Value: "/"}, Clusters: to("c"), RateLimit: status(503)}},
			},
			{Name: "b", Domains: []string{"b"}, RateLimit: status(501)},
		}},
		notes: []string{
			`virtual_hosts[0].routes[0].route.weighted_clusters.clusters[0].typed_per_filter_config: a local rate limit of a weighted cluster is not honoured`,
			`virtual_hosts[1].rate_limits: is honoured only by a local rate limit that is configured beside it`,
		},
	})
}

func TestLocalRateLimitRefused(t *testing.T) {
	const at = `virtual_hosts[0].routes[0].typed_per_filter_config[limit].`
	for config, reason := range map[string]string{
		``:                                  `token_bucket: must be set`,
		`"token_bucket": {}`:                `token_bucket.max_tokens: must be positive`,
		`"token_bucket": {"max_tokens": 1}`: `token_bucket.fill_interval: is 0s, must be at least 50ms`,
		`"token_bucket": {"max_tokens": 1, "tokens_per_fill": 0}`: `token_bucket.tokens_per_fill: is 0, must be positive`,
		bucket + `, "filter_enabled": {}`:                         `filter_enabled.default_value: must be set`,
		bucket + `, "filter_enforced": {}`:                        `filter_enforced.default_value: must be set`,
		bucket + `, "max_dynamic_descriptors": 0`:                 `max_dynamic_descriptors: is 0, must be positive`,
		bucket + `, "descriptors": [{}]`:                          `descriptors[0].entries: must not be empty`,
		bucket + `, "descriptors": [{"entries": [{"key": "k"}]}]`: `descriptors[0].token_bucket.max_tokens: must be positive`,
	} {
		t.Run(config, func(t *testing.T) {
			json := oneRoute(`{"match": {"prefix": "/"}, ` + forwarding(``) + `, "typed_per_filter_config": {"limit": {` + join(limitType, config) + `}}}`)
			check(t, &routev3.RouteConfiguration{}, json, decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{
				err:   at + reason,
				value: oneRouteValue(&snapshot.Route{Match: route.Match{Value: "/"}, Refused: text(at + reason)}),
			})
		})
	}
}

func TestSessionOfRoute(t *testing.T) {
	per := func(fields string) string {
		return `"typed_per_filter_config": {"session": {` + join(`"@type": "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute"`, fields) + `}}`
	}
	for config, session := range map[string]*snapshot.Session{
		per(`"disabled": true`):       {},
		per(``):                       nil,
		per(`"stateful_session": {}`): {},
		per(`"stateful_session": {` + cookieState + `}`): {Cookie: "n"},
		`"typed_per_filter_config": {"envoy.filters.http.stateful_session": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "disabled": true}}`: {},
	} {
		checkRoute(t, forwarding(``)+`, `+config, snapshot.Route{Clusters: to("c"), Session: session})
		// Of a virtual host, and of the route configuration, which virtual hosts
		// inherit.
		want := oneRouteValue(&snapshot.Route{Match: route.Match{Value: "/"}, Clusters: to("c")})
		want.VirtualHosts[0].Session = session
		host := strings.Replace(oneRoute(`{"match": {"prefix": "/"}, `+forwarding(``)+`}`), `"domains"`, config+`, "domains"`, 1)
		check(t, &routev3.RouteConfiguration{}, host, decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{value: want})
		all := strings.Replace(oneRoute(`{"match": {"prefix": "/"}, `+forwarding(``)+`}`), `"virtual_hosts"`, config+`, "virtual_hosts"`, 1)
		check(t, &routev3.RouteConfiguration{}, all, decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{value: want})
	}
	weighted := `"route": {"weighted_clusters": {"clusters": [{"name": "c", "weight": 1, ` + per(`"disabled": true`) + `}]}}`
	clusters := to("c")
	clusters[0].Session = &snapshot.Session{}
	checkRoute(t, weighted, snapshot.Route{Clusters: clusters})
}

func TestSessionRefused(t *testing.T) {
	const at = `virtual_hosts[0].routes[0].typed_per_filter_config[session].`
	for config, reason := range map[string]string{
		`"disabled": false`: `disabled: must be true, or not be set`,
		`"stateful_session": {` + state(`cookie.v3.CookieBasedSessionState`, ``) + `}`:                                        `stateful_session.session_state.typed_config.cookie.name: must be set`,
		`"stateful_session": {` + state(`cookie.v3.CookieBasedSessionState`, `"cookie": {"name": "n", "ttl": "-1s"}`) + `}`:   `stateful_session.session_state.typed_config.cookie.ttl: is -1s, must not be negative`,
		`"stateful_session": {` + state(`cookie.v3.CookieBasedSessionState`, `"cookie": {"name": "n", "path": "a\nb"}`) + `}`: `stateful_session.session_state.typed_config.cookie.path: "a\nb" is not the value of a header`,
		`"stateful_session": {` + state(`header.v3.HeaderBasedSessionState`, ``) + `}`:                                        `stateful_session.session_state.typed_config.name: must be set`,
	} {
		json := oneRoute(`{"match": {"prefix": "/"}, ` + forwarding(``) + `, "typed_per_filter_config": {"session": {` +
			join(`"@type": "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute"`, config) + `}}}`)
		check(t, &routev3.RouteConfiguration{}, json, decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{
			err:   at + reason,
			value: oneRouteValue(&snapshot.Route{Match: route.Match{Value: "/"}, Refused: text(at + reason)}),
		})
	}
}

// state is a session_state.
func state(message, fields string) string {
	return `"session_state": {"name": "s", "typed_config": {` + join(`"@type": "type.googleapis.com/envoy.extensions.http.stateful_session.`+message+`"`, fields) + `}}`
}
