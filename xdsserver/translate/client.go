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

// Implementation tells gRPC's implementations apart where they differ.
type Implementation uint8

const (
	// OtherGRPC is any that is not below, or says nothing about itself.
	OtherGRPC Implementation = iota
	// GRPCGo is grpc-go.
	GRPCGo
	// GRPCJava is grpc-java.
	GRPCJava
)

// leastRequest says that an implementation knows the policy LEAST_REQUEST (gRFC A48). The others refuse the cluster.
func (i Implementation) leastRequest() bool { return i != OtherGRPC }

// Client is what translation knows of who asks. Clients that are equal are sent the same bytes.
type Client struct {
	Kind      Kind
	Namespace string
	// Labels of the workload; only those that some rule reads matter, see World.Restrict.
	Labels map[string]string
	// Implementation of a GRPC client.
	Implementation Implementation
}

// Key returns a text that is the same for equal clients only.
func (c Client) Key() string {
	var b strings.Builder
	b.WriteString(c.Kind.String())
	b.WriteString([...]string{"", "-go", "-java"}[c.Implementation])
	b.WriteString("/" + c.Namespace)
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		b.WriteString("/" + k + "=" + c.Labels[k])
	}
	return b.String()
}
