package support

import (
	"fmt"
	"strings"
)

// Type is a type of xDS client.
type Type uint8

const (
	// Meshframe is this project's library.
	Meshframe Type = iota
	// Sidecar is this project's proxy, which is to come.
	Sidecar
	// GRPCGo is the client of grpc-go itself.
	GRPCGo
	// GRPCJava is that of grpc-java.
	GRPCJava
	// GRPCCore is that of the C core, which C++, Python, Ruby, PHP and Objective-C have in common.
	GRPCCore
	// GRPCNode is that of grpc-js.
	GRPCNode
	// Envoy is the proxy, which is not served.
	Envoy

	types
)

var typeNames = [types]string{"meshframe", "sidecar", "grpc-go", "grpc-java", "grpc-core", "grpc-node", "envoy"}

// String returns a name such as "grpc-go".
func (t Type) String() string { return typeNames[t] }

// GRPC reports whether clients of the type are gRPC's own, in some language.
func (t Type) GRPC() bool { return t >= GRPCGo && t <= GRPCNode }

// Client is a client of a type, of some release.
type Client struct {
	Type
	Release Release // of a client of gRPC's own; zero is the newest
}

// Clients returns the newest client of every type.
func Clients() []Client {
	out := make([]Client, types)
	for t := range types {
		out[t].Type = t
	}
	return out
}

// String returns a name such as "grpc-go", with the release, if that is not the newest, as in "grpc-go@1.50".
func (c Client) String() string {
	if c.Release == (Release{}) {
		return c.Type.String()
	}
	return c.Type.String() + "@" + c.Release.String()
}

// MarshalText returns what String does.
func (c Client) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// ParseClient reads what String writes.
func ParseClient(s string) (Client, error) {
	name, release, hasRelease := strings.Cut(s, "@")
	for _, c := range Clients() {
		if c.Type.String() != name {
			continue
		}
		if !hasRelease {
			return c, nil
		}
		if !c.GRPC() {
			return c, fmt.Errorf("client %q: only gRPC's own clients are told apart by release", s)
		}
		var ok bool
		if c.Release, ok = ParseRelease(release); !ok {
			return c, fmt.Errorf("client %q: want a release such as 1.50 after the @", s)
		}
		return c, nil
	}
	return Client{}, fmt.Errorf("unknown client %q: want one of %s; gRPC's own may name a release, as grpc-core@1.51", s, strings.Join(typeNames[:], ", "))
}

// Served reports whether xdsserver serves the client at all.
func (c Client) Served() bool { return c.Refusal() == "" }

// served says who is.
const served = "xdsserver serves Meshframe's library and gRPC's own clients (C++, Go, Java, Node, Python and the other languages on the C core)"

// Refusal says why xdsserver refuses the streams of a client; "" when it serves it.
func (c Client) Refusal() string {
	switch {
	case c.Type == Envoy:
		return "Envoy is not served yet: " + served
	case c.Type == Sidecar:
		return "Meshframe's sidecar is not served yet: " + served
	case c.GRPC() && c.Release != (Release{}) && c.Release.Before(oldest[c.Type]):
		return fmt.Sprintf("%s is too old: %s, of %s from release %s on", c, served, c.Type, oldest[c.Type])
	default:
		return ""
	}
}
