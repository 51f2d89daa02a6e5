package retry

import (
	"slices"
	"strconv"
	"strings"

	"github.com/meshframe/meshframe/mesh/outcome"
)

// conditions maps the tokens of Envoy's retry_on, x-envoy-retry-on and
// x-envoy-retry-grpc-on. A token that can hold for no attempt of ours maps to 0.
var conditions = map[string]outcome.Condition{
	"5xx":                        outcome.Server5xx,
	"gateway-error":              outcome.GatewayError,
	"reset":                      outcome.Reset,
	"reset-before-request":       outcome.ResetBeforeRequest,
	"connect-failure":            outcome.ConnectFailure,
	"envoy-ratelimited":          outcome.EnvoyRateLimited,
	"retriable-4xx":              outcome.Retriable4xx,
	"refused-stream":             outcome.RefusedStream,
	"retriable-status-codes":     outcome.RetriableStatusCodes,
	"retriable-headers":          outcome.RetriableHeaders,
	"http3-post-connect-failure": 0, // no HTTP/3 here
	"cancelled":                  outcome.GRPCCancelled,
	"deadline-exceeded":          outcome.GRPCDeadlineExceeded,
	"internal":                   outcome.GRPCInternal,
	"resource-exhausted":         outcome.GRPCResourceExhausted,
	"unavailable":                outcome.GRPCUnavailable,
}

// ParseOn reads a comma-separated retry_on list. Besides Envoy's tokens it takes
// bare HTTP statuses as Istio's YAML does: they are returned as codes, and
// outcome.RetriableStatusCodes is then in the set. Tokens it does not know are
// returned for the caller to refuse or to report. Spaces around tokens and
// empty tokens are passed over; codes are sorted and each is named once.
func ParseOn(retryOn string) (on outcome.Condition, codes []int, unknown []string) {
	for token := range strings.SplitSeq(retryOn, ",") {
		token = strings.TrimSpace(token)
		if token == "" {
			continue
		}
		if c, ok := conditions[strings.ToLower(token)]; ok {
			on |= c
			continue
		}
		if n, err := strconv.Atoi(token); err == nil && n >= 100 && n <= 599 {
			on |= outcome.RetriableStatusCodes
			codes = append(codes, n)
			continue
		}
		unknown = append(unknown, token)
	}
	slices.Sort(codes)
	return on, slices.Compact(codes), unknown
}
