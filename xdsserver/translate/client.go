package translate

import (
	"maps"
	"slices"
	"strings"
)

// Kind is the type of an xDS client, as far as it matters to what it is sent.
type Kind uint8

const (
	// Meshframe is this project's own data plane: gRPC's resources with more of Istio's policies.
	Meshframe Kind = iota
	// GRPC is any gRPC implementation's own xDS client.
	GRPC
)

// String returns "meshframe" or "grpc".
func (k Kind) String() string {
	if k == Meshframe {
		return "meshframe"
	}
	return "grpc"
}

// Client is what translation knows of who asks. Clients that are equal are sent the same bytes.
type Client struct {
	Kind      Kind
	Namespace string
	// Labels of the workload; only those that some rule reads matter, see World.Restrict.
	Labels map[string]string
	// NoLeastRequest says that a GRPC client refuses clusters with the policy LEAST_REQUEST.
	NoLeastRequest bool
}

// Key returns a text that is the same for equal clients only.
func (c Client) Key() string {
	var b strings.Builder
	b.WriteString(c.Kind.String())
	if c.NoLeastRequest {
		b.WriteString("-lr")
	}
	b.WriteString("/" + c.Namespace)
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		b.WriteString("/" + k + "=" + c.Labels[k])
	}
	return b.String()
}
