package config

import (
	"fmt"
	"net/http"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
)

// The rules of this file are Istio's for single values (its package pkg/config/validation). Each returns what is wrong,
// "" when nothing is.

var (
	labelForm         = regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$`)
	wildcardLabelForm = regexp.MustCompile(`^(\*|(\*|\*-)?[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)$`)
	subdomainForm     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	labelKeyForm      = regexp.MustCompile(`^([a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$`)
	labelValueForm    = regexp.MustCompile(`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`)
	headerNameForm    = regexp.MustCompile("^[!#$%&'*+.^_`|~A-Za-z0-9-]+$")
	headerValueForm   = regexp.MustCompile(`^[^\x00-\x08\x0A-\x1F\x7F]*$`)
	pseudoHeaders     = []string{":method", ":scheme", ":authority", ":path", ":status"}
	// grpcStatuses are in the order of their numbers.
	grpcStatuses       = []string{"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"}
	portProtocols      = []string{"HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "MONGO", "MYSQL", "REDIS", "TCP", "TLS", "UDP"}
	retryConditions    = []string{"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "retriable-4xx", "refused-stream", "retriable-status-codes", "retriable-headers", "envoy-ratelimited", "http3-post-connect-failure", "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable"}
	maxLabel, maxName  = 63, 253
	maxDomain, maxRE   = 255, 1024
	unixPrefix         = "unix://"
	smallestPercentage = 0.0001
)

func isLabel(s string) bool { return len(s) <= maxLabel && labelForm.MatchString(s) }

func isSubdomain(s string) bool { return len(s) <= maxName && subdomainForm.MatchString(s) }

func isIP(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// isWildcard reports whether a host stands for several.
func isWildcard(host string) bool { return strings.HasPrefix(host, "*") }

// badFQDN judges a host name without wildcard.
func badFQDN(host string) string { return badName(host, false) }

// badHost judges a host name whose first part may be or begin with a wildcard. As in Istio, its only part may be a number.
func badHost(host string) string { return badName(host, true) }

func badName(host string, wildcard bool) string {
	switch {
	case host == "":
		return "a host name must not be empty"
	case len(host) > maxDomain:
		return fmt.Sprintf("a host name has at most %d characters", maxDomain)
	}
	labels := strings.Split(host, ".")
	for i, l := range labels {
		last := i == len(labels)-1
		switch {
		case i == 0 && wildcard && len(l) <= maxLabel && wildcardLabelForm.MatchString(l):
		case i == 0 && wildcard && strings.HasPrefix(l, "*"):
			return fmt.Sprintf("%q is no host name: %q is no wildcard", shorten(host), shorten(l))
		case l == "" && last && i > 0: // "example.com." is fine
		case last && l != "" && strings.Trim(l, "0123456789") == "":
			return fmt.Sprintf("%q is no host name: its last part is a number", shorten(host))
		case !isLabel(l):
			return fmt.Sprintf("%q is no host name: %q is no part of one", shorten(host), shorten(l))
		}
	}
	return ""
}

func badPort(port uint32) string {
	if port < 1 || port > 65535 {
		return fmt.Sprintf("a port is from 1 to 65535, not %d", port)
	}
	return ""
}

// badDuration judges the durations that Istio wants: at least a millisecond, and whole ones.
func badDuration(d *durationpb.Duration) string {
	switch v := d.AsDuration(); {
	case v < time.Millisecond:
		return fmt.Sprintf("want at least 1ms, have %s", v)
	case v%time.Millisecond != 0:
		return fmt.Sprintf("want whole milliseconds, have %s", v)
	}
	return ""
}

// badTimeout is badDuration, with 0 as "no limit".
func badTimeout(d *durationpb.Duration) string {
	if d.AsDuration() == 0 {
		return ""
	}
	return badDuration(d)
}

// badInterval judges the durations that Istio leaves as they are, but for their precision: what is below a millisecond
// counts as 0.
func badInterval(d *durationpb.Duration) string {
	if v := d.AsDuration(); v >= 0 && v < time.Millisecond {
		return ""
	}
	return badDuration(d)
}

func badPercent(p float64) string {
	switch {
	case p < 0 || p > 100:
		return fmt.Sprintf("a percentage is from 0 to 100, not %v", p)
	case p > 0 && p < smallestPercentage:
		return fmt.Sprintf("the smallest percentage above 0 is %v, have %v", smallestPercentage, p)
	}
	return ""
}

func badRegex(re string) string {
	switch {
	case re == "":
		return "a regular expression must not be empty"
	case len(re) > maxRE:
		return fmt.Sprintf("a regular expression has at most %d characters, this one %d", maxRE, len(re))
	}
	if _, err := regexp.Compile(re); err != nil {
		return fmt.Sprintf("not a regular expression of RE2: %s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	return ""
}

// badLabel judges a label. Values may be longer than those of Kubernetes' labels: workloads outside have some of their own.
func badLabel(key, value string) string {
	slash := strings.LastIndexByte(key, '/')
	switch {
	case !labelKeyForm.MatchString(key) || slash > maxName || len(key)-slash-1 > maxLabel:
		return fmt.Sprintf("%q is no label name", shorten(key))
	case !labelValueForm.MatchString(value):
		return fmt.Sprintf("%q is no label value", shorten(value))
	}
	return ""
}

func badCIDR(s string) string {
	if _, err := netip.ParsePrefix(s); err == nil || isIP(s) {
		return ""
	}
	return fmt.Sprintf("want an IP address or a block such as 10.0.0.0/8, have %q", shorten(s))
}

func badUnixPath(s string) string {
	if strings.HasPrefix(s, "@") || path.IsAbs(s) && !strings.HasSuffix(s, "/") {
		return ""
	}
	return fmt.Sprintf("want the absolute path of a socket, or @name for an abstract one, have %q", shorten(s))
}

func badHeaderName(s string) string {
	switch {
	case s == "":
		return "a header name must not be empty"
	case !headerNameForm.MatchString(s):
		return fmt.Sprintf("%q is no header name", shorten(s))
	}
	return ""
}

func badHeaderMatchName(s string) string {
	if slices.Contains(pseudoHeaders, s) || isClaim(s) {
		return ""
	}
	return badHeaderName(s)
}

// isClaim reports whether the name of a header stands for a claim of the caller's token: "@request.auth.claims.group" or
// "@request.auth.claims[group]".
func isClaim(header string) bool {
	const prefix = "@request.auth.claims"
	if len(header) < len(prefix) || !strings.EqualFold(header[:len(prefix)], prefix) {
		return false
	}
	name := header[len(prefix):]
	return len(name) > 1 && name[0] == '.' || len(name) > 2 && name[0] == '[' && strings.HasSuffix(name, "]")
}

// badHeaderEdit judges a header that a rule sets or removes; only a request's authority may be set of the headers that
// are not the caller's.
func badHeaderEdit(name string, authority bool) string {
	if authority && isAuthority(name) {
		return ""
	}
	switch {
	case name == "":
		return "a header name must not be empty"
	case strings.HasPrefix(name, ":"), strings.EqualFold(name, "host"):
		return fmt.Sprintf("%q cannot be changed by a rule", name)
	}
	return ""
}

func isAuthority(name string) bool {
	return strings.EqualFold(name, ":authority") || strings.EqualFold(name, "host")
}

// badHeaderValue judges a value, in which %NAME% or %NAME(arguments)% is a variable and %% a percent sign.
func badHeaderValue(s string) string {
	if !headerValueForm.MatchString(s) {
		return "a header value has no control characters"
	}
	for rest := s; ; {
		_, after, found := strings.Cut(rest, "%")
		if !found {
			return ""
		}
		if literal, ok := strings.CutPrefix(after, "%"); ok {
			rest = literal
			continue
		}
		name, _, found := strings.Cut(after, "%")
		if !found {
			return fmt.Sprintf("%q has a single %%; write %%%% for the character", shorten(s))
		}
		if name, _, call := strings.Cut(name, "("); call {
			end := argumentsEnd(after[len(name)+1:])
			if end < 0 {
				return fmt.Sprintf("%q has a variable with arguments that do not end: want %%NAME(argument)%% or %%NAME([\"argument\"])%%", shorten(s))
			}
			rest = after[len(name)+1+end:]
			continue
		}
		rest = after[len(name)+1:]
	}
}

// argument is what is expected within the arguments of a variable.
type argument uint8

const (
	beginning argument = iota // "[", or a text without quotes
	text                      // more of a text, up to a quote or ")"
	quote                     // a text in quotes
	between                   // "," or "]"
	closing                   // ")"
	percent                   // the percent sign at the end
)

// argumentSteps is what follows a character that is expected.
var argumentSteps = map[argument]map[byte]argument{
	beginning: {'[': quote},
	text:      {')': percent, '"': between},
	quote:     {'"': text},
	between:   {',': quote, ']': closing},
	closing:   {')': percent},
}

// argumentsEnd returns where the arguments of a variable, and the percent sign after them, end; -1 if they do not. They
// are a list of texts in quotes, or one text without.
func argumentsEnd(s string) int {
	expected := beginning
	for i := 0; i < len(s); i++ {
		c := s[i]
		next, ok := argumentSteps[expected][c]
		switch {
		case ok:
			expected = next
		case expected == text && c == '\\':
			i++ // whatever follows is a part of the text
		case expected == text, c == ' ':
		case expected == beginning:
			expected = text
		case expected == percent && c == '%':
			return i + 1
		default:
			return -1
		}
	}
	return -1
}

func badHTTPStatus(status int64) string {
	if status < 200 || status > 599 {
		return fmt.Sprintf("want an HTTP status from 200 to 599, have %d", status)
	}
	return ""
}

func badGRPCStatus(s string) string {
	if slices.Contains(grpcStatuses, s) {
		return ""
	}
	if near := nearest(s, grpcStatuses); near != "" {
		return fmt.Sprintf("unknown gRPC status %q; did you mean %s?", shorten(s), near)
	}
	return fmt.Sprintf("unknown gRPC status %q; want a name such as UNAVAILABLE", shorten(s))
}

func badProtocol(s string) string {
	if s == "" || protocolIsHTTP(s) || slices.Contains(portProtocols, strings.ToUpper(s)) {
		return ""
	}
	return fmt.Sprintf("unknown protocol %q; want one of %s", shorten(s), strings.Join(portProtocols, ", "))
}

func badPortName(s string) string {
	if isLabel(s) {
		return ""
	}
	return fmt.Sprintf("%q is no port name: want letters, digits and '-'", shorten(s))
}

func badSubset(s string) string {
	if isLabel(s) {
		return ""
	}
	return fmt.Sprintf("%q is no subset name: want letters, digits and '-'", shorten(s))
}

func badRetryOn(condition string) string {
	switch {
	case slices.Contains(retryConditions, condition):
		return ""
	case condition == "":
		return "an empty condition: nothing stands before or after a comma"
	}
	if code, err := strconv.Atoi(condition); err == nil && http.StatusText(code) != "" {
		return ""
	}
	if near := nearest(condition, retryConditions); near != "" {
		return fmt.Sprintf("unknown condition %q; did you mean %s?", shorten(condition), near)
	}
	return fmt.Sprintf("unknown condition %q; want HTTP statuses or some of %s", shorten(condition), strings.Join(retryConditions, ", "))
}

// protocolIsHTTP and protocolIsTLS sort the protocols of ports.
func protocolIsHTTP(s string) bool {
	return slices.Contains([]string{"HTTP", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY"}, strings.ToUpper(s))
}

func protocolIsTLS(s string) bool {
	return slices.Contains([]string{"HTTPS", "TLS"}, strings.ToUpper(s))
}

// hostMatches reports whether two hosts, each perhaps a wildcard, have a name in common.
func hostMatches(a, b string) bool {
	switch {
	case isWildcard(a) && isWildcard(b):
		return strings.HasSuffix(a[1:], b[1:]) || strings.HasSuffix(b[1:], a[1:])
	case isWildcard(a):
		return strings.HasSuffix(b, a[1:])
	case isWildcard(b):
		return strings.HasSuffix(a, b[1:])
	default:
		return a == b
	}
}
