package retry

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshframe/meshframe/mesh/outcome"
)

func TestParseOn(t *testing.T) {
	for _, test := range []struct {
		in      string
		on      outcome.Condition
		codes   []int
		unknown []string
	}{
		{"", 0, nil, nil},
		{" , ,", 0, nil, nil},
		{"5xx", outcome.Server5xx, nil, nil},
		{"gateway-error,reset", outcome.GatewayError | outcome.Reset, nil, nil},
		{"reset-before-request", outcome.ResetBeforeRequest, nil, nil},
		{"connect-failure, refused-stream", outcome.ConnectFailure | outcome.RefusedStream, nil, nil},
		{"retriable-4xx", outcome.Retriable4xx, nil, nil},
		{"retriable-status-codes", outcome.RetriableStatusCodes, nil, nil},
		{"retriable-headers", outcome.RetriableHeaders, nil, nil},
		{"envoy-ratelimited", outcome.EnvoyRateLimited, nil, nil},
		{"http3-post-connect-failure", 0, nil, nil},
		{"cancelled,deadline-exceeded", outcome.GRPCCancelled | outcome.GRPCDeadlineExceeded, nil, nil},
		{"internal,resource-exhausted", outcome.GRPCInternal | outcome.GRPCResourceExhausted, nil, nil},
		{"unavailable,unavailable", outcome.GRPCUnavailable, nil, nil},
		{"503,5xx,409,503", outcome.Server5xx | outcome.RetriableStatusCodes, []int{409, 503}, nil},
		{"99,600,gRPC,unavailable", outcome.GRPCUnavailable, nil, []string{"99", "600", "gRPC"}},
	} {
		on, codes, unknown := ParseOn(test.in)
		if on != test.on || !slices.Equal(codes, test.codes) || !slices.Equal(unknown, test.unknown) {
			t.Errorf("ParseOn(%q) = %b, %v, %q", test.in, on, codes, unknown)
		}
	}
}

func TestRetriable(t *testing.T) {
	attempts := map[string]outcome.Attempt{
		"ok":                 {HTTPStatus: 200},
		"500":                {HTTPStatus: 500, Conditions: outcome.Server5xx},
		"503":                {HTTPStatus: 503, Conditions: outcome.Server5xx | outcome.GatewayError},
		"409":                {HTTPStatus: 409, Conditions: outcome.Retriable4xx},
		"unavailable":        {HTTPStatus: 503, Conditions: outcome.Server5xx | outcome.GatewayError | outcome.GRPCUnavailable},
		"cancelled":          {HTTPStatus: 499, Conditions: outcome.GRPCCancelled},
		"deadline-exceeded":  {HTTPStatus: 504, Conditions: outcome.Server5xx | outcome.GatewayError | outcome.GRPCDeadlineExceeded},
		"internal":           {HTTPStatus: 500, Conditions: outcome.Server5xx | outcome.GRPCInternal},
		"resource-exhausted": {HTTPStatus: 429, Conditions: outcome.GRPCResourceExhausted},
		"connect":            {Conditions: outcome.ConnectFailure, LocalOrigin: true},
		"reset":              {Conditions: outcome.Reset, LocalOrigin: true},
		"reset-before":       {Conditions: outcome.ResetBeforeRequest, LocalOrigin: true},
		"refused":            {Conditions: outcome.RefusedStream},
		"per-try-timeout":    {Conditions: outcome.PerTryTimeout, LocalOrigin: true},
		"rate-limited":       {HTTPStatus: 503, Conditions: outcome.EnvoyRateLimited | outcome.Server5xx | outcome.GatewayError | outcome.GRPCUnavailable | outcome.RetriableHeaders},
		"overflow":           {HTTPStatus: 503, Conditions: outcome.Overflow | outcome.Server5xx | outcome.GRPCUnavailable},
	}
	noAnswer := []string{"connect", "per-try-timeout", "refused", "reset", "reset-before"}
	for _, test := range []struct {
		on   string
		want []string
	}{
		{"", nil},
		{"5xx", append([]string{"500", "503", "deadline-exceeded", "internal", "unavailable"}, noAnswer...)},
		{"gateway-error", append([]string{"503", "deadline-exceeded", "unavailable"}, noAnswer...)},
		{"reset", noAnswer},
		{"reset-before-request", []string{"reset-before"}},
		{"connect-failure", []string{"connect"}},
		{"refused-stream", []string{"refused"}},
		{"retriable-4xx", []string{"409"}},
		{"envoy-ratelimited", []string{"rate-limited"}},
		{"retriable-headers", nil},
		{"retriable-status-codes", nil},
		{"retriable-status-codes,503,409", []string{"409", "503", "unavailable"}},
		{"cancelled", []string{"cancelled"}},
		{"deadline-exceeded", []string{"deadline-exceeded"}},
		{"internal", []string{"internal"}},
		{"resource-exhausted", []string{"resource-exhausted"}},
		{"unavailable", []string{"unavailable"}},
	} {
		p := &Policy{}
		p.On, p.StatusCodes, _ = ParseOn(test.on)
		var got []string
		for name, a := range attempts {
			if p.Retriable(&a) {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		want := slices.Sorted(slices.Values(test.want))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("retry_on %q (-want +got):\n%s", test.on, diff)
		}
	}
}

func TestBackoff(t *testing.T) {
	most := func() uint64 { return ^uint64(0) }
	least := func() uint64 { return 0 }
	for _, test := range []struct {
		base, limit time.Duration
		retry       int
		window      time.Duration
	}{
		{0, 0, 1, 25 * time.Millisecond},
		{0, 0, 2, 50 * time.Millisecond},
		{0, 0, 5, 250 * time.Millisecond},
		{0, 0, 0, 25 * time.Millisecond},
		{100, 0, 4, 800},
		{100, 0, 5, 1000},
		{100, 150, 2, 150},
		{100, 50, 1, 50},
		{time.Hour, 1 << 62, 1000, 1 << 62},
	} {
		p := &Policy{BaseInterval: test.base, MaxInterval: test.limit}
		if got := p.Backoff(test.retry, most); got != test.window-1 {
			t.Errorf("base %v, max %v, retry %d: at most %v, want just below %v", test.base, test.limit, test.retry, got, test.window)
		}
		if got := p.Backoff(test.retry, least); got != 0 {
			t.Errorf("base %v, max %v, retry %d: at least %v, want 0", test.base, test.limit, test.retry, got)
		}
	}
	// Uniform in between: the mean of many is half of the window, within 1 %.
	rnd := rand.New(rand.NewPCG(1, 2)).Uint64
	var sum time.Duration
	for range 100_000 {
		sum += (&Policy{}).Backoff(3, rnd)
	}
	if mean := sum / 100_000; mean < 49500*time.Microsecond || mean > 50500*time.Microsecond {
		t.Errorf("mean backoff of retry 3 is %v, want 50ms", mean)
	}
}

func TestLeft(t *testing.T) {
	for _, test := range []struct {
		updates uint32
		left    []int // by the number of failed attempts
	}{{0, []int{0, 1, 2, 3}}, {1, []int{0, 1, 2, 3}}, {2, []int{0, 0, 2, 2, 4}}, {3, []int{0, 0, 0, 3, 3, 3, 6}}} {
		p := &Policy{AvoidPreviousPriorities: true, PriorityUpdates: test.updates}
		for tried, want := range test.left {
			if got := p.Left(tried); got != want {
				t.Errorf("every %d of %d: %d, want %d", test.updates, tried, got, want)
			}
		}
		if p.AvoidPreviousPriorities = false; p.Left(6) != 0 {
			t.Error("priorities are left out that are not avoided")
		}
	}
}
