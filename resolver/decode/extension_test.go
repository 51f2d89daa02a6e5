package decode_test

import (
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/ratelimit"
	"github.com/meshframe/meshframe/mesh/route"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/decode"
)

// ours is metadata of ours.
func ours(fields string) string {
	return `{"filter_metadata": {"meshframe": {` + fields + `}}}`
}

func TestClusterExtension(t *testing.T) {
	for fields, want := range map[string]func(*snapshot.Cluster){
		``: func(*snapshot.Cluster) {},
		`"half_open": {}`: func(c *snapshot.Cluster) {
			c.HalfOpen = &breaker.HalfOpen{MinVolume: 10, ErrorPercent: 10, Window: 10 * time.Second, OpenFor: 10 * time.Second, Probes: 3}
		},
		`"half_open": {"minVolume": 5, "errorPercent": 12.5, "window": "1m", "openFor": "2s", "probes": 1}`: func(c *snapshot.Cluster) {
			c.HalfOpen = &breaker.HalfOpen{MinVolume: 5, ErrorPercent: 12.5, Window: time.Minute, OpenFor: 2 * time.Second, Probes: 1}
		},
		`"fallback": {"cluster": "f"}`:  func(c *snapshot.Cluster) { c.Fallback = &snapshot.Fallback{Cluster: "f"} },
		`"fallback": {"function": "f"}`: func(c *snapshot.Cluster) { c.Fallback = &snapshot.Fallback{Func: "f"} },
		`"fallback": {"reply": {"status": 503, "body": "b"}}`: func(c *snapshot.Cluster) {
			c.Fallback = &snapshot.Fallback{Reply: &snapshot.DirectResponse{Status: 503, Body: "b"}}
		},
		`"fallback": {"grpc": {"code": 14, "message": "m"}}`: func(c *snapshot.Cluster) {
			c.Fallback = &snapshot.Fallback{GRPC: &snapshot.GRPCReply{Code: 14, Message: "m"}}
		},
		`"session": {"header": "X-Session", "strict": true}`: func(c *snapshot.Cluster) {
			c.Session = &snapshot.Session{Header: "x-session", Strict: true}
		},
		`"session": {"cookie": {"name": "n"}}`: func(c *snapshot.Cluster) { c.Session = &snapshot.Session{Cookie: "n", Path: "/"} },
		`"session": {"cookie": {"name": "n", "path": "/p", "ttl": "1m"}}`: func(c *snapshot.Cluster) {
			c.Session = &snapshot.Session{Cookie: "n", Path: "/p", TTL: time.Minute}
		},
		`"peak_ewma": {}`:              func(c *snapshot.Cluster) { c.LB.Policy, c.LB.Decay = pick.PeakEWMA, 10*time.Second },
		`"peak_ewma": {"decay": "3s"}`: func(c *snapshot.Cluster) { c.LB.Policy, c.LB.Decay = pick.PeakEWMA, 3*time.Second },
		`"slow_start": {"window": "3s", "aggression": 2, "minWeightPercent": 5}, "subset_size": 20`: func(c *snapshot.Cluster) {
			c.LB.SlowStart, c.LB.SubsetSize = &pick.SlowStart{Window: 3 * time.Second, Aggression: 2, MinWeightPercent: 5}, 20
		},
	} {
		t.Run(fields, func(t *testing.T) {
			check(t, &clusterv3.Cluster{}, eds(`"metadata": `+ours(fields)), decode.Cluster, verdict[*snapshot.Cluster]{value: edsValue(want)})
		})
	}
}

func TestClusterExtensionRefused(t *testing.T) {
	for fields, reason := range map[string]string{
		`"error": 7`:                  `.error: must be a text that is not empty`,
		`"fall_back": {}`:             `.fall_back: is not known`,
		`"fallback": "x"`:             `.fallback: must be an object`,
		`"fallback": {}`:              `.fallback: exactly one of cluster, reply, grpc, function must be set`,
		`"fallback": {"cluster": ""}`: `.fallback.cluster: must be a text that is not empty`,
		`"fallback": {"cluster": "a", "function": "b"}`:      `.fallback: exactly one of cluster, reply, grpc, function must be set`,
		`"fallback": {"reply": {}}`:                          `.fallback.reply.status: must be set`,
		`"fallback": {"reply": {"status": 600}}`:             `.fallback.reply.status: is 600, must be between 200 and 599`,
		`"fallback": {"reply": {"status": 200.5}}`:           `.fallback.reply.status: is 200.5, must be a whole number`,
		`"fallback": {"grpc": {"code": 0}}`:                  `.fallback.grpc.code: is 0, must be between 1 and 16`,
		`"fallback": {"grpc": {"code": 14, "x": 1}}`:         `.fallback.grpc.x: is not known`,
		`"half_open": {"errorPercent": 0}`:                   `.half_open.errorPercent: must be positive`,
		`"half_open": {"errorPercent": "NaN"}`:               `.half_open.errorPercent: must be a number`,
		`"half_open": {"window": "x"}`:                       `.half_open.window: "x" is not a duration`,
		`"half_open": {"window": "-1s"}`:                     `.half_open.window: must be positive`,
		`"half_open": {"probes": 0}`:                         `.half_open.probes: is 0, must be between 1 and 4294967295`,
		`"session": {}`:                                      `.session: exactly one of cookie, header must be set`,
		`"session": {"cookie": {}}`:                          `.session.cookie.name: must be set`,
		`"session": {"cookie": {"name": "a", "ttl": "-1s"}}`: `.session.cookie.ttl: is -1s, must not be negative`,
		`"session": {"header": "h", "strict": 1}`:            `.session.strict: must be true or false`,
		`"slow_start": {}`:                                   `.slow_start.window: must be positive`,
		`"subset_size": 0`:                                   `.subset_size: is 0, must be between 1 and 4294967295`,
	} {
		t.Run(fields, func(t *testing.T) {
			reason := `metadata.filter_metadata[meshframe]` + reason
			check(t, &clusterv3.Cluster{}, eds(`"metadata": `+ours(fields)), decode.Cluster, verdict[*snapshot.Cluster]{
				err: reason, value: &snapshot.Cluster{Name: "c", Refused: text(reason)},
			})
		})
	}
}

func TestRouteExtension(t *testing.T) {
	limit := func(fn func(*ratelimit.Policy)) *ratelimit.Policy {
		p := &ratelimit.Policy{MaxKeys: 10_000, Enforced: 1_000_000, Status: 429}
		fn(p)
		return p
	}
	for fields, want := range map[string]snapshot.Route{
		`"fallback": {"cluster": "f"}`: {Fallback: &snapshot.Fallback{Cluster: "f"}},
		`"rate_limit": {"maxTokens": 3, "fillInterval": "1s"}`: {RateLimit: limit(func(p *ratelimit.Policy) {
			p.Bucket = ratelimit.Bucket{MaxTokens: 3, TokensPerFill: 1, FillInterval: time.Second}
		})},
		`"rate_limit": {"keyed": [{"maxTokens": 3, "tokensPerFill": 2, "fillInterval": "50ms", "keys": [{"header": "X-User"}, {"source": true, "value": "10.0.0.1"}]}],
			"maxKeys": 7, "enforcedPercent": 12.5, "status": 503}`: {RateLimit: &ratelimit.Policy{
			MaxKeys: 7, Enforced: 125_000, Status: 503,
			Keyed: []ratelimit.Keyed{{
				Key:    []ratelimit.KeyPart{{Header: "x-user"}, {Source: true, Value: "10.0.0.1"}},
				Bucket: ratelimit.Bucket{MaxTokens: 3, TokensPerFill: 2, FillInterval: 50 * time.Millisecond},
			}},
		}},
		`"rate_limit": {"maxTokens": 3, "fillInterval": "1s", "enforcedPercent": 0}`: {RateLimit: &ratelimit.Policy{Status: 429}},
	} {
		t.Run(fields, func(t *testing.T) {
			want.Clusters = to("c")
			checkRoute(t, forwarding(``)+`, "metadata": `+ours(fields), want)
		})
	}
}

func TestRouteExtensionRefused(t *testing.T) {
	for fields, reason := range map[string]string{
		`"rate_limit": {}`:                                                                `.rate_limit.maxTokens: must be set`,
		`"rate_limit": {"maxTokens": 1}`:                                                  `.rate_limit.fillInterval: must be positive`,
		`"rate_limit": {"maxTokens": 1, "fillInterval": "49ms"}`:                          `.rate_limit.fillInterval: must be at least 50ms`,
		`"rate_limit": {"keyed": {}}`:                                                     `.rate_limit.keyed: must be a list of objects`,
		`"rate_limit": {"keyed": [1]}`:                                                    `.rate_limit.keyed: must be a list of objects`,
		`"rate_limit": {"keyed": [{"maxTokens": 1, "fillInterval": "1s"}]}`:               `.rate_limit.keyed[0].keys: must not be empty`,
		`"rate_limit": {"keyed": [{"maxTokens": 1, "fillInterval": "1s", "keys": [{}]}]}`: `.rate_limit.keyed[0].keys[0]: exactly one of header, source must be set`,
	} {
		t.Run(fields, func(t *testing.T) {
			reason := `virtual_hosts[0].routes[0].metadata.filter_metadata[meshframe]` + reason
			check(t, &routev3.RouteConfiguration{}, oneRoute(`{"match": {"prefix": "/"}, `+forwarding(``)+`, "metadata": `+ours(fields)+`}`),
				decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{
					err:   reason,
					value: oneRouteValue(&snapshot.Route{Match: route.Match{Value: "/"}, Refused: text(reason)}),
				})
		})
	}
}

// Where our metadata has no meaning it is not passed over.
func TestExtensionElsewhere(t *testing.T) {
	check(t, &routev3.RouteConfiguration{}, `{"name": "rc", "metadata": `+ours(``)+`, "virtual_hosts": [{"name": "vh", "domains": ["*"], "metadata": `+ours(``)+`}]}`,
		decode.RouteConfiguration, verdict[*snapshot.RouteConfiguration]{
			value: &snapshot.RouteConfiguration{Name: "rc", VirtualHosts: []*snapshot.VirtualHost{{Name: "vh", Domains: []string{"*"}}}},
			notes: []string{
				`metadata.filter_metadata[meshframe]: has no effect here`,
				`virtual_hosts[0].metadata.filter_metadata[meshframe]: has no effect here`,
			},
		})
}

func TestListenerExtension(t *testing.T) {
	with := func(listener, fields string) string {
		return listener[:len(listener)-1] + `, "metadata": ` + ours(fields) + `}`
	}
	check(t, &listenerv3.Listener{}, with(inbound(``, filters(router)), `"max_concurrent": 100`), decode.Listener,
		verdict[*snapshot.Listener]{value: &snapshot.Listener{Name: "l", Inbound: true, MaxConcurrent: 100}})
	for json, reason := range map[string]string{
		with(inbound(``, filters(router)), `"max_concurrent": 0.5`):    `metadata.filter_metadata[meshframe].max_concurrent: is 0.5, must be between 1 and 4294967295`,
		with(inbound(``, filters(router)), `"max": 1`):                 `metadata.filter_metadata[meshframe].max: is not known`,
		with(apiListener(rds, filters(router)), `"max_concurrent": 1`): `metadata.filter_metadata[meshframe].max_concurrent: is not known`,
	} {
		check(t, &listenerv3.Listener{}, json, decode.Listener, verdict[*snapshot.Listener]{unused: true, err: reason})
	}
}
