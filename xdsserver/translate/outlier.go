package translate

import (
	"strconv"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	commonmatcherv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/matcher/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/support"
)

// Envoy's defaults.
const (
	defaultBaseEjection = 30 * time.Second
	defaultMaxEjection  = 300 * time.Second
)

// ejects reports whether endpoints can be ejected.
func (p *trafficPolicy) ejects() bool {
	return p.outlier.value != nil || p.own.OutlierDetection.Value != nil
}

// outlier writes outlier detection: by Istio's terms the counts of errors in a row and the failure percentage, by this
// project's the comparison of endpoints with each other. gRPC's own clients know only the percentage and the comparison,
// and would take any of the fields for them.
func (t *translation) outlier(m *clusterv3.Cluster, p trafficPolicy) {
	v, own := p.outlier.value, p.own.OutlierDetection.Value
	if own == nil && (v == nil || !t.client.ours() && v.FailurePercentageThreshold == nil) || !t.client.knows(support.Ejection) {
		return
	}
	out := &clusterv3.OutlierDetection{
		Interval: v.GetInterval(), BaseEjectionTime: v.GetBaseEjectionTime(), EnforcingSuccessRate: wrapperspb.UInt32(0),
	}
	m.OutlierDetection = out
	if v.GetMaxEjectionPercent() > 0 {
		out.MaxEjectionPercent = wrapperspb.UInt32(uint32(v.GetMaxEjectionPercent()))
	}
	switch {
	case !t.client.ours():
	case v == nil:
		out.EnforcingConsecutive_5Xx = wrapperspb.UInt32(0)
	default:
		consecutive(out, v)
	}
	if n := v.GetFailurePercentageThreshold(); n != nil {
		out.FailurePercentageThreshold, out.EnforcingFailurePercentage = n, enforce(n)
		if out.GetSplitExternalLocalOriginErrors() {
			out.EnforcingFailurePercentageLocalOrigin = enforce(n)
		}
	}
	if own != nil {
		detectors(out, own)
	}
	if codes := v.GetOutlierDetectionHttpErrorCodes(); len(codes) > 0 && t.client.ours() {
		protocolOptions(m, func(o *httpv3.HttpProtocolOptions) {
			o.OutlierDetection = &httpv3.HttpProtocolOptions_OutlierDetection{ErrorMatcher: statusIn(codes)}
		})
	}
}

// statusIn matches the responses with one of some statuses.
func statusIn(codes []uint32) *commonmatcherv3.MatchPredicate {
	rules := make([]*commonmatcherv3.MatchPredicate, len(codes))
	for i, code := range codes {
		rules[i] = &commonmatcherv3.MatchPredicate{Rule: &commonmatcherv3.MatchPredicate_HttpResponseHeadersMatch{
			HttpResponseHeadersMatch: &commonmatcherv3.HttpHeadersMatch{Headers: []*routev3.HeaderMatcher{{
				Name: ":status",
				HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
					MatchPattern: &matcherv3.StringMatcher_Exact{Exact: strconv.FormatUint(uint64(code), 10)},
				}},
			}}},
		}}
	}
	if len(rules) == 1 {
		return rules[0]
	}
	return &commonmatcherv3.MatchPredicate{Rule: &commonmatcherv3.MatchPredicate_OrMatch{
		OrMatch: &commonmatcherv3.MatchPredicate_MatchSet{Rules: rules},
	}}
}

// consecutive writes the detectors that count errors in a row.
func consecutive(out *clusterv3.OutlierDetection, v *networking.OutlierDetection) {
	if n := v.GetConsecutive_5XxErrors(); n != nil {
		out.Consecutive_5Xx, out.EnforcingConsecutive_5Xx = n, enforce(n)
	}
	gateway := v.GetConsecutiveGatewayErrors()
	if n := v.GetConsecutiveErrors(); gateway == nil && n > 0 {
		gateway = wrapperspb.UInt32(uint32(n))
	}
	if gateway != nil {
		out.ConsecutiveGatewayFailure, out.EnforcingConsecutiveGatewayFailure = gateway, enforce(gateway)
	}
	if out.SplitExternalLocalOriginErrors = v.GetSplitExternalLocalOriginErrors(); out.SplitExternalLocalOriginErrors {
		if n := v.GetConsecutiveLocalOriginFailures(); n != nil {
			out.ConsecutiveLocalOriginFailure, out.EnforcingConsecutiveLocalOriginFailure = n, enforce(n)
		}
		out.EnforcingLocalOriginSuccessRate = wrapperspb.UInt32(0)
	}
}

// enforce turns a detector on when its count is not 0.
func enforce(n *wrapperspb.UInt32Value) *wrapperspb.UInt32Value {
	if n.GetValue() == 0 {
		return wrapperspb.UInt32(0)
	}
	return wrapperspb.UInt32(100)
}

// detectors writes those that compare endpoints with each other. Where errors of local origin are split off, those are
// compared for themselves, by the same measures.
func detectors(out *clusterv3.OutlierDetection, own *config.OutlierDetection) {
	if s := own.SuccessRate; s != nil {
		out.EnforcingSuccessRate = share(s.EnforcingPercent)
		if out.GetSplitExternalLocalOriginErrors() {
			out.EnforcingLocalOriginSuccessRate = out.EnforcingSuccessRate
		}
		out.SuccessRateMinimumHosts = wrapperspb.UInt32(s.MinimumHosts)
		out.SuccessRateRequestVolume = wrapperspb.UInt32(s.RequestVolume)
		out.SuccessRateStdevFactor = wrapperspb.UInt32(thousandths(s.StdevFactor))
	}
	if f := own.FailurePercentage; f != nil {
		out.EnforcingFailurePercentage = share(f.EnforcingPercent)
		if out.GetSplitExternalLocalOriginErrors() {
			out.EnforcingFailurePercentageLocalOrigin = out.EnforcingFailurePercentage
		}
		out.FailurePercentageThreshold = wrapperspb.UInt32(uint32(f.Threshold))
		out.FailurePercentageMinimumHosts = wrapperspb.UInt32(f.MinimumHosts)
		out.FailurePercentageRequestVolume = wrapperspb.UInt32(f.RequestVolume)
	}
	if d := own.MaxEjectionTime; d > 0 {
		base := defaultBaseEjection
		if out.BaseEjectionTime != nil {
			base = out.BaseEjectionTime.AsDuration()
		}
		out.MaxEjectionTime = durationpb.New(max(d, base))
	}
}

// share is a whole percentage that is 100 unless set.
func share(p *float64) *wrapperspb.UInt32Value {
	if p == nil {
		return wrapperspb.UInt32(100)
	}
	return wrapperspb.UInt32(uint32(*p))
}
