package route

// The dumb twins: what the compiled tables must agree with.

// linearFind tries one match after the other.
func linearFind(matches []Match, r *Request, rnd func() uint64) int {
	path, query := r.split()
	for i := range matches {
		if m := &matches[i]; m.matchesPath(path) && m.matchesRest(r, query, rnd) {
			return i
		}
	}
	return -1
}

func (m *Match) matchesPath(path string) bool {
	switch m.Path {
	case PathPrefix:
		return hasPrefix(path, m.Value, m.IgnoreCase)
	case PathExact:
		return len(path) == len(m.Value) && hasPrefix(path, m.Value, m.IgnoreCase)
	case PathRegex:
		return m.Regex != nil && m.Regex.MatchString(path)
	case PathSeparatedPrefix:
		return hasPrefix(path, m.Value, m.IgnoreCase) &&
			(len(path) == len(m.Value) || path[len(m.Value)] == '/')
	}
	return false
}

func (m *Match) matchesRest(r *Request, query string, rnd func() uint64) bool {
	for i := range m.Headers {
		h := &m.Headers[i]
		if value, ok := r.header(newHeaderName(h.Name)); !h.holds(value, ok) {
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
