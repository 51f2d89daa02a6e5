package route

import "math/bits"

// Table finds the first of an ordered list of matches that a request meets. It
// is never written after Compile and safe for concurrent use.
type Table struct {
	matches []Match
	names   [][]headerName
}

// Compile prepares the matches, in their order. The slice must not be written
// afterwards.
func Compile(matches []Match) *Table {
	t := &Table{matches: matches, names: make([][]headerName, len(matches))}
	for i := range matches {
		for j := range matches[i].Headers {
			t.names[i] = append(t.names[i], newHeaderName(matches[i].Headers[j].Name))
		}
	}
	return t
}

// Find returns the index of the first match that r meets, or -1. A match with a
// runtime fraction is considered with that probability, drawn from rnd each
// time and only when everything else of it holds.
func (t *Table) Find(r *Request, rnd func() uint64) int {
	path, query := r.split()
	for i := range t.matches {
		if m := &t.matches[i]; m.matchesPath(path) && m.holds(r, t.names[i], query, rnd) {
			return i
		}
	}
	return -1
}

// holds reports whether everything but the path matches.
func (m *Match) holds(r *Request, names []headerName, query string, rnd func() uint64) bool {
	for i := range m.Headers {
		if !m.Headers[i].matches(r, &names[i]) {
			return false
		}
	}
	for i := range m.Query {
		if r.IsGRPC || !m.Query[i].matches(query) {
			return false
		}
	}
	return !m.HasFraction || drawn(m.Fraction, rnd)
}

// drawn reports whether an event of the given probability in millionths happens.
func drawn(fraction uint32, rnd func() uint64) bool {
	if fraction >= 1_000_000 {
		return true
	}
	n, _ := bits.Mul64(rnd(), 1_000_000)
	return n < uint64(fraction)
}
