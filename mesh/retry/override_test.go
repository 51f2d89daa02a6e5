package retry

import (
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshframe/meshframe/mesh/outcome"
)

// asking are the headers of a request.
type asking map[string]string

func (a asking) Header(name string) (string, bool) {
	v, ok := a[name]
	return v, ok
}

// TestIsRequestHeader holds that the two lists of headers are one.
func TestIsRequestHeader(t *testing.T) {
	for _, name := range []string{
		"x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-hedge-on-per-try-timeout",
		"x-envoy-max-retries", "x-envoy-retry-on", "x-envoy-retry-grpc-on", "x-envoy-retriable-status-codes",
		"x-envoy-retriable-header-names",
	} {
		if !IsRequestHeader(name) || !Asks(asking{name: ""}) {
			t.Errorf("%s asks for nothing", name)
		}
	}
	for _, name := range []string{"x-envoy-attempt-count", "x-envoy-fault-delay-request", "user-agent"} {
		if IsRequestHeader(name) || Asks(asking{name: "5"}) {
			t.Errorf("%s asks for something", name)
		}
	}
}

func TestNumber(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "7": 7, "007": 7, "+7": 7, " 7\t": 7, " +7 ": 7, "18446744073709551615": math.MaxUint64,
	} {
		if n, ok := number(text); n != want || !ok {
			t.Errorf("%q is %v, %v", text, n, ok)
		}
	}
	for _, text := range []string{"", " ", "+", "-7", "-0", "++7", "7s", "7.0", "0x7", "1_000", "7,8", "18446744073709551616", "٧"} {
		if n, ok := number(text); ok {
			t.Errorf("%q is %v", text, n)
		}
	}
}

// TestOverrideLeavesTheRoute holds that what requests ask for stays theirs, those
// that ask at the same time included.
func TestOverrideLeavesTheRoute(t *testing.T) {
	const on = outcome.RetriableStatusCodes | outcome.RetriableHeaders
	codes := append(make([]int, 0, 8), 409)
	headers := append(make([]HeaderMatch, 0, 8), HeaderMatch{Name: "x-again"})
	p := &Policy{On: on, NumRetries: 2, StatusCodes: codes, Headers: headers, AvoidPreviousHosts: true, HostSelectionAttempts: 5}
	ask := func(code, name string) *Policy {
		return p.Override(asking{StatusCodesHeader: code, HeaderNamesHeader: name}, &Times{}, 0)
	}
	first, second := ask("404", "X-First"), ask("418", "x-second")
	for got, want := range map[*Policy]*Policy{
		p:      {StatusCodes: []int{409}, Headers: []HeaderMatch{{Name: "x-again"}}},
		first:  {StatusCodes: []int{409, 404}, Headers: []HeaderMatch{{Name: "x-again"}, {Name: "x-first"}}},
		second: {StatusCodes: []int{409, 418}, Headers: []HeaderMatch{{Name: "x-again"}, {Name: "x-second"}}},
	} {
		want.On, want.NumRetries, want.AvoidPreviousHosts, want.HostSelectionAttempts = on, 2, true, 5
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	if !slices.Equal(codes[:2], []int{409, 0}) || headers[:2][1].Name != "" {
		t.Errorf("behind the route's own: %v, %v", codes[:2], headers[:2])
	}
}

// FuzzOverride holds that no headers do harm, and what holds of any policy.
func FuzzOverride(f *testing.F) {
	f.Add("5xx,reset", "unavailable", "3", "503, 404", "x-again,,X-B", "200", "10", "true")
	f.Add("", "", "-1", ",", " ", "18446744073709551615", "+0", "yes")
	f.Fuzz(func(t *testing.T, on, grpcOn, retries, codes, names, timeout, perTry, hedge string) {
		h := asking{
			OnHeader: on, GRPCOnHeader: grpcOn, MaxRetriesHeader: retries, StatusCodesHeader: codes, HeaderNamesHeader: names,
			TimeoutHeader: timeout, PerTryTimeoutHeader: perTry, HedgeHeader: hedge,
		}
		times := TimesOf(h)
		if times.Timeout < 0 || times.PerTryTimeout < 0 || times.Timeout+time.Hour < 0 {
			t.Fatalf("%+v", times)
		}
		for _, p := range []*Policy{nil, {On: outcome.Reset, NumRetries: 2, PerTryTimeout: time.Second}} {
			got := p.Override(h, &times, times.Timeout)
			switch {
			case got == nil:
			case (got.On == 0) != (got.NumRetries == 0), got.On == 0 && got.PerTryTimeout == 0,
				times.Timeout > 0 && got.PerTryTimeout >= times.Timeout, p != nil && got.On != 0 && got.On&p.On == 0:
				t.Fatalf("%+v of %+v", got, h)
			}
		}
	})
}
