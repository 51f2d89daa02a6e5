package translate

import (
	"math"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	commonlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	locallimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/local_ratelimit/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
)

const (
	limitFilterName = "envoy.filters.http.local_ratelimit"
	limitStats      = "local_rate_limiter"
	unlimitedFill   = 50 * time.Millisecond // the shortest that Envoy takes
)

// hostLimit limits what a client sends to a port of a service, by whichever of its routes; nil is no limit.
func (t *translation) hostLimit(s *registry.Service, port uint32) *config.RateLimit {
	if !t.client.ours() {
		return nil
	}
	return t.meshPolicy(s, port, "", t.client.Namespace).ClientRateLimit.Value
}

// routeLimit limits what a client sends by one route, where that is not what it may send to the service: to a subset, or
// to another service.
func (r *router) routeLimit(own *config.Policy) object {
	l := own.ClientRateLimit.Value
	if l == nil || l == r.hostLimit(r.service, r.port.Number) {
		return nil
	}
	return object{"rate_limit": structure(limitFields(l))}
}

// limitFields writes a rate limit as metadata.
func limitFields(l *config.RateLimit) object {
	out := bucketFields(l.TokenBucket)
	out["maxKeys"], out["status"], out["enforcedPercent"] = count(l.MaxKeys), count(l.Status), number(enforced(l))
	var keyed []*structpb.Value
	for _, k := range l.Keyed {
		var keys []*structpb.Value
		for _, p := range k.Keys {
			key := object{}
			if p.Source {
				key["source"] = structpb.NewBoolValue(true)
			} else {
				key["header"] = text(p.Header)
			}
			if p.Value != "" {
				key["value"] = text(p.Value)
			}
			keys = append(keys, structure(key))
		}
		entry := bucketFields(k.TokenBucket)
		entry["keys"] = list(keys)
		keyed = append(keyed, structure(entry))
	}
	if len(keyed) > 0 {
		out["keyed"] = list(keyed)
	}
	return out
}

func bucketFields(b config.TokenBucket) object {
	if b.MaxTokens == 0 {
		return object{}
	}
	return object{"maxTokens": count(b.MaxTokens), "tokensPerFill": count(b.TokensPerFill), "fillInterval": span(b.FillInterval)}
}

// enforced is the percentage of calls beyond the limit that are refused.
func enforced(l *config.RateLimit) float64 {
	if l.EnforcedPercent == nil {
		return 100
	}
	return *l.EnforcedPercent
}

// localLimit writes a rate limit as the configuration of Envoy's filter. Calls with certain keys have buckets of their
// own: descriptors, whose keys rate_limits takes from the call.
func localLimit(l *config.RateLimit) *locallimitv3.LocalRateLimit {
	out := &locallimitv3.LocalRateLimit{
		StatPrefix:    limitStats,
		TokenBucket:   tokenBucket(l.TokenBucket),
		FilterEnabled: &corev3.RuntimeFractionalPercent{DefaultValue: hundred(100)},
		FilterEnforced: &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{
			Numerator: uint32(math.Round(enforced(l) * 10_000)), Denominator: typev3.FractionalPercent_MILLION,
		}},
		Status:                          &typev3.HttpStatus{Code: typev3.StatusCode(l.Status)},
		MaxDynamicDescriptors:           wrapperspb.UInt32(l.MaxKeys),
		AlwaysConsumeDefaultTokenBucket: wrapperspb.Bool(false),
	}
	for i, k := range l.Keyed {
		// A first key that is the same for all calls keeps the descriptors of one entry apart from those of others.
		entry := strconv.Itoa(i)
		descriptor := &commonlimitv3.LocalRateLimitDescriptor{
			Entries: []*commonlimitv3.RateLimitDescriptor_Entry{{Key: "entry", Value: entry}}, TokenBucket: tokenBucket(k.TokenBucket),
		}
		limit := &routev3.RateLimit{Actions: []*routev3.RateLimit_Action{{ActionSpecifier: &routev3.RateLimit_Action_GenericKey_{
			GenericKey: &routev3.RateLimit_Action_GenericKey{DescriptorKey: "entry", DescriptorValue: entry},
		}}}}
		for _, p := range k.Keys {
			key, action := limitKey(p)
			descriptor.Entries = append(descriptor.Entries, &commonlimitv3.RateLimitDescriptor_Entry{Key: key, Value: p.Value})
			limit.Actions = append(limit.Actions, action)
		}
		out.Descriptors, out.RateLimits = append(out.Descriptors, descriptor), append(out.RateLimits, limit)
	}
	return out
}

func limitKey(p config.RateKey) (string, *routev3.RateLimit_Action) {
	if p.Source {
		return "remote_address", &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_RemoteAddress_{
			RemoteAddress: &routev3.RateLimit_Action_RemoteAddress{},
		}}
	}
	return p.Header, &routev3.RateLimit_Action{ActionSpecifier: &routev3.RateLimit_Action_RequestHeaders_{
		RequestHeaders: &routev3.RateLimit_Action_RequestHeaders{HeaderName: p.Header, DescriptorKey: p.Header},
	}}
}

// tokenBucket translates a bucket. One that is not there is the largest that there is: the filter must have one.
func tokenBucket(b config.TokenBucket) *typev3.TokenBucket {
	if b.MaxTokens == 0 {
		b = config.TokenBucket{MaxTokens: math.MaxUint32, TokensPerFill: math.MaxUint32, FillInterval: unlimitedFill}
	}
	return &typev3.TokenBucket{
		MaxTokens: b.MaxTokens, TokensPerFill: wrapperspb.UInt32(b.TokensPerFill), FillInterval: durationpb.New(b.FillInterval),
	}
}
