package translate

import (
	"slices"
	"strconv"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/support"
)

// Istio's retries where nothing is configured.
const (
	defaultRetryOn       = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
	defaultRetries       = 2
	hostSelectionRetries = 5
)

// defaultBackoff is Envoy's.
const defaultBackoff = 25 * time.Millisecond

var (
	previousHosts = packed(&previoushostsv3.PreviousHostsPredicate{})
	// Priorities are left out after every second attempt, as Istio has it.
	previousPriorities = packed(&previousprioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: 2})
)

// retry translates a retry policy; nil stands for Istio's default, no attempts for none. Calls that are bound to an
// endpoint go back to it, others avoid the endpoints that they were at. gRPC's own clients know conditions by gRPC status,
// the number of retries and the backoff.
func (r *router) retry(in *networking.HTTPRetry, bound bool, own *config.Retry) *routev3.RetryPolicy {
	if in != nil && in.GetAttempts() <= 0 || !r.client.knows(support.Retries) {
		return nil
	}
	out := &routev3.RetryPolicy{NumRetries: wrapperspb.UInt32(defaultRetries), RetryOn: defaultRetryOn}
	if in != nil {
		out.NumRetries.Value = uint32(in.GetAttempts())
		if in.GetRetryOn() != "" {
			out.RetryOn, out.RetriableStatusCodes = retryOn(in.GetRetryOn())
		}
		if b := in.GetBackoff(); b != nil {
			out.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: b}
		}
	}
	if own != nil && own.MaxBackoff > 0 {
		limitBackoff(out, own.MaxBackoff)
	}
	if !r.client.ours() {
		out.RetryOn, out.RetriableStatusCodes = grpcRetryOn(out.RetryOn, out.GetRetriableStatusCodes()), nil
		return out
	}
	out.PerTryTimeout = in.GetPerTryTimeout()
	out.HostSelectionRetryMaxAttempts = hostSelectionRetries
	if p := in.GetRetryIgnorePreviousHosts(); !bound && (p == nil || p.GetValue()) {
		out.RetryHostPredicate = []*routev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: previousHosts},
		}}
	}
	if in.GetRetryRemoteLocalities().GetValue() {
		out.RetryPriority = &routev3.RetryPolicy_RetryPriority{
			Name:       "envoy.retry_priorities.previous_priorities",
			ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{TypedConfig: previousPriorities},
		}
	}
	if own != nil {
		responseHeaders(out, own)
	}
	return out
}

// limitBackoff bounds how long the waits between retries become.
func limitBackoff(out *routev3.RetryPolicy, most time.Duration) {
	if out.RetryBackOff == nil {
		out.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: durationpb.New(min(defaultBackoff, most))}
	}
	out.RetryBackOff.MaxInterval = durationpb.New(max(most, out.GetRetryBackOff().GetBaseInterval().AsDuration()))
}

// responseHeaders writes what the headers of an answer say about retries.
func responseHeaders(out *routev3.RetryPolicy, own *config.Retry) {
	for _, h := range own.RetriableHeaders {
		out.RetriableHeaders = append(out.RetriableHeaders, envoyHeader(lower(h.Name), condition(h)))
	}
	if len(own.RetriableHeaders) > 0 && !slices.Contains(strings.Split(out.GetRetryOn(), ","), "retriable-headers") {
		out.RetryOn += ",retriable-headers"
	}
	if len(own.ResetHeaders) == 0 {
		return
	}
	out.RateLimitedRetryBackOff = &routev3.RetryPolicy_RateLimitedRetryBackOff{MaxInterval: durationpb.New(own.MaxResetInterval)}
	for _, h := range own.ResetHeaders {
		format := routev3.RetryPolicy_SECONDS
		if h.Format == config.ResetUnixTimestamp {
			format = routev3.RetryPolicy_UNIX_TIMESTAMP
		}
		out.RateLimitedRetryBackOff.ResetHeaders = append(out.RateLimitedRetryBackOff.ResetHeaders, &routev3.RetryPolicy_ResetHeader{Name: h.Name, Format: format})
	}
}

// condition is a condition on a header in Istio's terms.
func condition(h config.HeaderCondition) *networking.StringMatch {
	switch {
	case h.Exact != "":
		return &networking.StringMatch{MatchType: &networking.StringMatch_Exact{Exact: h.Exact}}
	case h.Prefix != "":
		return &networking.StringMatch{MatchType: &networking.StringMatch_Prefix{Prefix: h.Prefix}}
	case h.Regex != "":
		return &networking.StringMatch{MatchType: &networking.StringMatch_Regex{Regex: h.Regex}}
	default:
		return nil
	}
}

// retryOn splits Istio's list into Envoy's conditions and status codes.
func retryOn(list string) (conditions string, codes []uint32) {
	var tokens []string
	for token := range strings.SplitSeq(list, ",") {
		token = strings.TrimSpace(token)
		if n, err := strconv.ParseUint(token, 10, 16); err == nil && n >= 100 && n < 600 {
			codes = append(codes, uint32(n))
			continue
		}
		if token != "" {
			tokens = append(tokens, token)
		}
	}
	if len(codes) > 0 && !slices.Contains(tokens, "retriable-status-codes") {
		tokens = append(tokens, "retriable-status-codes")
	}
	return strings.Join(tokens, ","), codes
}

// grpcRetryOn adds to conditions that gRPC's own clients ignore the gRPC statuses that they mean. Without it a policy
// such as "5xx" would never retry, and would take the place of the default that does.
func grpcRetryOn(list string, codes []uint32) string {
	tokens := strings.Split(list, ",")
	add := func(statuses ...string) {
		for _, s := range statuses {
			if !slices.Contains(tokens, s) {
				tokens = append(tokens, s)
			}
		}
	}
	for _, token := range slices.Clone(tokens) {
		switch token {
		case "5xx":
			add("unavailable", "internal", "deadline-exceeded")
		case "gateway-error":
			add("unavailable", "deadline-exceeded")
		}
	}
	for _, c := range codes {
		switch c {
		case 429:
			add("resource-exhausted")
		case 500:
			add("internal")
		case 502, 503:
			add("unavailable")
		case 504:
			add("deadline-exceeded")
		}
	}
	return strings.Join(tokens, ",")
}
