package interceptors

import (
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/meshframe/meshframe/mesh/breaker"
)

// openOrFallBack opens a stream that is not retried. Where it reaches no host it
// falls back, and then its caller hears of nothing but what comes of that.
func (c *call) openOrFallBack(ctx context.Context, permit breaker.Permit, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts []grpc.CallOption) (grpc.ClientStream, error) {
	o := &opening{call: c, permit: permit, opts: opts}
	st, err := streamer(c.counted(ctx), desc, cc, method, append(quiet(opts), grpc.OnFinish(o.hear))...)
	if err == nil {
		o.opened()
		return st, nil
	}
	if ctx.Err() != nil || !c.fallsBack() { // a stream that stood still for too long ends by ctx alone
		o.end(err)
		return nil, err
	}
	c.passed(permit)
	if !c.divert(c.given.method) {
		err = c.fixedFallback(err)
	} else if permit, err = c.pass(); err == nil {
		ctx, method, opts = c.redirected(ctx, opts)
		return c.openOnce(ctx, permit, desc, cc, method, streamer, opts)
	}
	c.release()
	finish(opts, err)
	return nil, err
}

// remember keeps a stream as its caller gave it, if the stream may fall back after
// it was edited.
func (c *call) remember(given outgoing) {
	if c.Decision.Fallback() == nil || c.diverted {
		return
	}
	c.outgoingMetadata() // before it is edited
	given.authority = c.edited(given).authority
	c.given = &given
}

// editsElsewhere reports whether the stream would be edited where it falls back to.
func (c *call) editsElsewhere() bool {
	if c.given == nil {
		return false
	}
	d, ok := c.elsewhere(c.given.method)
	return ok && (d.Actions != nil && d.Actions.Shapes() || d.Selection != nil || d.Session() != nil)
}

// redirected is a stream that has fallen back as it is to be sent in ctx: as its
// caller gave it, with the edits that hold where it goes. opts are those that it was
// sent with before.
func (c *call) redirected(ctx context.Context, opts []grpc.CallOption) (context.Context, string, []grpc.CallOption) {
	out := c.edited(*c.given)
	md, _ := metadata.FromOutgoingContext(out.ctx)
	if out.authority != c.given.authority {
		opts = append(opts[:len(opts):len(opts)], grpc.CallAuthority(out.authority))
	}
	return metadata.NewOutgoingContext(ctx, md), out.method, opts
}

// quiet are the options of a call but for those that hear of its end.
func quiet(opts []grpc.CallOption) []grpc.CallOption {
	return slices.DeleteFunc(slices.Clone(opts), func(o grpc.CallOption) bool {
		_, ok := o.(grpc.OnFinishCallOption)
		return ok
	})
}

// opening keeps the end of a stream to itself until it is known that the stream
// does not fall back.
type opening struct {
	*call
	permit breaker.Permit
	opts   []grpc.CallOption

	mu    sync.Mutex
	open  bool
	heard bool // of its end, with err
	err   error
}

// hear is called by gRPC when the stream has ended.
func (o *opening) hear(err error) {
	o.mu.Lock()
	o.heard, o.err = true, err
	open := o.open
	o.mu.Unlock()
	if open {
		o.end(err)
	}
}

// opened says that the stream does not fall back.
func (o *opening) opened() {
	o.mu.Lock()
	o.open = true
	heard, err := o.heard, o.err
	o.mu.Unlock()
	if heard {
		o.end(err)
	}
}

// end ends the call.
func (o *opening) end(err error) {
	o.settle(err)
	o.passed(o.permit)
	o.release()
	finish(o.opts, err)
}
