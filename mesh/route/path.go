package route

// matchesPath reports whether the path, without its query, meets the path
// condition of m.
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
