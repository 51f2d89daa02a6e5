package mesh_test

import (
	"testing"

	"github.com/meshframe/meshframe/mesh"
)

// TestOverrideAllocates holds that a call which asks for nothing costs nothing, and
// one that asks no more than a request and a policy of its own.
func TestOverrideAllocates(t *testing.T) {
	e := mesh.New(mesh.Options{})
	s := e.Apply(update(t, "h", `
		host vh h
		route r -> a timeout=3s retry=unavailable*2
		cluster a
		endpoints a 10.0.0.1:80
	`))
	for _, test := range []struct {
		headers headers
		allocs  float64
	}{
		{nil, 0},
		{headers{"end-user": "jason"}, 0},
		{headers{"x-envoy-upstream-rq-timeout-ms": "200", "x-envoy-retry-on": "5xx", "x-envoy-max-retries": "3"}, 3},
	} {
		r := &mesh.Request{Path: "/a.B/C", Method: "POST", Headers: test.headers}
		var d mesh.Decision
		if n := testing.AllocsPerRun(100, func() {
			e.Decide(s, r, &d)
			d.Override(r)
		}); n > test.allocs {
			t.Errorf("%v: %v allocations, want %v", test.headers, n, test.allocs)
		}
		if asks := len(test.headers) > 1; d.Err != nil || d.Retry == nil || (d.Retry.NumRetries == 3) != asks {
			t.Errorf("%v: %+v", test.headers, d)
		}
	}
}

// TestOverrideOfNothing holds that a decision without a place to go to stays as it is.
func TestOverrideOfNothing(t *testing.T) {
	e := mesh.New(mesh.Options{})
	r := &mesh.Request{Path: "/", Headers: headers{"x-envoy-retry-on": "5xx"}}
	var d mesh.Decision
	e.Decide(nil, r, &d)
	if d.Override(r); d.Err == nil || d.Retry != nil {
		t.Errorf("%+v", d)
	}
}
