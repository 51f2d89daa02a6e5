package route

import (
	"regexp"
	"strconv"
	"strings"
)

// Anchor compiles an RE2 expression so that it must match the whole text, as
// Envoy's matchers mean it.
func Anchor(expr string) (*regexp.Regexp, error) {
	// Compiled alone first: "a)(b" must not become valid by the parentheses.
	if _, err := regexp.Compile(expr); err != nil {
		return nil, err
	}
	return regexp.Compile("^(?:" + expr + ")$")
}

// matches reports whether s meets the condition.
func (m *StringMatch) matches(s string) bool {
	switch m.Kind {
	case StringExact:
		if m.IgnoreCase {
			return equalFold(s, m.Value)
		}
		return s == m.Value
	case StringPrefix:
		return hasPrefix(s, m.Value, m.IgnoreCase)
	case StringSuffix:
		return hasSuffix(s, m.Value, m.IgnoreCase)
	case StringContains:
		return contains(s, m.Value, m.IgnoreCase)
	case StringRegex:
		return m.Regex != nil && m.Regex.MatchString(s)
	case StringPresent:
		return true
	case StringRange:
		n, err := strconv.ParseInt(s, 10, 64)
		return err == nil && n >= m.Low && n < m.High
	}
	return false
}

// holds reports whether a header of the given value, or one that is absent,
// meets the condition.
func (m *HeaderMatch) holds(value string, ok bool) bool {
	if !ok && !m.TreatMissingAsEmpty {
		return m.Invert && m.Kind == StringPresent
	}
	return m.matches(value) != m.Invert
}

// The case-insensitive comparisons fold ASCII only, as Envoy does, and
// allocate nothing.

func equalFold(s, t string) bool {
	if len(s) != len(t) {
		return false
	}
	for i := range len(s) {
		if lower(s[i]) != lower(t[i]) {
			return false
		}
	}
	return true
}

func hasPrefix(s, prefix string, ignoreCase bool) bool {
	if !ignoreCase {
		return strings.HasPrefix(s, prefix)
	}
	return len(s) >= len(prefix) && equalFold(s[:len(prefix)], prefix)
}

func hasSuffix(s, suffix string, ignoreCase bool) bool {
	if !ignoreCase {
		return strings.HasSuffix(s, suffix)
	}
	return len(s) >= len(suffix) && equalFold(s[len(s)-len(suffix):], suffix)
}

func contains(s, part string, ignoreCase bool) bool {
	if !ignoreCase {
		return strings.Contains(s, part)
	}
	for i := 0; i+len(part) <= len(s); i++ {
		if equalFold(s[i:i+len(part)], part) {
			return true
		}
	}
	return false
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// lowerText is s with its upper-case letters lowered; s itself if it has none.
func lowerText(s string) string {
	for i := range len(s) {
		if lower(s[i]) != s[i] {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				b[j] = lower(b[j])
			}
			return string(b)
		}
	}
	return s
}
