package decode

import (
	"slices"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/meshframe/meshframe/mesh/retry"
)

// Envoy's defaults.
const (
	defaultRetries      = 1
	defaultBaseInterval = 25 * time.Millisecond
	backoffFactor       = 10 // of the base interval, for the greatest one
	defaultHostAttempts = 1
)

const (
	previousHosts     = "envoy.retry_host_predicates.previous_hosts"
	typePreviousHosts = typePrefix + "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
)

var (
	retryFields = newFields("retry_on", "num_retries", "per_try_timeout", "retry_host_predicate",
		"host_selection_retry_max_attempts", "retriable_status_codes", "retry_back_off", "retriable_request_headers")
	backoffFields = newFields("base_interval", "max_interval")
)

// retryPolicy reads a retry policy; nil for none. Unlike gRPC, which refuses
// it, num_retries 0 is read as Envoy does: no retries, and none of the virtual
// host's either.
func (s *scope) retryPolicy(m *routev3.RetryPolicy) (*retry.Policy, error) {
	if m == nil {
		return nil, nil
	}
	s.noteRest(m, retryFields)
	out := &retry.Policy{
		NumRetries:            number(m.GetNumRetries(), defaultRetries),
		HostSelectionAttempts: defaultHostAttempts,
	}
	s.retryConditions(m, out)
	var err error
	if out.PerTryTimeout, err = s.at("per_try_timeout").duration(m.GetPerTryTimeout()); err != nil {
		return nil, err
	}
	if err := s.at("retry_back_off").backoff(m.GetRetryBackOff(), out); err != nil {
		return nil, err
	}
	s.hostPredicates(m, out)
	if n := m.GetHostSelectionRetryMaxAttempts(); n > 0 {
		out.HostSelectionAttempts = uint32(min(n, maxHostAttempts))
	} else if n < 0 {
		return nil, s.at("host_selection_retry_max_attempts").errorf("is %d, must not be negative", n)
	}
	if len(m.GetRetriableRequestHeaders()) > 0 {
		// Without the condition, calls that must not be repeated would be.
		s.at("retriable_request_headers").notef("is not honoured yet, so nothing is retried")
		out.NumRetries = 0
	}
	return out, nil
}

// maxHostAttempts bounds the search for a host that was not tried.
const maxHostAttempts = 1 << 16

// retryConditions reads retry_on and retriable_status_codes. Numbers in
// retry_on, as Istio writes them, are statuses.
func (s *scope) retryConditions(m *routev3.RetryPolicy, out *retry.Policy) {
	on, codes, unknown := retry.ParseOn(m.GetRetryOn())
	for _, token := range unknown {
		s.at("retry_on").notef("%q is not known and has no effect", token)
	}
	out.On, out.StatusCodes = on, codes
	for _, c := range m.GetRetriableStatusCodes() {
		out.StatusCodes = append(out.StatusCodes, int(c))
	}
	slices.Sort(out.StatusCodes)
	out.StatusCodes = slices.Compact(out.StatusCodes)
}

func (s *scope) backoff(m *routev3.RetryPolicy_RetryBackOff, out *retry.Policy) error {
	out.BaseInterval = defaultBaseInterval
	if m == nil {
		out.MaxInterval = backoffFactor * out.BaseInterval
		return nil
	}
	s.noteRest(m, backoffFields)
	if m.GetBaseInterval() == nil {
		return s.at("base_interval").errorf("must be set")
	}
	var err error
	if out.BaseInterval, err = s.at("base_interval").positive(m.GetBaseInterval(), 0); err != nil {
		return err
	}
	// Capped so that the product cannot overflow.
	def := backoffFactor * min(out.BaseInterval, time.Hour)
	if out.MaxInterval, err = s.at("max_interval").positive(m.GetMaxInterval(), max(def, out.BaseInterval)); err != nil {
		return err
	}
	if out.MaxInterval < out.BaseInterval {
		return s.at("max_interval").errorf("is %v, less than base_interval %v", out.MaxInterval, out.BaseInterval)
	}
	return nil
}

func (s *scope) hostPredicates(m *routev3.RetryPolicy, out *retry.Policy) {
	for i, p := range m.GetRetryHostPredicate() {
		if p.GetTypedConfig().GetTypeUrl() == typePreviousHosts || p.GetTypedConfig() == nil && p.GetName() == previousHosts {
			out.AvoidPreviousHosts = true
			continue
		}
		s.item("retry_host_predicate", i, p.GetName()).notef("is not honoured yet")
	}
}
