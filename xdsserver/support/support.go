package support

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// Client is a type of xDS client.
type Client uint8

const (
	// Meshframe is this project's library.
	Meshframe Client = iota
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
	// Envoy is the proxy, which is not served yet.
	Envoy
)

var clientNames = [...]string{"meshframe", "meshframe-sidecar", "grpc-go", "grpc-java", "grpc-core", "grpc-node", "envoy"}

// Clients returns every type of client.
func Clients() []Client {
	return []Client{Meshframe, Sidecar, GRPCGo, GRPCJava, GRPCCore, GRPCNode, Envoy}
}

// String returns a name such as "grpc-go".
func (c Client) String() string { return clientNames[c] }

// MarshalText returns what String does.
func (c Client) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// ParseClient reads what String writes.
func ParseClient(s string) (Client, error) {
	for _, c := range Clients() {
		if c.String() == s {
			return c, nil
		}
	}
	return 0, fmt.Errorf("unknown client %q: want one of %s", s, strings.Join(clientNames[:], ", "))
}

// GRPC reports whether the client is gRPC's own, in some language.
func (c Client) GRPC() bool { return c >= GRPCGo && c <= GRPCNode }

// Served reports whether xdsserver serves the client at all.
func (c Client) Served() bool { return c != Sidecar && c != Envoy }

// Outcome says what becomes of a field.
type Outcome uint8

const (
	// Supported: the field does what Istio documents.
	Supported Outcome = iota
	// Degraded: calls work, without what the field asks for; the reason says what happens instead.
	Degraded
	// Rejected: calls that the field concerns fail, or the configuration is refused.
	Rejected
	// NotServed: the field is accepted, and nothing is made of it yet.
	NotServed
)

var outcomeNames = [...]string{"supported", "degraded", "rejected", "not served yet"}

// String returns "supported", "degraded", "rejected" or "not served yet".
func (o Outcome) String() string { return outcomeNames[o] }

// MarshalText returns what String does.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// Verdict is an outcome and why.
type Verdict struct {
	Outcome Outcome
	// Reason is half a sentence; with Supported it may be "".
	Reason string
}

// String writes the outcome and, after a colon, the reason.
func (v Verdict) String() string {
	if v.Reason == "" {
		return v.Outcome.String()
	}
	return v.Outcome.String() + ": " + v.Reason
}

// Entry is what becomes of one field of one object for one type of client.
type Entry struct {
	Client Client
	Object *config.Meta
	Field  string // such as spec.http[0].mirror; "" is the whole object
	Line   int    // of the field
	Verdict
}

// String writes the entry on one line: "file:line: Kind namespace/name: field: outcome for client: reason".
func (e Entry) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d: %s: ", e.Object.Source.File, e.Line, e.Object.ID())
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	fmt.Fprintf(&b, "%s for %s", e.Outcome, e.Client)
	if e.Reason != "" {
		b.WriteString(": " + e.Reason)
	}
	return b.String()
}

// MarshalJSON writes the entry as an object with the fields client, file, line, kind, namespace, name, field, outcome and
// reason.
func (e Entry) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Client    Client  `json:"client"`
		File      string  `json:"file"`
		Line      int     `json:"line"`
		Kind      string  `json:"kind"`
		Namespace string  `json:"namespace"`
		Name      string  `json:"name"`
		Field     string  `json:"field,omitempty"`
		Outcome   Outcome `json:"outcome"`
		Reason    string  `json:"reason,omitempty"`
	}{e.Client, e.Object.Source.File, e.Line, e.Object.Kind, e.Object.Namespace, e.Object.Name, e.Field, e.Outcome, e.Reason})
}
