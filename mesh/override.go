package mesh

import (
	"github.com/meshframe/meshframe/mesh/retry"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// Override makes a decision about a call that can be sent somewhere what the request
// asks for by its headers, as Envoy's router does (see retry.IsRequestHeader). Of a
// request that asks for nothing the decision stays as it is, and nothing is
// allocated.
//
// The timeout takes the place of the route's and of MaxGRPCTimeout; what stays is a
// limit that the route or its listener sets beside its timeout. Retries are asked for
// by the headers as the route's edits leave them, times by those that were sent: so
// a route may ask for retries too.
func (d *Decision) Override(r *Request) {
	if d.Err != nil || d.Route == nil || !d.Actions.Asks() && !retry.Asks(r) {
		return
	}
	own := *r // on the heap, not the caller's
	t := retry.TimesOf(&own)
	if t.HasTimeout {
		d.Timeout, d.HasMaxGRPCTimeout, d.MaxGRPCTimeout = d.Route.Within(t.Timeout), false, 0
	}
	var headers retry.RequestHeaders = &own
	if d.Actions.Asks() {
		headers = &editedHeaders{&own, d.Actions.RequestHeaders}
	}
	d.Retry = d.Route.Declared().Override(headers, &t, d.Timeout)
	hedge := d.Route.Hedge
	if t.HasHedge {
		hedge = t.Hedge
	}
	d.Hedge = hedge && d.Retry != nil && d.Retry.PerTryTimeout > 0
}

// editedHeaders are the headers of a request as the edits of its route leave them.
type editedHeaders struct {
	request *Request
	edits   []*snapshot.HeaderEdits
}

// Header looks up a header.
func (e *editedHeaders) Header(name string) (value string, ok bool) {
	h := oneHeader{name: name}
	h.value, h.there = e.request.Header(name)
	for _, edits := range e.edits {
		edits.Apply(&h)
	}
	return h.value, h.there
}

// oneHeader is what edits make of one header. It knows nothing of others.
type oneHeader struct {
	name, value string
	there       bool
}

func (h *oneHeader) Header(name string) (value string, ok bool) {
	if name != h.name {
		return "", false
	}
	return h.value, h.there
}

func (h *oneHeader) Set(name, value string) {
	if name == h.name {
		h.value, h.there = value, true
	}
}

func (h *oneHeader) Add(name, value string) {
	if name == h.name && h.there {
		value = h.value + "," + value
	}
	h.Set(name, value)
}

func (h *oneHeader) Del(name string) {
	if name == h.name {
		h.value, h.there = "", false
	}
}
