package interceptors

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/watch"
)

// attemptCountHeader is the request header that counts attempts (Envoy
// include_request_attempt_count).
const attemptCountHeader = "x-envoy-attempt-count"

// Client is the client side of one channel. Its methods are interceptors and
// safe for concurrent use.
type Client struct {
	target    *watch.Target
	engine    *mesh.Engine
	scheme    string
	userAgent string
	source    string
	channel   uint64
	fallbacks map[string]Fallback
	methods   func(method string) MethodConfig // nil: nothing for any
	asking    bool                             // see ClientOptions.EnvoyRequestHeaders
	records   sync.Pool                        // of unary calls
	mirrors   atomic.Int64                     // copies of calls under way
	dialer    net.Dialer
	closed    chan struct{}
	closeOnce sync.Once
}

// ClientOptions describe a channel.
type ClientOptions struct {
	// UserAgent is what User-Agent matchers see; default gRPC's own.
	UserAgent string
	// Scheme is what :scheme matchers see: "http" (the default) without
	// transport security, "https" with it.
	Scheme string
	// Source is the IP address that calls come from, for policies that hash it;
	// default the name of this host, which is as constant.
	Source string
	// Fallbacks are the functions that fallbacks of the configuration name, for
	// unary calls that find no host. nil is none.
	Fallbacks map[string]Fallback
	// MethodConfig is what the channel's service config says about a method, which
	// gRPC sees in each attempt only. nil says nothing. Calls run it at the same
	// time as each other.
	MethodConfig func(method string) MethodConfig
	// EnvoyRequestHeaders lets calls ask by Envoy's request headers for other
	// timeouts and retries than their route has; see mesh.Decision.Override.
	EnvoyRequestHeaders bool
}

// MethodConfig is the part of a service config's methodConfig that concerns whole
// calls.
type MethodConfig struct {
	WaitForReady bool          // unless the call's own options say otherwise
	Timeout      time.Duration // of the whole call, attempts and pauses; zero is none
}

// Fallback answers a unary call in place of a server: it fills reply or returns
// an error, which is the call's. It gets the call as its caller made it.
type Fallback func(ctx context.Context, method string, req, reply any) error

// NewClient returns the interceptors of a channel to t.
func NewClient(t *watch.Target, o ClientOptions) *Client {
	c := &Client{
		target: t, engine: t.Engine(), scheme: o.Scheme, userAgent: o.UserAgent,
		source: o.Source, channel: rand.Uint64() | 1, fallbacks: o.Fallbacks,
		methods: o.MethodConfig, asking: o.EnvoyRequestHeaders, closed: make(chan struct{}),
	}
	if c.source == "" {
		c.source, _ = os.Hostname() // unknown is as constant as any other
	}
	if c.scheme == "" {
		c.scheme = "http"
	}
	if c.userAgent == "" {
		c.userAgent = "grpc-go/" + grpc.Version
	}
	return c
}

// Close ends the calls that wait for configuration, because the channel was closed.
// It may be called twice.
func (c *Client) Close() { c.closeOnce.Do(func() { close(c.closed) }) }

// errClosed is what gRPC gives calls of a channel that was closed.
var errClosed = status.Error(codes.Canceled, "grpc: the client connection is closing")

// begin decides a call: it waits for configuration, draws route and cluster,
// injects faults and sets the deadline, which as in Envoy and gRPC is not that of
// a delay. An error is what the caller gets.
func (c *call) begin(cc *grpc.ClientConn, method string, stream bool, opts []grpc.CallOption) error {
	if err := c.decide(cc, method, opts); err != nil {
		return err
	}
	d := &c.Decision
	answers := d.Actions != nil && d.Actions.Answers()
	if answers {
		if err := c.admit(method); err != nil {
			return err
		}
	}
	if d.Fault != nil {
		if err := c.inject(method); err != nil {
			return err
		}
	}
	if answers {
		if err := c.answer(d.Actions, method, opts); err != nil {
			return err
		}
	}
	if c.client.asking || d.Actions.Asks() {
		c.override(method)
	}
	t := d.Timeout
	if d.HasMaxGRPCTimeout || c.client.methods != nil {
		t = c.client.timeout(c.Context, d, method)
	}
	if t > 0 {
		c.endAfter(t, stream)
	}
	return nil
}

// plain reports whether the call is only forwarded, perhaps more than once one
// after the other.
func (c *call) plain() bool {
	d := &c.Decision
	return !d.Hedge && (d.Actions == nil || !d.Actions.Shapes()) && d.Selection == nil && d.Upstream.Gate == nil && d.Session() == nil
}

// timeout is the time that the call has: the route's, or the method's in the
// service config if that is shorter. Zero is no limit.
func (c *Client) timeout(ctx context.Context, d *mesh.Decision, method string) time.Duration {
	t := routeTimeout(ctx, d)
	if c.methods == nil {
		return t
	}
	own := c.methods(method).Timeout
	if t <= 0 || own > 0 && own < t {
		return own
	}
	return t
}

// routeTimeout is the deadline that the route sets: its own, or the caller's
// bounded by the greatest that the route admits (gRFC A31) and less its offset.
func routeTimeout(ctx context.Context, d *mesh.Decision) time.Duration {
	t := d.Timeout
	if !d.HasMaxGRPCTimeout {
		return t
	}
	own, ok := ctx.Deadline()
	if !ok {
		return t
	}
	offset := d.Route.GRPCTimeoutOffset
	if d.MaxGRPCTimeout == 0 && offset == 0 {
		return 0 // the caller's deadline, as it is
	}
	if t = time.Until(own); d.MaxGRPCTimeout > 0 {
		t = min(t, d.MaxGRPCTimeout)
	}
	return max(t-offset, 1) // at once, if nothing is left
}

// decide takes the decision from the newest snapshot, and holds on to its
// cluster. It looks again when the snapshot changed meanwhile: the balancer
// drops clusters that nobody holds.
func (c *call) decide(cc *grpc.ClientConn, method string, opts []grpc.CallOption) error {
	t := c.client.target
	for {
		s := t.Snapshot()
		if s != nil {
			r := c.request(s.Authority, method)
			c.client.engine.Decide(s, &r, &c.Decision)
		}
		if s == nil || c.Decision.Upstream == nil {
			if again, err := c.unforwarded(s, cc, method, opts); !again {
				return err
			}
			continue
		}
		c.Place = c.Decision.Upstream.State.Acquire()
		c.acquired = true
		if t.Snapshot() == s {
			if c.Decision.Fallback() != nil {
				c.from = s
			}
			c.observe()
			return nil
		}
		c.Decision.Upstream.State.Release(c.Place)
		c.acquired = false
	}
}

// unforwarded is what becomes of a call that s, perhaps nil, sends nowhere: it is
// decided again when that may have changed, or ends with the error. Without one the
// route answers.
func (c *call) unforwarded(s *snapshot.Snapshot, cc *grpc.ClientConn, method string, opts []grpc.CallOption) (again bool, _ error) {
	if s == nil {
		err := c.await(cc, c.client.waitsForReady(method, opts))
		return err == nil, err
	}
	if err := c.Decision.Err; err != nil {
		return c.undecided(s, cc, c.client.waitsForReady(method, opts), err)
	}
	if a := c.Decision.Actions; a != nil && (a.Redirect != nil || a.DirectResponse != nil) {
		return false, nil
	}
	return false, status.Errorf(codes.Unavailable, "%s: the route of %s forwards nothing (it is one for servers)", c.client.target.Name(), method)
}

// observe has the balancer write down how attempts end, where something of the
// decision wants to know.
func (c *call) observe() {
	d := &c.Decision
	c.Observe = d.Retry != nil || d.Upstream.Cluster.Outlier != nil || d.Upstream.Gate != nil
}

// request is the call as the engine sees it.
func (c *call) request(authority, method string) mesh.Request {
	return mesh.Request{
		Authority: authority, Path: method, Method: "POST", Scheme: c.client.scheme,
		Headers: c, Source: c, Channel: c.client.channel, IsGRPC: true,
	}
}

// SourceIP answers the engine's hash policies.
func (c *call) SourceIP() string { return c.client.source }

// undecided turns a failed decision, made on s, into the call's error. A target
// or a cluster that does not exist may appear yet: calls that wait for ready wait
// for it.
func (c *call) undecided(s *snapshot.Snapshot, cc *grpc.ClientConn, wait bool, err error) (again bool, _ error) {
	var re *mesh.RouteError
	if !errors.As(err, &re) || re.Kind != mesh.NoConfig && re.Kind != mesh.ClusterMissing || !wait {
		return false, status.Error(codes.Unavailable, err.Error())
	}
	cc.Connect()
	p, cause, changed := c.client.target.Current()
	switch {
	case p.Snapshot != s:
		return true, nil
	case errors.Is(cause, watch.ErrClosed):
		return false, status.Errorf(codes.Unavailable, "%v; %v", cause, err)
	}
	select {
	case <-changed:
		return true, nil
	case <-c.client.closed:
		return false, errClosed
	case <-c.Context.Done():
		return false, c.gaveUp(err)
	}
}

// await waits until there is a snapshot. Fail-fast calls fail as soon as it is
// known that there is none to be had for now.
func (c *call) await(cc *grpc.ClientConn, wait bool) error {
	for {
		// An idle channel has no resolver, and without one nobody subscribes. It may
		// become idle while calls wait here, which gRPC does not know of.
		cc.Connect()
		p, err, changed := c.client.target.Current()
		switch {
		case p.Snapshot != nil:
			return nil
		case err != nil && (!wait || errors.Is(err, watch.ErrClosed)):
			return status.Errorf(codes.Unavailable, "no configuration for %q: %v", c.client.target.Name(), err)
		}
		select {
		case <-changed:
		case <-c.client.closed:
			return errClosed
		case <-c.Context.Done():
			if err == nil {
				err = errors.New("waiting for the control plane's first answer")
			}
			return c.gaveUp(fmt.Errorf("no configuration for %q: %w", c.client.target.Name(), err))
		}
	}
}

// gaveUp is the error of a call whose caller's context ended while it waited
// for why.
func (c *call) gaveUp(why error) error {
	code := codes.Canceled
	if errors.Is(c.Context.Err(), context.DeadlineExceeded) {
		code = codes.DeadlineExceeded
	}
	return status.Errorf(code, "%v; %v", c.Context.Err(), why)
}

// waitsForReady reports whether a call waits where others fail: the last of its
// options says so, and the service config where there is none.
func (c *Client) waitsForReady(method string, opts []grpc.CallOption) bool {
	for _, o := range slices.Backward(opts) {
		if f, ok := o.(grpc.FailFastCallOption); ok {
			return !f.FailFast
		}
	}
	return c.methods != nil && c.methods(method).WaitForReady
}

// inject draws the route's fault. It precedes the first attempt and is not
// retried (gRFC A33).
func (c *call) inject(method string) error {
	delay, abort, active := c.Decision.Fault.DrawFor(c.faulty(method), rand.Uint64)
	if !active {
		return nil
	}
	c.fault = true
	if delay > 0 {
		if err := c.sleep(delay); err != nil {
			return err
		}
	}
	c.endFault()
	if abort == (fault.Abort{}) {
		return nil
	}
	return status.Error(abortCode(abort), "fault filter abort")
}

// faulty are the headers by which the request may ask for faults, and by which it
// is told whether they are for it: only then those that gRPC makes count too.
func (c *call) faulty(method string) fault.Headers {
	if c.Decision.Fault.Policy().Meets == nil {
		return c
	}
	r := c.request(c.client.target.Name(), method)
	return &r
}

// sleep waits for d within the call's deadline, if it has one yet.
func (c *call) sleep(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-c.Done():
		return status.FromContextError(c.Err()).Err()
	}
}

// counted sets the request header that says which attempt this is, where the route
// asks for it. One that the caller has, perhaps from a request that it serves, is of
// another hop.
func (c *call) counted(ctx context.Context) context.Context {
	if !c.Decision.AttemptCount {
		return ctx
	}
	return withAttemptCount(ctx, c.Retries)
}

// withAttemptCount is apart from counted, so that calls without it pay no more than a
// look.
func withAttemptCount(ctx context.Context, retries uint32) context.Context {
	n := strconv.Itoa(int(retries) + 1)
	if len(metadata.ValueFromOutgoingContext(ctx, attemptCountHeader)) == 0 {
		return metadata.AppendToOutgoingContext(ctx, attemptCountHeader, n)
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	md.Set(attemptCountHeader, n)
	return metadata.NewOutgoingContext(ctx, md)
}

// Unary returns the interceptor of unary calls.
//
// A call that waits has few and small frames, because garbage collection walks each
// of each call under way: this is no method, whose value has a frame of its own, and
// what is to be done around a single attempt only now and then is apart from it.
func (c *Client) Unary() grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		k := c.reuse(ctx)
		defer k.recycle()
		if err := k.begin(cc, method, false, opts); err != nil {
			finish(opts, err)
			return err
		}
		if !k.plain() || k.watches(opts) {
			return k.unary(method, req, reply, cc, invoker, opts)
		}
		err := invoker(k.counted(k), method, req, reply, cc, opts...)
		k.settle(err)
		if err == nil || k.Decision.Retry == nil && k.Decision.Fallback() == nil {
			return err
		}
		return k.resume(err, method, req, reply, cc, invoker, opts)
	}
}

// Stream is the interceptor of streams, a grpc.StreamClientInterceptor.
func (c *Client) Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	k := c.newCall(ctx)
	if err := k.begin(cc, method, true, opts); err != nil {
		k.release()
		finish(opts, err)
		return nil, err
	}
	if k.plain() && !k.streamFallsBack() {
		return k.open(outgoing{ctx: k, method: method, opts: opts}, nil, desc, cc, streamer)
	}
	return k.stream(outgoing{ctx: k.Context, method: method, opts: opts}, desc, cc, streamer)
}

// open opens a stream, in a race of attempts if it may be retried or fall back. given
// is one that may fall back as its caller gave it, else nil. The call ends when gRPC
// says so, whether or not the stream was created.
func (c *call) open(out outgoing, given *outgoing, desc *grpc.StreamDesc, cc *grpc.ClientConn, streamer grpc.Streamer) (grpc.ClientStream, error) {
	if c.Decision.Retry != nil || given != nil {
		return c.newRetriedStream(out, given, desc, cc, streamer)
	}
	return c.openOnce(out, desc, cc, streamer)
}

// openOnce makes the only attempt at a stream.
func (c *call) openOnce(out outgoing, desc *grpc.StreamDesc, cc *grpc.ClientConn, streamer grpc.Streamer) (grpc.ClientStream, error) {
	permit, err := c.pass()
	if err != nil {
		return nil, c.unopened(out.opts, err)
	}
	var once sync.Once
	end := func(err error) {
		once.Do(func() {
			c.settle(err)
			c.passed(permit)
			c.release()
		})
	}
	st, err := streamer(c.counted(out.ctx), desc, cc, out.method, append([]grpc.CallOption{grpc.OnFinish(end)}, out.opts...)...)
	if err != nil {
		end(err) // gRPC has said so, unless an interceptor further in refused
		return nil, err
	}
	if desc.ServerStreams {
		st = c.hearing(st, permit)
	}
	return st, nil
}

// unopened ends a call of which no attempt was made, and returns err.
func (c *call) unopened(opts []grpc.CallOption, err error) error {
	c.release()
	finish(opts, err)
	return err
}

// settle reports the attempt that ended with err, if the balancer did not.
func (c *call) settle(err error) {
	if err == nil {
		c.SettleGood(c.client.engine)
		return
	}
	last := outcome.OfGRPC(int32(status.Code(err)))
	last.Conditions |= c.Last.Conditions & (outcome.RetriableHeaders | outcome.EnvoyRateLimited)
	c.Settle(c.client.engine, last, time.Now())
}

// finish tells the caller's OnFinish options of a call that gRPC never saw.
func finish(opts []grpc.CallOption, err error) {
	for _, o := range opts {
		if f, ok := o.(grpc.OnFinishCallOption); ok {
			f.OnFinish(err)
		}
	}
}
