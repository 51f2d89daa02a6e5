package route

import "testing"

func TestRequestHeader(t *testing.T) {
	r := &Request{Authority: "a:80", Path: "/p?x=1&x=2&y&z=%20", Method: "GET", Scheme: "http", Headers: headers{"x": "1"}}
	for name, want := range map[string]string{":authority": "a:80", "host": "a:80", ":path": r.Path, ":method": "GET", ":scheme": "http", "x": "1"} {
		if got, ok := r.Header(name); got != want || !ok {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
	if _, ok := r.Header("y"); ok {
		t.Error("a header that is absent was found")
	}
	if _, ok := (&Request{}).Header("x"); ok {
		t.Error("no headers, and one was found")
	}
	for name, want := range map[string]string{"x": "1", "y": "", "z": "%20"} {
		if got, ok := r.QueryParameter(name); got != want || !ok {
			t.Errorf("%s: %q, %v", name, got, ok)
		}
	}
	if _, ok := r.QueryParameter("p"); ok {
		t.Error("a parameter that is absent was found")
	}
	if n := testing.AllocsPerRun(100, func() {
		r.Header(":path")
		r.QueryParameter("z")
	}); n != 0 {
		t.Errorf("reading a request allocates %v times", n)
	}
}
