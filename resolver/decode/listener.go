package decode

import (
	"errors"
	"reflect"

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
	s.noteRest(m, filterChainFields)
	if len(m.GetFilters()) != 1 {
		return none, s.at("filters").deny("must hold one filter, an HttpConnectionManager")
	}
	f := m.GetFilters()[0]
	at := s.item("filters", 0, f.GetName())
	if f.GetTypedConfig().GetTypeUrl() != typeHCM {
		return none, at.deny("%s is not supported", bareType(f.GetTypedConfig()))
	}
	hcm, err := at.connectionManager(f.GetTypedConfig())
	if err != nil {
		return none, err
	}
	at.inboundRoutes(hcm.GetRouteConfig())
	return at.httpFilters(hcm.GetHttpFilters())
}

// inboundRoutes notes what the routes of a server ask of filters: they are
// configured for the listener as a whole.
func (s *scope) inboundRoutes(m *routev3.RouteConfiguration) {
	set := len(m.GetTypedPerFilterConfig()) > 0
	for _, vh := range m.GetVirtualHosts() {
		set = set || len(vh.GetTypedPerFilterConfig()) > 0
		for _, r := range vh.GetRoutes() {
			set = set || len(r.GetTypedPerFilterConfig()) > 0
		}
	}
	if set {
		s.at("route_config").notef("typed_per_filter_config is not honoured on servers")
	}
}
