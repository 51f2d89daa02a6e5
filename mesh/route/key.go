package route

import (
	"fmt"
	"regexp"
	"strings"
)

// String writes the match so that two matches are the same condition exactly
// if their strings are equal.
func (m *Match) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "path(%d %q %q %t)", m.Path, m.Value, pattern(m.Regex), m.IgnoreCase)
	for i := range m.Headers {
		h := &m.Headers[i]
		fmt.Fprintf(&b, " header(%q %s %t %t)", h.Name, h.key(), h.Invert, h.TreatMissingAsEmpty)
	}
	for i := range m.Query {
		q := &m.Query[i]
		fmt.Fprintf(&b, " query(%q %s)", q.Name, q.key())
	}
	if m.HasFraction {
		fmt.Fprintf(&b, " fraction(%d)", m.Fraction)
	}
	return b.String()
}

func (m *StringMatch) key() string {
	return fmt.Sprintf("%d %q %q %t %d %d", m.Kind, m.Value, pattern(m.Regex), m.IgnoreCase, m.Low, m.High)
}

func pattern(re *regexp.Regexp) string {
	if re == nil {
		return ""
	}
	return re.String()
}
