package translate

import (
	"slices"
	"strconv"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

// Istio's retries where nothing is configured.
const (
	defaultRetryOn       = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
	defaultRetries       = 2
	hostSelectionRetries = 5
)

var previousHosts = packed(&previoushostsv3.PreviousHostsPredicate{})

// retry translates a retry policy; nil stands for Istio's default, no attempts for none. Calls that are bound to an
// endpoint go back to it, others avoid the endpoints that they were at.
func (r *router) retry(in *networking.HTTPRetry, bound bool) *routev3.RetryPolicy {
	if in != nil && in.GetAttempts() <= 0 {
		return nil
	}
	out := &routev3.RetryPolicy{
		NumRetries:                    wrapperspb.UInt32(defaultRetries),
		RetryOn:                       defaultRetryOn,
		HostSelectionRetryMaxAttempts: hostSelectionRetries,
	}
	if in != nil {
		out.NumRetries.Value = uint32(in.GetAttempts())
		out.PerTryTimeout = in.GetPerTryTimeout()
		if in.GetRetryOn() != "" {
			out.RetryOn, out.RetriableStatusCodes = retryOn(in.GetRetryOn())
		}
		if b := in.GetBackoff(); b != nil {
			out.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: b}
		}
		if in.GetRetryRemoteLocalities().GetValue() {
			out.RetryPriority = &routev3.RetryPolicy_RetryPriority{
				Name: "envoy.retry_priorities.previous_priorities",
				ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{
					TypedConfig: packed(&previousprioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: 2}),
				},
			}
		}
	}
	if p := in.GetRetryIgnorePreviousHosts(); !bound && (p == nil || p.GetValue()) {
		out.RetryHostPredicate = []*routev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: previousHosts},
		}}
	}
	if r.client.Kind == GRPC {
		out.RetryOn = grpcRetryOn(out.RetryOn, out.GetRetriableStatusCodes())
	}
	return out
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

// grpcRetries are the conditions that gRPC's own clients act on.
var grpcRetries = []string{"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}

// retryNotes reports what of a route's retries has no effect.
func (r *router) retryNotes(in *networking.HTTPRetry, field string) {
	field += ".retries"
	if in.GetRetryRemoteLocalities().GetValue() {
		r.note(r.rule.Meta, field+".retryRemoteLocalities", Degraded, "retries prefer the localities that any call prefers")
	}
	if r.client.Kind != GRPC || in.GetAttempts() <= 0 {
		return
	}
	if in.GetPerTryTimeout() != nil {
		r.note(r.rule.Meta, field+".perTryTimeout", Degraded, "attempts have no timeout of their own")
	}
	var others []string
	for token := range strings.SplitSeq(in.GetRetryOn(), ",") {
		if token = strings.TrimSpace(token); token != "" && !slices.Contains(grpcRetries, token) {
			others = append(others, token)
		}
	}
	if len(others) > 0 {
		r.note(r.rule.Meta, field+".retryOn", Degraded, "gRPC retries by gRPC status only: "+strings.Join(others, ", ")+
			" stand for the statuses that they mean, or for nothing")
	}
}
