package translate

import (
	"net/netip"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	locallimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
)

// Listener translates a listener (LDS): the inbound listener of a server, or the API listener of a service as the
// client calls it. It is answered under the name that was asked for.
func (w *World) Listener(c Client, name string) Result {
	if address, ok := strings.CutPrefix(name, InboundPrefix); ok {
		return w.inbound(c, name, address)
	}
	t := w.begin(c)
	none := apiListener(name, nil, &hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{Name: name}},
		HttpFilters:    []*hcmv3.HttpFilter{routerFilter},
	})
	host, number, ok := SplitHostPort(name)
	if !ok {
		return t.missing(none)
	}
	s := t.service(host, number)
	if s == nil {
		return t.missing(none)
	}
	p := port(s, number)
	if p == nil || p.Number == 0 {
		return t.missing(none)
	}
	vip := "0.0.0.0"
	for _, a := range s.Addresses {
		if isIP(a) {
			vip = a
			break
		}
	}
	return t.found(apiListener(name, socketAddress(vip, p.Number), &hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			ConfigSource:    ads(),
			RouteConfigName: ClusterName{Host: s.Host, Port: p.Number}.String(),
		}},
		HttpFilters: t.httpFilters(s, p.Number),
	}))
}

// httpFilters are what the routes of a port of a service configure.
func (t *translation) httpFilters(s *registry.Service, port uint32) []*hcmv3.HttpFilter {
	if t.hostLimit(s, port) != nil {
		return []*hcmv3.HttpFilter{faultFilter, limitFilter, routerFilter}
	}
	return []*hcmv3.HttpFilter{faultFilter, routerFilter}
}

func apiListener(name string, address *corev3.Address, hcm *hcmv3.HttpConnectionManager) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:        name,
		Address:     address,
		ApiListener: &listenerv3.ApiListener{ApiListener: packed(hcm)},
	}
}

const (
	faultFilterName  = "envoy.filters.http.fault"
	routerFilterName = "envoy.filters.http.router"
)

var (
	faultFilter  = httpFilter(faultFilterName, &faultv3.HTTPFault{})
	limitFilter  = httpFilter(limitFilterName, &locallimitv3.LocalRateLimit{StatPrefix: limitStats})
	routerFilter = httpFilter(routerFilterName, &routerv3.Router{})
)

func httpFilter(name string, m proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(m)}}
}

// packed puts a message that this package made into an Any. It is deterministic, so that equal configuration has equal
// bytes. Encoding fails only for text that is not UTF-8, which neither YAML nor a request can bring here; the Any is then
// empty, which clients refuse.
func packed(m proto.Message) *anypb.Any {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		body = nil
	}
	return &anypb.Any{TypeUrl: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()), Value: body}
}

// inbound is the listener of a server that asks for it: all calls are let in, but for those that a MeshPolicy limits.
func (w *World) inbound(c Client, name, address string) Result {
	t := w.begin(c)
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return t.missing(nil)
	}
	limits := t.serverLimits(uint32(ap.Port()))
	hcm := &hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			Name: "inbound",
			VirtualHosts: []*routev3.VirtualHost{{
				Name:    "inbound|" + strconv.Itoa(int(ap.Port())),
				Domains: []string{"*"},
				Routes: []*routev3.Route{{
					Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
					Action: &routev3.Route_NonForwardingAction{NonForwardingAction: &routev3.NonForwardingAction{}},
				}},
			}},
		}},
	}
	if limits.rate != nil {
		hcm.HttpFilters = append(hcm.HttpFilters, httpFilter(limitFilterName, localLimit(limits.rate)))
	}
	hcm.HttpFilters = append(hcm.HttpFilters, routerFilter)
	m := &listenerv3.Listener{
		Name:    name,
		Address: socketAddress(ap.Addr().String(), uint32(ap.Port())),
		FilterChains: []*listenerv3.FilterChain{{
			Name: "inbound-plaintext",
			Filters: []*listenerv3.Filter{{
				Name:       "inbound-hcmplaintext",
				ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed(hcm)},
			}},
		}},
	}
	if limits.concurrent > 0 {
		extend(&m.Metadata, object{"max_concurrent": count(limits.concurrent)})
	}
	return t.found(m)
}

// serverLimits is what one inbound listener may take.
type serverLimits struct {
	rate       *config.RateLimit // nil: no limit
	concurrent uint32            // 0: no limit
}

// serverLimits joins the limits of the services that a port of the server stands for: the first that has one counts.
func (t *translation) serverLimits(port uint32) (out serverLimits) {
	for _, served := range t.client.Serves {
		if served.Listen != 0 && served.Listen != port {
			continue
		}
		s := t.index.Find(served.Host, t.client.Namespace)
		for _, c := range config.Candidates(served.Host, t.client.Namespace, t.index.Model.Domain) {
			t.dep(Definition, c)
		}
		if s == nil {
			continue
		}
		p := t.meshPolicy(s, served.Port, "", "")
		switch rate := p.ServerRateLimit; {
		case rate.Value == nil:
		case out.rate == nil:
			out.rate = rate.Value
		case out.rate != rate.Value:
			t.note(rate.Policy, rate.Field, "it has no effect on servers that stand for another service as well: that of the first counts")
		}
		switch most := p.MaxConcurrentRequests; {
		case most.Value == 0:
		case out.concurrent == 0:
			out.concurrent = most.Value
		case out.concurrent != most.Value:
			t.note(most.Policy, most.Field, "it has no effect on servers that stand for another service as well: that of the first counts")
		}
	}
	return out
}
