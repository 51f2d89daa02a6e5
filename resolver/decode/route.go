package decode

import (
	"math"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

// RouteConfiguration reads an RDS resource (envoy.config.route.v3).
//
// Deadlines follow gRPC (gRFC A31): max_stream_duration is the route's
// timeout, and RouteAction.timeout where that is absent. Envoy's default of
// 15 s for a route without a timeout is not applied: without either field
// there is none. grpc_timeout_header_max, or the older max_grpc_timeout, bound
// the caller's own deadline.
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
		"validate_clusters", "max_direct_response_body_size_bytes", "cluster_specifier_plugins", "vhost_header")
	virtualHostFields = newFields("name", "domains", "routes", "matcher", "typed_per_filter_config",
		"include_request_attempt_count", "retry_policy", "metadata", "virtual_clusters", "route_specifiers")
	routeFields = newFields("name", "match", "route", "metadata", "decorator", "typed_per_filter_config",
		"stat_prefix", "route_specifiers")
	routeActionFields = newFields("cluster", "weighted_clusters", "cluster_header",
		"cluster_specifier_plugin", "inline_cluster_specifier_plugin", "cluster_not_found_response_code", "timeout",
		"retry_policy", "retry_policy_typed_config", "max_grpc_timeout", "max_stream_duration")
	streamDurationFields  = newFields("max_stream_duration", "grpc_timeout_header_max")
	weightedClusterFields = newFields("clusters", "total_weight")
	clusterWeightFields   = newFields("name", "cluster_header", "weight", "typed_per_filter_config")
)

func (s *scope) routeConfiguration(name string, m *routev3.RouteConfiguration) (*snapshot.RouteConfiguration, error) {
	if m.GetVhostHeader() != "" {
		return nil, s.at("vhost_header").errorf("is not supported")
	}
	base, err := s.perFilter(m.GetTypedPerFilterConfig())
	if err != nil {
		return nil, err
	}
	s.noteRest(m, routeConfigurationFields)
	out := &snapshot.RouteConfiguration{Name: name}
	claimed := make(map[string]int) // domain -> index of its virtual host
	for i, vh := range m.GetVirtualHosts() {
		v := s.item("virtual_hosts", i, "").virtualHost(vh, i, claimed)
		if v.Fault == nil {
			v.Fault = base
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
		r, err := s.item("routes", i, rt.GetName()).route(rt)
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
	out.AttemptCount = m.GetIncludeRequestAttemptCount()
	if out.Retry, err = s.at("retry_policy").retryPolicy(m.GetRetryPolicy()); err != nil {
		return err
	}
	out.Fault, err = s.perFilter(m.GetTypedPerFilterConfig())
	return err
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
func (s *scope) route(m *routev3.Route) (*snapshot.Route, error) {
	match, err := s.at("match").match(m.GetMatch())
	if err != nil {
		return nil, err
	}
	out := &snapshot.Route{Name: m.GetName(), Match: match}
	deny, err := s.routeAction(m, out)
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
func (s *scope) routeAction(m *routev3.Route, out *snapshot.Route) (deny, err error) {
	switch a := m.GetAction().(type) {
	case *routev3.Route_Route:
		err = s.at("route").forward(a.Route, out)
	case *routev3.Route_Redirect:
		return s.deny("redirect is not supported for gRPC calls yet"), nil
	case *routev3.Route_DirectResponse:
		return s.deny("direct_response is not supported for gRPC calls yet"), nil
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
	out.Fault, err = s.perFilter(m.GetTypedPerFilterConfig())
	return nil, err
}

func (s *scope) forward(m *routev3.RouteAction, out *snapshot.Route) error {
	s.noteRest(m, routeActionFields)
	var err error
	if out.Clusters, err = s.clusters(m); err != nil {
		return err
	}
	if err := s.deadlines(m, out); err != nil {
		return err
	}
	out.Retry, err = s.at("retry_policy").retryPolicy(m.GetRetryPolicy())
	if err == nil && m.GetRetryPolicyTypedConfig() != nil {
		err = s.at("retry_policy_typed_config").errorf("is not supported")
	}
	return err
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
	var err error
	out.Fault, err = s.perFilter(m.GetTypedPerFilterConfig())
	return out, err
}

// deadlines reads the timeouts of a route; see RouteConfiguration for their
// precedence.
func (s *scope) deadlines(m *routev3.RouteAction, out *snapshot.Route) error {
	msd := m.GetMaxStreamDuration()
	at := s.at("max_stream_duration")
	at.noteRest(msd, streamDurationFields)
	timeout, err := s.at("timeout").duration(m.GetTimeout())
	if err != nil {
		return err
	}
	if msd.GetMaxStreamDuration() != nil {
		if timeout, err = at.at("max_stream_duration").duration(msd.GetMaxStreamDuration()); err != nil {
			return err
		}
	}
	out.Timeout = timeout
	bound, where := msd.GetGrpcTimeoutHeaderMax(), at.at("grpc_timeout_header_max")
	if bound == nil {
		bound, where = m.GetMaxGrpcTimeout(), s.at("max_grpc_timeout")
	}
	out.HasMaxGRPCTimeout = bound != nil
	out.MaxGRPCTimeout, err = where.duration(bound)
	return err
}
