package snapshot

import (
	"strconv"
	"strings"

	"github.com/meshframe/meshframe/mesh/route"
)

// Path returns what the upstream is to see in place of path, which may have a
// query: the query is kept. Without a rewrite it returns path itself.
func (a *Actions) Path(path string) string { return a.path.apply(path) }

// Host returns the authority that the upstream is to see; "" keeps the call's.
func (a *Actions) Host() string { return a.host }

// pathRewrite is a Rewrite of a path with the route's match worked in.
type pathRewrite struct {
	regex  *RegexRewrite // or
	prefix string
	// consumed is the length of what prefix replaces; below 0 the whole path.
	consumed int
}

// newPathRewrite returns nil if w leaves paths as they are.
func newPathRewrite(m *route.Match, w *Rewrite) *pathRewrite {
	switch {
	case w == nil || w.Regex == nil && !w.HasPrefix:
		return nil
	case w.Regex != nil:
		return &pathRewrite{regex: w.Regex}
	case m.Path == route.PathExact || m.Path == route.PathRegex:
		return &pathRewrite{prefix: w.Prefix, consumed: -1}
	}
	return &pathRewrite{prefix: w.Prefix, consumed: len(m.Value)}
}

func (p *pathRewrite) apply(path string) string {
	if p == nil {
		return path
	}
	end := len(path)
	if i := strings.IndexAny(path, "?#"); i >= 0 {
		end = i
	}
	switch {
	case p.regex != nil:
		return p.regex.replace(path[:end]) + path[end:]
	case p.consumed < 0 || p.consumed > end:
		return p.prefix + path[end:]
	}
	return p.prefix + path[p.consumed:]
}

func (r *RegexRewrite) replace(s string) string {
	return r.Pattern.ReplaceAllString(s, r.Substitution)
}

// Location is where the redirect sends a request: an absolute URL. It is to be
// called only if Redirect is set.
func (a *Actions) Location(scheme, authority, path string) string {
	r := a.Redirect
	to := r.Scheme
	if to == "" {
		to = scheme
	}
	host := r.Host
	if host == "" {
		host = redirectedHost(authority, scheme, to, r.Port)
	}
	if r.Port != 0 {
		host += ":" + strconv.FormatUint(uint64(r.Port), 10)
	}
	return to + "://" + host + a.redirected(path)
}

// redirectedHost is the request's authority without its port, where another
// takes its place or it was the default one of the scheme that is left.
func redirectedHost(authority, from, to string, port uint32) string {
	i := strings.LastIndexByte(authority, ':')
	if i < 0 || strings.HasSuffix(authority, "]") {
		return authority
	}
	left := authority[i:]
	standard := from == "http" && left == ":80" || from == "https" && left == ":443"
	if port != 0 || from != to && standard {
		return authority[:i]
	}
	return authority
}

// redirected is the path and query of the redirect's target. A query in the
// configured path stands; else the request's is kept unless it is to be dropped.
func (a *Actions) redirected(path string) string {
	r := a.Redirect
	query := ""
	if i := strings.IndexByte(path, '?'); i >= 0 && !r.DropQuery {
		query = path[i:]
	}
	if r.Path != "" {
		if strings.Contains(r.Path, "?") {
			return r.Path
		}
		return r.Path + query
	}
	path, _, _ = strings.Cut(path, "?")
	return a.redirectPath.apply(path) + query
}

// Authority is what the copy of a request is sent to: the request's own with
// "-shadow" behind the host, unless the policy keeps it.
func (m *Mirror) Authority(authority string) string {
	if m.KeepAuthority {
		return authority
	}
	if i := strings.LastIndexByte(authority, ':'); i >= 0 && !strings.HasSuffix(authority, "]") {
		return authority[:i] + "-shadow" + authority[i:]
	}
	return authority + "-shadow"
}
