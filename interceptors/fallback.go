package interceptors

import (
	"context"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// This file is how a call falls back, which it does once: when its attempts are over
// and the last of them reached no host, for whatever reason. A stream that may do so
// makes its attempts in a race, which asks at its end; a unary call asks after all.

// fallsBack returns the fallback that is for a call which has failed; nil is none.
func (c *call) fallsBack() *snapshot.Fallback {
	if c.Picked != nil || c.diverted || c.Err() != nil {
		return nil
	}
	return c.Decision.Fallback()
}

// fallBack is what becomes of a call that failed with err and falls back: it goes on
// at another cluster, or ends as the configuration says. method is what the caller
// gave, and the call's metadata was read before it was edited: a session goes by them.
func (c *call) fallBack(f *snapshot.Fallback, method string, err error) (goesOn bool, _ error) {
	switch {
	case f.Reply != nil:
		err = reply(f.Reply)
	case f.GRPC != nil:
		err = status.Error(codes.Code(f.GRPC.Code), f.GRPC.Message)
	case f.Cluster != "":
		goesOn = c.divert(method)
	}
	return goesOn, err
}

// divert sends the call to its fallback cluster, of the snapshot that the call was
// decided from. This is the only place where that is decided.
func (c *call) divert(method string) bool {
	var d mesh.Decision
	r := c.request(c.from.Authority, method)
	if !c.client.engine.DecideFallback(c.from, &r, &c.Decision, &d) {
		return false
	}
	at := d.Upstream.State.Acquire()
	c.donePending()
	c.Decision.Upstream.State.Release(c.Place)
	c.Place = at
	c.Decision, c.Retries, c.Tried, c.diverted = d, 0, nil, true
	c.Last = outcome.Attempt{}
	c.observe()
	return true
}

// fallBack is what becomes of a unary call that failed with err. given is the call
// before the route's edits.
func (u *unary) fallBack(err error, given outgoing) error {
	f := u.fallsBack()
	if f == nil {
		return err
	}
	u.call = u.anew(given.ctx)
	if f.Func != "" {
		return u.function(f.Func, given.method, err)
	}
	goesOn, err := u.call.fallBack(f, given.method, err)
	if !goesOn {
		return err
	}
	u.edit(given)
	return u.send()
}

// function has a function of the program answer the call, which failed with err.
func (u *unary) function(name, method string, err error) error {
	answer := u.client.fallbacks[name]
	if answer == nil {
		return status.Errorf(codes.Unavailable, "%v; the fallback function %q is not registered", err, name)
	}
	ctx, cancel := context.WithCancel(u.call) // of its own: it may outlive the call
	defer cancel()
	return answer(ctx, method, u.message, u.reply)
}

// streamFallsBack reports whether the call, a stream, has a fallback: functions are
// for unary calls.
func (c *call) streamFallsBack() bool {
	f := c.Decision.Fallback()
	return f != nil && f.Func == ""
}

// kept is a stream as its caller gave it, if it may fall back after it was edited;
// else nil.
func (c *call) kept(given outgoing) *outgoing {
	if !c.streamFallsBack() {
		return nil
	}
	c.outgoingMetadata() // before it is edited
	k := given
	return &k
}

// redirect makes the attempts that follow those of a stream that has been diverted: as
// its caller gave it, with the edits that hold where it goes. The caller holds mu.
func (r *race) redirect() {
	out := r.edited(*r.given)
	md, _ := metadata.FromOutgoingContext(out.ctx)
	r.ctx, r.method = metadata.NewOutgoingContext(r.ctx, md), out.method
	// The authority may be that of the route's edits.
	r.opts = append(slices.DeleteFunc(slices.Clone(r.opts), isAuthority), filter(out.opts, isAuthority)...)
}

func isAuthority(o grpc.CallOption) bool {
	_, ok := o.(grpc.AuthorityOverrideCallOption)
	return ok
}

// filter returns the options that are wanted.
func filter(opts []grpc.CallOption, wanted func(grpc.CallOption) bool) (out []grpc.CallOption) {
	for _, o := range opts {
		if wanted(o) {
			out = append(out, o)
		}
	}
	return out
}
