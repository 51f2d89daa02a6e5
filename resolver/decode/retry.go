package decode

import (
	"slices"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	"google.golang.org/protobuf/proto"

	"github.com/meshframe/meshframe/mesh/retry"
	"github.com/meshframe/meshframe/mesh/route"
)

// Envoy's defaults.
const (
	defaultRetries      = 1
	defaultBaseInterval = 25 * time.Millisecond
	backoffFactor       = 10 // of the base interval, for the greatest one
	defaultHostAttempts = 1
	defaultMaxReset     = 300 * time.Second
)

const (
	previousHosts          = "envoy.retry_host_predicates.previous_hosts"
	typePreviousHosts      = typePrefix + "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
	typePreviousPriorities = typePrefix + "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
)

var (
	retryFields = newFields("retry_on", "num_retries", "per_try_timeout", "retry_host_predicate",
		"host_selection_retry_max_attempts", "retriable_status_codes", "retry_back_off", "retriable_request_headers",
		"retriable_headers", "rate_limited_retry_back_off", "retry_priority")
	backoffFields            = newFields("base_interval", "max_interval")
	rateLimitedBackoffFields = newFields("reset_headers", "max_interval")
	resetHeaderFields        = newFields("name", "format")
	previousPrioritiesFields = newFields("update_frequency")
	extensionFields          = newFields("name", "typed_config")
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
	if err := s.responseHeaders(m, out); err != nil {
		return nil, err
	}
	s.hostPredicates(m, out)
	if err := s.at("retry_priority").retryPriority(m.GetRetryPriority(), out); err != nil {
		return nil, err
	}
	if n := m.GetHostSelectionRetryMaxAttempts(); n > 0 {
		out.HostSelectionAttempts = uint32(min(n, maxHostAttempts))
	} else if n < 0 {
		return nil, s.at("host_selection_retry_max_attempts").errorf("is %d, must not be negative", n)
	}
	if len(m.GetRetriableRequestHeaders()) > 0 {
		list, err := s.headers("retriable_request_headers", m.GetRetriableRequestHeaders())
		if err != nil {
			return nil, err
		}
		out.Meets = anyOf(list)
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
		at := s.item("retry_host_predicate", i, p.GetName())
		at.noteRest(p, extensionFields)
		if p.GetTypedConfig().GetTypeUrl() == typePreviousHosts || p.GetTypedConfig() == nil && p.GetName() == previousHosts {
			out.AvoidPreviousHosts = true
			if len(p.GetTypedConfig().GetValue()) > 0 {
				at.at("typed_config").notef("has settings, of which none is known")
			}
			continue
		}
		at.notef("is not honoured yet")
	}
}

// retryPriority reads by which priorities retries go. One that is not known is
// noted: retries then go where first attempts do.
func (s *scope) retryPriority(m *routev3.RetryPolicy_RetryPriority, out *retry.Policy) error {
	if m == nil {
		return nil
	}
	s.noteRest(m, extensionFields)
	if m.GetTypedConfig().GetTypeUrl() != typePreviousPriorities {
		s.notef("%q is not honoured yet", m.GetName())
		return nil
	}
	c := &previousprioritiesv3.PreviousPrioritiesConfig{}
	if err := proto.Unmarshal(m.GetTypedConfig().GetValue(), c); err != nil {
		return s.errorf("not a PreviousPrioritiesConfig: %w", err)
	}
	s.noteRest(c, previousPrioritiesFields)
	if c.GetUpdateFrequency() <= 0 {
		return s.at("update_frequency").errorf("is %d, must be positive", c.GetUpdateFrequency())
	}
	out.AvoidPreviousPriorities, out.PriorityUpdates = true, uint32(c.GetUpdateFrequency())
	return nil
}

// responseHeaders reads what the headers of a response say about retries.
func (s *scope) responseHeaders(m *routev3.RetryPolicy, out *retry.Policy) error {
	for i, h := range m.GetRetriableHeaders() {
		at := s.item("retriable_headers", i, h.GetName())
		match, err := at.header(h)
		if err != nil {
			return err
		}
		if match.TreatMissingAsEmpty {
			at.at("treat_missing_header_as_empty").notef("is not honoured yet")
		}
		out.Headers = append(out.Headers, retry.HeaderMatch{Name: match.Name, Match: condition(match.StringMatch), Invert: match.Invert})
	}
	if m.GetRateLimitedRetryBackOff() == nil {
		return nil
	}
	return s.at("rate_limited_retry_back_off").resetHeaders(m.GetRateLimitedRetryBackOff(), out)
}

// condition makes a function of the value of a header out of a match, by the
// matchers of routes themselves.
func condition(m route.StringMatch) func(string) bool {
	const name = "x"
	table := route.Compile([]route.Match{{Headers: []route.HeaderMatch{{Name: name, StringMatch: m}}}})
	return func(value string) bool {
		return table.Find(&route.Request{Headers: oneHeader(value)}, nil) == 0
	}
}

// oneHeader is the value that every header has.
type oneHeader string

// Header returns the value.
func (h oneHeader) Header(string) (value string, ok bool) { return string(h), true }

func (s *scope) resetHeaders(m *routev3.RetryPolicy_RateLimitedRetryBackOff, out *retry.Policy) (err error) {
	s.noteRest(m, rateLimitedBackoffFields)
	if len(m.GetResetHeaders()) == 0 {
		return s.at("reset_headers").errorf("must not be empty")
	}
	for i, h := range m.GetResetHeaders() {
		at := s.item("reset_headers", i, h.GetName())
		at.noteRest(h, resetHeaderFields)
		header := retry.ResetHeader{Name: strings.ToLower(h.GetName())}
		if header.Name == "" {
			return at.at("name").errorf("must be set")
		}
		switch h.GetFormat() {
		case routev3.RetryPolicy_SECONDS:
		case routev3.RetryPolicy_UNIX_TIMESTAMP:
			header.Unix = true
		default:
			return at.at("format").errorf("%d is not known", h.GetFormat())
		}
		out.ResetHeaders = append(out.ResetHeaders, header)
	}
	out.MaxResetInterval, err = s.at("max_interval").positive(m.GetMaxInterval(), defaultMaxReset)
	return err
}
