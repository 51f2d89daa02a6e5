package snapshot

import (
	"math/bits"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/meshframe/meshframe/mesh/route"
)

// headers is a map as route.Headers.
type headers map[string]string

func (h headers) Header(name string) (string, bool) {
	v, ok := h[name]
	return v, ok
}

func hashOf(policies []HashPolicy, r *route.Request) (uint64, bool, string) {
	s := &Snapshot{routes: &routeSet{defaults: defaults{live: NewLive(func() uint64 { return 7 })}}}
	return s.Hash(&RouteEntry{hash: policies}, r, func() uint64 { return 0xabc })
}

// TestHashesMix compares with the definition: rotate what there is by one bit,
// then exclusive or.
func TestHashesMix(t *testing.T) {
	one, two := xxhash.Sum64String("1"), xxhash.Sum64String("2")
	a, b, c := HashPolicy{Name: "a"}, HashPolicy{Name: "b"}, HashPolicy{Name: "c"}
	terminal := func(p HashPolicy) HashPolicy { p.Terminal = true; return p }
	r := &route.Request{Headers: headers{"a": "1", "b": "2"}}
	for i, test := range []struct {
		policies []HashPolicy
		want     uint64
		ok       bool
	}{
		{nil, 0, false},
		{[]HashPolicy{c}, 0, false},
		{[]HashPolicy{a}, one, true},
		{[]HashPolicy{c, a}, one, true},
		{[]HashPolicy{a, b}, bits.RotateLeft64(one, 1) ^ two, true},
		{[]HashPolicy{b, a, c}, bits.RotateLeft64(two, 1) ^ one, true},
		{[]HashPolicy{a, a}, bits.RotateLeft64(one, 1) ^ one, true},
		{[]HashPolicy{terminal(a), b}, one, true},
		{[]HashPolicy{terminal(c), b}, two, true},
		{[]HashPolicy{a, terminal(c), b}, one, true}, // there was a value before
		{[]HashPolicy{{Kind: HashChannel}, c}, 7, true},
		{[]HashPolicy{{Kind: HashChannel}, a}, bits.RotateLeft64(7, 1) ^ one, true},
	} {
		if got, ok, _ := hashOf(test.policies, r); got != test.want || ok != test.ok {
			t.Errorf("%d: %x, %v; want %x, %v", i, got, ok, test.want, test.ok)
		}
	}
	own := *r
	own.Channel = 9
	if got, _, _ := hashOf([]HashPolicy{{Kind: HashChannel}}, &own); got != 9 {
		t.Errorf("a channel with a number of its own: %x", got)
	}
	rewritten := HashPolicy{Name: "path", Regex: &RegexRewrite{Pattern: regexp.MustCompile(`/shop/(\d+)/.*`), Substitution: "$1"}}
	got, ok, _ := hashOf([]HashPolicy{rewritten}, &route.Request{Headers: headers{"path": "/shop/1/cart"}})
	if !ok || got != one {
		t.Errorf("a rewritten header: %x, %v", got, ok)
	}
	if got, _, _ := hashOf([]HashPolicy{{Name: ":path"}}, &route.Request{Path: "1"}); got != one {
		t.Errorf("a pseudo header: %x", got)
	}
}

func TestGeneratedCookies(t *testing.T) {
	r := &route.Request{Headers: headers{"cookie": "other=1"}}
	for _, test := range []struct {
		policies []HashPolicy
		want     string
	}{
		{[]HashPolicy{{Kind: HashCookie, Name: "sid"}}, ""},
		{[]HashPolicy{{Kind: HashCookie, Name: "other", HasTTL: true}}, ""},
		{[]HashPolicy{{Kind: HashCookie, Name: "sid", HasTTL: true}}, `sid="0000000000000abc"; HttpOnly`},
		{
			[]HashPolicy{{
				Kind: HashCookie, Name: "sid", HasTTL: true, TTL: 90e9, Path: "/p",
				Attributes: []HeaderEdit{{Name: "SameSite", Value: "Strict"}, {Name: "Secure"}},
			}},
			`sid="0000000000000abc"; Max-Age=90; Path=/p; SameSite=Strict; Secure; HttpOnly`,
		},
		{
			[]HashPolicy{{Kind: HashCookie, Name: "a", HasTTL: true}, {Kind: HashCookie, Name: "b", HasTTL: true}},
			`a="0000000000000abc"; HttpOnly`,
		},
	} {
		hash, ok, cookie := hashOf(test.policies, r)
		if cookie != test.want {
			t.Errorf("%+v: Set-Cookie %s", test.policies, cookie)
		}
		if want := xxhash.Sum64String("0000000000000abc"); cookie != "" && (!ok || hash != want) {
			t.Errorf("%+v: the hash is not that of the cookie", test.policies)
		}
	}
}

// TestCookieComesBack holds that a client that sends the cookie it was given
// gets the same hash.
func TestCookieComesBack(t *testing.T) {
	policies := []HashPolicy{{Kind: HashCookie, Name: "sid", HasTTL: true, TTL: 1e9}}
	first, _, cookie := hashOf(policies, &route.Request{})
	pair, _, _ := strings.Cut(cookie, ";")
	second, ok, cookie := hashOf(policies, &route.Request{Headers: headers{"cookie": "a=b; " + pair}})
	if !ok || second != first || cookie != "" {
		t.Errorf("hash %x, then %x; Set-Cookie %q", first, second, cookie)
	}
}

func TestCookieValue(t *testing.T) {
	for header, want := range map[string]string{
		"": "", "sid=1": "1", "sid": "", "sid=": "", "a=b; sid=1": "1", "a=b;sid=1;c=d": "1", "sid=1; sid=2": "1",
		`sid="1"`: "1", `sid="`: `"`, `sid=""`: "", "sid=a=b": "a=b", " \tsid=1 \t": "1", "xsid=1": "", "SID=1": "", ";;sid=1;": "1",
	} {
		if got := cookieValue(header, "sid"); got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}

// splitCookie is the dumb twin of cookieValue.
func splitCookie(header, name string) string {
	for pair := range strings.SplitSeq(header, ";") {
		parts := strings.SplitN(strings.Trim(pair, " \t"), "=", 2)
		if len(parts) == 2 && parts[0] == name {
			v := parts[1]
			if len(v) > 1 && strings.HasPrefix(v, `"`) && strings.HasSuffix(v, `"`) {
				v = v[1 : len(v)-1]
			}
			return v
		}
	}
	return ""
}

func FuzzCookieValue(f *testing.F) {
	f.Add("a=b; sid=1", "sid")
	f.Add(`sid="`, "sid")
	f.Add("=;==", "")
	f.Fuzz(func(t *testing.T, header, name string) {
		if got, want := cookieValue(header, name), splitCookie(header, name); got != want {
			t.Errorf("%q of %q: %q, want %q", name, header, got, want)
		}
	})
}

// FuzzDecodeAddress holds that nothing panics and that Bind is undone.
func FuzzDecodeAddress(f *testing.F) {
	f.Add("MTAuMC4wLjI6ODA=", "10.0.0.2:80")
	f.Add("CgsxMC4wLjAuMjo4MA==", "[::1]:80")
	f.Add("CpAB", "")
	f.Fuzz(func(t *testing.T, value, address string) {
		decodeAddress(value)
		s := &Session{Header: "h"}
		if strings.HasPrefix(address, "\n") || strings.ContainsAny(address, ";,") {
			return // is no address
		}
		if _, value := s.Bind(address); decodeAddress(value) != address {
			t.Errorf("%q became %q", address, decodeAddress(value))
		}
		s = &Session{Cookie: "c"}
		_, cookie := s.Bind(address)
		if got := s.Host(&route.Request{Headers: headers{"cookie": strings.TrimSuffix(cookie, "; HttpOnly")}}); got != address {
			t.Errorf("%q became %q in %s", address, got, cookie)
		}
	})
}

func TestSessions(t *testing.T) {
	s := &Session{Cookie: "sid"}
	for cookie, want := range map[string]string{
		`sid="MTAuMC4wLjI6ODA="`: "10.0.0.2:80", "sid=CgsxMC4wLjAuMjo4MBCAlOvcAw==": "10.0.0.2:80",
		// An expiry first, and nothing but one.
		"sid=EICU69wDCgsxMC4wLjAuMjo4MA==": "10.0.0.2:80", "sid=CgAQgJTr3AM=": "",
		// As gRPC writes it: with other addresses of the host, and its cluster.
		"sid=MTAuMC4wLjI6ODAsWzo6MV06ODA7Y2x1c3RlcjE=": "10.0.0.2:80", "sid=MTAuMC4wLjI6ODA7Yw==": "10.0.0.2:80",
		// What is cut short, has other fields, or is no Base64.
		"sid=CpABMQ==": "", "sid=CgE=": "", "sid=Cg==": "", "sid=CgFhGgFi": "", "sid=***": "", "": "", "sid=": "",
	} {
		if got := s.Host(&route.Request{Headers: headers{"cookie": cookie}}); got != want {
			t.Errorf("%s: %q, want %q", cookie, got, want)
		}
	}
	if got := s.Host(&route.Request{}); got != "" {
		t.Errorf("no headers: %q", got)
	}
	if name, value := s.Bind("10.0.0.2:80"); name != "set-cookie" || value != `sid="CgsxMC4wLjAuMjo4MA=="; HttpOnly` {
		t.Errorf("%s: %s", name, value)
	}
	s.Attributes, s.TTL, s.Path = []HeaderEdit{{Name: "SameSite", Value: "Lax"}, {Name: "Secure"}}, time.Minute, "/p"
	if _, value := s.Bind("a:1"); value != `sid="CgNhOjE="; Max-Age=60; Path=/p; SameSite=Lax; Secure; HttpOnly` {
		t.Error(value)
	}
}

// TestSessionsCoverPaths has the examples of Envoy's documentation.
func TestSessionsCoverPaths(t *testing.T) {
	for _, test := range []struct {
		session Session
		covered []string
		others  []string
	}{
		{Session{Cookie: "c"}, []string{"/", "/foo"}, nil},
		{Session{Cookie: "c", Path: "/"}, []string{"/", "/foo"}, nil},
		{Session{Header: "h", Path: "/foo"}, []string{"/", "/foo"}, nil},
		{Session{Cookie: "c", Path: "/foo"}, []string{"/foo", "/foo/bar", "/foo?a=b", "/foo#a"}, []string{"/", "/fo", "/foobar", "/bar/foo"}},
		{Session{Cookie: "c", Path: "/foo/"}, []string{"/foo/", "/foo/bar"}, []string{"/foo", "/foobar"}},
	} {
		for _, path := range test.covered {
			if !test.session.Covers(path) {
				t.Errorf("%+v does not cover %s", test.session, path)
			}
		}
		for _, path := range test.others {
			if test.session.Covers(path) {
				t.Errorf("%+v covers %s", test.session, path)
			}
		}
	}
}

// TestEffectiveSession: the most specific counts, where the listener has the
// filter.
func TestEffectiveSession(t *testing.T) {
	a, b, off := &Session{Cookie: "a"}, &Session{Header: "b"}, &Session{}
	for _, test := range []struct {
		listener, host, route, cluster, want *Session
	}{
		{nil, a, b, a, nil},
		{a, nil, nil, nil, a},
		{off, nil, nil, nil, nil},
		{off, a, nil, nil, a},
		{a, b, nil, nil, b},
		{a, b, off, nil, nil},
		{a, off, nil, b, b},
		{a, b, a, off, nil},
	} {
		if got := effectiveSession(test.listener, test.host, test.route, test.cluster); got != test.want {
			t.Errorf("%+v: %+v", test, got)
		}
	}
}
