package interceptors

import (
	"context"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/retry"
)

// unary makes the attempts of a unary call.
type unary struct {
	*call
	method     string
	req, reply any
	message    any // req as the caller gave it
	cc         *grpc.ClientConn
	invoker    grpc.UnaryInvoker
	opts       []grpc.CallOption

	encoded  grpc.CallOption // set when req is a frame, for mirrors to have it too
	out      *results        // set when the caller's options must hear of the winner only
	retrying bool            // the attempt under way counts against the limit of retries
}

// results are the caller's options that an attempt writes to. Every attempt
// writes here, and only the last is copied out.
type results struct {
	header, trailer metadata.MD
	peer            peer.Peer
	opts            []grpc.CallOption // for the attempts
}

// unary makes a call that has more to it than one attempt.
func (c *call) unary(method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts []grpc.CallOption) error {
	u := unary{call: c, method: method, req: req, message: req, reply: reply, cc: cc, invoker: invoker, opts: opts}
	if !c.plain() {
		err := u.act()
		finish(opts, err)
		return err
	}
	err := u.end(u.run())
	if u.out != nil {
		finish(opts, err)
	}
	return err
}

// resume goes on with a plain call whose first attempt ended with err.
func (c *call) resume(err error, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts []grpc.CallOption) error {
	u := unary{call: c, method: method, req: req, message: req, reply: reply, cc: cc, invoker: invoker, opts: opts}
	return u.end(u.goOn(err))
}

// end is what becomes of a plain call whose attempts ended with err.
func (u *unary) end(err error) error {
	if err == nil {
		return nil
	}
	return u.fallBack(err, outgoing{ctx: u.Context, method: u.method, opts: u.opts})
}

func (u *unary) run() error {
	if reads := u.readsHeaders(); reads || reports(u.opts) {
		u.out = &results{}
		u.out.replace(u.opts)
		if reads {
			u.out.opts = append(u.out.opts, grpc.Header(&u.out.header))
		}
	}
	err := u.goOn(u.attempt())
	if u.out != nil {
		u.out.copyOut(u.opts, u.editHeaders)
	}
	return err
}

// goOn makes further attempts after one that ended with err, as long as there are
// to be any. A call that ends before the next one ends by its own end, and not by
// that of the last, as in Envoy and in grpc-go.
func (u *unary) goOn(err error) error {
	for err != nil {
		wait, again := u.again()
		if !again {
			break
		}
		if ended := u.sleep(wait); ended != nil {
			err = ended
			break
		}
		err = u.attempt()
	}
	u.endRetry()
	return err
}

// watches reports whether there is something to do around the attempts of a
// plain call, and not only after those that fail.
func (c *call) watches(opts []grpc.CallOption) bool {
	p := c.Decision.Retry
	switch {
	case p != nil && (p.PerTryTimeout > 0 || c.readsHeaders()):
		return true
	case len(opts) == 0:
		return false
	}
	return (p != nil || c.Decision.Fallback() != nil) && reports(opts)
}

// attempt makes one attempt, within the per-try timeout if there is one.
func (u *unary) attempt() error {
	u.Last, u.Picked = outcome.Attempt{}, nil
	if u.Decision.Upstream.Gate == nil {
		return u.try()
	}
	permit, err := u.pass()
	if err != nil {
		return err
	}
	err = u.try()
	u.passed(permit)
	return err
}

func (u *unary) try() error {
	opts := u.opts
	if u.out != nil {
		u.out.clear()
		opts = u.out.opts
	}
	if u.Decision.Retry == nil || u.Decision.Retry.PerTryTimeout == 0 {
		err := u.invoker(u.counted(u.call), u.method, u.req, u.reply, u.cc, opts...)
		u.settle(err)
		return err
	}
	deadline := time.Now().Add(u.Decision.Retry.PerTryTimeout)
	ctx, cancel := context.WithDeadline(u.call, deadline)
	defer cancel()
	err := u.invoker(u.counted(ctx), u.method, u.req, u.reply, u.cc, opts...)
	u.settle(err)
	if status.Code(err) == codes.DeadlineExceeded && u.overdue(deadline) {
		u.Last = perTryTimeout()
	}
	return err
}

// overdue reports whether the deadline of an attempt has passed, and not that of
// the call. It goes by the clock: the server has the deadline too, and its word
// may be here before the timer of this side.
func (c *call) overdue(attempt time.Time) bool {
	own, ok := c.ends()
	return !time.Now().Before(attempt) && (!ok || own.After(attempt))
}

// perTryTimeout is the end of an attempt that was not answered within the per-try
// timeout.
func perTryTimeout() outcome.Attempt {
	return outcome.Attempt{
		GRPCStatus: int32(codes.DeadlineExceeded), LocalOrigin: true,
		Conditions: outcome.PerTryTimeout | outcome.Reset | outcome.Server5xx | outcome.GatewayError,
	}
}

// again decides whether the attempt is followed by another, and after which wait.
func (u *unary) again() (wait time.Duration, ok bool) {
	u.endRetry()
	u.donePending() // it waits for no connection while it pauses
	if u.out != nil {
		u.readHeader(u.out.header)
	}
	wait, u.retrying = u.nextRetry(rand.Uint64)
	return wait, u.retrying
}

// readsHeaders reports whether response headers say something about retries.
func (c *call) readsHeaders() bool {
	p := c.Decision.Retry
	return p != nil && (len(p.Headers) > 0 || len(p.ResetHeaders) > 0 || p.On&outcome.EnvoyRateLimited != 0)
}

// readHeader notes what the headers of a failed attempt say about trying again.
// The balancer has read the trailers.
func (c *call) readHeader(md metadata.MD) {
	conditions, after := c.asksForRetry(md)
	c.Last.Conditions |= conditions
	if c.Pushback == 0 {
		c.Pushback = after
	}
}

// asksForRetry returns the conditions that the response headers of a failed attempt
// fulfil, and how long they want the next one to wait; 0 is no wish.
func (c *call) asksForRetry(md metadata.MD) (conditions outcome.Condition, after time.Duration) {
	if len(md) == 0 || !c.readsHeaders() {
		return 0, 0
	}
	p, lookup := c.Decision.Retry, headers(md).Header
	if d, ok := p.ResetAfter(lookup, time.Now()); ok {
		after = retry.ResetBackoff(d, rand.Uint64)
	}
	if p.RetriableResponse(lookup) {
		conditions |= outcome.RetriableHeaders
	}
	if _, limited := lookup("x-envoy-ratelimited"); limited {
		conditions |= outcome.EnvoyRateLimited
	}
	return conditions, after
}

// nextRetry counts another attempt, if the policy, the server and the cluster's
// limit of retries admit one, and returns how long to wait for it. The caller
// gives the retry back to the breaker.
func (c *call) nextRetry(rnd func() uint64) (wait time.Duration, ok bool) {
	p := c.Decision.Retry
	if !p.Retriable(&c.Last) || c.Pushback < 0 || !c.admitRetry() {
		return 0, false
	}
	if h := c.Host(); h != nil && p.Avoids() {
		c.Tried = append(c.Tried, h)
	}
	wait = p.Backoff(int(c.Retries), rnd)
	if c.Pushback > 0 {
		wait, c.Pushback = c.Pushback, 0
	}
	c.told.Store(0) // what is left then is less
	return wait, true
}

// admitRetry counts another attempt, if the policy's number of retries and the
// cluster's limit admit one.
func (c *call) admitRetry() bool {
	up := c.Decision.Upstream
	if c.Retries >= c.Decision.Retry.NumRetries || c.Err() != nil || !up.State.Breaker.TryRetry(&up.Cluster.Limits, time.Now()) {
		return false
	}
	c.Retries++
	return true
}

func (u *unary) endRetry() {
	if u.retrying {
		u.retrying = false
		u.Decision.Upstream.State.Breaker.DoneRetry()
	}
}

// reports reports whether opts hold an option that attempts write to.
func reports(opts []grpc.CallOption) bool {
	for _, o := range opts {
		switch o.(type) {
		case grpc.HeaderCallOption, grpc.TrailerCallOption, grpc.PeerCallOption, grpc.OnFinishCallOption:
			return true
		}
	}
	return false
}

// replace fills r.opts with opts, their reporting ones redirected to r.
func (r *results) replace(opts []grpc.CallOption) {
	for _, o := range opts {
		switch o.(type) {
		case grpc.HeaderCallOption:
			o = grpc.Header(&r.header)
		case grpc.TrailerCallOption:
			o = grpc.Trailer(&r.trailer)
		case grpc.PeerCallOption:
			o = grpc.Peer(&r.peer)
		case grpc.OnFinishCallOption:
			continue
		}
		r.opts = append(r.opts, o)
	}
}

// clear forgets what an attempt before wrote.
func (r *results) clear() { r.header, r.trailer, r.peer = nil, nil, peer.Peer{} }

// copyOut gives the caller what the last attempt wrote, with the route's edits;
// nil edits are none.
func (r *results) copyOut(opts []grpc.CallOption, edits func(metadata.MD) metadata.MD) {
	editResponse(&r.header, &r.trailer, edits)
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.HeaderCallOption:
			*o.HeaderAddr = r.header
		case grpc.TrailerCallOption:
			*o.TrailerAddr = r.trailer
		case grpc.PeerCallOption:
			*o.PeerAddr = r.peer
		}
	}
}
