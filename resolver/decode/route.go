package decode

import (
	"math"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/meshframe/meshframe/mesh/ratelimit"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// RouteConfiguration reads an RDS resource (envoy.config.route.v3).
//
// Deadlines follow Envoy and gRPC (gRFC A31): with max_stream_duration its
// duration is the route's timeout, without it RouteAction.timeout is. Envoy's
// default of 15 s for a route without a timeout is not applied: without either
// field there is none. A duration of 0 is none either, whatever the listener says;
// timeout 0 leaves it to the listener. grpc_timeout_header_max bounds the caller's
// own deadline, which grpc_timeout_header_offset shortens. So does, without
// max_stream_duration, the older max_grpc_timeout, which calls without a deadline
// have in place of the timeout.
//
// Header edits follow Envoy, but of its formatters only %% is known: a route (or
// virtual host, or route configuration) that uses another is refused. So is one
// whose authority would have to be computed.
//
// What no standard field says is read from a route's
// filter_metadata["meshframe"], of which every key must be known:
//
//	fallback    what becomes of calls that find no host or that the half-open
//	            breaker refuses, one of {cluster: "name"}, {reply: {status, body}},
//	            {grpc: {code, message}} and {function: "name"}
//	rate_limit  {maxTokens, tokensPerFill: 1, fillInterval, maxKeys: 10000,
//	            enforcedPercent: 100, status: 429, keyed: [{maxTokens, tokensPerFill,
//	            fillInterval, keys: [{header: "name"} or {source: true}, value: ""]}]}
func RouteConfiguration(name string, body []byte) Result[*snapshot.RouteConfiguration] {
	m := &routev3.RouteConfiguration{}
	name, err := open(name, body, m, m.GetName)
	if err != nil {
		return Result[*snapshot.RouteConfiguration]{Name: name, Err: err}
	}
	r := &report{}
	rc, err := root(r).routeConfiguration(name, m)
	if err != nil {
		return Result[*snapshot.RouteConfiguration]{Name: name, Err: err, Notes: r.notes}
	}
	return Result[*snapshot.RouteConfiguration]{Name: name, Value: rc, Usable: true, Err: r.err(), Notes: r.notes}
}

var (
	routeConfigurationFields = newFields("name", "virtual_hosts", "typed_per_filter_config", "metadata",
		"validate_clusters", "max_direct_response_body_size_bytes", "cluster_specifier_plugins", "vhost_header",
		"most_specific_header_mutations_wins", "request_mirror_policies").and(headerEditFields)
	virtualHostFields = newFields("name", "domains", "routes", "matcher", "typed_per_filter_config",
		"include_request_attempt_count", "retry_policy", "metadata", "virtual_clusters", "route_specifiers",
		"request_mirror_policies", "hedge_policy", "rate_limits").and(headerEditFields)
	routeFields = newFields("name", "match", "route", "redirect", "direct_response", "metadata", "decorator",
		"typed_per_filter_config", "stat_prefix", "route_specifiers").and(headerEditFields)
	routeActionFields = newFields("cluster", "weighted_clusters", "cluster_header",
		"cluster_specifier_plugin", "inline_cluster_specifier_plugin", "cluster_not_found_response_code", "timeout",
		"retry_policy", "retry_policy_typed_config", "max_grpc_timeout", "max_stream_duration",
		"prefix_rewrite", "regex_rewrite", "path_rewrite_policy", "path_rewrite", "host_rewrite_literal",
		"auto_host_rewrite", "host_rewrite_header", "host_rewrite_path_regex", "host_rewrite",
		"request_mirror_policies", "hash_policy", "hedge_policy", "idle_timeout", "rate_limits")
	hedgeFields           = newFields("hedge_on_per_try_timeout")
	streamDurationFields  = newFields("max_stream_duration", "grpc_timeout_header_max", "grpc_timeout_header_offset")
	weightedClusterFields = newFields("clusters", "total_weight")
	clusterWeightFields   = newFields("name", "cluster_header", "weight", "typed_per_filter_config",
		"host_rewrite_literal").and(headerEditFields)
)

func (s *scope) routeConfiguration(name string, m *routev3.RouteConfiguration) (*snapshot.RouteConfiguration, error) {
	if m.GetVhostHeader() != "" {
		return nil, s.at("vhost_header").errorf("is not supported")
	}
	base, err := s.perFilter(m.GetTypedPerFilterConfig(), rateLimits{})
	if err != nil {
		return nil, err
	}
	mirrors, err := s.mirrors(m.GetRequestMirrorPolicies())
	if err != nil {
		return nil, err
	}
	s.noteRest(m, routeConfigurationFields)
	s.noExtension(m.GetMetadata())
	out := &snapshot.RouteConfiguration{Name: name, SpecificLast: m.GetMostSpecificHeaderMutationsWins()}
	if out.RequestHeaders, out.ResponseHeaders, err = s.headerEdits(m); err != nil {
		return nil, err
	}
	claimed := make(map[string]int) // domain -> index of its virtual host
	for i, vh := range m.GetVirtualHosts() {
		v := s.item("virtual_hosts", i, "").virtualHost(vh, i, claimed)
		if v.Fault == nil {
			v.Fault = base.fault
		}
		if v.RateLimit == nil {
			v.RateLimit = base.rateLimit
		}
		if v.Session == nil {
			v.Session = base.session
		}
		if v.Mirrors == nil {
			v.Mirrors = mirrors
		}
		out.VirtualHosts = append(out.VirtualHosts, v)
	}
	return out, nil
}

// virtualHost reads one virtual host. A refused one keeps its name and the
// domains that can be read.
func (s *scope) virtualHost(m *routev3.VirtualHost, index int, claimed map[string]int) *snapshot.VirtualHost {
	out := &snapshot.VirtualHost{Name: m.GetName()}
	refuse := func(err error) {
		s.report.refuse(err)
		if out.Refused == nil {
			out.Refused = err
		}
	}
	if len(m.GetDomains()) == 0 {
		refuse(s.at("domains").errorf("must not be empty"))
	}
	for i, d := range m.GetDomains() {
		// Domains compare without regard to case.
		d = strings.ToLower(d)
		if !validDomain(d) {
			refuse(s.item("domains", i, "").errorf("%q is not a host, nor a host with a * at one end", d))
			continue
		}
		if first, taken := claimed[d]; taken {
			if first != index {
				refuse(s.item("domains", i, "").errorf("%q belongs to virtual_hosts[%d]", d, first))
			}
			continue
		}
		claimed[d] = index
		out.Domains = append(out.Domains, d)
	}
	if out.Refused != nil {
		return out
	}
	if err := s.virtualHostPolicies(m, out); err != nil {
		refuse(err)
		return out
	}
	for i, rt := range m.GetRoutes() {
		r, err := s.item("routes", i, rt.GetName()).route(rt, m)
		if err != nil {
			refuse(err)
			continue
		}
		out.Routes = append(out.Routes, r)
	}
	if out.Refused != nil {
		out.Routes = nil
	}
	return out
}

func (s *scope) virtualHostPolicies(m *routev3.VirtualHost, out *snapshot.VirtualHost) (err error) {
	if m.GetMatcher() != nil {
		return s.at("matcher").errorf("is not supported")
	}
	if len(m.GetRouteSpecifiers()) > 0 {
		return s.at("route_specifiers").errorf("is not supported")
	}
	s.noteRest(m, virtualHostFields)
	s.noExtension(m.GetMetadata())
	out.AttemptCount = m.GetIncludeRequestAttemptCount()
	if out.Retry, err = s.at("retry_policy").retryPolicy(m.GetRetryPolicy()); err != nil {
		return err
	}
	if out.RequestHeaders, out.ResponseHeaders, err = s.headerEdits(m); err != nil {
		return err
	}
	if out.Mirrors, err = s.mirrors(m.GetRequestMirrorPolicies()); err != nil {
		return err
	}
	s.at("hedge_policy").noteRest(m.GetHedgePolicy(), hedgeFields)
	policies, err := s.perFilter(m.GetTypedPerFilterConfig(), rateLimits{own: m.GetRateLimits()})
	out.Fault, out.RateLimit, out.Session = policies.fault, policies.rateLimit, policies.session
	s.noteRateLimits(m.GetRateLimits(), out.RateLimit)
	return err
}

// noteRateLimits notes rate_limits that no filter reads. Those of a virtual host
// may still be read by the filters of its routes.
func (s *scope) noteRateLimits(list []*routev3.RateLimit, read *ratelimit.Policy) {
	if len(list) > 0 && read == nil {
		s.at("rate_limits").notef("is honoured only by a local rate limit that is configured beside it")
	}
}

// validDomain reports whether d is a host name, *, or has its only * at one
// end.
func validDomain(d string) bool {
	switch strings.Count(d, "*") {
	case 0:
		return d != ""
	case 1:
		return d[0] == '*' || d[len(d)-1] == '*'
	default:
		return false
	}
}

// route reads one route. The error says that its match cannot be read; what
// else is wrong refuses the route in its place.
func (s *scope) route(m *routev3.Route, vh *routev3.VirtualHost) (*snapshot.Route, error) {
	match, err := s.at("match").match(m.GetMatch())
	if err != nil {
		return nil, err
	}
	out := &snapshot.Route{Name: m.GetName(), Match: match}
	deny, err := s.routeAction(m, vh, out)
	switch {
	case err != nil:
		s.report.refuse(err)
		return refusedRoute(out, err), nil
	case deny != nil:
		s.report.notes = append(s.report.notes, deny.Error())
		return refusedRoute(out, deny), nil
	}
	return out, nil
}

func refusedRoute(r *snapshot.Route, err error) *snapshot.Route {
	return &snapshot.Route{Name: r.Name, Match: r.Match, Refused: err}
}

// routeAction reads everything of a route but its match. deny is the verdict
// on an action that is valid and cannot be done.
func (s *scope) routeAction(m *routev3.Route, vh *routev3.VirtualHost, out *snapshot.Route) (deny, err error) {
	switch a := m.GetAction().(type) {
	case *routev3.Route_Route:
		err = s.at("route").forward(a.Route, vh, out)
	case *routev3.Route_Redirect:
		out.Redirect, err = s.at("redirect").redirect(a.Redirect)
	case *routev3.Route_DirectResponse:
		out.DirectResponse, err = s.at("direct_response").directResponse(a.DirectResponse)
	case *routev3.Route_NonForwardingAction:
		return s.deny("non_forwarding_action is for servers: a client has nowhere to send the call"), nil
	case nil:
		err = s.errorf("one of route, redirect and direct_response must be set")
	default:
		err = s.unsupported(m, "action")
	}
	if err != nil {
		return nil, err
	}
	if len(m.GetRouteSpecifiers()) > 0 {
		return nil, s.at("route_specifiers").errorf("is not supported")
	}
	s.noteRest(m, routeFields)
	return nil, s.routePolicies(m, vh, out)
}

// routePolicies reads what a route has beside its action.
func (s *scope) routePolicies(m *routev3.Route, vh *routev3.VirtualHost, out *snapshot.Route) (err error) {
	if out.RequestHeaders, out.ResponseHeaders, err = s.headerEdits(m); err != nil {
		return err
	}
	limits := rateLimits{own: m.GetRoute().GetRateLimits(), virtualHost: vh.GetRateLimits()}
	policies, err := s.perFilter(m.GetTypedPerFilterConfig(), limits)
	if err != nil {
		return err
	}
	out.Fault, out.RateLimit, out.Session = policies.fault, policies.rateLimit, policies.session
	s.at("route").noteRateLimits(limits.own, out.RateLimit)
	return s.routeExtension(m.GetMetadata(), out)
}

func (s *scope) forward(m *routev3.RouteAction, vh *routev3.VirtualHost, out *snapshot.Route) error {
	s.noteRest(m, routeActionFields)
	var err error
	if out.Clusters, err = s.clusters(m); err != nil {
		return err
	}
	if err := s.deadlines(m, out); err != nil {
		return err
	}
	if out.Retry, err = s.at("retry_policy").retryPolicy(m.GetRetryPolicy()); err != nil {
		return err
	}
	if m.GetRetryPolicyTypedConfig() != nil {
		return s.at("retry_policy_typed_config").errorf("is not supported")
	}
	if out.Rewrite, err = s.rewrite(m); err != nil {
		return err
	}
	if out.Mirrors, err = s.mirrors(m.GetRequestMirrorPolicies()); err != nil {
		return err
	}
	out.Hash, err = s.hashPolicies(m.GetHashPolicy())
	s.hedge(m.GetHedgePolicy(), vh.GetHedgePolicy(), out)
	return err
}

// hedge reads the hedge policy of a route, or its virtual host's.
func (s *scope) hedge(own, inherited *routev3.HedgePolicy, out *snapshot.Route) {
	s.at("hedge_policy").noteRest(own, hedgeFields)
	if own == nil {
		own = inherited
	}
	out.Hedge = own.GetHedgeOnPerTryTimeout()
}

func (s *scope) clusters(m *routev3.RouteAction) ([]snapshot.ClusterWeight, error) {
	switch c := m.GetClusterSpecifier().(type) {
	case *routev3.RouteAction_Cluster:
		if c.Cluster == "" {
			return nil, s.at("cluster").errorf("must not be empty")
		}
		return []snapshot.ClusterWeight{{Cluster: c.Cluster, Weight: 1}}, nil
	case *routev3.RouteAction_WeightedClusters:
		return s.at("weighted_clusters").weightedClusters(c.WeightedClusters)
	case nil:
		return nil, s.errorf("one of cluster and weighted_clusters must be set")
	default:
		return nil, s.unsupported(m, "cluster_specifier")
	}
}

// weightedClusters leaves out clusters of weight 0: no call draws them.
func (s *scope) weightedClusters(m *routev3.WeightedCluster) ([]snapshot.ClusterWeight, error) {
	s.noteRest(m, weightedClusterFields)
	var out []snapshot.ClusterWeight
	var total uint64
	for i, c := range m.GetClusters() {
		at := s.item("clusters", i, "")
		w, err := at.clusterWeight(c)
		if err != nil {
			return nil, err
		}
		if total += uint64(w.Weight); total > math.MaxUint32 {
			return nil, at.at("weight").errorf("the sum of the weights is greater than %d", uint32(math.MaxUint32))
		}
		if w.Weight > 0 {
			out = append(out, w)
		}
	}
	if total == 0 {
		return nil, s.at("clusters").errorf("the sum of the weights must not be 0")
	}
	if t := m.GetTotalWeight(); t != nil && uint64(t.GetValue()) != total {
		s.at("total_weight").notef("is %d, the sum of the weights, %d, is used", t.GetValue(), total)
	}
	return out, nil
}

func (s *scope) clusterWeight(m *routev3.WeightedCluster_ClusterWeight) (snapshot.ClusterWeight, error) {
	out := snapshot.ClusterWeight{Cluster: m.GetName(), Weight: m.GetWeight().GetValue()}
	if m.GetClusterHeader() != "" {
		return out, s.at("cluster_header").errorf("is not supported")
	}
	if out.Cluster == "" {
		return out, s.at("name").errorf("must not be empty")
	}
	s.noteRest(m, clusterWeightFields)
	policies, err := s.perFilter(m.GetTypedPerFilterConfig(), rateLimits{})
	if err != nil {
		return out, err
	}
	out.Fault, out.Session = policies.fault, policies.session
	if policies.rateLimit != nil {
		s.at("typed_per_filter_config").notef("a local rate limit of a weighted cluster is not honoured")
	}
	out.HostRewrite = m.GetHostRewriteLiteral()
	if err := s.at("host_rewrite_literal").headerValue(out.HostRewrite); err != nil {
		return out, err
	}
	out.RequestHeaders, out.ResponseHeaders, err = s.headerEdits(m)
	return out, err
}

// noTimeout is the timeout of a route that asks for none, whatever its listener
// says.
const noTimeout time.Duration = -1

// deadlines reads the timeouts of a route; see RouteConfiguration for their
// precedence.
func (s *scope) deadlines(m *routev3.RouteAction, out *snapshot.Route) (err error) {
	if out.IdleTimeout, err = s.at("idle_timeout").duration(m.GetIdleTimeout()); err != nil {
		return err
	}
	timeout, err := s.at("timeout").duration(m.GetTimeout())
	if err != nil {
		return err
	}
	bound, err := s.at("max_grpc_timeout").duration(m.GetMaxGrpcTimeout())
	if err != nil {
		return err
	}
	out.Timeout, out.MaxGRPCTimeout, out.HasMaxGRPCTimeout = timeout, bound, m.GetMaxGrpcTimeout() != nil
	if out.HasMaxGRPCTimeout { // no deadline is an endless one
		out.Timeout = bound
	}
	if m.GetMaxStreamDuration() == nil {
		return nil
	}
	const unread = "has no effect beside max_stream_duration"
	if m.GetMaxGrpcTimeout() != nil {
		s.at("max_grpc_timeout").notef(unread)
	}
	if timeout > 0 && m.GetMaxStreamDuration().GetMaxStreamDuration() == nil {
		s.at("timeout").notef(unread)
	}
	if err := s.at("max_stream_duration").streamDuration(m.GetMaxStreamDuration(), out); err != nil {
		return err
	}
	// Istio writes its timeout in both places. What is not that timeout is a limit.
	for _, limit := range []time.Duration{out.Timeout, out.MaxGRPCTimeout} {
		if limit > 0 && limit != timeout && (out.Longest == 0 || limit < out.Longest) {
			out.Longest = limit
		}
	}
	return nil
}

// streamDuration reads max_stream_duration, which takes the place of the older
// timeouts.
func (s *scope) streamDuration(m *routev3.RouteAction_MaxStreamDuration, out *snapshot.Route) (err error) {
	s.noteRest(m, streamDurationFields)
	if out.Timeout, err = s.at("max_stream_duration").duration(m.GetMaxStreamDuration()); err != nil {
		return err
	}
	if out.Timeout == 0 && m.GetMaxStreamDuration() != nil {
		out.Timeout = noTimeout
	}
	out.HasMaxGRPCTimeout = m.GetGrpcTimeoutHeaderMax() != nil
	if out.MaxGRPCTimeout, err = s.at("grpc_timeout_header_max").duration(m.GetGrpcTimeoutHeaderMax()); err != nil {
		return err
	}
	out.GRPCTimeoutOffset, err = s.at("grpc_timeout_header_offset").duration(m.GetGrpcTimeoutHeaderOffset())
	return err
}
