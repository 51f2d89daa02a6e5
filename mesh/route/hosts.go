package route

import "strings"

// FindHost returns the index of the virtual host that serves an authority, or
// -1. Each element of domains holds the domains of one virtual host. The order
// is Envoy's: an exact domain first, then the longest suffix wildcard
// ("*.example.com"), then the longest prefix wildcard ("example.*"), then "*";
// of equals the first wins. Domains are compared without regard to case, and a
// wildcard stands for at least one character. A port is part of the authority.
//
// It looks at every domain once; for many questions to the same list see Hosts.
func FindHost(domains [][]string, authority string) int {
	best, bestRank := -1, hostRank{}
	for i, list := range domains {
		for _, domain := range list {
			if rank, ok := rankDomain(domain, authority); ok && rank.above(bestRank) {
				best, bestRank = i, rank
			}
		}
	}
	return best
}

// hostRank orders the domains that match an authority; the zero rank is below
// all others.
type hostRank struct{ kind, length int }

const (
	noDomain = iota
	anyDomain
	prefixDomain
	suffixDomain
	exactDomain
)

func (r hostRank) above(o hostRank) bool {
	if r.kind != o.kind {
		return r.kind > o.kind
	}
	return r.length > o.length
}

func rankDomain(domain, authority string) (hostRank, bool) {
	kind, literal := splitDomain(domain)
	rank := hostRank{kind, len(literal)}
	switch kind {
	case anyDomain:
		return rank, true
	case suffixDomain:
		return rank, len(authority) > len(literal) && hasSuffix(authority, literal, true)
	case prefixDomain:
		return rank, len(authority) > len(literal) && hasPrefix(authority, literal, true)
	default:
		return rank, equalFold(authority, literal)
	}
}

// splitDomain parts a domain into its kind and the text beside the wildcard.
func splitDomain(domain string) (kind int, literal string) {
	switch {
	case domain == "*":
		return anyDomain, ""
	case strings.HasPrefix(domain, "*"):
		return suffixDomain, domain[1:]
	case strings.HasSuffix(domain, "*"):
		return prefixDomain, domain[:len(domain)-1]
	default:
		return exactDomain, domain
	}
}
