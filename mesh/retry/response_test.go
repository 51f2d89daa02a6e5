package retry

import (
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/meshframe/meshframe/mesh/outcome"
)

// in looks headers up in a map.
func in(headers map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := headers[name]
		return v, ok
	}
}

func TestRetriableResponse(t *testing.T) {
	is := func(want string) func(string) bool { return func(v string) bool { return v == want } }
	match := []HeaderMatch{
		{Name: "x-retry"},
		{Name: "x-code", Match: is("busy")},
		{Name: "x-done", Match: is("yes"), Invert: true},
	}
	absent := []HeaderMatch{{Name: "x-final", Invert: true}}
	for _, test := range []struct {
		list    []HeaderMatch
		headers map[string]string
		want    bool
	}{
		{match, nil, false},
		{match, map[string]string{"x-retry": ""}, true},
		{match, map[string]string{"x-code": "busy"}, true},
		{match, map[string]string{"x-code": "idle"}, false},
		{match, map[string]string{"x-done": "yes"}, false},
		{match, map[string]string{"x-done": "no"}, true},
		{absent, nil, true},
		{absent, map[string]string{"x-final": ""}, false},
	} {
		p := &Policy{On: outcome.RetriableHeaders, Headers: test.list}
		if got := p.RetriableResponse(in(test.headers)); got != test.want {
			t.Errorf("%v: %v", test.headers, got)
		}
		if p.On = outcome.Server5xx; p.RetriableResponse(in(test.headers)) {
			t.Errorf("%v: retriable without the condition", test.headers)
		}
	}
	a := &outcome.Attempt{HTTPStatus: 200, Conditions: outcome.RetriableHeaders}
	if !(&Policy{On: outcome.RetriableHeaders}).Retriable(a) || (&Policy{On: outcome.Server5xx}).Retriable(a) {
		t.Error("the condition is not what makes the attempt retriable")
	}
}

func TestResetAfter(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	p := &Policy{ResetHeaders: []ResetHeader{{Name: "retry-after"}, {Name: "x-reset", Unix: true}}}
	short := &Policy{ResetHeaders: p.ResetHeaders, MaxResetInterval: 10 * time.Second}
	for _, test := range []struct {
		policy  *Policy
		headers map[string]string
		want    time.Duration
		ok      bool
	}{
		{p, nil, 0, false},
		{p, map[string]string{"retry-after": "3"}, 3 * time.Second, true},
		{p, map[string]string{"retry-after": "0"}, 0, false},
		{p, map[string]string{"retry-after": "0", "x-reset": "1700000007"}, 0, false},
		{p, map[string]string{"retry-after": "-3"}, 0, false},
		{p, map[string]string{"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0, false},
		{p, map[string]string{"retry-after": "300"}, 300 * time.Second, true},
		{p, map[string]string{"retry-after": "301"}, 0, false},
		{p, map[string]string{"retry-after": strconv.Itoa(math.MaxInt64)}, 0, false},
		{p, map[string]string{"x-reset": "1700000007"}, 7 * time.Second, true},
		{p, map[string]string{"x-reset": "1700000000"}, 0, false},
		{p, map[string]string{"x-reset": "1600000000"}, 0, false},
		{p, map[string]string{"x-reset": strconv.Itoa(math.MinInt64)}, 0, false},
		{p, map[string]string{"retry-after": "2", "x-reset": "1700000007"}, 2 * time.Second, true},
		{p, map[string]string{"retry-after": "no", "x-reset": "1700000007"}, 7 * time.Second, true},
		{short, map[string]string{"retry-after": "11", "x-reset": "1700000007"}, 7 * time.Second, true},
		{&Policy{}, map[string]string{"retry-after": "3"}, 0, false},
	} {
		if got, ok := test.policy.ResetAfter(in(test.headers), now); got != test.want || ok != test.ok {
			t.Errorf("%v: %v, %v; want %v, %v", test.headers, got, ok, test.want, test.ok)
		}
	}
}

func TestResetBackoff(t *testing.T) {
	const d = 10 * time.Second
	if got := ResetBackoff(d, func() uint64 { return 0 }); got != d {
		t.Errorf("at least %v", got)
	}
	if got := ResetBackoff(d, func() uint64 { return math.MaxUint64 }); got != d+d/2-1 {
		t.Errorf("at most %v", got)
	}
	if got := ResetBackoff(0, func() uint64 { return math.MaxUint64 }); got != 0 {
		t.Errorf("of nothing %v", got)
	}
}
