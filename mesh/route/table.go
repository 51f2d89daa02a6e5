package route

import "math"

// Table finds the first of an ordered list of matches that a request meets,
// without trying those that the request's path or headers rule out. It is safe for
// concurrent use.
//
// Paths are kept in a radix tree: every route hangs at the text that a path
// must begin with, so a walk along the path passes all routes whose path
// condition can hold. The routes at one place are grouped by the value of a
// header that they compare exactly (see group). Each group knows the first
// index it holds; groups are searched in that order and only while they can
// still improve on what was found, which keeps "first match wins" exact. What a
// walk finds is remembered for paths that come again (see ways).
type Table struct {
	paths  *node // case-sensitive
	folded *node // ignoring case; keys in lower case; nil if there are none
	ways   ways
}

// none is greater than every index.
const none = math.MaxInt32

// Compile prepares the matches, in their order.
func Compile(matches []Match) *Table {
	b := builder{folded: pathBuilder{fold: true}, names: map[string]*headerName{}}
	for i := range matches {
		b.add(int32(i), &matches[i])
	}
	t := &Table{paths: b.paths.build()}
	if b.folded.used() {
		t.folded = b.folded.build()
	}
	return t
}

// Find returns the index of the first match that r meets, or -1. A match with a
// runtime fraction is considered with that probability, drawn from rnd each
// time and only when everything else of it holds.
func (t *Table) Find(r *Request, rnd func() uint64) int {
	l := lookup{request: *r, rnd: rnd}
	l.path, l.query = r.split()
	var best int32
	if w := t.ways.of(l.path, t); w != nil {
		best = w.find(&l)
	} else {
		best = t.find(&l)
	}
	if best == none {
		return -1
	}
	return int(best)
}

// find asks the trees for the least index whose route the request meets, or none.
func (t *Table) find(l *lookup) int32 {
	best := t.paths.find(l, none, false)
	if t.folded != nil {
		best = t.folded.find(l, best, true)
	}
	return best
}

// lookup is one request while it is being matched.
type lookup struct {
	request     Request // by value: a pointer would move the caller's to the heap
	path, query string
	rnd         func() uint64

	// The header that was read last, for the next condition on it.
	name  *headerName
	value string
	ok    bool
}

func (l *lookup) header(n *headerName) (value string, ok bool) {
	if l.name != n {
		l.name = n
		l.value, l.ok = l.request.header(n)
	}
	return l.value, l.ok
}

// builder sorts matches into the trees. Header names are interned, so that
// lookup can compare them by pointer.
type builder struct {
	paths, folded pathBuilder
	names         map[string]*headerName
}

func (b *builder) add(index int32, m *Match) {
	c := candidate{index: index, query: m.Query, fraction: million}
	if m.HasFraction {
		c.fraction = m.Fraction
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		c.headers = append(c.headers, condition{name: b.name(h.Name), match: h})
	}
	tree := &b.paths
	if m.IgnoreCase && m.Path != PathRegex {
		tree = &b.folded
	}
	switch m.Path {
	case PathExact:
		tree.exact(m.Value, c)
	case PathRegex:
		if m.Regex == nil {
			return // never matches
		}
		c.path = m.Regex
		tree.prefix(literalPrefix(m.Regex), c)
	case PathSeparatedPrefix:
		tree.exact(m.Value, c)
		tree.prefix(m.Value+"/", c)
	default:
		tree.prefix(m.Value, c)
	}
}

func (b *builder) name(name string) *headerName {
	n, ok := b.names[name]
	if !ok {
		n = newHeaderName(name)
		b.names[name] = n
	}
	return n
}
