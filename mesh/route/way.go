package route

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
)

// ways remembers for some paths what requests to them are still to be compared with:
// of a path, the tree and the regular expressions have the same to say each time, and
// clients call few methods again and again.
//
// A path has one place, which the first to come takes for good. So paths without end
// cost a look each, and what a table remembers is bounded.
type ways [64]atomic.Pointer[way]

const (
	longestPath    = 256 // that is remembered, in bytes
	mostCandidates = 64  // of a path
)

// way is what a table says to a path.
type way struct {
	path string
	// The candidates that the path does not rule out: as a list where none of them
	// is found by the value of a header, which is most often so.
	list    []candidate
	groups  group
	crowded bool // the tree is to be asked: there are too many candidates
}

// find returns the least index whose candidate holds, or none.
func (w *way) find(l *lookup) int32 {
	if w.groups == nil {
		return scan(w.list, l, none)
	}
	return w.groups.find(l, none)
}

// of returns the way of a path, or nil if the tree is to be asked. It makes the way of
// the first path that comes to its place.
func (ws *ways) of(path string, t *Table) *way {
	at := &ws[placeOf(path)]
	w := at.Load()
	switch {
	case w == nil && len(path) <= longestPath:
		w = t.newWay(path)
		at.Store(w) // another's of the same time is as good
	case w == nil || w.path != path:
		return nil
	}
	if w.crowded {
		return nil
	}
	return w
}

// placeOf is where the way of a path is. The methods of a service differ at the end.
func placeOf(path string) int {
	n := len(path)
	if n < 3 {
		return n
	}
	return (n + 7*int(path[n-1]) + 5*int(path[n-2]) + 3*int(path[n-3])) % len(ways{})
}

func (t *Table) newWay(path string) *way {
	w := &way{path: strings.Clone(path)}
	var list []candidate
	visit := func(g group) {
		for i := range g {
			if g[i].header != nil {
				w.groups = append(w.groups, g[i])
				continue
			}
			for _, c := range g[i].list {
				if c.path == nil || c.path.MatchString(path) {
					c.path = nil
					list = append(list, c)
				}
			}
		}
	}
	t.paths.walk(path, false, visit)
	if t.folded != nil {
		t.folded.walk(path, true, visit)
	}
	slices.SortFunc(list, func(a, b candidate) int { return cmp.Compare(a.index, b.index) })
	if i := slices.IndexFunc(list, func(c candidate) bool { return c.certain() }); i >= 0 {
		list = list[:i+1] // none behind it can be first
	}
	if len(list) > mostCandidates {
		return &way{path: w.path, crowded: true}
	}
	list = slices.Clone(list)
	if w.groups == nil || len(list) == 0 {
		w.list = list
	} else {
		w.groups = append(w.groups, part{first: list[0].index, list: list})
	}
	slices.SortFunc(w.groups, func(a, b part) int { return cmp.Compare(a.first, b.first) })
	return w
}

// walk visits the groups that hold the candidates of a path.
func (n *node) walk(path string, fold bool, visit func(group)) {
	if !hasPrefix(path, n.label, fold) {
		return
	}
	rest := path[len(n.label):]
	for n != nil {
		visit(n.prefix)
		if rest == "" {
			visit(n.exact)
			return
		}
		n, rest = n.child(rest, fold)
	}
}
