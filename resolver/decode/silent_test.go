package decode_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/meshframe/meshframe/resolver/decode"
)

// harmless are the fields that may be set without a trace: they change nothing
// about a call.
var harmless = map[protoreflect.FullName]bool{
	"envoy.config.cluster.v3.Cluster.circuit_breakers":                                                              true, // the sample has no thresholds
	"envoy.config.cluster.v3.Cluster.lb_subset_config":                                                              true, // does nothing without selectors, which the sample has not
	"envoy.config.cluster.v3.Cluster.name":                                                                          true, // the client's name for it wins
	"envoy.config.cluster.v3.Cluster.CustomClusterType.name":                                                        true, // the type counts
	"envoy.config.cluster.v3.Cluster.eds_cluster_config":                                                            true, // of another discovery
	"envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost.override_host_sources":                  true, // said of the policy as a whole
	"envoy.config.cluster.v3.Cluster.EdsClusterConfig.eds_config":                                                   true, // ads and self are one
	"envoy.config.core.v3.ConfigSource.ads":                                                                         true, // ads and self are one
	"envoy.config.core.v3.ConfigSource.authorities":                                                                 true, // of federation
	"envoy.config.core.v3.ConfigSource.initial_fetch_timeout":                                                       true, // the client has its own
	"envoy.config.core.v3.ConfigSource.resource_api_version":                                                        true, // of the messages themselves
	"envoy.config.core.v3.ConfigSource.self":                                                                        true, // ads and self are one
	"envoy.config.listener.v3.Listener.name":                                                                        true,
	"envoy.config.listener.v3.Listener.address":                                                                     true,
	"envoy.config.listener.v3.Listener.stat_prefix":                                                                 true,
	"envoy.config.listener.v3.Listener.stats_matcher":                                                               true,
	"envoy.config.listener.v3.Listener.traffic_direction":                                                           true,
	"envoy.config.listener.v3.Listener.reuse_port":                                                                  true,
	"envoy.config.listener.v3.Listener.enable_reuse_port":                                                           true,
	"envoy.config.listener.v3.Listener.drain_type":                                                                  true,
	"envoy.config.listener.v3.Listener.tcp_backlog_size":                                                            true,
	"envoy.config.listener.v3.Listener.deprecated_v1":                                                               true,
	"envoy.config.listener.v3.Listener.per_connection_buffer_limit_bytes":                                           true,
	"envoy.config.listener.v3.Listener.max_connections_to_accept_per_socket_event":                                  true,
	"envoy.config.listener.v3.Listener.connection_balance_config":                                                   true,
	"envoy.config.listener.v3.Listener.metadata":                                                                    true,
	"envoy.config.listener.v3.Filter.name":                                                                          true,
	"envoy.config.listener.v3.FilterChain.name":                                                                     true,
	"envoy.config.listener.v3.FilterChain.metadata":                                                                 true,
	"envoy.config.route.v3.RouteConfiguration.name":                                                                 true, // the client's name for it wins
	"envoy.config.route.v3.RouteMatch.case_sensitive":                                                               true, // true, as the sample, is the default
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter.disabled":                               true, // a fault filter without faults
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter.is_optional":                            true, // of filters that are known
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter.name":                                   true,
	"envoy.extensions.filters.network.http_connection_manager.v3.Rds.config_source":                                 true, // ads and self are one
	"envoy.type.matcher.v3.StringMatcher.ignore_case":                                                               true, // of a pattern that is not a regular expression
	"envoy.config.route.v3.RouteMatch.grpc":                                                                         true, // every call is one
	"envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit.stat_prefix":                                   true,
	"envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit.stage":                                         true, // of descriptors, which the sample has not, and so the next three
	"envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit.vh_rate_limits":                                true,
	"envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit.always_consume_default_token_bucket":           true,
	"envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit.rate_limits":                                   true,
	"envoy.config.core.v3.HeaderValueOption.append":                                                                 true, // true, as the sample, is the default
	"envoy.config.core.v3.HeaderValueOption.keep_empty_value":                                                       true, // the sample has a value
	"envoy.type.matcher.v3.RegexMatcher.google_re2":                                                                 true, // the only engine
	"envoy.config.core.v3.Pipe.mode":                                                                                true,
	"envoy.config.core.v3.SocketAddress.ipv4_compat":                                                                true,
	"envoy.config.cluster.v3.CircuitBreakers.Thresholds.track_remaining":                                            true,
	"envoy.config.cluster.v3.Cluster.CommonLbConfig.locality_weighted_lb_config":                                    true, // of policies that hash
	"envoy.config.cluster.v3.Cluster.CommonLbConfig.update_merge_window":                                            true,
	"envoy.config.cluster.v3.Cluster.alt_stat_name":                                                                 true,
	"envoy.config.cluster.v3.Cluster.least_request_lb_config":                                                       true, // of another policy
	"envoy.config.cluster.v3.Cluster.load_assignment":                                                               true, // of another discovery
	"envoy.config.cluster.v3.Cluster.maglev_lb_config":                                                              true, // of another policy
	"envoy.config.cluster.v3.Cluster.metadata":                                                                      true,
	"envoy.config.cluster.v3.Cluster.ring_hash_lb_config":                                                           true, // of another policy
	"envoy.config.cluster.v3.Cluster.stats_matcher":                                                                 true,
	"envoy.config.cluster.v3.Cluster.track_cluster_stats":                                                           true,
	"envoy.config.cluster.v3.Cluster.track_timeout_budgets":                                                         true,
	"envoy.config.endpoint.v3.ClusterLoadAssignment.cluster_name":                                                   true, // the client's name for it wins
	"envoy.config.endpoint.v3.ClusterLoadAssignment.named_endpoints":                                                true, // refused where it is referred to
	"envoy.config.endpoint.v3.Endpoint.health_check_config":                                                         true,
	"envoy.config.endpoint.v3.Endpoint.observability_name":                                                          true,
	"envoy.config.endpoint.v3.LbEndpoint.metadata":                                                                  true,
	"envoy.config.endpoint.v3.LocalityLbEndpoints.metadata":                                                         true,
	"envoy.config.route.v3.Route.decorator":                                                                         true,
	"envoy.config.route.v3.Route.metadata":                                                                          true,
	"envoy.config.route.v3.Route.stat_prefix":                                                                       true,
	"envoy.config.route.v3.RouteAction.cluster_not_found_response_code":                                             true, // gRPC calls fail UNAVAILABLE
	"envoy.config.route.v3.RouteConfiguration.cluster_specifier_plugins":                                            true, // refused where it is referred to
	"envoy.config.route.v3.RouteConfiguration.max_direct_response_body_size_bytes":                                  true,
	"envoy.config.route.v3.RouteConfiguration.metadata":                                                             true,
	"envoy.config.route.v3.RouteConfiguration.validate_clusters":                                                    true,
	"envoy.config.route.v3.VirtualHost.metadata":                                                                    true,
	"envoy.config.route.v3.VirtualHost.virtual_clusters":                                                            true, // statistics
	"envoy.extensions.filters.http.fault.v3.HTTPFault.disable_downstream_cluster_stats":                             true,
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.codec_type":                  true,
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.stat_prefix":                 true,
	"envoy.config.cluster.v3.Cluster.round_robin_lb_config":                                                         true, // of another policy
	"envoy.config.core.v3.HEALTHY":                                                                                  true, // as UNKNOWN
	"envoy.config.core.v3.ProxyProtocolConfig.pass_through_tlvs":                                                    true, // there is nothing to pass on
	"envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport.allow_unspecified_address": true, // there is always an address
	"envoy.config.core.v3.TransportSocket.name":                                                                     true, // the type counts
	"envoy.extensions.load_balancing_policies.ring_hash.v3.RingHash.XX_HASH":                                        true, // as DEFAULT_HASH
	"envoy.config.core.v3.TypedExtensionConfig.name":                                                                true,
	"envoy.config.route.v3.FilterConfig.is_optional":                                                                true, // of filters that are known
	"envoy.config.route.v3.RetryPolicy.RetryHostPredicate.name":                                                     true, // the type counts
	"envoy.config.route.v3.RetryPolicy.RetryPriority.name":                                                          true, // the type counts
	"envoy.extensions.filters.http.stateful_session.v3.StatefulSession.stat_prefix":                                 true,
	"envoy.extensions.upstreams.http.v3.HttpProtocolOptions.outlier_detection":                                      true, // the sample has no outlier detection
	"envoy.config.cluster.v3.OutlierDetection.successful_active_health_check_uneject_host":                          true, // there are no active health checks
}

// idle reports whether a field has no effect because of what the whole message is.
func idle(whole proto.Message, fd protoreflect.FieldDescriptor) bool {
	switch m := whole.(type) {
	case *clusterv3.Cluster:
		return fd.FullName() == "envoy.config.cluster.v3.Cluster.lb_policy" && m.GetLoadBalancingPolicy() != nil
	case *httpv3.HttpProtocolOptions:
		return fd.Name() == "treat_missing_header_as_empty" // every response has a status
	case *hcmv3.HttpConnectionManager: // of a server: in clients routes come with a name
		return m.GetRouteConfig() != nil && fd.Name() == "name"
	default:
		return false
	}
}

// TestNothingIsSilent sets each field of each message that the decoders go
// into, one at a time, and holds that the result shows it: in the value, as a
// refusal or as a note.
func TestNothingIsSilent(t *testing.T) {
	rc := &routev3.RouteConfiguration{}
	marshal(t, rc, `{"name": "n", "virtual_hosts": [{"name": "vh", "domains": ["d"], "hedge_policy": {}, "routes": [
		{"match": {"prefix": "/", "headers": [{"name": "h", "exact_match": "v"}], "runtime_fraction": {"default_value": {"numerator": 3}}},
		 "route": {"cluster": "c", "max_stream_duration": {}, "retry_policy": {"retry_on": "5xx", "retry_back_off": {"base_interval": "1s"},
			"retriable_headers": [{"name": "h", "exact_match": "v"}], "retriable_request_headers": [{"name": "h", "exact_match": ""}], "rate_limited_retry_back_off": {"reset_headers": [{"name": "h"}]}}}},
		{"match": {"prefix": "/w"}, "route": {"weighted_clusters": {"clusters": [{"name": "a", "weight": 3,
			"request_headers_to_add": [{"header": {"key": "k", "value": "v"}}]}]}}},
		{"match": {"prefix": "/p"}, "route": {"cluster": "c", "prefix_rewrite": "/p", "hedge_policy": {}, "request_mirror_policies": [{"cluster": "m"}],
			"hash_policy": [{"header": {"header_name": "h", "regex_rewrite": {"pattern": {"regex": "a"}}}}, {"cookie": {"name": "n", "attributes": [{"name": "a"}]}},
				{"query_parameter": {"name": "q"}}, {"filter_state": {"key": "io.grpc.channel_id"}}]}},
		{"match": {"safe_regex": {"regex": "a"}, "grpc": {}, "headers": [{"name": "h", "range_match": {"start": 1, "end": 5}}, {"name": "h", "safe_regex_match": {"regex": "a"}},
			{"name": "h", "string_match": {"exact": "a"}}, {"name": "h", "string_match": {"safe_regex": {"regex": "a"}}}],
			"query_parameters": [{"name": "q", "string_match": {"exact": "a"}}]},
		 "route": {"cluster": "c", "hash_policy": [{"connection_properties": {"source_ip": true}}]}},
		{"match": {"prefix": "/x"}, "redirect": {"regex_rewrite": {"pattern": {"regex": "a"}}}},
		{"match": {"prefix": "/r"}, "route": {"cluster": "c", "regex_rewrite": {"pattern": {"regex": "a"}}}},
		{"match": {"prefix": "/m"}, "redirect": {"path_redirect": "p"}},
		{"match": {"prefix": "/t"}, "route": {"cluster": "c", "retry_policy": {"retry_on": "5xx",
			"retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"}}],
			"retry_priority": {"name": "p", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig", "update_frequency": 1}}}},
			"typed_per_filter_config": {"f": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {`+faultType+`, "delay": {"fixed_delay": "1s", "percentage": {"numerator": 3}}}}}},
		{"match": {"prefix": "/s"}, "route": {"cluster": "c"}, "typed_per_filter_config": {"session": {
			"@type": "type.googleapis.com/envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute", "stateful_session": {`+cookieState+`, "strict": true}}}},
		{"match": {"prefix": "/d"}, "direct_response": {"status": 503, "body": {"inline_string": "b"}}}]}]}`)
	everyField(t, rc, rc, decode.RouteConfiguration)

	cds := &clusterv3.Cluster{}
	for _, config := range []string{
		`"round_robin_lb_config": {"slow_start_config": {"slow_start_window": "1s", "aggression": {"default_value": 2}, "min_weight_percent": {"value": 3}}}`,
		`"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"active_request_bias": {"default_value": 3}, "slow_start_config": {"slow_start_window": "1s"}}`,
		`"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 3}`,
		`"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 11}`,
	} {
		cds.Reset()
		marshal(t, cds, eds(config+`, "common_lb_config": {"consistent_hashing_lb_config": {}, "healthy_panic_threshold": {"value": 3}}, "outlier_detection": {}, "circuit_breakers": {"thresholds": [{"retry_budget": {"budget_percent": {"value": 3}}}]}`))
		everyField(t, cds, cds, decode.Cluster)
	}

	cla := &endpointv3.ClusterLoadAssignment{}
	marshal(t, cla, `{"cluster_name": "n", "policy": {}, "endpoints": [{"locality": {}, "lb_endpoints": [
		`+lbEndpoint("10.0.0.1", 80)+`, {"endpoint": {"address": {"pipe": {"path": "p"}}}}]}]}`)
	everyField(t, cla, cla, decode.ClusterLoadAssignment)

	for _, config := range []string{
		join(options(`"common_http_protocol_options": {}, "explicit_http_config": {"http_protocol_options": {}}`), `"outlier_detection": {}`),
		options(`"explicit_http_config": {"http2_protocol_options": {"max_concurrent_streams": 5}}`),
		options(`"use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}`),
		options(`"auto_config": {"http_protocol_options": {}, "http2_protocol_options": {}}`),
		join(options(`"outlier_detection": {"error_matcher": {"or_match": {"rules": [`+statusIs("500")+`]}}}`), `"outlier_detection": {}`),
		join(options(`"outlier_detection": {"error_matcher": {"and_match": {"rules": [`+statusIs("500")+`]}}}`), `"outlier_detection": {}`),
		join(options(`"outlier_detection": {"error_matcher": {"not_match": `+statusIs("500")+`}}`), `"outlier_detection": {}`),
		`"upstream_connection_options": {"tcp_keepalive": {}}`,
		`"transport_socket": {"name": "raw", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}`,
		`"transport_socket": {"name": "proxy", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
			"config": {}, "transport_socket": {"name": "raw", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}}}`,
		`"common_lb_config": {"override_host_status": {"statuses": ["HEALTHY"]}}`,
		policies(policy(roundRobin, join(slowStart, localityWeighted))),
		policies(policy(random, localityWeighted)),
		policies(policy(leastRequest, join(slowStart, localityWeighted, `"active_request_bias": {"default_value": 2}`))),
		policies(policy(utilization, slowStart)),
		policies(policy(ringHash, join(`"consistent_hashing_lb_config": {}`, `"locality_weighted_lb_config": {}`))),
		policies(policy(maglev, join(consistentByHost, `"locality_weighted_lb_config": {}`))),
		policies(policy("wrr_locality.v3.WrrLocality", `"endpoint_picking_policy": `+policyList(policy("cluster_provided.v3.ClusterProvided", ``)))),
		policies(policy("random_subsetting.v3.RandomSubsetting", `"subset_size": 3, "child_policy": `+policyList(policy(roundRobin, ``)))),
		policies(policy("override_host.v3.OverrideHost", `"fallback_policy": `+policyList(policy(roundRobin, ``)))),
	} {
		cds.Reset()
		marshal(t, cds, eds(config))
		everyField(t, cds, cds, decode.Cluster)
	}
	cds.Reset()
	marshal(t, cds, aggregate(`"a"`, `"lb_policy": "CLUSTER_PROVIDED"`))
	everyField(t, cds, cds, decode.Cluster)
	cds.Reset()
	marshal(t, cds, `{"name": "c", "type": "STATIC", "load_assignment": {"policy": {}, "endpoints": [{"lb_endpoints": [`+lbEndpoint("10.0.0.1", 80)+`]}]}}`)
	everyField(t, cds, cds, decode.Cluster)

	lds := &listenerv3.Listener{}
	for _, filter := range []string{
		`{"name": "fault", "typed_config": {` + faultType + `, "delay": {"fixed_delay": "1s", "percentage": {"numerator": 3}}, "abort": {"http_status": 503, "percentage": {"numerator": 3}}}}`,
		`{"name": "fault", "typed_config": {` + faultType + `, "delay": {"header_delay": {}}, "abort": {"header_abort": {}}, "headers": [{"name": "h", "exact_match": ""}]}}`,
		localLimit(join(bucket, enforced, `"status": {"code": "ServiceUnavailable"}`)),
		localLimit(join(bucket, enforced, `"descriptors": [{"entries": [{"key": "h"}, {"key": "remote_address"}, {"key": "generic_key", "value": "v"}], `+bucket+`}],
			"rate_limits": [{"actions": [{"request_headers": {"header_name": "h", "descriptor_key": "h"}}, {"remote_address": {}}, {"generic_key": {"descriptor_value": "v"}}]}],
			"always_consume_default_token_bucket": false`)),
		session("StatefulSession", cookieState, `"strict": true`),
		session("StatefulSession", strings.Replace(cookieState, `"name": "n"`, `"name": "n", "attributes": [{"name": "a", "value": "b"}]`, 1), `"strict": true`),
		session("StatefulSession", `"session_state": {"name": "header", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.http.stateful_session.header.v3.HeaderBasedSessionState", "name": "h"}}`, `"strict": true`),
	} {
		lds.Reset()
		marshal(t, lds, apiListener(rds, filters(filter+","+router), `"common_http_protocol_options": {}`))
		everyField(t, lds, lds, decode.Listener)
	}
	lds.Reset()
	marshal(t, lds, inbound(`"name": "x"`, filters(router), `"route_config": {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "non_forwarding_action": {}}]}]}`))
	everyField(t, lds, lds, decode.Listener)
	for name := range unwalked {
		if !walked[name] {
			t.Errorf("%s is honoured, and no message has one: the fields in it are not tested", name)
		}
	}
}

// walked are the fields that hold a message in some of what is tested, so that its
// fields are tested too. unwalked are those whose message is honoured.
var walked, unwalked = map[protoreflect.FullName]bool{}, map[protoreflect.FullName]bool{}

// inside reports whether a field holds a message of Envoy's that can be gone into.
func inside(fd protoreflect.FieldDescriptor) bool {
	return fd.Message() != nil && !fd.IsMap() && strings.HasPrefix(string(fd.Message().FullName()), "envoy.")
}

// everyField sets each field of at, which is whole or a part of it, and one that
// nobody knows, and goes on into the messages that at holds.
func everyField[T any](t *testing.T, whole, at proto.Message, fn func(string, []byte) decode.Result[T]) {
	t.Helper()
	base := fn("n", encoded(t, whole))
	if !base.Usable || base.Err != nil {
		t.Fatalf("the message is not accepted to begin with: %v", base.Err)
	}
	r := at.ProtoReflect()
	before := proto.Clone(at)
	shows := func() bool { return !cmp.Equal(shownBy(base), shownBy(fn("n", encoded(t, whole))), byText...) }
	restore := func() {
		proto.Reset(at)
		proto.Merge(at, before)
	}
	// What takes the place of parts that are no messages of their own, or are in an Any, comes before at is replaced.
	for i := range r.Descriptor().Fields().Len() {
		if fd := r.Descriptor().Fields().Get(i); r.Has(fd) {
			walked[fd.FullName()] = true
			descend(t, whole, r, fd, fn)
		}
	}
	r.SetUnknown(unknownField)
	if name := r.Descriptor().FullName(); !shows() && !harmless[name+".unknown"] {
		t.Errorf("%s: a field that is not known is dropped silently", name)
	}
	restore()
	for i := range r.Descriptor().Fields().Len() {
		fd := r.Descriptor().Fields().Get(i)
		if harmless[fd.FullName()] || idle(whole, fd) {
			continue
		}
		for _, v := range samples(r, fd) {
			r.Set(fd, v)
			if proto.Equal(before, at) || harmless[valueOf(fd, v)] {
				restore()
				continue // the sample is there, or is the default by another name
			}
			after := fn("n", encoded(t, whole))
			switch {
			case cmp.Equal(shownBy(base), shownBy(after), byText...):
				t.Errorf("%s = %v is dropped silently", fd.FullName(), v)
			case inside(fd) && !before.ProtoReflect().Has(fd) && fmt.Sprint(after.Notes) == fmt.Sprint(base.Notes) && errText(after.Err) == errText(base.Err):
				unwalked[fd.FullName()] = true
			}
			restore()
		}
	}
}

// valueOf names a value of an enum.
func valueOf(fd protoreflect.FieldDescriptor, v protoreflect.Value) protoreflect.FullName {
	if fd.Enum() == nil || fd.IsList() || fd.Enum().Values().ByNumber(v.Enum()) == nil {
		return ""
	}
	return fd.Enum().Values().ByNumber(v.Enum()).FullName()
}

// unknownField is a field that no message has.
var unknownField = protowire.AppendVarint(protowire.AppendTag(nil, 99999, protowire.VarintType), 1)

// descend tests the messages in a field.
func descend[T any](t *testing.T, whole proto.Message, r protoreflect.Message, fd protoreflect.FieldDescriptor, fn func(string, []byte) decode.Result[T]) {
	t.Helper()
	var in []proto.Message
	switch v := r.Get(fd); {
	case fd.IsMap() && fd.MapValue().Message() != nil:
		for _, m := range v.Map().Range {
			in = append(in, m.Message().Interface())
		}
	case fd.IsMap() || fd.Message() == nil:
	case fd.IsList():
		for i := range v.List().Len() {
			in = append(in, v.List().Get(i).Message().Interface())
		}
	default:
		in = append(in, v.Message().Interface())
	}
	for _, m := range in {
		switch a, packed := m.(*anypb.Any); {
		case packed:
			unpack(t, whole, a, fn)
		case strings.HasPrefix(string(m.ProtoReflect().Descriptor().FullName()), "envoy."):
			everyField(t, whole, m, fn)
		}
	}
}

// unpack tests the message in an Any.
func unpack[T any](t *testing.T, whole proto.Message, a *anypb.Any, fn func(string, []byte) decode.Result[T]) {
	t.Helper()
	m, err := a.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	body := a.Value
	everyField(t, m, m, func(name string, changed []byte) decode.Result[T] {
		a.Value = changed
		defer func() { a.Value = body }()
		return fn(name, encoded(t, whole))
	})
}

// shownBy is everything that a result tells.
func shownBy[T any](r decode.Result[T]) []any {
	return []any{r.Value, r.Usable, errText(r.Err), fmt.Sprint(r.Notes)}
}

// samples are values for a field: each that an enum has, and one that it has not.
func samples(in protoreflect.Message, fd protoreflect.FieldDescriptor) []protoreflect.Value {
	if fd.Enum() == nil || fd.IsList() {
		return []protoreflect.Value{sample(in, fd)}
	}
	var out []protoreflect.Value
	for i := range fd.Enum().Values().Len() {
		out = append(out, protoreflect.ValueOfEnum(fd.Enum().Values().Get(i).Number()))
	}
	return append(out, protoreflect.ValueOfEnum(9999))
}

// sample is a value for a field that differs from not being set.
func sample(in protoreflect.Message, fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch {
	case fd.IsMap():
		m := in.NewField(fd)
		v := m.Map().NewValue()
		if fd.MapValue().Message() != nil {
			fill(v.Message(), 1)
		} else {
			v = scalar(fd.MapValue())
		}
		m.Map().Set(protoreflect.ValueOfString("k").MapKey(), v)
		return m
	case fd.IsList():
		l := in.NewField(fd)
		if fd.Message() != nil {
			fill(l.List().AppendMutable().Message(), 1)
		} else {
			l.List().Append(scalar(fd))
		}
		return l
	case fd.Message() != nil:
		m := in.NewField(fd)
		fill(m.Message(), 1)
		return m
	}
	return scalar(fd)
}

// fill sets the scalar fields of a message, and of those in it.
func fill(m protoreflect.Message, depth int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		switch {
		case fd.IsList() || fd.IsMap():
		case fd.Message() == nil:
			m.Set(fd, scalar(fd))
		case depth > 0:
			fill(m.Mutable(fd).Message(), depth-1)
		}
	}
}

func scalar(fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		values := fd.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(values.Len() - 1).Number())
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(7)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(7)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(7)
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(7)
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(7)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(7)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte{1})
	default:
		return protoreflect.ValueOfString("s")
	}
}

func encoded(t *testing.T, m proto.Message) []byte {
	t.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
