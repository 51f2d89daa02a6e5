package decode

// pending are the policies that are read and that nothing acts on yet: each is
// noted where it is set, so that none is ignored in silence. An entry goes when
// its policy works.
var pending = map[string]bool{
	"redirect":                         true,
	"direct_response":                  true,
	"rewrite":                          true,
	"header edits":                     true,
	"mirrors":                          true,
	"hash policy":                      true,
	"hedging":                          true,
	"idle timeout":                     true,
	"retriable headers":                true,
	"reset headers":                    true,
	"previous priorities":              true,
	"rate limit":                       true,
	"fallback":                         true,
	"ring hash":                        true,
	"maglev":                           true,
	"peak ewma":                        true,
	"active request bias":              true,
	"slow start":                       true,
	"locality weights":                 true,
	"host names for hashing":           true,
	"subset of the hosts":              true,
	"retry budget":                     true,
	"half-open breaker":                true,
	"session":                          true,
	"aggregate":                        true,
	"local-origin outlier detection":   true,
	"faults on servers":                true,
	"rate limit on servers":            true,
	"bound of concurrent server calls": true,
}

const pendingText = "is read, and not acted on yet"

// pending notes a policy that is set at s, if nothing acts on it yet.
func (s *scope) pending(policy string) {
	if pending[policy] {
		s.notef(pendingText)
	}
}
