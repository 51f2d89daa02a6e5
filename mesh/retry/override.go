package retry

import (
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meshframe/meshframe/mesh/outcome"
)

// The request headers by which a request asks for something else than its route
// has, as those of Envoy's router.
const (
	TimeoutHeader       = "x-envoy-upstream-rq-timeout-ms"
	PerTryTimeoutHeader = "x-envoy-upstream-rq-per-try-timeout-ms"
	HedgeHeader         = "x-envoy-hedge-on-per-try-timeout"
	MaxRetriesHeader    = "x-envoy-max-retries"
	OnHeader            = "x-envoy-retry-on"
	GRPCOnHeader        = "x-envoy-retry-grpc-on"
	StatusCodesHeader   = "x-envoy-retriable-status-codes"
	HeaderNamesHeader   = "x-envoy-retriable-header-names"
)

// IsRequestHeader reports whether a header, in lower case, is one of those by which
// a request asks for something. None of them is for the upstream.
func IsRequestHeader(name string) bool {
	switch name {
	case TimeoutHeader, PerTryTimeoutHeader, HedgeHeader, MaxRetriesHeader, OnHeader, GRPCOnHeader, StatusCodesHeader, HeaderNamesHeader:
		return true
	}
	return false
}

// RequestHeaders looks up the headers of a request. Names are lower case; several
// values are joined by commas.
type RequestHeaders interface {
	Header(name string) (value string, ok bool)
}

// Asks reports whether a request has any header by which it asks for something.
func Asks(h RequestHeaders) bool {
	for _, name := range [...]string{
		TimeoutHeader, PerTryTimeoutHeader, HedgeHeader, MaxRetriesHeader, OnHeader, GRPCOnHeader, StatusCodesHeader, HeaderNamesHeader,
	} {
		if _, ok := h.Header(name); ok {
			return true
		}
	}
	return false
}

// Times are what a request asks for in place of the times of its route. What
// cannot be read asks for nothing, as in Envoy.
type Times struct {
	Timeout, PerTryTimeout       time.Duration // 0 asks for none at all
	HasTimeout, HasPerTryTimeout bool
	// Hedge makes the per-try timeout start another attempt beside the first.
	Hedge, HasHedge bool
}

// TimesOf reads the headers of a request as it was sent: unlike those that Override
// reads, a route's own edits come too late for them.
func TimesOf(h RequestHeaders) Times {
	var t Times
	t.Timeout, t.HasTimeout = milliseconds(h, TimeoutHeader)
	t.PerTryTimeout, t.HasPerTryTimeout = milliseconds(h, PerTryTimeoutHeader)
	if value, ok := h.Header(HedgeHeader); ok {
		t.Hedge, t.HasHedge = value == "true", value == "true" || value == "false"
	}
	return t
}

func milliseconds(h RequestHeaders, name string) (time.Duration, bool) {
	ms, ok := asked(h, name)
	return time.Duration(min(ms, longest)) * time.Millisecond, ok
}

// longest is a number of milliseconds that no call takes, and that can be added to
// times: about 146 years.
const longest = math.MaxInt64 / 2 / uint64(time.Millisecond)

// DefaultRetries is how many retries there are where nothing says how many.
const DefaultRetries = 1

// Override returns the policy of a request whose call has timeout, 0 being none: p,
// nil for none, as the request asks it to be. The conditions, statuses and headers
// are in addition to those of p, the number and the time take the place of its own.
// A number without any condition asks for nothing. The result is nil if it would do
// nothing.
//
// As in Envoy a request that p is not for (see Meets) is not tried again whatever it
// asks for, and a per-try timeout that is no shorter than the timeout is none.
func (p *Policy) Override(h RequestHeaders, t *Times, timeout time.Duration) *Policy {
	own := Policy{NumRetries: DefaultRetries, HostSelectionAttempts: 1}
	if p != nil {
		own = *p
	}
	if t.HasPerTryTimeout {
		own.PerTryTimeout = t.PerTryTimeout
	}
	if timeout > 0 && own.PerTryTimeout >= timeout {
		own.PerTryTimeout = 0
	}
	own.ask(h)
	switch {
	case own.On != 0 && own.NumRetries > 0:
		return &own
	case own.PerTryTimeout > 0:
		return &Policy{PerTryTimeout: own.PerTryTimeout}
	}
	return nil
}

// ask adds what the request asks for to the conditions of a copy.
func (p *Policy) ask(h RequestHeaders) {
	if list, ok := h.Header(OnHeader); ok {
		p.On |= listed(list) &^ grpcConditions
	}
	if list, ok := h.Header(GRPCOnHeader); ok {
		p.On |= listed(list) & grpcConditions
	}
	if p.On == 0 || p.Meets != nil && !p.Meets(h.Header) {
		p.On = 0
		return
	}
	if n, ok := asked(h, MaxRetriesHeader); ok {
		p.NumRetries = uint32(min(n, math.MaxUint32))
	}
	if list, ok := h.Header(StatusCodesHeader); ok && p.On&outcome.RetriableStatusCodes != 0 {
		p.StatusCodes = slices.Clip(p.StatusCodes) // those of the route stay as they are
		for token := range strings.SplitSeq(list, ",") {
			if code, ok := number(token); ok && code <= math.MaxInt32 {
				p.StatusCodes = append(p.StatusCodes, int(code))
			}
		}
	}
	if list, ok := h.Header(HeaderNamesHeader); ok && p.On&outcome.RetriableHeaders != 0 {
		p.Headers = slices.Clip(p.Headers)
		for token := range strings.SplitSeq(list, ",") {
			if name := strings.ToLower(strings.TrimSpace(token)); name != "" {
				p.Headers = append(p.Headers, HeaderMatch{Name: name})
			}
		}
	}
}

// grpcConditions are those that x-envoy-retry-grpc-on may name, and only that.
const grpcConditions = outcome.GRPCCancelled | outcome.GRPCDeadlineExceeded | outcome.GRPCInternal |
	outcome.GRPCResourceExhausted | outcome.GRPCUnavailable

// listed are the conditions of a header. Unlike in a route's retry_on their names
// are taken to the letter, and a number is none.
func listed(list string) outcome.Condition {
	var on outcome.Condition
	for token := range strings.SplitSeq(list, ",") {
		on |= conditions[strings.TrimSpace(token)]
	}
	return on
}

// asked reads a header that holds a number.
func asked(h RequestHeaders, name string) (uint64, bool) {
	text, ok := h.Header(name)
	if !ok {
		return 0, false
	}
	return number(text)
}

// number reads what Envoy takes for a number: spaces around it and a plus sign do
// no harm.
func number(text string) (uint64, bool) {
	n, err := strconv.ParseUint(strings.TrimPrefix(strings.TrimSpace(text), "+"), 10, 64)
	return n, err == nil
}
