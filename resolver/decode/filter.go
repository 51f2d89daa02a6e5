package decode

import (
	"maps"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/ratelimit"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

const (
	typePrefix             = "type.googleapis.com/"
	typeFilters            = typePrefix + "envoy.extensions.filters.http."
	typeFault              = typeFilters + "fault.v3.HTTPFault"
	typeLocalRateLimit     = typeFilters + "local_ratelimit.v3.LocalRateLimit"
	typeStatefulSession    = typeFilters + "stateful_session.v3.StatefulSession"
	typeStatefulSessionPer = typeFilters + "stateful_session.v3.StatefulSessionPerRoute"
	typeRouter             = typeFilters + "router.v3.Router"
	typeFilterConfig       = typePrefix + "envoy.config.route.v3.FilterConfig"
)

// usualTypes are the filters that are known by their usual name, where a
// configuration has none of its own.
var usualTypes = map[string]string{
	"envoy.filters.http.fault":            typeFault,
	"envoy.filters.http.local_ratelimit":  typeLocalRateLimit,
	"envoy.filters.http.stateful_session": typeStatefulSession,
}

// Configuration of filters that are not known is noted, whether or not it is optional.
var filterConfigFields = newFields("config", "is_optional", "disabled")

var httpFilterFields = newFields("name", "typed_config", "config_discovery", "is_optional", "disabled")

// filterPolicies are what the HTTP filters of one scope ask for; nil is not
// set.
type filterPolicies struct {
	fault     *fault.Policy
	rateLimit *ratelimit.Policy
	session   *snapshot.Session
}

// add takes over what more says. It returns the kind of filter that both have.
func (p *filterPolicies) add(more filterPolicies) (twice string) {
	switch {
	case p.fault != nil && more.fault != nil:
		return "fault"
	case p.rateLimit != nil && more.rateLimit != nil:
		return "local rate limit"
	case p.session != nil && more.session != nil:
		return "stateful session"
	}
	p.inherit(more)
	return ""
}

// inherit takes over what a broader scope says and this one does not.
func (p *filterPolicies) inherit(broader filterPolicies) {
	if p.fault == nil {
		p.fault = broader.fault
	}
	if p.rateLimit == nil {
		p.rateLimit = broader.rateLimit
	}
	if p.session == nil {
		p.session = broader.session
	}
}

// disabled is what a filter asks for that is switched off.
func disabled(typeURL string) filterPolicies {
	switch typeURL {
	case typeFault:
		return filterPolicies{fault: noFault()}
	case typeLocalRateLimit:
		return filterPolicies{rateLimit: noRateLimit()}
	case typeStatefulSession, typeStatefulSessionPer:
		return filterPolicies{session: noSession()}
	default:
		return filterPolicies{}
	}
}

// perFilter reads a typed_per_filter_config. Filters are recognised by the type
// of their configuration, because their names are known to the listener only.
// Configuration of filters that are not known is noted: it has an effect only
// where the listener has the filter, and a listener with a filter that may not
// be skipped is refused.
func (s *scope) perFilter(configs map[string]*anypb.Any, limits rateLimits) (filterPolicies, error) {
	var out filterPolicies
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		at := s.at("typed_per_filter_config[" + name + "]")
		p, err := at.filterConfig(name, configs[name], limits)
		if err != nil {
			return out, err
		}
		if twice := out.add(p); twice != "" {
			at.notef("a second %s filter is not honoured", twice)
		}
	}
	return out, nil
}

// filterConfig reads the configuration of one filter, which may be wrapped in a
// FilterConfig.
func (s *scope) filterConfig(name string, a *anypb.Any, limits rateLimits) (filterPolicies, error) {
	limits.perRoute = true
	if a.GetTypeUrl() != typeFilterConfig {
		return s.filter(a, limits)
	}
	wrapped := &routev3.FilterConfig{}
	if err := proto.Unmarshal(a.GetValue(), wrapped); err != nil {
		return filterPolicies{}, s.errorf("not a FilterConfig: %w", err)
	}
	s.noteRest(wrapped, filterConfigFields)
	inner := wrapped.GetConfig()
	switch {
	case wrapped.GetDisabled() && inner != nil:
		return disabled(inner.GetTypeUrl()), nil
	case wrapped.GetDisabled():
		return disabled(usualTypes[name]), nil
	case inner == nil:
		return filterPolicies{}, nil // enabled without configuration: nothing that we would run
	}
	return s.at("config").filter(inner, limits)
}

// bareType is the name of the message in an Any.
func bareType(a *anypb.Any) string { return strings.TrimPrefix(a.GetTypeUrl(), typePrefix) }

// filter reads the configuration of one filter; one that is not known is noted.
func (s *scope) filter(a *anypb.Any, limits rateLimits) (out filterPolicies, err error) {
	switch a.GetTypeUrl() {
	case typeFault:
		out.fault, err = s.faultFilterConfig(a)
	case typeLocalRateLimit:
		out.rateLimit, err = s.localRateLimit(a, limits)
	case typeStatefulSession, typeStatefulSessionPer:
		out.session, err = s.statefulSession(a)
	default:
		s.notef("%s is not honoured yet", bareType(a))
	}
	return out, err
}

// knownFilter reports whether filter reads the type, rather than note it.
func knownFilter(typeURL string) bool {
	switch typeURL {
	case typeFault, typeLocalRateLimit, typeStatefulSession:
		return true
	default:
		return false
	}
}

// httpFilters reads the HTTP filters of a listener, the last of which must be
// the router.
func (s *scope) httpFilters(filters []*hcmv3.HttpFilter) (filterPolicies, error) {
	var out filterPolicies
	if len(filters) == 0 {
		return out, s.at("http_filters").errorf("must end in the router")
	}
	names := make(map[string]bool, len(filters))
	for i, f := range filters {
		at := s.item("http_filters", i, f.GetName())
		if f.GetName() == "" || names[f.GetName()] {
			return out, at.at("name").errorf("must be set and unique")
		}
		names[f.GetName()] = true
		at.noteRest(f, httpFilterFields)
		router := f.GetTypedConfig().GetTypeUrl() == typeRouter
		if last := i == len(filters)-1; router != last {
			return out, at.errorf("the router must be the last filter, and only that")
		}
		if router {
			if len(f.GetTypedConfig().GetValue()) > 0 {
				at.notef("the router's settings are not honoured yet")
			}
			continue
		}
		p, err := at.httpFilter(f)
		if err != nil {
			return out, err
		}
		if twice := out.add(p); twice != "" {
			return out, at.errorf("a second %s filter is not supported", twice)
		}
	}
	return out, nil
}

// httpFilter reads one filter that is not the router.
func (s *scope) httpFilter(f *hcmv3.HttpFilter) (filterPolicies, error) {
	config := f.GetTypedConfig()
	switch {
	case knownFilter(config.GetTypeUrl()) && f.GetDisabled():
		return disabled(config.GetTypeUrl()), nil // routes may still switch it on
	case knownFilter(config.GetTypeUrl()):
		return s.filter(config, rateLimits{})
	case f.GetIsOptional() || f.GetDisabled():
		s.notef("%s is not honoured yet", bareType(config))
		return filterPolicies{}, nil
	case config == nil:
		return filterPolicies{}, s.deny("has no typed_config, and is not optional")
	default:
		return filterPolicies{}, s.deny("%s is not supported, and is not optional", bareType(config))
	}
}
