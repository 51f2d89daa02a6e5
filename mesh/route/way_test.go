package route

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// remembered is how many paths a table remembers.
func (t *Table) remembered() (n int) {
	for i := range t.ways {
		if t.ways[i].Load() != nil {
			n++
		}
	}
	return n
}

// TestPathsWithoutEnd holds that a table remembers a bounded number of paths of bounded
// length, and goes on to find routes for all others.
func TestPathsWithoutEnd(t *testing.T) {
	list := []Match{
		{Value: "/s/9"}, {Path: PathRegex, Regex: mustAnchor("/s/.*7")}, {Value: "/s/", Headers: []HeaderMatch{{Name: "x", StringMatch: StringMatch{Value: "1"}}}},
		{Path: PathExact, Value: "/S/100", IgnoreCase: true},
	}
	table := Compile(list)
	for i := range 1000 {
		checkFind(t, table, list, &Request{Path: fmt.Sprint("/s/", i), IsGRPC: true})
		checkFind(t, table, list, &Request{Path: fmt.Sprint("/s/", i), IsGRPC: true, Headers: headers{"x": "1"}})
	}
	if n := table.remembered(); n < len(table.ways)/4 {
		t.Errorf("of 1,000 paths %d are remembered", n)
	}
	table = Compile(list)
	long := "/s/" + strings.Repeat("a", longestPath)
	checkFind(t, table, list, &Request{Path: long + "7"})
	checkFind(t, table, list, &Request{Path: long + "7?a=b"})
	if n := table.remembered(); n != 0 {
		t.Errorf("%d paths that are too long are remembered", n)
	}
}

// TestManyCandidates has more routes for one path than are remembered of it.
func TestManyCandidates(t *testing.T) {
	var list []Match
	for i := range mostCandidates + 1 {
		list = append(list, Match{Value: "/s/", Headers: []HeaderMatch{{Name: "x", StringMatch: StringMatch{Kind: StringPrefix, Value: fmt.Sprint("value ", i, ".")}}}})
	}
	for _, list := range [][]Match{list, list[1:]} {
		table := Compile(list)
		for _, value := range []string{"value 1.", "value 50.", "value 64.5", "none"} {
			checkFind(t, table, list, &Request{Path: "/s/a", Headers: headers{"x": value}})
		}
		if w := table.ways[placeOf("/s/a")].Load(); w == nil || w.crowded != (len(list) > mostCandidates) || w.crowded && len(w.list)+len(w.groups) > 0 {
			t.Errorf("of %d routes is remembered: %+v", len(list), w)
		}
	}
}

// TestWaysAreMadeAtOnce has many goroutines come with the same paths first.
func TestWaysAreMadeAtOnce(t *testing.T) {
	list := append(otherPaths(50), Match{Value: "/"})
	for range 20 {
		table := Compile(list)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := range 60 {
					r := &Request{Path: fmt.Sprintf("/grpc.testing.Other%03d/Method", i), IsGRPC: true}
					if got, want := table.Find(r, nil), min(i, 49); got != want {
						t.Errorf("Find(%s) = %d, want %d", r.Path, got, want)
					}
				}
			})
		}
		wg.Wait()
	}
}
