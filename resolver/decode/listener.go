package decode

import (
	"errors"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

const typeHCM = typePrefix + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"

var (
	hcmFields = newFields("codec_type", "stat_prefix", "rds", "route_config", "scoped_routes", "http_filters",
		"common_http_protocol_options")
	httpProtocolFields = newFields("max_stream_duration")
	filterChainFields  = newFields("filters", "name", "metadata", "transport_socket")
)

// Listener reads an LDS resource (envoy.config.listener.v3): an API listener
// for clients, or one with filter chains for servers.
//
// The last HTTP filter must be the router (gRFC A39). The fault filter is read;
// another filter is passed over only if it is marked optional. On a server, a
// listener that asks for TLS or for a filter that we cannot run, such as
// authorization, is denied (DeniedError): admitting every call instead would be
// silent, and so would be going on with the listener before.
func Listener(name string, body []byte) Result[*snapshot.Listener] {
	m := &listenerv3.Listener{}
	name, err := open(name, body, m, m.GetName)
	if err != nil {
		return Result[*snapshot.Listener]{Name: name, Err: err}
	}
	r := &report{}
	l := &snapshot.Listener{Name: name}
	if api := m.GetApiListener(); api != nil {
		err = root(r).at("api_listener").apiListener(api.GetApiListener(), l)
	} else {
		l.Inbound = true
		err = root(r).inbound(m)
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
	out.Fault, err = s.httpFilters(m.GetHttpFilters())
	if err != nil {
		return err
	}
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

// httpFilters reads the HTTP filters and returns the fault filter's own policy,
// or nil when there is no fault filter.
func (s *scope) httpFilters(filters []*hcmv3.HttpFilter) (*fault.Policy, error) {
	if len(filters) == 0 {
		return nil, s.at("http_filters").errorf("must end in the router")
	}
	var out *fault.Policy
	names := make(map[string]bool, len(filters))
	for i, f := range filters {
		at := s.item("http_filters", i, f.GetName())
		if f.GetName() == "" || names[f.GetName()] {
			return nil, at.at("name").errorf("must be set and unique")
		}
		names[f.GetName()] = true
		router := f.GetTypedConfig().GetTypeUrl() == typeRouter
		if last := i == len(filters)-1; router != last {
			return nil, at.errorf("the router must be the last filter, and only that")
		}
		if router {
			continue
		}
		p, err := at.httpFilter(f)
		if err != nil {
			return nil, err
		}
		if p != nil && out != nil {
			return nil, at.errorf("a second fault filter is not supported")
		}
		if p != nil {
			out = p
		}
	}
	return out, nil
}

// httpFilter reads one filter that is not the router; the policy is nil if it
// is not the fault filter.
func (s *scope) httpFilter(f *hcmv3.HttpFilter) (*fault.Policy, error) {
	config := f.GetTypedConfig()
	switch {
	case config.GetTypeUrl() == typeFault && f.GetDisabled():
		return noFault(), nil // routes may still switch it on
	case config.GetTypeUrl() == typeFault:
		return s.faultFilterConfig(config)
	case f.GetIsOptional() || f.GetDisabled():
		s.notef("%s is not honoured yet", bareType(config))
		return nil, nil
	case config == nil:
		return nil, s.deny("has no typed_config, and is not optional")
	default:
		return nil, s.deny("%s is not supported, and is not optional", bareType(config))
	}
}

// errNoChains is the verdict on a listener that is neither a client's nor a
// server's.
var errNoChains = errors.New("one of api_listener and filter_chains must be set")

// inbound reads a server's listener. It carries no policy that a server could
// run yet, so all there is to find out is whether one is asked for.
func (s *scope) inbound(m *listenerv3.Listener) error {
	chains := m.GetFilterChains()
	if len(chains) == 0 && m.GetDefaultFilterChain() == nil {
		return errNoChains
	}
	for i, c := range chains {
		if err := s.item("filter_chains", i, c.GetName()).filterChain(c); err != nil {
			return err
		}
	}
	if c := m.GetDefaultFilterChain(); c != nil {
		return s.at("default_filter_chain").filterChain(c)
	}
	return nil
}

func (s *scope) filterChain(m *listenerv3.FilterChain) error {
	if t := m.GetTransportSocket(); t != nil && !bare(t) {
		return s.at("transport_socket").deny("%q: TLS is not supported yet", t.GetName())
	}
	s.noteRest(m, filterChainFields)
	if len(m.GetFilters()) != 1 {
		return s.at("filters").deny("must hold one filter, an HttpConnectionManager")
	}
	f := m.GetFilters()[0]
	at := s.item("filters", 0, f.GetName())
	if f.GetTypedConfig().GetTypeUrl() != typeHCM {
		return at.deny("%s is not supported", bareType(f.GetTypedConfig()))
	}
	hcm, err := at.connectionManager(f.GetTypedConfig())
	if err != nil {
		return err
	}
	policy, err := at.httpFilters(hcm.GetHttpFilters())
	if err == nil && policy != nil && *policy != *noFault() {
		at.at("http_filters").notef("faults are not injected on servers yet")
	}
	return err
}
