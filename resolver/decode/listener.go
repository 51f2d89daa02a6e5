package decode

import (
	"errors"
	"reflect"
	"slices"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

const typeHCM = typePrefix + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

var (
	hcmFields = newFields("codec_type", "stat_prefix", "rds", "route_config", "scoped_routes", "http_filters",
		"common_http_protocol_options")
	httpProtocolFields = newFields("max_stream_duration")
	// Beside what is read and names: how sockets are made, which the server's program decides.
	listenerFields = newFields("api_listener", "filter_chains", "default_filter_chain", "name", "address", "metadata", "stat_prefix",
		"stats_matcher", "traffic_direction", "reuse_port", "enable_reuse_port", "drain_type", "tcp_backlog_size", "deprecated_v1",
		"per_connection_buffer_limit_bytes", "max_connections_to_accept_per_socket_event", "connection_balance_config")
	rdsFields         = newFields("route_config_name", "config_source")
	apiListenerFields = newFields("api_listener")
	filterFields      = newFields("name", "typed_config")
	filterChainFields = newFields("filters", "name", "metadata", "transport_socket")
)

// Listener reads an LDS resource (envoy.config.listener.v3): an API listener
// for clients, or one with filter chains for servers.
//
// The last HTTP filter must be the router (gRFC A39). The filters fault,
// local_ratelimit and stateful_session are read; another filter is passed over
// only if it is marked optional. On a server, a listener that asks for TLS or
// for a filter that we cannot run, such as authorization, is denied
// (DeniedError): admitting every call instead would be silent, and so would be
// going on with the listener before.
//
// What no standard field says is read from filter_metadata["meshframe"], of which
// every key must be known. There is one, of inbound listeners: max_concurrent, the
// number of calls that the server works on at once.
func Listener(name string, body []byte) Result[*snapshot.Listener] {
	m := &listenerv3.Listener{}
	name, err := open(name, body, m, m.GetName)
	if err != nil {
		return Result[*snapshot.Listener]{Name: name, Err: err}
	}
	r := &report{}
	l := &snapshot.Listener{Name: name}
	root(r).noteRest(m, listenerFields)
	if api := m.GetApiListener(); api != nil {
		root(r).at("api_listener").noteRest(api, apiListenerFields)
		if len(m.GetFilterChains()) > 0 || m.GetDefaultFilterChain() != nil {
			root(r).at("filter_chains").notef("has no effect beside api_listener")
		}
		err = root(r).at("api_listener").apiListener(api.GetApiListener(), l)
	} else {
		l.Inbound = true
		err = root(r).inbound(m, l)
	}
	if err == nil {
		err = root(r).listenerExtension(m.GetMetadata(), l)
	}
	if err != nil {
		l = &snapshot.Listener{Name: name, Inbound: l.Inbound}
		return Result[*snapshot.Listener]{Name: name, Value: l, Err: err, Notes: r.notes}
	}
	return Result[*snapshot.Listener]{Name: name, Value: l, Usable: true, Err: r.err(), Notes: r.notes}
}

func (s *scope) apiListener(a *anypb.Any, out *snapshot.Listener) error {
	m, err := s.connectionManager(a)
	if err != nil {
		return err
	}
	if err := s.routes(m, out); err != nil {
		return err
	}
	policies, err := s.httpFilters(m.GetHttpFilters())
	if err != nil {
		return err
	}
	out.Fault, out.RateLimit, out.Session = policies.fault, policies.rateLimit, policies.session
	at := s.at("common_http_protocol_options")
	at.noteRest(m.GetCommonHttpProtocolOptions(), httpProtocolFields)
	out.MaxStreamDuration, err = at.at("max_stream_duration").duration(m.GetCommonHttpProtocolOptions().GetMaxStreamDuration())
	return err
}

func (s *scope) connectionManager(a *anypb.Any) (*hcmv3.HttpConnectionManager, error) {
	if a.GetTypeUrl() != typeHCM {
		return nil, s.errorf("%q is not an HttpConnectionManager", bareType(a))
	}
	m := &hcmv3.HttpConnectionManager{}
	if err := proto.Unmarshal(a.GetValue(), m); err != nil {
		return nil, s.errorf("not an HttpConnectionManager: %w", err)
	}
	s.noteRest(m, hcmFields)
	return m, nil
}

// routes reads where the routes of a client's listener come from.
func (s *scope) routes(m *hcmv3.HttpConnectionManager, out *snapshot.Listener) error {
	switch c := m.GetRouteSpecifier().(type) {
	case *hcmv3.HttpConnectionManager_Rds:
		return s.at("rds").rds(c.Rds, out)
	case *hcmv3.HttpConnectionManager_RouteConfig:
		var err error
		out.Routes, err = s.at("route_config").routeConfiguration(c.RouteConfig.GetName(), c.RouteConfig)
		return err
	case nil:
		return s.errorf("one of rds and route_config must be set")
	default:
		return s.unsupported(m, "route_specifier")
	}
}

func (s *scope) rds(m *hcmv3.Rds, out *snapshot.Listener) error {
	s.noteRest(m, rdsFields)
	if m.GetRouteConfigName() == "" {
		return s.at("route_config_name").errorf("must be set")
	}
	out.RouteConfigName = m.GetRouteConfigName()
	return s.at("config_source").aggregated(m.GetConfigSource())
}

// errNoChains is the verdict on a listener that is neither a client's nor a
// server's.
var errNoChains = errors.New("one of api_listener and filter_chains must be set")

// inbound reads a server's listener. The policies are those of its first filter
// chain.
func (s *scope) inbound(m *listenerv3.Listener, out *snapshot.Listener) error {
	chains := m.GetFilterChains()
	if len(chains) == 0 && m.GetDefaultFilterChain() == nil {
		return errNoChains
	}
	var all []filterPolicies
	for i, c := range chains {
		p, err := s.item("filter_chains", i, c.GetName()).filterChain(c)
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	if c := m.GetDefaultFilterChain(); c != nil {
		p, err := s.at("default_filter_chain").filterChain(c)
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	out.Fault, out.RateLimit = all[0].fault, all[0].rateLimit
	if session := all[0].session; session != nil && (session.Cookie != "" || session.Header != "") {
		s.notef("a stateful session is not honoured on servers, which have no hosts to choose from")
	}
	for _, p := range all[1:] {
		if !reflect.DeepEqual(p, all[0]) {
			s.notef("faults and rate limits of the first filter chain are honoured for all")
			break
		}
	}
	return nil
}

func (s *scope) filterChain(m *listenerv3.FilterChain) (filterPolicies, error) {
	var none filterPolicies
	if t := m.GetTransportSocket(); t != nil && !bare(t) {
		return none, s.at("transport_socket").deny("%q: TLS is not supported yet", t.GetName())
	}
	s.at("transport_socket").bareSettings(m.GetTransportSocket())
	s.noteRest(m, filterChainFields)
	if len(m.GetFilters()) != 1 {
		return none, s.at("filters").deny("must hold one filter, an HttpConnectionManager")
	}
	f := m.GetFilters()[0]
	at := s.item("filters", 0, f.GetName())
	at.noteRest(f, filterFields)
	if f.GetTypedConfig().GetTypeUrl() != typeHCM {
		return none, at.deny("%s is not supported", bareType(f.GetTypedConfig()))
	}
	hcm, err := at.connectionManager(f.GetTypedConfig())
	if err != nil {
		return none, err
	}
	at.inboundManager(hcm)
	return at.httpFilters(hcm.GetHttpFilters())
}

// inboundManager notes what of a server's connection manager is not honoured.
func (s *scope) inboundManager(m *hcmv3.HttpConnectionManager) {
	for field, set := range map[string]bool{"rds": m.GetRds() != nil, "scoped_routes": m.GetScopedRoutes() != nil} {
		if set {
			s.at(field).notef(allLetIn)
		}
	}
	s.at("common_http_protocol_options").noteRest(m.GetCommonHttpProtocolOptions(), noFields)
	s.at("route_config").inboundRoutes(m.GetRouteConfig())
}

const allLetIn = "is not honoured on servers: every call is let in"

// Beside what every call is let in by, names, and what is noted for all routes
// together.
var (
	inboundConfigFields = newFields("name", "virtual_hosts", "metadata", "validate_clusters", "max_direct_response_body_size_bytes",
		"cluster_specifier_plugins", "typed_per_filter_config")
	inboundHostFields  = newFields("name", "domains", "routes", "metadata", "virtual_clusters", "typed_per_filter_config")
	inboundRouteFields = newFields("name", "match", "non_forwarding_action", "metadata", "decorator", "stat_prefix", "typed_per_filter_config")
	inboundMatchFields = newFields("prefix", "case_sensitive", "grpc")
)

// inboundRoutes notes what the routes of a server ask for. The policies of its
// filters are configured for the listener as a whole.
func (s *scope) inboundRoutes(m *routev3.RouteConfiguration) {
	s.noteRest(m, inboundConfigFields)
	perFilter := len(m.GetTypedPerFilterConfig()) > 0
	everybody := len(m.GetVirtualHosts()) == 0
	for i, vh := range m.GetVirtualHosts() {
		at := s.item("virtual_hosts", i, vh.GetName())
		at.noteRest(vh, inboundHostFields)
		everybody = everybody || slices.Contains(vh.GetDomains(), "*")
		perFilter = perFilter || len(vh.GetTypedPerFilterConfig()) > 0
		if len(vh.GetRoutes()) == 0 || !letsIn(vh.GetRoutes()[0]) {
			at.at("routes").notef(allLetIn)
		}
		for j, r := range vh.GetRoutes() {
			at.item("routes", j, r.GetName()).noteRest(r, inboundRouteFields)
			at.item("routes", j, r.GetName()).at("non_forwarding_action").noteRest(r.GetNonForwardingAction(), noFields)
			perFilter = perFilter || len(r.GetTypedPerFilterConfig()) > 0
		}
	}
	if !everybody {
		s.at("virtual_hosts").notef(allLetIn)
	}
	if perFilter {
		s.notef("typed_per_filter_config is not honoured on servers")
	}
}

// letsIn reports whether a route of a server takes every call and lets it in.
func letsIn(r *routev3.Route) bool {
	m := r.GetMatch()
	path, prefix := m.GetPathSpecifier().(*routev3.RouteMatch_Prefix)
	return r.GetNonForwardingAction() != nil && prefix && (path.Prefix == "" || path.Prefix == "/") && len(unread(m, inboundMatchFields)) == 0
}
