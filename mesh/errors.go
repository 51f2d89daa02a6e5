package mesh

import (
	"fmt"
	"strings"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

// Kind says why a call could not be decided.
type Kind uint8

// The kinds of RouteError.
const (
	// NoConfig: the target has no configuration (yet, or it does not exist).
	NoConfig Kind = iota
	// NoVirtualHost: no virtual host serves the call's authority.
	NoVirtualHost
	// NoRoute: no route of the virtual host matches.
	NoRoute
	// Refused: the configuration that would decide the call leads nowhere, or was
	// refused and has no last good version.
	Refused
	// ClusterMissing: the cluster that was drawn does not exist, has not
	// arrived, or was refused and has no last good version.
	ClusterMissing
)

// String returns the kind in words.
func (k Kind) String() string {
	switch k {
	case NoConfig:
		return "no configuration"
	case NoVirtualHost:
		return "no virtual host"
	case NoRoute:
		return "no route matches"
	case Refused:
		return "unusable configuration"
	case ClusterMissing:
		return "cluster unavailable"
	}
	return fmt.Sprintf("Kind(%d)", k)
}

// RouteError is why a call cannot be sent anywhere. Its text names the host.
type RouteError struct {
	Kind        Kind
	Host        string // the call's authority
	Path        string
	VirtualHost string // if one was found
	Route       string // name of the route, if one was found and has a name
	Cluster     string // if one was drawn
	Err         error  // the cause, if there is more to say
}

// Error returns one line that names the host and the cause.
func (e *RouteError) Error() string {
	var b strings.Builder
	b.WriteString("mesh: ")
	if e.Host != "" {
		b.WriteString(e.Host + ": ")
	}
	b.WriteString(e.Kind.String())
	switch e.Kind {
	case NoRoute:
		fmt.Fprintf(&b, " %s", e.Path)
	case ClusterMissing:
		fmt.Fprintf(&b, ": %s", e.Cluster)
	case Refused:
		if e.Route != "" {
			fmt.Fprintf(&b, ": route %s", e.Route)
		}
	default: // the host says it
	}
	if e.VirtualHost != "" && e.Kind != ClusterMissing {
		fmt.Fprintf(&b, " (virtual host %s)", e.VirtualHost)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *RouteError) Unwrap() error { return e.Err }

func notConfigured(s *snapshot.Snapshot, r *Request) error {
	e := &RouteError{Kind: NoConfig, Host: r.Authority, Path: r.Path, Err: errNotConfigured}
	if s != nil {
		e.Host, e.Err = hostOf(s, r), s.Err
	}
	return e
}

// unrouted is why no route takes the call: of its virtual host, which may be nil, or
// of the route that would.
func unrouted(s *snapshot.Snapshot, r *Request, h *snapshot.VirtualHostEntry, entry *snapshot.RouteEntry) error {
	e := &RouteError{Kind: NoVirtualHost, Host: hostOf(s, r), Path: r.Path}
	if h != nil {
		e.VirtualHost = h.Name
	}
	switch {
	case h == nil:
	case h.Err != nil:
		e.Kind, e.Err = Refused, h.Err
	case entry == nil:
		e.Kind = NoRoute
	default:
		e.Kind, e.Err, e.Route = Refused, entry.Err, entry.Name
	}
	return e
}

// unforwarded is why the call cannot go to the cluster that was drawn: up says so, or
// is not there. It is nil for a route that forwards nothing.
func unforwarded(s *snapshot.Snapshot, r *Request, d *Decision, cluster string, up *snapshot.Upstream) error {
	if cluster == "" {
		return nil
	}
	cause := errNotSubscribed
	if up != nil {
		cause = up.Err
	}
	return &RouteError{
		Kind: ClusterMissing, Host: hostOf(s, r), Path: r.Path, VirtualHost: d.VirtualHost(),
		Route: d.Route.Name, Cluster: cluster, Err: cause,
	}
}

func hostOf(s *snapshot.Snapshot, r *Request) string {
	switch {
	case r.Authority != "":
		return r.Authority
	case s.Authority != "":
		return s.Authority
	}
	return s.Target
}
