package decode

import (
	"slices"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	locallimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshframe/meshframe/mesh/ratelimit"
)

const (
	defaultLimitStatus = 429
	minLimitStatus     = 400 // Envoy answers 429 in place of a smaller one
	// defaultMaxKeys is greater than Envoy's 20, with which a client of many keys
	// would get a new bucket for each call.
	defaultMaxKeys  = 10_000
	minFillInterval = 50 * time.Millisecond // Envoy's
)

var (
	localLimitFields = newFields("stat_prefix", "status", "token_bucket", "filter_enabled", "filter_enforced",
		"descriptors", "stage", "vh_rate_limits", "always_consume_default_token_bucket", "rate_limits",
		"max_dynamic_descriptors")
	limitStatusFields     = newFields("code")
	limitEntryFields      = newFields("key", "value")
	limitActionFields     = newFields("request_headers", "remote_address", "generic_key")
	tokenBucketFields     = newFields("max_tokens", "tokens_per_fill", "fill_interval")
	limitDescriptorFields = newFields("entries", "token_bucket")
	rateLimitFields       = newFields("stage", "actions")
	limitHeaderFields     = newFields("header_name", "descriptor_key")
	genericKeyFields      = newFields("descriptor_value", "descriptor_key")
)

// rateLimits are the rate_limits around a local rate limit, which say what the
// keys of its descriptors are.
type rateLimits struct {
	own, virtualHost []*routev3.RateLimit
	perRoute         bool
}

// noRateLimit admits everything. It is what switches a rate limit off that a
// broader scope configures.
func noRateLimit() *ratelimit.Policy { return &ratelimit.Policy{Status: defaultLimitStatus} }

// localRateLimit reads the local rate limit filter. As in Envoy it admits
// everything unless filter_enabled and filter_enforced say otherwise.
//
// A descriptor limits the calls for which an entry of rate_limits, here or in
// the same scope, gives just its keys in their order. What the filter of a
// listener does to the rate_limits of routes cannot be known: those are in
// another resource.
func (s *scope) localRateLimit(a *anypb.Any, limits rateLimits) (*ratelimit.Policy, error) {
	m := &locallimitv3.LocalRateLimit{}
	if err := proto.Unmarshal(a.GetValue(), m); err != nil {
		return nil, s.errorf("not a LocalRateLimit: %w", err)
	}
	s.noteRest(m, localLimitFields)
	if m.GetTokenBucket() == nil {
		if limits.perRoute {
			return nil, s.at("token_bucket").errorf("must be set")
		}
		return noRateLimit(), nil // for routes to set their own
	}
	out := noRateLimit()
	var err error
	if out.Bucket, err = s.at("token_bucket").tokenBucket(m.GetTokenBucket()); err != nil {
		return nil, err
	}
	if out.Enforced, err = s.enforced(m); err != nil {
		return nil, err
	}
	s.at("status").noteRest(m.GetStatus(), limitStatusFields)
	if c := m.GetStatus().GetCode(); c >= minLimitStatus {
		out.Status = int(c)
	}
	out.MaxKeys = int(number(m.GetMaxDynamicDescriptors(), defaultMaxKeys))
	if out.MaxKeys == 0 {
		return nil, s.at("max_dynamic_descriptors").errorf("is 0, must be positive")
	}
	if err := s.descriptors(m, limits, out); err != nil {
		return nil, err
	}
	if out.Enforced == 0 {
		s.at("filter_enforced").notef("nothing is refused unless filter_enabled and filter_enforced say so")
		return noRateLimit(), nil
	}
	return out, nil
}

// enforced reads the share of the calls beyond the limit that are refused.
func (s *scope) enforced(m *locallimitv3.LocalRateLimit) (uint32, error) {
	enabled, _, err := s.at("filter_enabled").runtimeFraction(m.GetFilterEnabled())
	if err != nil {
		return 0, err
	}
	enforced, _, err := s.at("filter_enforced").runtimeFraction(m.GetFilterEnforced())
	if enabled > 0 && enabled < million {
		s.at("filter_enabled").notef("every call takes a token: only the share of refusals is lowered")
	}
	return uint32(uint64(enabled) * uint64(enforced) / million), err
}

func (s *scope) tokenBucket(m *typev3.TokenBucket) (out ratelimit.Bucket, err error) {
	s.noteRest(m, tokenBucketFields)
	out.MaxTokens = m.GetMaxTokens()
	if out.MaxTokens == 0 {
		return out, s.at("max_tokens").errorf("must be positive")
	}
	if out.TokensPerFill = number(m.GetTokensPerFill(), 1); out.TokensPerFill == 0 {
		return out, s.at("tokens_per_fill").errorf("is 0, must be positive")
	}
	out.FillInterval, err = s.at("fill_interval").duration(m.GetFillInterval())
	if err == nil && out.FillInterval < minFillInterval {
		err = s.at("fill_interval").errorf("is %v, must be at least %v", out.FillInterval, minFillInterval)
	}
	return out, err
}

// descriptors makes the buckets with keys: one for each descriptor and each
// entry of rate_limits that gives its keys.
func (s *scope) descriptors(m *locallimitv3.LocalRateLimit, limits rateLimits, out *ratelimit.Policy) error {
	if len(m.GetDescriptors()) == 0 {
		return nil
	}
	keys := s.keyLists(m, limits)
	for i, d := range m.GetDescriptors() {
		at := s.item("descriptors", i, "")
		at.noteRest(d, limitDescriptorFields)
		if len(d.GetEntries()) == 0 {
			return at.at("entries").errorf("must not be empty")
		}
		for j, e := range d.GetEntries() {
			at.item("entries", j, e.GetKey()).noteRest(e, limitEntryFields)
		}
		bucket, err := at.at("token_bucket").tokenBucket(d.GetTokenBucket())
		if err != nil {
			return err
		}
		used := false
		for _, list := range keys {
			if key, ok := list.match(d.GetEntries()); ok {
				used = true
				out.Keyed = append(out.Keyed, ratelimit.Keyed{Key: key, Bucket: bucket})
			}
		}
		if !used {
			at.notef("has no effect: no entry of rate_limits beside it gives its keys")
		}
	}
	if a := m.GetAlwaysConsumeDefaultTokenBucket(); a == nil || a.GetValue() {
		s.at("always_consume_default_token_bucket").notef("true, the default, is not honoured: calls with a descriptor take no token of token_bucket")
	}
	return nil
}

// keyLists reads the rate_limits that apply: those of the filter itself, or
// else those of the route and virtual host as vh_rate_limits says.
func (s *scope) keyLists(m *locallimitv3.LocalRateLimit, limits rateLimits) []keyList {
	field, entries := "rate_limits", m.GetRateLimits()
	if len(entries) == 0 {
		field, entries = "rate_limits of the route", limits.own
		switch m.GetVhRateLimits() {
		case commonlimitv3.VhRateLimitsOptions_INCLUDE:
			entries = slices.Concat(limits.own, limits.virtualHost)
		case commonlimitv3.VhRateLimitsOptions_OVERRIDE:
			if len(entries) == 0 {
				entries = limits.virtualHost
			}
		}
	}
	var out []keyList
	for i, r := range entries {
		if r.GetStage().GetValue() != m.GetStage() {
			continue
		}
		if list, ok := s.item(field, i, "").keyList(r); ok {
			out = append(out, list)
		}
	}
	return out
}

// keyList is an entry of rate_limits: what the keys of a descriptor are taken
// from.
type keyList []limitKey

type limitKey struct {
	key   string
	part  ratelimit.KeyPart
	value string // of a generic key, which is the same for every call
}

// keyList reads an entry of rate_limits. One that cannot be read is noted and
// left out, and with it the descriptors that it would give.
func (s *scope) keyList(m *routev3.RateLimit) (keyList, bool) {
	if names := unread(m, rateLimitFields); len(names) > 0 {
		s.at(names[0]).notef("is not supported, so the entry has no effect")
		return nil, false
	}
	out := make(keyList, len(m.GetActions()))
	for i, a := range m.GetActions() {
		var ok bool
		if out[i], ok = s.item("actions", i, "").limitKey(a); !ok {
			return nil, false
		}
	}
	return out, len(out) > 0
}

func (s *scope) limitKey(m *routev3.RateLimit_Action) (limitKey, bool) {
	if names := unread(m, limitActionFields); len(names) > 0 {
		s.at(names[0]).notef("is not supported, so the entry has no effect")
		return limitKey{}, false
	}
	switch a := m.GetActionSpecifier().(type) {
	case *routev3.RateLimit_Action_RequestHeaders_:
		h := a.RequestHeaders
		s.at("request_headers").noteRest(h, limitHeaderFields)
		part := ratelimit.KeyPart{Header: strings.ToLower(h.GetHeaderName())}
		return limitKey{key: h.GetDescriptorKey(), part: part}, part.Header != ""
	case *routev3.RateLimit_Action_RemoteAddress_:
		s.at("remote_address").noteRest(a.RemoteAddress, noFields)
		return limitKey{key: "remote_address", part: ratelimit.KeyPart{Source: true}}, true
	case *routev3.RateLimit_Action_GenericKey_:
		g := a.GenericKey
		s.at("generic_key").noteRest(g, genericKeyFields)
		key := g.GetDescriptorKey()
		if key == "" {
			key = "generic_key"
		}
		return limitKey{key: key, value: g.GetDescriptorValue()}, true
	default:
		s.notef("is not supported, so the entry has no effect")
		return limitKey{}, false
	}
}

// match returns the key of a descriptor if the list gives just its entries.
// Generic keys are the same for every call and no part of it.
func (k keyList) match(entries []*commonlimitv3.RateLimitDescriptor_Entry) ([]ratelimit.KeyPart, bool) {
	if len(entries) != len(k) {
		return nil, false
	}
	var out []ratelimit.KeyPart
	for i, e := range entries {
		l := &k[i]
		switch {
		case e.GetKey() != l.key:
			return nil, false
		case l.part == (ratelimit.KeyPart{}):
			if e.GetValue() != "" && e.GetValue() != l.value {
				return nil, false
			}
		default:
			part := l.part
			part.Value = e.GetValue()
			out = append(out, part)
		}
	}
	return out, true
}
