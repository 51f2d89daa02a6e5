package translate

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/support"
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
	// Objects are what the resource was made of. What the client does not do of what they say is known to package
	// support, field by field.
	Objects []*config.Meta
	// Notes say what else the client will not do, because of how objects come together here.
	Notes []support.Entry
}

// Aspect is one side of a host or namespace that a translation can depend on.
type Aspect uint8

const (
	// Definition: whether the service exists, its ports, resolution and addresses.
	Definition Aspect = iota
	// Endpoints: the endpoints of the service.
	Endpoints
	// Routing: the VirtualServices for the host.
	Routing
	// Policy: the DestinationRules and MeshPolicies for the host.
	Policy
	// Everything: any service at all; Host is "".
	Everything
	// Scope: the Sidecars for a namespace, which is in Host.
	Scope
	// Imports: the services that rules for a namespace, which is in Host, send calls to.
	Imports
)

// Dep is one thing that a translation looked at. Host is fully qualified or, when the configuration has it so, a
// wildcard; what is there for it may be nothing.
type Dep struct {
	Aspect Aspect
	Host   string
}

// translation is one call of a World's method: what is asked, and what is noted on the way.
type translation struct {
	*World
	client  Client
	deps    map[Dep]struct{}
	order   []Dep
	objects []*config.Meta
	notes   []support.Entry
	scoped  *config.Scope // nil: not looked up yet

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

// uses notes that the resource is made of an object; nil is none.
func (t *translation) uses(o *config.Meta) {
	if o != nil && !slices.Contains(t.objects, o) {
		t.objects = append(t.objects, o)
	}
}

// note notes that calls work without what a field asks for.
func (t *translation) note(o *config.Meta, field, reason string) {
	t.say(o, field, support.Verdict{Outcome: support.Degraded, Reason: reason})
}

func (t *translation) say(o *config.Meta, field string, v support.Verdict) {
	t.notes = append(t.notes, support.Entry{Client: t.client.Kind(), Object: o, Field: field, Line: o.LineOf(field), Verdict: v})
}

func (t *translation) found(m proto.Message) Result {
	return Result{Message: m, Deps: t.order, Objects: t.objects, Notes: t.notes, Unsettled: t.unsettled}
}

func (t *translation) missing(instead proto.Message) Result {
	return Result{Instead: instead, Deps: t.order, Objects: t.objects, Notes: t.notes, Unsettled: t.unsettled}
}
