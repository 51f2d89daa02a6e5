package support

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// Outcome says what becomes of a field.
type Outcome uint8

const (
	// Supported: the field does what Istio documents.
	Supported Outcome = iota
	// Degraded: calls work, without what the field asks for; the reason says what happens instead.
	Degraded
	// Rejected: calls that the field concerns fail, or the configuration or the client is refused.
	Rejected
)

var outcomeNames = [...]string{"supported", "degraded", "rejected"}

// String returns "supported", "degraded" or "rejected".
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
