package route

import "strings"

// Request is what matchers look at: one call, free of any protocol's types.
type Request struct {
	Authority string // host or host:port; any case
	Path      string // with a leading slash; with the query, if there is one
	Method    string
	Scheme    string
	Headers   Headers // may be nil
	Source    Source  // may be nil
	Channel   uint64  // identifies the connection pool of the caller; 0: that of the target
	IsGRPC    bool    // query parameters never match, and a path has no query
}

// Source says who calls. It is asked only where a policy wants to know.
type Source interface {
	// SourceIP is the caller's IP address as text; "" if it is not known.
	SourceIP() string
}

// Header returns a header of the request, or one of its pseudo headers.
func (r *Request) Header(name string) (value string, ok bool) {
	return r.header(&headerName{name: name, pseudo: pseudoOf(name)})
}

// QueryParameter returns the first value of a query parameter, as it was sent.
func (r *Request) QueryParameter(name string) (value string, ok bool) {
	_, query := r.split()
	for part := range strings.SplitSeq(query, "&") {
		if key, value, _ := strings.Cut(part, "="); key == name {
			return value, true
		}
	}
	return "", false
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

func newHeaderName(name string) *headerName { return &headerName{name: name, pseudo: pseudoOf(name)} }

func pseudoOf(name string) pseudo {
	switch name {
	case ":path":
		return pseudoPath
	case ":method":
		return pseudoMethod
	case ":authority", "host": // one header under two names
		return pseudoAuthority
	case ":scheme":
		return pseudoScheme
	}
	return notPseudo
}
