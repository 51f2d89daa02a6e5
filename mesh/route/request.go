package route

import "strings"

// Request is what matchers look at: one call, free of any protocol's types.
type Request struct {
	Authority string // host or host:port; any case
	Path      string // with a leading slash; with the query, if there is one
	Method    string
	Scheme    string
	Headers   Headers // may be nil
	IsGRPC    bool    // query parameters never match, and a path has no query
}

// header is what a matcher on the named header sees: pseudo headers are made
// from the request itself.
func (r *Request) header(n *headerName) (value string, ok bool) {
	switch n.pseudo {
	case notPseudo:
		if r.Headers == nil {
			return "", false
		}
		return r.Headers.Header(n.name)
	case pseudoPath:
		return r.Path, true
	case pseudoMethod:
		return r.Method, r.Method != ""
	case pseudoAuthority:
		return r.Authority, r.Authority != ""
	default:
		return r.Scheme, r.Scheme != ""
	}
}

// split parts the path from its query.
func (r *Request) split() (path, query string) {
	if r.IsGRPC {
		return r.Path, ""
	}
	path, _, _ = strings.Cut(r.Path, "#")
	path, query, _ = strings.Cut(path, "?")
	return path, query
}

// headerName is a header's name with what was learned of it at compile time.
type headerName struct {
	name   string
	pseudo pseudo
}

type pseudo uint8

const (
	notPseudo pseudo = iota
	pseudoPath
	pseudoMethod
	pseudoAuthority
	pseudoScheme
)

func newHeaderName(name string) *headerName {
	n := &headerName{name: name}
	switch name {
	case ":path":
		n.pseudo = pseudoPath
	case ":method":
		n.pseudo = pseudoMethod
	case ":authority", "host": // one header under two names
		n.pseudo = pseudoAuthority
	case ":scheme":
		n.pseudo = pseudoScheme
	}
	return n
}
