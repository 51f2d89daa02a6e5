package snapshot

import (
	"regexp"
	"time"

	"github.com/meshframe/meshframe/mesh/fault"
)

// HeaderAction says what an edit does with a header that is there, or is not
// (Envoy core.v3.HeaderValueOption.HeaderAppendAction).
type HeaderAction uint8

// The header actions.
const (
	AppendOrAdd HeaderAction = iota
	AddIfAbsent
	OverwriteOrAdd
	OverwriteIfExists
)

// HeaderEdit is one change of one header. Name is in lower case.
type HeaderEdit struct {
	Name, Value string
	Action      HeaderAction
}

// HeaderEdits are changes of the headers of a request or response: removals
// come first, then the edits in their order (Envoy *_headers_to_remove and
// *_headers_to_add).
type HeaderEdits struct {
	Remove []string
	Edits  []HeaderEdit
}

// Headers are the headers of a request or response that is being edited. Names
// are lower case.
type Headers interface {
	Header(name string) (value string, ok bool)
	Set(name, value string) // in place of all values that are there
	Add(name, value string)
	Del(name string)
}

// Apply makes the changes.
func (h *HeaderEdits) Apply(to Headers) {
	for _, name := range h.Remove {
		to.Del(name)
	}
	for i := range h.Edits {
		e := &h.Edits[i]
		_, there := to.Header(e.Name)
		switch {
		case e.Action == AppendOrAdd:
			to.Add(e.Name, e.Value)
		case e.Action == OverwriteOrAdd, e.Action == AddIfAbsent && !there, e.Action == OverwriteIfExists && there:
			to.Set(e.Name, e.Value)
		}
	}
}

// RegexRewrite replaces every match of Pattern. Substitution is in Go's syntax
// (${1}).
type RegexRewrite struct {
	Pattern      *regexp.Regexp
	Substitution string
}

// Rewrite changes what the upstream sees of a request. At most one of Prefix and
// Regex is set.
type Rewrite struct {
	// HasPrefix replaces the part of the path that the route's match consumed
	// (its prefix, or the whole path for an exact match) by Prefix.
	HasPrefix bool
	Prefix    string
	Regex     *RegexRewrite
	// Host replaces the authority; empty leaves it.
	Host string
}

// Redirect answers a request with another place to go to (Envoy
// route.v3.RedirectAction). A gRPC call fails with it.
type Redirect struct {
	Status    int    // 301, 302, 303, 307 or 308
	Scheme    string // "" keeps the request's
	Host      string // "" keeps the request's
	Port      uint32 // 0 keeps the request's
	Path      string // "" keeps the request's, or see Rewrite
	Rewrite   *Rewrite
	DropQuery bool
}

// DirectResponse answers a request without an upstream (Envoy
// route.v3.DirectResponseAction). A gRPC call gets the status that gRPC gives to
// the HTTP status.
type DirectResponse struct {
	Status int
	Body   string
}

// Mirror sends a copy of a share of the requests to another cluster, whose
// answers are compared and dropped (Envoy RouteAction.RequestMirrorPolicy).
type Mirror struct {
	Cluster  string
	Fraction fault.Fraction
	// KeepAuthority leaves the authority without the suffix "-shadow".
	KeepAuthority bool
}

// HashKind says what of a request is hashed.
type HashKind uint8

// The kinds of hash policy (Envoy RouteAction.HashPolicy).
const (
	HashHeader HashKind = iota
	HashCookie
	HashSourceIP
	HashQuery
	// HashChannel is one value for all calls of a channel (gRFC A42,
	// io.grpc.channel_id).
	HashChannel
)

// HashPolicy is one part of the key by which hashing policies choose a host.
type HashPolicy struct {
	Kind  HashKind
	Name  string        // of the header (lower case), cookie or query parameter
	Regex *RegexRewrite // applied to a header's value; nil leaves it
	// TTL, Path and Attributes are those of a cookie that is set when the request
	// has none; HasTTL says that it is to be set. TTL 0 is a session cookie. Of a
	// route's policies the first that misses its cookie sets one.
	HasTTL     bool
	TTL        time.Duration
	Path       string
	Attributes []HeaderEdit
	// Terminal ends the evaluation if this policy, or one before it, gave a value.
	Terminal bool
}

// Fallback is what happens to a call that found no host, or was refused by the
// half-open breaker. At most one of its parts is set. It comes from an extension
// of ours and not from a standard field.
type Fallback struct {
	Cluster string          // another cluster
	Reply   *DirectResponse // a fixed answer
	GRPC    *GRPCReply      // a fixed answer for gRPC
	Func    string          // a function that the application registered
}

// GRPCReply is a fixed answer to gRPC calls.
type GRPCReply struct {
	Code    int
	Message string
}

// Session keeps a client on the host that answered it first (Envoy
// stateful_session, gRFC A55): the host is named by a cookie or a header. One with
// neither switches off what a broader scope has.
type Session struct {
	Cookie string // name of the cookie; or
	Header string // name of the header, in lower case
	// Path and TTL are the cookie's: it is for requests below the path, "" is all,
	// and TTL 0 is a session cookie.
	Path       string
	TTL        time.Duration
	Attributes []HeaderEdit // further ones of the cookie
	// Strict fails a call whose host is gone instead of choosing another.
	Strict bool
}
