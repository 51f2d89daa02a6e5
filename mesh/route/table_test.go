package route

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// generator makes random matches and requests from few words, so that they
// meet often.
type generator struct{ next func(n int) int }

func (g generator) one(words ...string) string { return words[g.next(len(words))] }

func (g generator) path() string {
	var b strings.Builder
	for range 1 + g.next(3) {
		b.WriteString(g.one("/", "/a", "/b", "/A", "/ab", "b", "/a/b", ""))
	}
	return b.String()
}

func (g generator) match() Match {
	m := Match{Path: PathKind(g.next(4)), IgnoreCase: g.next(4) == 0}
	if m.Path == PathRegex {
		m.Regex = g.regex()
	} else {
		m.Value = g.path()
	}
	for range g.next(4) {
		m.Headers = append(m.Headers, g.header())
	}
	if g.next(8) == 0 {
		m.Query = append(m.Query, QueryMatch{Name: g.one("q", "p"), StringMatch: g.text()})
	}
	if g.next(8) == 0 {
		m.HasFraction, m.Fraction = true, uint32(g.next(2)*million)
	}
	return m
}

func (g generator) header() HeaderMatch {
	h := HeaderMatch{
		Name:                g.one("x", "x", "x", "y", ":method", ":authority", "host", ":path", ":scheme"),
		Invert:              g.next(5) == 0,
		TreatMissingAsEmpty: g.next(5) == 0,
	}
	if g.next(2) == 0 {
		h.Value = g.one("1", "2", "3", "", "GET")
	} else {
		h.StringMatch = g.text()
	}
	return h
}

func (g generator) text() StringMatch {
	m := StringMatch{Kind: StringKind(g.next(7)), Value: g.one("1", "2", "a", "A", "ab", ""), IgnoreCase: g.next(3) == 0}
	m.Low, m.High = int64(g.next(3)), int64(g.next(5))
	if m.Kind == StringRegex {
		m.Regex = mustAnchor(g.one("1|2", "a.*", ".*b", ""))
	}
	return m
}

func (g generator) regex() *regexp.Regexp {
	if g.next(8) == 0 { // not anchored: matches anywhere
		return regexp.MustCompile(g.one("/b", "b$", "(?m)^/a"))
	}
	return mustAnchor(g.one("/a.*", "/a/b", "/(a|b)", ".*", "/a?b", "(/a)+", "(?i)/a", "/a[/b].*", "", "/\ufffd"))
}

func (g generator) request() *Request {
	r := &Request{
		Authority: g.one("a", "b", ""), Path: g.path(), Method: g.one("GET", "1", ""), Scheme: g.one("1", "2"),
		IsGRPC: g.next(3) == 0,
	}
	r.Path += g.one("", "", "", "?q=1", "?q=a&p=2", "?p=%31", "#q", "\xff")
	h := headers{}
	for range g.next(3) {
		h[g.one("x", "y")] = g.one("1", "2", "3", "", "ab", "AB", "7")
	}
	if g.next(8) > 0 {
		r.Headers = h
	}
	return r
}

func mustAnchor(expr string) *regexp.Regexp { return regexp.MustCompile("^(?:" + expr + ")$") }

func TestTableAgreesWithLinearScan(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	g := generator{next: rnd.IntN}
	for range 3000 {
		checkTable(t, g, 1+g.next(30), 20)
	}
}

// TestDeepPaths nests more prefixes than a walk remembers.
func TestDeepPaths(t *testing.T) {
	rnd := rand.New(rand.NewPCG(7, 8))
	path := strings.Repeat("/a", 30)
	for range 200 {
		list := make([]Match, 40)
		for i := range list {
			list[i].Value = path[:rnd.IntN(len(path))]
			if rnd.IntN(10) > 0 {
				list[i].Headers = []HeaderMatch{{Name: "x", StringMatch: StringMatch{Kind: StringPrefix, Value: strconv.Itoa(rnd.IntN(10))}}}
			}
		}
		checkFind(t, Compile(list), list, &Request{Path: path, Headers: headers{"x": "7"}})
	}
}

// FuzzTable lets the fuzzer choose matches and requests: each byte of its input
// is one choice of the generator.
func FuzzTable(f *testing.F) {
	f.Add([]byte("a seed for the choices"))
	f.Fuzz(func(t *testing.T, choices []byte) {
		g := generator{next: func(n int) int {
			if len(choices) == 0 {
				return 0
			}
			c := int(choices[0])
			choices = choices[1:]
			return c % n
		}}
		checkTable(t, g, 1+g.next(8), 4)
	})
}

func checkTable(t *testing.T, g generator, matches, requests int) {
	t.Helper()
	list := make([]Match, matches)
	for i := range list {
		list[i] = g.match()
	}
	table := Compile(list)
	for range requests {
		checkFind(t, table, list, g.request())
	}
}

// checkFind compares what a table finds, by its trees and by what it remembers, with
// the linear scan. Fractions must be 0 or 1.
func checkFind(t *testing.T, table *Table, list []Match, r *Request) {
	t.Helper()
	never := func() uint64 { return 0 }
	want := linearFind(list, r, never)
	l := lookup{request: *r, rnd: never}
	l.path, l.query = r.split()
	byTree := -1
	if i := table.find(&l); i != none {
		byTree = int(i)
	}
	for how, got := range map[string]int{"tree": byTree, "first Find": table.Find(r, never), "second Find": table.Find(r, never)} {
		if got != want {
			t.Fatalf("%s = %d, linear scan = %d\nrequest %+v\nmatches:\n%s", how, got, want, *r, numbered(list))
		}
	}
}

func numbered(list []Match) string {
	var b strings.Builder
	for i := range list {
		fmt.Fprintf(&b, "%d: %s\n", i, &list[i])
	}
	return b.String()
}

func TestFraction(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	table := Compile([]Match{
		{Value: "/a", HasFraction: true, Fraction: 100_000},
		{Value: "/", HasFraction: true, Fraction: 500_000},
		{Value: "/a"},
	})
	const n = 100_000
	var got [3]int
	for range n {
		got[table.Find(&Request{Path: "/a"}, rnd.Uint64)]++
	}
	// Independent draws: 10 %, then half of what is left. Tolerance: five
	// standard deviations, at most 790.
	for i, want := range [3]int{n / 10, n * 9 / 20, n * 9 / 20} {
		if diff := got[i] - want; diff < -790 || diff > 790 {
			t.Errorf("route %d drawn %d times, want %d", i, got[i], want)
		}
	}
}

// TestLookupsDoNotGrow counts what a lookup asks of the request: the last of a
// thousand routes must not ask more than the last of two.
func TestLookupsDoNotGrow(t *testing.T) {
	for _, test := range []struct {
		name string
		make func(n int) []Match
	}{{"path", otherPaths}, {"header", otherHeaders}} {
		var counts [2]int
		for i, n := range []int{2, 1000} {
			h := &countingHeaders{headers: headers{"end-user": "jason"}}
			r := &Request{Path: "/grpc.testing.BenchmarkService/UnaryCall", Headers: h}
			if got := Compile(test.make(n)).Find(r, nil); got != n-1 {
				t.Errorf("%s: %d routes: found %d", test.name, n, got)
			}
			counts[i] = h.asked
		}
		if counts[1] > counts[0] {
			t.Errorf("%s: 1,000 routes ask for %d headers, two for %d", test.name, counts[1], counts[0])
		}
	}
}

type countingHeaders struct {
	headers
	asked int
}

func (h *countingHeaders) Header(name string) (string, bool) {
	h.asked++
	return h.headers.Header(name)
}

func TestFindAllocatesNothing(t *testing.T) {
	list := append(otherPaths(100), otherHeaders(100)...)
	list[99] = Match{Path: PathExact, Value: "/never"}
	list = append(list, Match{Path: PathSeparatedPrefix, Value: "/GRPC", IgnoreCase: true},
		Match{Value: "/", HasFraction: true, Fraction: 1_000_000})
	table := Compile(list)
	r := &Request{Path: "/svc/Method?a=b", Headers: headers{"end-user": "nobody"}}
	if n := testing.AllocsPerRun(100, func() { table.Find(r, rand.Uint64) }); n != 0 {
		t.Errorf("Find allocates %v times", n)
	}
}

// FuzzPaths compares the path tree with the linear scan for any text.
func FuzzPaths(f *testing.F) {
	f.Add("/a", "/a/b", "/A", "/a/b?c", uint16(0x1234))
	f.Add("", "\xff", "(a|/b)*", "/\ufffd", uint16(0xfedc))
	f.Fuzz(func(t *testing.T, a, b, c, path string, kinds uint16) {
		var list []Match
		for _, value := range []string{a, b, c} {
			m := Match{Path: PathKind(kinds % 4), Value: value, IgnoreCase: kinds&4 != 0}
			kinds /= 8
			if m.Path == PathRegex {
				m.Regex, _ = Anchor(value)
			}
			list = append(list, m)
		}
		checkFind(t, Compile(list), list, &Request{Path: path, IsGRPC: kinds&1 != 0})
	})
}
