package route

import (
	"regexp"
	"testing"
)

func TestStringMatch(t *testing.T) {
	for _, test := range []struct {
		match StringMatch
		yes   []string
		no    []string
	}{
		{StringMatch{Kind: StringExact, Value: "ab"}, []string{"ab"}, []string{"", "a", "AB", "abc"}},
		{StringMatch{Kind: StringExact, Value: "aB", IgnoreCase: true}, []string{"ab", "AB"}, []string{"a", "abc"}},
		{StringMatch{Kind: StringPrefix, Value: "ab"}, []string{"ab", "abc"}, []string{"", "a", "ABc", "xab"}},
		{StringMatch{Kind: StringPrefix, Value: "ab", IgnoreCase: true}, []string{"ABc"}, []string{"a", "xab"}},
		{StringMatch{Kind: StringSuffix, Value: "ab"}, []string{"ab", "cab"}, []string{"", "b", "cAB", "abx"}},
		{StringMatch{Kind: StringSuffix, Value: "ab", IgnoreCase: true}, []string{"cAB"}, []string{"b", "abx"}},
		{StringMatch{Kind: StringContains, Value: "ab"}, []string{"ab", "xaby"}, []string{"", "a", "xABy"}},
		{StringMatch{Kind: StringContains, Value: "ab", IgnoreCase: true}, []string{"xABy", "ab"}, []string{"a", "xay"}},
		{StringMatch{Kind: StringRegex, Regex: mustAnchor("a|b+")}, []string{"a", "bb"}, []string{"", "ab", "xa", "bbx"}},
		{StringMatch{Kind: StringRegex}, nil, []string{"", "a"}},
		{StringMatch{Kind: StringPresent}, []string{"", "a"}, nil},
		{StringMatch{Kind: StringRange, Low: -1, High: 10}, []string{"-1", "0", "9"}, []string{"", "-2", "10", "1.5", "1a", " 1"}},
		{StringMatch{Kind: StringKind(99)}, nil, []string{"", "a"}},
	} {
		for _, s := range test.yes {
			if !test.match.matches(s) {
				t.Errorf("%s does not match %q", test.match.key(), s)
			}
		}
		for _, s := range test.no {
			if test.match.matches(s) {
				t.Errorf("%s matches %q", test.match.key(), s)
			}
		}
	}
}

// TestHeaderPresence pins what Envoy does with absent headers and inversion.
func TestHeaderPresence(t *testing.T) {
	exact := StringMatch{Kind: StringExact, Value: "a"}
	empty := StringMatch{Kind: StringExact}
	present := StringMatch{Kind: StringPresent}
	for _, test := range []struct {
		name                  string
		match                 HeaderMatch
		absent, equals, other bool // results without the header, with "a", with "b"
	}{
		{"exact", HeaderMatch{StringMatch: exact}, false, true, false},
		{"not exact", HeaderMatch{StringMatch: exact, Invert: true}, false, false, true},
		{"exact, missing as empty", HeaderMatch{StringMatch: exact, TreatMissingAsEmpty: true}, false, true, false},
		{"not exact, missing as empty", HeaderMatch{StringMatch: exact, Invert: true, TreatMissingAsEmpty: true}, true, false, true},
		{"empty, missing as empty", HeaderMatch{StringMatch: empty, TreatMissingAsEmpty: true}, true, false, false},
		{"present", HeaderMatch{StringMatch: present}, false, true, true},
		{"not present", HeaderMatch{StringMatch: present, Invert: true}, true, false, false},
	} {
		test.match.Name = "x"
		table := Compile([]Match{{Headers: []HeaderMatch{test.match}}})
		for _, c := range []struct {
			headers Headers
			want    bool
		}{
			{nil, test.absent}, {headers{"y": "a"}, test.absent},
			{headers{"x": "a"}, test.equals}, {headers{"x": "b"}, test.other},
		} {
			if got := table.Find(&Request{Path: "/", Headers: c.headers}, nil) == 0; got != c.want {
				t.Errorf("%s: headers %v: matches %v, want %v", test.name, c.headers, got, c.want)
			}
		}
	}
}

func TestPseudoHeaders(t *testing.T) {
	r := &Request{Authority: "reviews:9080", Path: "/a?b", Method: "POST", Scheme: "http", Headers: headers{"host": "no"}}
	for name, value := range map[string]string{
		":authority": "reviews:9080", "host": "reviews:9080", ":path": "/a?b", ":method": "POST", ":scheme": "http",
	} {
		m := Match{Headers: []HeaderMatch{{Name: name, StringMatch: StringMatch{Value: value}}}}
		if Compile([]Match{m}).Find(r, nil) != 0 {
			t.Errorf("%s does not match %q", name, value)
		}
	}
}

func TestQuery(t *testing.T) {
	table := Compile([]Match{
		{Query: []QueryMatch{{Name: "a b", StringMatch: StringMatch{Value: "1&2"}}}},
		{Query: []QueryMatch{{Name: "x", StringMatch: StringMatch{Kind: StringPresent}}}},
	})
	for _, test := range []struct {
		path string
		grpc bool
		want int
	}{
		{path: "/?a%20b=1%262", want: 0},
		{path: "/?a%20b=0&a%20b=1%262", want: -1}, // only the first value counts
		{path: "/?x", want: 1},
		{path: "/?y=1&x=%zz%4", want: 1},
		{path: "/?%78=", want: 1},
		{path: "/#?x", want: -1},
		{path: "/x", want: -1},
		{path: "/?x", grpc: true, want: -1},
	} {
		if got := table.Find(&Request{Path: test.path, IsGRPC: test.grpc}, nil); got != test.want {
			t.Errorf("%q (gRPC %v): route %d, want %d", test.path, test.grpc, got, test.want)
		}
	}
}

func TestAnchorRefusesWhatIsNoExpression(t *testing.T) {
	for _, expr := range []string{"(", "a)(b", "*"} {
		if _, err := Anchor(expr); err == nil {
			t.Errorf("Anchor(%q) succeeds", expr)
		}
	}
}

func TestLiteralPrefix(t *testing.T) {
	for expr, want := range map[string]string{
		"/a/b":      "/a/b",
		"/a.*":      "/a",
		"(/a(b))+c": "",
		"(/a)b[cd]": "/ab",
		"(?i)/a":    "",
		"a|b":       "",
		"/ab|/ac":   "/a",
		"/a{2}":     "/",
		"":          "",
		"/a\ufffdb": "/a",
		"(?m)^/a":   "",
	} {
		if got := literalPrefix(mustAnchor(expr)); got != want {
			t.Errorf("literalPrefix(%q) = %q, want %q", expr, got, want)
		}
	}
}

func TestLiteralPrefixNeedsAnAnchor(t *testing.T) {
	for _, expr := range []string{"/a", "(?m)^/a", "x*^/a"} {
		if got := literalPrefix(regexp.MustCompile(expr)); got != "" {
			t.Errorf("literalPrefix(%q) = %q", expr, got)
		}
	}
}

func TestMatchString(t *testing.T) {
	a := Match{Value: "/a", Headers: []HeaderMatch{{Name: "x", StringMatch: StringMatch{Value: "1"}}}}
	b := a
	b.Headers = []HeaderMatch{{Name: "x", StringMatch: StringMatch{Value: "1"}}}
	if a.String() != b.String() {
		t.Errorf("equal matches differ: %s, %s", &a, &b)
	}
	b.HasFraction = true
	if a.String() == b.String() {
		t.Errorf("different matches are equal: %s", &a)
	}
}
