package route

import (
	"cmp"
	"slices"
	"strings"
)

// FindHost returns the index of the virtual host that serves an authority, or
// -1. Each element of domains holds the domains of one virtual host. The order
// is Envoy's: an exact domain first, then the longest suffix wildcard
// ("*.example.com"), then the longest prefix wildcard ("example.*"), then "*";
// of equals the first wins. Domains are compared without regard to case, and a
// wildcard stands for at least one character. A port is part of the authority.
//
// It looks at every domain once. To ask the same list often, make a Hosts.
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
type hostRank struct {
	kind   domainKind
	length int
}

func (r hostRank) above(o hostRank) bool {
	if r.kind != o.kind {
		return r.kind > o.kind
	}
	return r.length > o.length
}

type domainKind uint8

const (
	noDomain domainKind = iota
	anyDomain
	prefixDomain
	suffixDomain
	exactDomain
)

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
func splitDomain(domain string) (domainKind, string) {
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

// Hosts answers as FindHost does, at a cost that does not depend on how many
// virtual hosts there are. It is immutable.
type Hosts struct {
	exact              *index[int]
	suffix, prefix     *index[int] // by the text beside the wildcard
	suffixes, prefixes []int       // the lengths of these texts, longest first
	any                int
}

// NewHosts prepares the domains of virtual hosts, in their order.
func NewHosts(domains [][]string) *Hosts {
	byKind := map[domainKind]map[string]int{anyDomain: {}, prefixDomain: {}, suffixDomain: {}, exactDomain: {}}
	for i, list := range domains {
		for _, domain := range list {
			kind, literal := splitDomain(lowerText(domain))
			if _, taken := byKind[kind][literal]; !taken {
				byKind[kind][literal] = i
			}
		}
	}
	h := &Hosts{
		exact: newIndex(byKind[exactDomain]), suffix: newIndex(byKind[suffixDomain]),
		prefix: newIndex(byKind[prefixDomain]), any: -1,
		suffixes: lengths(byKind[suffixDomain]), prefixes: lengths(byKind[prefixDomain]),
	}
	if i, ok := byKind[anyDomain][""]; ok {
		h.any = i
	}
	return h
}

// Find returns the index of the virtual host that serves the authority, or -1.
// It allocates only if the authority has upper-case letters.
func (h *Hosts) Find(authority string) int {
	authority = lowerText(authority)
	if i, ok := h.exact.get(authority); ok {
		return i
	}
	for _, n := range h.suffixes {
		if n < len(authority) {
			if i, ok := h.suffix.get(authority[len(authority)-n:]); ok {
				return i
			}
		}
	}
	for _, n := range h.prefixes {
		if n < len(authority) {
			if i, ok := h.prefix.get(authority[:n]); ok {
				return i
			}
		}
	}
	return h.any
}

// lengths returns the different lengths of the keys, longest first.
func lengths(keys map[string]int) []int {
	var ns []int
	for key := range keys {
		ns = append(ns, len(key))
	}
	slices.SortFunc(ns, func(a, b int) int { return cmp.Compare(b, a) })
	return slices.Compact(ns)
}
