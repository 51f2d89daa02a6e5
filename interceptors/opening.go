package interceptors

import (
	"context"
	"slices"
	"sync"

	"google.golang.org/grpc"

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
	if !c.fallsBack() {
		o.end(err)
		return nil, err
	}
	c.passed(permit)
	if !c.divert() {
		err = c.fixedFallback(err)
	} else if permit, err = c.pass(); err == nil {
		return c.openOnce(ctx, permit, desc, cc, method, streamer, opts)
	}
	c.release()
	finish(opts, err)
	return nil, err
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
