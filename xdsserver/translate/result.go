package translate

import (
	"google.golang.org/protobuf/proto"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// Result is one translated resource.
type Result struct {
	// Message is the resource, nil when there is none by that name.
	Message proto.Message
	// Instead is what clients of the state-of-the-world protocol are sent when Message is nil, because that protocol
	// cannot say at once that a resource does not exist.
	Instead proto.Message
	// Refused says that the resource does not exist because it must not: it is to be taken away at once.
	Refused bool
	// Unsettled says that registrations which are still to come may well change the resource.
	Unsettled bool
	// Deps is what the translation looked at.
	Deps []Dep
	// Notes say where the client will not do all that the configuration asks for.
	Notes []Note
}

// Aspect is one side of a host that a translation can depend on.
type Aspect uint8

const (
	// Definition: whether the service exists, its ports, resolution and addresses.
	Definition Aspect = iota
	// Endpoints: the endpoints of the service.
	Endpoints
	// Routing: the VirtualServices for the host.
	Routing
	// Policy: the DestinationRules for the host.
	Policy
	// Everything: any service at all; Host is "".
	Everything
)

// Dep is one thing that a translation looked at. Host is fully qualified or, when the configuration has it so, a
// wildcard; what is there for it may be nothing.
type Dep struct {
	Aspect Aspect
	Host   string
}

// Level says what becomes of a field that a client type cannot do as it is written.
type Level uint8

const (
	// Degraded: the call works, without what the field asks for.
	Degraded Level = iota
	// Rejected: calls that the field concerns fail.
	Rejected
)

// String returns "degraded" or "rejected".
func (l Level) String() string {
	if l == Degraded {
		return "degraded"
	}
	return "rejected"
}

// Note is one difference between the configuration and what a client type does.
type Note struct {
	Kind    Kind         // of client
	Object  *config.Meta // whose field it is
	Field   string       // such as spec.http[0].corsPolicy
	Level   Level
	Message string
}

// String writes the note on one line.
func (n Note) String() string {
	return n.Kind.String() + " clients: " + n.Object.ID() + ": " + n.Field + ": " + n.Level.String() + ": " + n.Message
}

// translation is one call of a World's method: what is asked, and what is noted on the way.
type translation struct {
	*World
	client Client
	deps   map[Dep]struct{}
	order  []Dep
	notes  []Note

	unsettled bool
}

func (w *World) begin(c Client) *translation {
	return &translation{World: w, client: c, deps: map[Dep]struct{}{}}
}

func (t *translation) dep(a Aspect, host string) {
	d := Dep{a, host}
	if _, ok := t.deps[d]; !ok {
		t.deps[d] = struct{}{}
		t.order = append(t.order, d)
	}
}

func (t *translation) note(o *config.Meta, field string, l Level, message string) {
	t.notes = append(t.notes, Note{t.client.Kind, o, field, l, message})
}

func (t *translation) found(m proto.Message) Result {
	return Result{Message: m, Deps: t.order, Notes: t.notes, Unsettled: t.unsettled}
}

func (t *translation) missing(instead proto.Message) Result {
	return Result{Instead: instead, Deps: t.order, Notes: t.notes, Unsettled: t.unsettled}
}
