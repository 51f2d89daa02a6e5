package interceptors

import (
	"context"
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/outcome"
)

// pass asks the half-open breaker of the call's cluster, if it has one, for an
// attempt.
func (c *call) pass() (breaker.Permit, error) {
	up := c.Decision.Upstream
	if up.Gate == nil {
		return breaker.Permit{}, nil
	}
	permit, err := up.Gate.Allow()
	if err != nil {
		c.Last = outcome.Attempt{GRPCStatus: int32(codes.Unavailable), HTTPStatus: 503, LocalOrigin: true, Conditions: outcome.Overflow}
		return permit, status.Errorf(codes.Unavailable, "cluster %q: %v", up.Name, err)
	}
	return permit, nil
}

// passed tells the breaker how the attempt ended.
func (c *call) passed(p breaker.Permit) {
	switch {
	case c.Decision.Upstream.Gate == nil:
	case c.Picked == nil && c.Last == (outcome.Attempt{}): // no connection in time
		if errors.Is(c.Err(), context.Canceled) {
			p.Abandon()
		} else {
			p.Done(false)
		}
	case codes.Code(c.Last.GRPCStatus) == codes.Canceled && c.Err() != nil:
		p.Abandon()
	default:
		p.Done(!c.Last.Failed())
	}
}

// fixedFallback is the answer that the configuration has for calls that reach no
// host, or err if it has none.
func (c *call) fixedFallback(err error) error {
	f := c.Decision.Fallback()
	switch {
	case f == nil:
		return err
	case f.Reply != nil:
		return reply(f.Reply)
	case f.GRPC != nil:
		return status.Error(codes.Code(f.GRPC.Code), f.GRPC.Message)
	}
	return err
}

// fallsBack reports whether the call, which has failed, is one for its fallback:
// its last attempt reached no host.
func (c *call) fallsBack() bool {
	return c.Decision.Fallback() != nil && c.Picked == nil && !c.diverted && c.Err() == nil
}

// fallBack is what becomes of a call that failed with err: the fallback of the
// configuration, if it reached no host. given is the call before the route's edits.
func (u *unary) fallBack(err error, given outgoing) error {
	if !u.fallsBack() {
		return err
	}
	f := u.Decision.Fallback()
	switch {
	case f.Reply != nil || f.GRPC != nil:
		return u.fixedFallback(err)
	case f.Func != "":
		answer := u.client.fallbacks[f.Func]
		if answer == nil {
			return status.Errorf(codes.Unavailable, "%v; the fallback function %q is not registered", err, f.Func)
		}
		ctx, cancel := context.WithCancel(u.call) // of its own: it may outlive the call
		defer cancel()
		return answer(ctx, u.method, u.message, u.reply)
	}
	u.Context = given.ctx
	if !u.divert(given.method) {
		return err
	}
	u.edit(given)
	return u.send()
}

// passStream is pass for a stream, which falls back at once where it is known that
// it finds no host: to another cluster, or to a fixed answer. One that waits for
// ready waits for a host, as unary calls do.
func (c *call) passStream(method string, opts []grpc.CallOption) (breaker.Permit, error) {
	permit, err := c.pass()
	if err == nil && (c.Decision.Fallback() == nil || c.Decision.Upstream.Available() || c.client.waitsForReady(method, opts)) {
		return permit, nil
	}
	if err == nil && c.fixedFallback(nil) == nil && !c.canDivert(method) {
		return permit, nil // the balancer says why
	}
	permit.Abandon() // the zero permit, if it was refused
	if c.divert(method) {
		return c.pass()
	}
	return breaker.Permit{}, c.fixedFallback(err)
}

// canDivert reports whether divert would.
func (c *call) canDivert(method string) bool {
	_, ok := c.elsewhere(method)
	return ok
}

// elsewhere decides the call for its fallback cluster, if it has one.
func (c *call) elsewhere(method string) (d mesh.Decision, ok bool) {
	s := c.client.target.Snapshot()
	if s == nil {
		return d, false
	}
	r := c.request(s.Authority, method)
	ok = c.client.engine.DecideFallback(s, &r, &c.Decision, &d)
	return d, ok
}

// divert sends the call to its fallback cluster. method is what the caller gave, and
// the call's metadata was read before it was edited: a session goes by them.
func (c *call) divert(method string) bool {
	d, ok := c.elsewhere(method)
	if !ok {
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
