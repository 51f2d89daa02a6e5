package mesh_test

import (
	"context"
	"testing"
	"time"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/outcome"
)

// callContext carries a call as an edge's context does.
type callContext struct {
	context.Context //nolint:containedctx // it is a context
	call            *mesh.Call
}

func (c callContext) Value(key any) any {
	if mesh.IsCallKey(key) {
		return c.call
	}
	return c.Context.Value(key)
}

func TestCallFrom(t *testing.T) {
	call := &mesh.Call{}
	if got := mesh.CallFrom(context.WithoutCancel(callContext{t.Context(), call})); got != call {
		t.Errorf("CallFrom = %p, want %p", got, call)
	}
	if got := mesh.CallFrom(t.Context()); got != nil {
		t.Errorf("CallFrom of a context without a call = %p", got)
	}
}

func TestSettle(t *testing.T) {
	e := mesh.New(mesh.Options{})
	s := e.Apply(update(t, "h", `
		host vh h
		route r -> a
		cluster a consecutive=2 max_ejection=100
		endpoints a 10.0.0.1:80 10.0.0.2:80`))
	a := s.Upstreams[0]
	failed := outcome.Attempt{HTTPStatus: 503}
	call := &mesh.Call{Last: outcome.Attempt{HTTPStatus: 200}}
	if call.Host() != nil {
		t.Error("a call that was not picked has a host")
	}
	call.Picked, call.PickedHost = a, 1
	settle := func(unsettled bool, end *outcome.Attempt) {
		call.Unsettled = unsettled
		if end == nil {
			call.SettleGood(e)
		} else {
			call.Settle(e, *end, time.Unix(1, 0))
		}
		if call.Unsettled {
			t.Error("a settled call is unsettled")
		}
	}
	settle(false, &failed)
	settle(true, &failed)
	if a.State.Ejected() != 0 || call.Last != failed {
		t.Errorf("one failure: %d are ejected, %+v", a.State.Ejected(), call)
	}
	settle(true, nil)
	settle(true, &failed)
	if a.State.Ejected() != 0 {
		t.Error("the good end was not reported")
	}
	settle(false, nil)
	settle(true, &failed)
	if !call.Host().Ejected.Load() || a.State.Ejected() != 1 {
		t.Errorf("the end that the caller saw was not reported: %+v", call)
	}
}
