package srvframe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"google.golang.org/grpc/resolver"
)

// The schemes of targets that go through the mesh.
const (
	meshScheme = "mesh"
	xdsScheme  = "xds"
)

// defaultPort is the port of a target that names none: gRPC's own.
const defaultPort = "443"

// isMeshTarget reports whether a target asks for the mesh by its scheme.
func isMeshTarget(target string) bool {
	scheme, _, found := strings.Cut(target, ":")
	return found && strings.EqualFold(scheme, meshScheme)
}

// destination says where a client's target leads.
type destination struct {
	host    string // host:port in the mesh; empty when the target stays outside
	outside string // why the target stays outside
}

// resolve decides whether a target goes through a mesh. It reads the target as
// gRPC does: what stands before a colon is a scheme only if a resolver serves
// it, which makes reviews:9080 a bare host and port.
func resolve(target string, options dialRecord) (destination, error) {
	u, err := url.Parse(target)
	if err != nil {
		return bareDestination(target, options), nil
	}
	_, callers := options.resolvers[u.Scheme]
	switch {
	case u.Scheme == meshScheme:
		return meshDestination(target, u)
	case u.Scheme == xdsScheme && !callers && u.Host == "":
		return meshDestination(target, u)
	case callers || resolver.Get(u.Scheme) != nil || strings.Contains(target, "://"):
		return destination{outside: "its scheme is " + u.Scheme}, nil
	}
	return bareDestination(target, options), nil
}

// meshDestination reads mesh:///host:port and xds:///host:port. A name without
// a port stands for the listener of that very name, as in gRPC's xds scheme.
func meshDestination(target string, u *url.URL) (destination, error) {
	endpoint := u.Opaque
	if endpoint == "" {
		endpoint = strings.TrimPrefix(u.Path, "/")
	}
	if u.Host != "" {
		return destination{}, fmt.Errorf("srvframe: target %q: want %s:///host:port, with three slashes", target, u.Scheme)
	}
	if endpoint != "" && isHostname(endpoint) {
		return destination{host: endpoint}, nil
	}
	host, err := meshHost(endpoint)
	if err != nil {
		return destination{}, fmt.Errorf("srvframe: target %q: %w", target, err)
	}
	return destination{host: host}, nil
}

// bareDestination reads a target without a scheme.
func bareDestination(target string, options dialRecord) destination {
	if options.dialer {
		return destination{outside: "it has a custom dialer"}
	}
	host, err := meshHost(target)
	if err != nil {
		return destination{outside: err.Error()}
	}
	name, _, _ := net.SplitHostPort(host)
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return destination{outside: "it is on this host"}
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return destination{outside: "it is an address"}
	}
	return destination{host: host}
}

var (
	errNoHost = errors.New("it names no host")
	errHost   = errors.New("it is not host:port")
)

// meshHost returns host:port in lower case, with the port that gRPC takes when
// the endpoint has none.
func meshHost(endpoint string) (string, error) {
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil {
		host, port = strings.Trim(endpoint, "[]"), defaultPort
	}
	if host == "" {
		return "", errNoHost
	}
	if err := checkPort(port); err != nil {
		return "", err
	}
	if _, err := netip.ParseAddr(host); err != nil && !isHostname(host) {
		return "", errHost
	}
	return net.JoinHostPort(strings.ToLower(host), port), nil
}

// isHostname reports whether the text can be a DNS name; underscores are taken
// for good, as in many a container's name.
func isHostname(text string) bool {
	for _, r := range text {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '_', r == '.':
		default:
			return false
		}
	}
	return true
}
