package decode_test

import (
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/decode"
)

func policies(list string) string { return `"load_balancing_policy": ` + policyList(list) }

func policyList(list string) string { return `{"policies": [` + list + `]}` }

func policy(name, fields string) string {
	return `{"typed_extension_config": {"name": "p", "typed_config": {` +
		join(`"@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.`+name+`"`, fields) + `}}}`
}

const (
	roundRobin, random  = "round_robin.v3.RoundRobin", "random.v3.Random"
	leastRequest        = "least_request.v3.LeastRequest"
	utilization         = "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin"
	ringHash, maglev    = "ring_hash.v3.RingHash", "maglev.v3.Maglev"
	slowStart           = `"slow_start_config": {"slow_start_window": "3s", "aggression": {"default_value": 2}, "min_weight_percent": {"value": 2.5}}`
	localityWeighted    = `"locality_lb_config": {"locality_weighted_lb_config": {}}`
	firstPolicy         = `load_balancing_policy.policies[0] "p": `
	consistentByHost    = `"consistent_hashing_lb_config": {"use_hostname_for_hashing": true}`
	consistentByBalance = `"consistent_hashing_lb_config": {"hash_balance_factor": 150}`
)

func TestLoadBalancing(t *testing.T) {
	slow := &pick.SlowStart{Window: 3 * time.Second, Aggression: 2, MinWeightPercent: 2.5}
	ring := pick.Config{Policy: pick.RingHash, MinRingSize: 1024, MaxRingSize: 8 << 20}
	with := func(c pick.Config, fn func(*pick.Config)) pick.Config { fn(&c); return c }
	for _, tt := range []struct {
		name, fields string
		want         pick.Config
		notes        []string
	}{
		{name: "default", want: pick.Config{LocalityWeighted: true}},
		{
			name:   "round robin",
			fields: `"round_robin_lb_config": {` + slowStart + `}`,
			want:   pick.Config{LocalityWeighted: true, SlowStart: slow},
		},
		{
			name:   "slow start, defaults",
			fields: `"round_robin_lb_config": {"slow_start_config": {"slow_start_window": "1s"}}`,
			want:   pick.Config{LocalityWeighted: true, SlowStart: &pick.SlowStart{Window: time.Second, Aggression: 1, MinWeightPercent: 10}},
		},
		{name: "slow start without a window", fields: `"round_robin_lb_config": {"slow_start_config": {}}`, want: pick.Config{LocalityWeighted: true}},
		{
			name:   "least request",
			fields: `"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": 5, "active_request_bias": {"default_value": 0}, ` + slowStart + `}`,
			want:   pick.Config{Policy: pick.LeastRequest, ChoiceCount: 5, LocalityWeighted: true, SlowStart: slow, HasActiveRequestBias: true},
		},
		{
			name:   "many choices",
			fields: `"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": 500, "active_request_bias": {"default_value": 2.5, "runtime_key": "k"}}`,
			want:   pick.Config{Policy: pick.LeastRequest, ChoiceCount: 100, LocalityWeighted: true, HasActiveRequestBias: true, ActiveRequestBias: 2.5},
			notes: []string{
				`least_request_lb_config.choice_count: is 500: 100 hosts are compared`,
				`least_request_lb_config.active_request_bias.runtime_key: is not honoured yet`,
			},
		},
		{name: "random", fields: `"lb_policy": "RANDOM"`, want: pick.Config{Policy: pick.Random, LocalityWeighted: true}},
		{name: "ring hash", fields: `"lb_policy": "RING_HASH"`, want: ring},
		{
			name:   "ring hash, sizes",
			fields: `"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 0, "maximum_ring_size": 20, "hash_function": "MURMUR_HASH_2"}`,
			want:   with(ring, func(c *pick.Config) { c.MinRingSize, c.MaxRingSize, c.Murmur2 = 1, 20, true }),
		},
		{
			name:   "ring hash, small maximum",
			fields: `"lb_policy": "RING_HASH", "ring_hash_lb_config": {"maximum_ring_size": 20}, "common_lb_config": {"locality_weighted_lb_config": {}}`,
			want:   with(ring, func(c *pick.Config) { c.MinRingSize, c.MaxRingSize, c.LocalityWeighted = 20, 20, true }),
		},
		{
			name:   "maglev",
			fields: `"lb_policy": "MAGLEV", "common_lb_config": {` + consistentByHost + `}`,
			want:   pick.Config{Policy: pick.Maglev, TableSize: 65_537, HashByHostname: true},
		},
		{
			name:   "maglev, size",
			fields: `"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 11}, "common_lb_config": {` + consistentByBalance + `}`,
			want:   pick.Config{Policy: pick.Maglev, TableSize: 11},
			notes:  []string{`common_lb_config.consistent_hashing_lb_config.hash_balance_factor: is not honoured yet`},
		},
		{
			name:   "typed policy wins over lb_policy",
			fields: `"lb_policy": "MAGLEV", "common_lb_config": {"locality_weighted_lb_config": {}}, ` + policies(policy(random, ``)),
			want:   pick.Config{Policy: pick.Random},
		},
		{
			name:   "first known policy",
			fields: policies(policy("pick_first.v3.PickFirst", ``) + "," + policy(leastRequest, `"choice_count": 3`) + "," + policy(random, ``)),
			want:   pick.Config{Policy: pick.LeastRequest, ChoiceCount: 3},
		},
		{
			name:   "degraded policy",
			fields: policies(policy("pick_first.v3.PickFirst", ``)),
			notes:  []string{firstPolicy + `envoy.extensions.load_balancing_policies.pick_first.v3.PickFirst is not honoured yet: round robin is used`},
		},
		{
			name:   "utilization, defaults",
			fields: policies(policy(utilization, ``)),
			want: pick.Config{Policy: pick.ClientSideWeightedRoundRobin, Utilization: &pick.Utilization{
				Blackout: 10 * time.Second, Expiration: 3 * time.Minute, Update: time.Second, ErrorPenalty: 1,
			}},
		},
		{
			name: "utilization, everything",
			fields: policies(policy("wrr_locality.v3.WrrLocality", `"endpoint_picking_policy": `+policyList(policy(utilization, join(
				`"blackout_period": "0s", "weight_expiration_period": "9s", "weight_update_period": "0.001s", "error_utilization_penalty": 0.5`,
				`"metric_names_for_computing_utilization": ["named_metrics.x", "mem_utilization"], "enable_oob_load_report": true`, slowStart))))),
			want: pick.Config{Policy: pick.ClientSideWeightedRoundRobin, LocalityWeighted: true, SlowStart: slow, Utilization: &pick.Utilization{
				Expiration: 9 * time.Second, Update: 100 * time.Millisecond, ErrorPenalty: 0.5, Metrics: []string{"named_metrics.x", "mem_utilization"},
			}},
			notes: []string{firstPolicy + `endpoint_picking_policy.policies[0] "p": enable_oob_load_report: is not honoured yet: what counts is what hosts report at the end of calls`},
		},
		{
			name:   "wrr_locality",
			fields: policies(policy("wrr_locality.v3.WrrLocality", `"endpoint_picking_policy": `+policyList(policy(roundRobin, slowStart)))),
			want:   pick.Config{LocalityWeighted: true, SlowStart: slow},
		},
		{
			name:   "typed round robin",
			fields: policies(policy(roundRobin, join(slowStart, localityWeighted))),
			want:   pick.Config{LocalityWeighted: true, SlowStart: slow},
		},
		{
			name:   "typed random, zone aware",
			fields: policies(policy(random, `"locality_lb_config": {"zone_aware_lb_config": {}}`)),
			want:   pick.Config{Policy: pick.Random},
			notes:  []string{firstPolicy + `locality_lb_config.zone_aware_lb_config: is not honoured yet`},
		},
		{
			name:   "typed least request",
			fields: policies(policy(leastRequest, join(slowStart, localityWeighted, `"active_request_bias": {"default_value": 3}, "selection_method": "FULL_SCAN"`))),
			want:   pick.Config{Policy: pick.LeastRequest, LocalityWeighted: true, SlowStart: slow, HasActiveRequestBias: true, ActiveRequestBias: 3},
			notes:  []string{firstPolicy + `selection_method: is not honoured yet`},
		},
		{
			name:   "typed ring hash",
			fields: policies(policy(ringHash, `"hash_function": "MURMUR_HASH_2", "minimum_ring_size": 7, "use_hostname_for_hashing": true, "locality_weighted_lb_config": {}`)),
			want: with(ring, func(c *pick.Config) {
				c.Murmur2, c.MinRingSize, c.HashByHostname, c.LocalityWeighted = true, 7, true, true
			}),
		},
		{
			name:   "typed maglev",
			fields: policies(policy(maglev, join(`"table_size": 13`, consistentByHost))),
			want:   pick.Config{Policy: pick.Maglev, TableSize: 13, HashByHostname: true},
		},
		{
			name:   "random subsetting",
			fields: policies(policy("random_subsetting.v3.RandomSubsetting", `"subset_size": 5, "child_policy": `+policyList(policy(random, ``)))),
			want:   pick.Config{Policy: pick.Random, SubsetSize: 5},
		},
		{
			name:   "override host",
			fields: policies(policy("override_host.v3.OverrideHost", `"override_host_sources": [{"header": "h"}], "fallback_policy": `+policyList(policy(random, ``)))),
			want:   pick.Config{Policy: pick.Random},
			notes:  []string{firstPolicy + `override_host_sources: is not honoured yet: the fallback policy chooses every host`},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := tt.want
			want.ChoiceCount, want.PanicThreshold = max(want.ChoiceCount, 2), 50
			check(t, &clusterv3.Cluster{}, eds(tt.fields), decode.Cluster, verdict[*snapshot.Cluster]{
				value: edsValue(func(c *snapshot.Cluster) { c.LB = want }), notes: tt.notes,
			})
		})
	}
}

func TestLoadBalancingRefused(t *testing.T) {
	nested := policy(roundRobin, ``)
	for range 16 {
		nested = policy("wrr_locality.v3.WrrLocality", `"endpoint_picking_policy": {"policies": [`+nested+`]}`)
	}
	const ringConfig = `"lb_policy": "RING_HASH", "ring_hash_lb_config": `
	for fields, want := range map[string]string{
		`"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": 1}`:                                      `least_request_lb_config.choice_count: is 1, must be at least 2`,
		`"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"active_request_bias": {"default_value": -1}}`:           `least_request_lb_config.active_request_bias: is -1, must not be negative`,
		`"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"active_request_bias": {"default_value": "NaN"}}`:        `least_request_lb_config.active_request_bias: is NaN, must not be negative`,
		`"round_robin_lb_config": {"slow_start_config": {"slow_start_window": "1s", "aggression": {}}}`:                     `round_robin_lb_config.slow_start_config.aggression: is 0, must be positive`,
		`"round_robin_lb_config": {"slow_start_config": {"slow_start_window": "-1s"}}`:                                      `round_robin_lb_config.slow_start_config.slow_start_window: is -1s, must not be negative`,
		`"round_robin_lb_config": {"slow_start_config": {"slow_start_window": "1s", "min_weight_percent": {"value": 101}}}`: `round_robin_lb_config.slow_start_config.min_weight_percent: is 101, must be between 0 and 100`,
		ringConfig + `{"minimum_ring_size": 9000000}`:                                                                       `ring_hash_lb_config.minimum_ring_size: is 9000000, must be at most 8388608`,
		ringConfig + `{"maximum_ring_size": 9000000}`:                                                                       `ring_hash_lb_config.maximum_ring_size: is 9000000, must be between 1 and 8388608`,
		ringConfig + `{"maximum_ring_size": 0}`:                                                                             `ring_hash_lb_config.maximum_ring_size: is 0, must be between 1 and 8388608`,
		ringConfig + `{"minimum_ring_size": 9, "maximum_ring_size": 8}`:                                                     `ring_hash_lb_config.minimum_ring_size: is 9, greater than maximum_ring_size 8`,
		ringConfig + `{"hash_function": 7}`:                                                                                 `ring_hash_lb_config.hash_function: 7 is not supported`,
		`"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 12}`:                                                     `maglev_lb_config.table_size: is 12, must be a prime of at most 5000011`,
		`"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 5000077}`:                                                `maglev_lb_config.table_size: is 5000077, must be a prime of at most 5000011`,
		policies(`{"typed_extension_config": {"name": "x"}}`):                                                               `load_balancing_policy.policies: none of them is supported`,
		policies(policy("subset.v3.Subset", ``)):                                                                            `load_balancing_policy.policies: none of them is supported`,
		policies(policy("random_subsetting.v3.RandomSubsetting", ``)):                                                       firstPolicy + `subset_size: must be positive`,
		policies(policy("wrr_locality.v3.WrrLocality", ``)):                                                                 firstPolicy + `endpoint_picking_policy.policies: none of them is supported`,
		policies(policy(utilization, `"error_utilization_penalty": -1`)):                                                    firstPolicy + `error_utilization_penalty: is -1, must not be negative`,
		policies(policy(utilization, `"error_utilization_penalty": "NaN"`)):                                                 firstPolicy + `error_utilization_penalty: is NaN, must not be negative`,
		policies(policy(utilization, `"blackout_period": "-1s"`)):                                                           firstPolicy + `blackout_period: is -1s, must not be negative`,
		policies(policy(utilization, `"weight_expiration_period": "0s"`)):                                                   firstPolicy + `weight_expiration_period: is 0, must be positive`,
		policies(policy(utilization, `"weight_update_period": "-1s"`)):                                                      firstPolicy + `weight_update_period: is -1s, must not be negative`,
		policies(policy(ringHash, `"hash_function": 7`)):                                                                    firstPolicy + `hash_function: 7 is not supported`,
	} {
		t.Run(fields, func(t *testing.T) {
			check(t, &clusterv3.Cluster{}, eds(fields), decode.Cluster, verdict[*snapshot.Cluster]{
				err: want, value: &snapshot.Cluster{Name: "c", Refused: text(want)},
			})
		})
	}
	t.Run("nesting", func(t *testing.T) {
		got := decode.Cluster("", marshal(t, &clusterv3.Cluster{}, eds(policies(nested))))
		if got.Err == nil || got.Value.Refused == nil {
			t.Errorf("accepted: %+v", got.Value)
		}
	})
}
