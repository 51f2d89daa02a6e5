package decode_test

import (
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/decode"
)

// TestPending holds that a policy that nothing acts on yet is noted.
func TestPending(t *testing.T) {
	forward := func(fields string) string { return oneRoute(`{"match": {"prefix": "/"}, ` + forwarding(fields) + `}`) }
	retries := func(fields string) string { return forward(`"retry_policy": {` + fields + `}`) }
	balancers := func(p string) string { return eds(policies(p)) }
	extended := func(fields string) string { return eds(`"metadata": ` + ours(fields)) }
	child := policyList(policy(random, ``))
	samples := map[string]string{
		"redirect":                         oneRoute(`{"match": {"prefix": "/"}, "redirect": {}}`),
		"direct_response":                  oneRoute(`{"match": {"prefix": "/"}, "direct_response": {"status": 503}}`),
		"rewrite":                          forward(`"prefix_rewrite": "/x"`),
		"header edits":                     oneRoute(`{"match": {"prefix": "/"}, ` + forwarding(``) + `, ` + added("a", "v") + `}`),
		"mirrors":                          forward(`"request_mirror_policies": [{"cluster": "m"}]`),
		"hash policy":                      forward(`"hash_policy": [{"header": {"header_name": "h"}}]`),
		"hedging":                          forward(`"hedge_policy": {"hedge_on_per_try_timeout": true}`),
		"idle timeout":                     forward(`"idle_timeout": "1s"`),
		"retriable headers":                retries(`"retriable_headers": [{"name": "h"}]`),
		"reset headers":                    retries(`"rate_limited_retry_back_off": {"reset_headers": [{"name": "h"}]}`),
		"previous priorities":              retries(`"retry_priority": ` + previousPriorities(`1`)),
		"rate limit":                       oneRoute(`{"match": {"prefix": "/"}, ` + forwarding(``) + `, ` + limitOnRoute(``) + `}`),
		"fallback":                         extended(`"fallback": {"cluster": "f"}`),
		"ring hash":                        balancers(policy(ringHash, ``)),
		"maglev":                           balancers(policy(maglev, ``)),
		"peak ewma":                        extended(`"peak_ewma": {}`),
		"active request bias":              balancers(policy(leastRequest, `"active_request_bias": {"default_value": 1}`)),
		"slow start":                       balancers(policy(roundRobin, slowStart)),
		"locality weights":                 balancers(policy(random, localityWeighted)),
		"host names for hashing":           balancers(policy(maglev, consistentByHost)),
		"subset of the hosts":              balancers(policy("random_subsetting.v3.RandomSubsetting", `"subset_size": 5, "child_policy": `+child)),
		"retry budget":                     eds(`"circuit_breakers": {"thresholds": [{"retry_budget": {}}]}`),
		"half-open breaker":                extended(`"half_open": {}`),
		"session":                          extended(`"session": {"header": "h"}`),
		"aggregate":                        aggregate(`"a"`),
		"local-origin outlier detection":   eds(`"outlier_detection": {"split_external_local_origin_errors": true}`),
		"faults on servers":                inbound(``, filters(strings.Replace(isFault, `HTTPFault"`, `HTTPFault", "max_active_faults": 3`, 1)+","+router)),
		"rate limit on servers":            inbound(``, filters(localLimit(join(bucket, enforced))+","+router)),
		"bound of concurrent server calls": inbound(``, filters(router))[:len(inbound(``, filters(router)))-1] + `, "metadata": ` + ours(`"max_concurrent": 7`) + `}`,
	}
	for name := range decode.Pending {
		t.Run(name, func(t *testing.T) {
			var notes []string
			switch json := samples[name]; {
			case strings.Contains(json, `"virtual_hosts"`):
				notes = accepted(t, decode.RouteConfiguration("", marshal(t, &routev3.RouteConfiguration{}, json)))
			case strings.Contains(json, `"filter_chains"`):
				notes = accepted(t, decode.Listener("", marshal(t, &listenerv3.Listener{}, json)))
			default:
				notes = accepted(t, decode.Cluster("", marshal(t, &clusterv3.Cluster{}, json)))
			}
			if len(notes) == len(settled(notes)) {
				t.Errorf("no note says that it is pending: %q", notes)
			}
		})
	}
}

func accepted[T *snapshot.RouteConfiguration | *snapshot.Cluster | *snapshot.Listener](t *testing.T, r decode.Result[T]) []string {
	t.Helper()
	if !r.Usable || r.Err != nil {
		t.Errorf("not accepted: %v", r.Err)
	}
	return r.Notes
}
