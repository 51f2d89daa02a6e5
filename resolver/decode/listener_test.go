package decode_test

import (
	"strings"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/ratelimit"
	"github.com/meshframe/meshframe/mesh/route"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/decode"
)

const (
	hcmType = `"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"`
	rds     = `"rds": {"route_config_name": "rc", "config_source": {"ads": {}}}`
	router  = `{"name": "router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}`
	rbac    = `{"name": "rbac", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"}}`
	isFault = `{"name": "fault", "typed_config": {` + faultType + `}}`
)

func filters(list string) string { return `"http_filters": [` + list + `]` }

// apiListener is a client's listener with the fields of its HTTP connection
// manager.
func apiListener(fields ...string) string {
	return `{"name": "l", "api_listener": {"api_listener": {` + join(append([]string{hcmType}, fields...)...) + `}}}`
}

// inbound is a server's listener.
func inbound(fields string, hcm ...string) string {
	return `{"name": "l", "filter_chains": [` + chain(fields, hcm...) + `]}`
}

// chain is a filter chain with further fields, and those of its HTTP connection
// manager.
func chain(fields string, hcm ...string) string {
	return `{` + join(`"filters": [{"name": "hcm", "typed_config": {`+
		join(append([]string{hcmType}, hcm...)...)+`}}]`, fields) + `}`
}

func TestListener(t *testing.T) {
	for _, tt := range []struct {
		name, json string
		want       *snapshot.Listener
		notes      []string
	}{
		{name: "rds", json: apiListener(rds, filters(router)), want: &snapshot.Listener{Name: "l", RouteConfigName: "rc"}},
		{
			name: "rds from self",
			json: apiListener(`"rds": {"route_config_name": "rc", "config_source": {"self": {}}}`, filters(router)),
			want: &snapshot.Listener{Name: "l", RouteConfigName: "rc"},
		},
		{
			name: "inline routes",
			json: apiListener(`"route_config": {"virtual_hosts": [{"domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "c"}}]}]}`, filters(router)),
			want: &snapshot.Listener{Name: "l", Routes: &snapshot.RouteConfiguration{VirtualHosts: []*snapshot.VirtualHost{
				{Domains: []string{"*"}, Routes: []*snapshot.Route{{Match: route.Match{Value: "/"}, Clusters: to("c")}}},
			}}},
		},
		{
			name: "no virtual host",
			json: apiListener(`"route_config": {"name": "none"}`, filters(router)),
			want: &snapshot.Listener{Name: "l", Routes: &snapshot.RouteConfiguration{Name: "none"}},
		},
		{
			name: "fault filter, empty",
			json: apiListener(rds, filters(isFault+","+router)),
			want: &snapshot.Listener{Name: "l", RouteConfigName: "rc", Fault: &fault.Policy{AbortGRPC: -1}},
		},
		{
			name: "fault filter",
			json: apiListener(rds, filters(`{"name": "fault", "typed_config": {`+faultType+`, "abort": {"grpc_status": 7, "percentage": {"numerator": 50}}}},`+router)),
			want: &snapshot.Listener{Name: "l", RouteConfigName: "rc", Fault: &fault.Policy{AbortGRPC: 7, AbortFraction: 500_000}},
		},
		{
			name: "fault filter, disabled until a route enables it",
			json: apiListener(rds, filters(`{"name": "fault", "disabled": true, "typed_config": {`+faultType+`, "abort": {"grpc_status": 7, "percentage": {"numerator": 50}}}},`+router)),
			want: &snapshot.Listener{Name: "l", RouteConfigName: "rc", Fault: &fault.Policy{AbortGRPC: -1}},
		},
		{
			name:  "optional filter",
			json:  apiListener(rds, filters(`{"name": "x", "is_optional": true, "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors"}},`+router)),
			want:  &snapshot.Listener{Name: "l", RouteConfigName: "rc"},
			notes: []string{`api_listener.http_filters[0] "x": envoy.extensions.filters.http.cors.v3.Cors is not honoured yet`},
		},
		{
			name:  "max stream duration",
			json:  apiListener(rds, filters(router), `"stat_prefix": "s", "server_name": "x", "common_http_protocol_options": {"max_stream_duration": "9s", "idle_timeout": "1s"}`),
			want:  &snapshot.Listener{Name: "l", RouteConfigName: "rc", MaxStreamDuration: 9 * time.Second},
			notes: []string{`api_listener.server_name: is not honoured yet`, `api_listener.common_http_protocol_options.idle_timeout: is not honoured yet`},
		},
		{
			name: "inbound",
			json: inbound(`"name": "plain"`, `"route_config": {"virtual_hosts": [{"domains": ["*"], "routes": [{"match": {"prefix": "/"}, "non_forwarding_action": {}}]}]}`, filters(router)),
			want: &snapshot.Listener{Name: "l", Inbound: true},
		},
		{
			name:  "inbound, fault",
			json:  inbound(`"filter_chain_match": {}`, filters(`{"name": "f", "typed_config": {`+faultType+`, "max_active_faults": 3}},`+router)),
			want:  &snapshot.Listener{Name: "l", Inbound: true, Fault: &fault.Policy{AbortGRPC: -1, MaxActive: 3}},
			notes: []string{`filter_chains[0].filter_chain_match: is not honoured yet`},
		},
		{
			name: "rate limit filter without a bucket",
			json: apiListener(rds, filters(localLimit(``)+","+router)),
			want: &snapshot.Listener{Name: "l", RouteConfigName: "rc", RateLimit: &ratelimit.Policy{Status: 429}},
		},
		{
			name: "rate limit filter, disabled until a route enables it",
			json: apiListener(rds, filters(`{"name": "x", "disabled": true, `+localLimit(bucket + ", " + enforced)[len(`{"name": "limit", `):]+","+router)),
			want: &snapshot.Listener{Name: "l", RouteConfigName: "rc", RateLimit: &ratelimit.Policy{Status: 429}},
		},
		{
			name: "session filter",
			json: apiListener(rds, filters(session(`StatefulSession`, ``)+","+router)),
			want: &snapshot.Listener{Name: "l", RouteConfigName: "rc", Session: &snapshot.Session{}},
		},
		{
			name: "session filter with a cookie",
			json: apiListener(rds, filters(session(`StatefulSession`, cookieState)+","+router)),
			want: &snapshot.Listener{Name: "l", RouteConfigName: "rc", Session: &snapshot.Session{Cookie: "n"}},
		},
		{
			name: "session filter with all of a cookie",
			json: apiListener(rds, filters(session(`StatefulSession`, state(`cookie.v3.CookieBasedSessionState`,
				`"cookie": {"name": "n", "ttl": "9s", "path": "/p", "attributes": [{"name": "SameSite", "value": "Lax"}]}`),
				`"strict": true, "status_on_strict_destination_not_found": 404, "stat_prefix": "s"`)+","+router)),
			want: &snapshot.Listener{Name: "l", RouteConfigName: "rc", Session: &snapshot.Session{
				Cookie: "n", TTL: 9 * time.Second, Path: "/p", Strict: true, Attributes: []snapshot.HeaderEdit{{Name: "SameSite", Value: "Lax"}},
			}},
			notes: []string{`api_listener.http_filters[0] "session": status_on_strict_destination_not_found: is not honoured: the status is 503`},
		},
		{
			name: "session filter with a header",
			json: apiListener(rds, filters(session(`StatefulSession`, state(`header.v3.HeaderBasedSessionState`, `"name": "X-Session"`))+","+router)),
			want: &snapshot.Listener{Name: "l", RouteConfigName: "rc", Session: &snapshot.Session{Header: "x-session"}},
		},
		{
			name:  "session filter with a state of another kind",
			json:  apiListener(rds, filters(session(`StatefulSession`, state(`envelope.v3.EnvelopeSessionState`, `"header": {"name": "h"}`))+","+router)),
			want:  &snapshot.Listener{Name: "l", RouteConfigName: "rc", Session: &snapshot.Session{}},
			notes: []string{`api_listener.http_filters[0] "session": session_state: envoy.extensions.http.stateful_session.envelope.v3.EnvelopeSessionState is not honoured yet: clients are not kept on a host`},
		},
		{
			name: "session filter, disabled until a route enables it",
			json: apiListener(rds, filters(`{"disabled": true, `+session(`StatefulSession`, cookieState)[1:]+","+router)),
			want: &snapshot.Listener{Name: "l", RouteConfigName: "rc", Session: &snapshot.Session{}},
		},
		{
			name:  "inbound, session",
			json:  inbound(``, filters(session(`StatefulSession`, cookieState)+","+router)),
			want:  &snapshot.Listener{Name: "l", Inbound: true},
			notes: []string{`a stateful session is not honoured on servers, which have no hosts to choose from`},
		},
		{
			name: "inbound, rate limit",
			json: inbound(``, filters(localLimit(bucket+", "+enforced+`, "descriptors": [{"entries": [{"key": "remote_address"}], `+bucket+`}],
				"rate_limits": [{"actions": [{"remote_address": {}}]}], "always_consume_default_token_bucket": false`)+","+router)),
			want: &snapshot.Listener{Name: "l", Inbound: true, RateLimit: limit(func(p *ratelimit.Policy) {
				p.Keyed = []ratelimit.Keyed{{Key: []ratelimit.KeyPart{{Source: true}}, Bucket: p.Bucket}}
			})},
		},
		{
			name: "inbound, chains that differ, and routes",
			json: `{"name": "l", "filter_chains": [` + chain(``, filters(isFault+","+router)) + `, ` + chain(``, filters(router)) + `], "default_filter_chain": ` +
				chain(``, filters(router), `"route_config": {"virtual_hosts": [{"domains": ["*"], "routes": [{"match": {"prefix": "/"}, "non_forwarding_action": {}, `+perRoute(``)+`}]}]}`) + `}`,
			want: &snapshot.Listener{Name: "l", Inbound: true, Fault: &fault.Policy{AbortGRPC: -1}},
			notes: []string{
				`default_filter_chain.filters[0] "hcm": route_config: typed_per_filter_config is not honoured on servers`,
				`faults and rate limits of the first filter chain are honoured for all`,
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, &listenerv3.Listener{}, tt.json, decode.Listener, verdict[*snapshot.Listener]{value: tt.want, notes: tt.notes})
		})
	}
}

func TestListenerRefused(t *testing.T) {
	const tls = `"transport_socket": {"name": "tls", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"}}`
	for _, tt := range []struct{ name, json, want string }{
		{"neither", `{"name": "l"}`, `one of api_listener and filter_chains must be set`},
		{"not an http connection manager", `{"name": "l", "api_listener": {"api_listener": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}}`, `api_listener: "envoy.extensions.filters.http.router.v3.Router" is not an HttpConnectionManager`},
		{"no routes", apiListener(filters(router)), `api_listener: one of rds and route_config must be set`},
		{"scoped routes", apiListener(`"scoped_routes": {}`, filters(router)), `api_listener.scoped_routes: is not supported`},
		{"no route name", apiListener(`"rds": {"config_source": {"ads": {}}}`, filters(router)), `api_listener.rds.route_config_name: must be set`},
		{"routes from elsewhere", apiListener(`"rds": {"route_config_name": "rc", "config_source": {"path": "x"}}`, filters(router)), `api_listener.rds.config_source: must be ads or self`},
		{"no filter", apiListener(rds), `api_listener.http_filters: must end in the router`},
		{"no router", apiListener(rds, filters(isFault)), `api_listener.http_filters[0] "fault": the router must be the last filter, and only that`},
		{"router in front", apiListener(rds, filters(router+","+isFault)), `api_listener.http_filters[0] "router": the router must be the last filter, and only that`},
		{"two faults", apiListener(rds, filters(isFault+","+strings.Replace(isFault, `"fault"`, `"fault2"`, 1)+","+router)), `api_listener.http_filters[1] "fault2": a second fault filter is not supported`},
		{"two limits", apiListener(rds, filters(localLimit(``)+","+strings.Replace(localLimit(``), `"limit"`, `"limit2"`, 1)+","+router)), `api_listener.http_filters[1] "limit2": a second local rate limit filter is not supported`},
		{"same name", apiListener(rds, filters(isFault+","+isFault+","+router)), `api_listener.http_filters[1] "fault": name: must be set and unique`},
		{"unknown filter", apiListener(rds, filters(rbac+","+router)), `api_listener.http_filters[0] "rbac": envoy.extensions.filters.http.rbac.v3.RBAC is not supported, and is not optional`},
		{"filter without configuration", apiListener(rds, filters(`{"name": "x"},`+router)), `api_listener.http_filters[0] "x": has no typed_config, and is not optional`},
		{"max stream duration", apiListener(rds, filters(router), `"common_http_protocol_options": {"max_stream_duration": "-9s"}`), `api_listener.common_http_protocol_options.max_stream_duration: is -9s, must not be negative`},
		{"vhost header", apiListener(`"route_config": {"vhost_header": "h"}`, filters(router)), `api_listener.route_config.vhost_header: is not supported`},
		{"inbound authorization", inbound(``, filters(rbac+","+router)), `filter_chains[0].filters[0] "hcm": http_filters[0] "rbac": envoy.extensions.filters.http.rbac.v3.RBAC is not supported, and is not optional`},
		{"inbound TLS", inbound(tls, filters(router)), `filter_chains[0].transport_socket: "tls": TLS is not supported yet`},
		{"inbound tcp", `{"name": "l", "filter_chains": [{"filters": [{"name": "f", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}]}`, `filter_chains[0].filters[0] "f": envoy.extensions.filters.http.router.v3.Router is not supported`},
		{"inbound without filters", `{"name": "l", "default_filter_chain": {}}`, `default_filter_chain.filters: must hold one filter, an HttpConnectionManager`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			check(t, &listenerv3.Listener{}, tt.json, decode.Listener, verdict[*snapshot.Listener]{unused: true, err: tt.want})
		})
	}
}

// A server must learn that its listener asks for what it cannot enforce.
func TestRefusedInboundListenerIsKnownAsOne(t *testing.T) {
	got := decode.Listener("x", marshal(t, &listenerv3.Listener{}, inbound(``, filters(rbac+","+router))))
	wantDenied(t, got.Err)
	if got.Usable || got.Err == nil || got.Value == nil || !got.Value.Inbound || got.Name != "x" {
		t.Errorf("got %+v", got)
	}
}
