// Package route holds the matchers of a route configuration and compiles them
// so that the first match wins without looking at every route.
//
// This package makes no promise of a stable API.
package route

import "regexp"

// Headers looks up request headers for the matchers. Names are lower case;
// :authority, :path, :method and :scheme are answered by the engine itself.
// Several values of a header are joined with a comma, as Envoy and gRPC do, but
// those of cookie by "; ".
type Headers interface {
	Header(name string) (value string, ok bool)
}

// PathKind says how PathMatch.Value is compared.
type PathKind uint8

// The kinds of path match (Envoy route.v3.RouteMatch path_specifier).
const (
	PathPrefix PathKind = iota // the zero Match matches every path
	PathExact
	PathRegex
	PathSeparatedPrefix
)

// Match is the condition of one route. Its parts must all hold.
type Match struct {
	Path       PathKind
	Value      string         // the path or prefix
	Regex      *regexp.Regexp // for PathRegex: anchored at both ends
	IgnoreCase bool           // for exact and prefixes
	Headers    []HeaderMatch
	Query      []QueryMatch // never true for gRPC
	// Fraction is the probability, in millionths, that the route is considered;
	// HasFraction says whether it is set (Envoy runtime_fraction).
	HasFraction bool
	Fraction    uint32
}

// StringKind says how a StringMatch compares.
type StringKind uint8

// The kinds of string match (Envoy type.matcher.v3.StringMatcher).
const (
	StringExact StringKind = iota
	StringPrefix
	StringSuffix
	StringContains
	StringRegex
	StringPresent // any value
	StringRange   // an integer in [Low, High)
)

// StringMatch compares one string.
type StringMatch struct {
	Kind       StringKind
	Value      string
	Regex      *regexp.Regexp // anchored at both ends
	IgnoreCase bool
	Low, High  int64
}

// HeaderMatch is a condition on one header (Envoy route.v3.HeaderMatcher).
type HeaderMatch struct {
	Name string // lower case
	StringMatch
	Invert bool
	// TreatMissingAsEmpty compares "" when the header is absent. Without it an
	// absent header never matches, not even inverted (but for StringPresent).
	TreatMissingAsEmpty bool
}

// QueryMatch is a condition on one query parameter.
type QueryMatch struct {
	Name string
	StringMatch
}
