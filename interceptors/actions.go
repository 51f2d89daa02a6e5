package interceptors

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// admit ends the calls that the route's rate limit refuses.
func (c *call) admit(method string) error {
	a := c.Decision.Actions
	if a.RateLimit == nil {
		return nil
	}
	r := c.request(c.client.target.Name(), method)
	if !c.client.engine.Admit(&c.Decision, &r, time.Now()) {
		return status.Errorf(codeOfRefusal(a.RateLimit.Policy().Status), "%s: rate limited", c.client.target.Name())
	}
	return nil
}

// answer ends the calls that the route does not forward: redirected, or answered by
// itself.
func (c *call) answer(a *snapshot.Actions, method string, opts []grpc.CallOption) error {
	if d := a.DirectResponse; d != nil {
		c.answered(opts)
		return reply(d)
	}
	if r := a.Redirect; r != nil {
		c.answered(opts)
		return status.Errorf(codes.Unknown, "%s: the route redirects to %s (HTTP status %d), which a gRPC call cannot follow",
			c.client.target.Name(), a.Location(c.client.scheme, c.client.target.Name(), method), r.Status)
	}
	return nil
}

// answered gives the caller the headers of an answer that the route makes, as its
// edits have them: gRPC shows those of a response without a message as its trailer.
func (c *call) answered(opts []grpc.CallOption) {
	md := c.editHeaders(metadata.MD{"content-type": {"application/grpc"}})
	for _, o := range opts {
		if o, ok := o.(grpc.TrailerCallOption); ok {
			*o.TrailerAddr = md
		}
	}
}

// reply is a fixed HTTP answer as a gRPC call sees it.
func reply(d *snapshot.DirectResponse) error {
	text := d.Body
	if text == "" {
		text = fmt.Sprintf("direct response with HTTP status %d", d.Status)
	}
	return status.Error(failure(d.Status), text)
}

// abortCode is the gRPC status of an injected abort.
func abortCode(a fault.Abort) codes.Code {
	if a.HTTP == 0 {
		return codes.Code(a.GRPC)
	}
	return failure(a.HTTP)
}

// failure is the status of a call that an HTTP response without any message ends: a
// success without one is none for gRPC.
func failure(httpStatus int) codes.Code {
	if code := codeOfHTTP(httpStatus); code != codes.OK {
		return code
	}
	return codes.Unknown
}

// codeOfRefusal is the status of a call that a rate limit refused: for the usual
// 429 one that says so and is not tried again, as Envoy has it with
// rate_limited_as_resource_exhausted.
func codeOfRefusal(httpStatus int) codes.Code {
	if httpStatus == 429 {
		return codes.ResourceExhausted
	}
	return codeOfHTTP(httpStatus)
}

// codeOfHTTP is the status that gRPC gives to an HTTP response without one of
// its own.
func codeOfHTTP(httpStatus int) codes.Code {
	switch httpStatus {
	case 200:
		return codes.OK
	case 400:
		return codes.Internal
	case 401:
		return codes.Unauthenticated
	case 403:
		return codes.PermissionDenied
	case 404:
		return codes.Unimplemented
	case 429, 502, 503, 504:
		return codes.Unavailable
	}
	return codes.Unknown
}

// outgoing is a call as it is sent: as the caller gave it, or as the route wants it.
type outgoing struct {
	ctx       context.Context
	method    string
	authority string
	opts      []grpc.CallOption
}

// rewrite applies the route's edits of the request to the call.
func (c *call) rewrite(given outgoing) outgoing {
	if a := c.Decision.Actions; c.peeked > 0 && a != nil && len(a.RequestHeaders) > 0 {
		c.outgoingMetadata() // before it is edited
	}
	out := c.edited(given)
	c.Context = out.ctx
	return out
}

// edited is the call with the route's edits of the request: of its headers, its
// path and its authority.
func (c *call) edited(given outgoing) outgoing {
	out := given
	out.authority = c.client.target.Name()
	for _, o := range given.opts {
		if o, ok := o.(grpc.AuthorityOverrideCallOption); ok {
			out.authority = o.Authority
		}
	}
	a := c.Decision.Actions
	if a == nil {
		return out
	}
	out.ctx = edited(given.ctx, a.RequestHeaders)
	if a.Asks() {
		out.ctx = withoutRetryHeaders(out.ctx)
	}
	out.method = a.Path(given.method)
	if host := a.Host(); host != "" {
		out.authority = host
		out.opts = append(given.opts[:len(given.opts):len(given.opts)], grpc.CallAuthority(host))
	}
	return out
}

// editHeaders applies the edits of a response's headers: those of the route, of a
// hash policy that generated a cookie, and of a session that binds the client to the
// host which answered. They are those of the decision as it is now, which may be that
// of the fallback.
func (c *call) editHeaders(md metadata.MD) metadata.MD {
	a, s, session := c.Decision.Actions, c.Decision.Selection, c.Decision.Session()
	if (a == nil || len(a.ResponseHeaders) == 0) && s == nil && session == nil {
		return md
	}
	md = md.Copy()
	if a != nil {
		edit(md, a.ResponseHeaders)
	}
	if s != nil && s.SetCookie != "" {
		md.Append("set-cookie", s.SetCookie)
	}
	if session != nil && c.Picked != nil {
		host := c.Picked.Hosts[c.PickedHost].Address
		if s == nil || s.SessionHost != host {
			md.Append(session.Bind(host))
		}
	}
	return md
}

// act makes a unary call whose route does more than forward.
func (u *unary) act() error {
	a := u.Decision.Actions
	given := outgoing{ctx: u.Context, method: u.method, opts: u.opts}
	authority := u.edit(given)
	var cs []*shadow
	if a != nil && len(a.Mirrors) > 0 {
		var err error
		if cs, err = u.mirror(given, authority); err != nil {
			return err
		}
	}
	err := u.send()
	if err != nil {
		err = u.fallBack(err, given)
	}
	for _, s := range cs {
		s.compare.originalEnded(err)
	}
	return err
}

// edit makes the call what the decision wants to be sent, and returns its authority.
func (u *unary) edit(given outgoing) (authority string) {
	out := u.rewrite(given)
	u.method, u.opts = out.method, out.opts
	if u.encoded != nil {
		u.opts = append(u.opts[:len(u.opts):len(u.opts)], u.encoded)
	}
	return out.authority
}

// send makes the attempts, one after the other or side by side.
func (u *unary) send() error {
	if u.hedges() {
		return u.runHedged()
	}
	return u.run()
}

// mirror sends copies of a unary call. The message is encoded once, for the call
// and its copies.
func (u *unary) mirror(given outgoing, authority string) ([]*shadow, error) {
	codec, err := codecOf(u.opts)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	cs := u.shadows(given, codec, authority, u.opts)
	if len(cs) == 0 {
		return nil, nil
	}
	req, err := codec.encode(u.req)
	if err == nil {
		u.req, u.encoded = req, grpc.ForceCodecV2(codec)
		u.opts = append(u.opts[:len(u.opts):len(u.opts)], u.encoded)
	}
	for _, s := range cs {
		if err != nil {
			s.drop()
			continue
		}
		s.unary(u.method, req, u.cc, u.invoker)
	}
	return cs, err
}

// actionStream is a stream whose route does more than forward, be it where it falls
// back to.
type actionStream struct {
	grpc.ClientStream
	call   *call
	desc   *grpc.StreamDesc
	edited sync.Once // editOptions
	opts   []grpc.CallOption
	codec  frameCodec
	copies []*shadowStream
	idle   *idleTimer
}

// stream opens a stream for a route that does more than forward, or may do so where
// the stream falls back to.
func (c *call) stream(given outgoing, desc *grpc.StreamDesc, cc *grpc.ClientConn, streamer grpc.Streamer) (grpc.ClientStream, error) {
	a, kept := c.Decision.Actions, c.kept(given)
	out := c.rewrite(given)
	s := &actionStream{call: c, desc: desc}
	if a != nil && len(a.Mirrors) > 0 {
		var err error
		if s.codec, err = codecOf(out.opts); err != nil {
			return nil, c.unopened(out.opts, status.Error(codes.Internal, err.Error()))
		}
		for _, sh := range c.shadows(given, s.codec, out.authority, out.opts) {
			s.copies = append(s.copies, sh.stream())
		}
		out.opts = append(out.opts[:len(out.opts):len(out.opts)], grpc.ForceCodecV2(s.codec))
	}
	out.ctx = c
	if a != nil && a.IdleTimeout > 0 {
		out.ctx, s.idle = withIdleTimeout(c, a.IdleTimeout)
		out.opts = s.idle.tell(out.opts)
	}
	s.opts = out.opts
	// Before those of the caller, who finds the headers edited there.
	out.opts = append([]grpc.CallOption{grpc.OnFinish(s.ended)}, out.opts...)
	var err error
	s.ClientStream, err = c.open(out, kept, desc, cc, streamer)
	for _, copied := range s.copies {
		if err != nil {
			copied.drop()
			continue
		}
		copied.open(desc, out.method, cc, streamer)
	}
	if err != nil {
		return nil, s.idle.cause(err)
	}
	return s, nil
}

// editOptions applies the route's edits to what the caller asked for by option, once.
// When it returns they have been applied.
func (s *actionStream) editOptions() {
	s.edited.Do(func() {
		for _, o := range s.opts {
			switch o := o.(type) {
			case grpc.HeaderCallOption:
				editResponse(o.HeaderAddr, nil, s.call.editHeaders)
			case grpc.TrailerCallOption:
				editResponse(nil, o.TrailerAddr, s.call.editHeaders)
			}
		}
	})
}

// ended tells the copies how the stream ended.
func (s *actionStream) ended(err error) {
	s.editOptions()
	s.idle.stop()
	for _, c := range s.copies {
		c.compare.originalEnded(err)
		c.closeSend()
	}
}

// SendMsg encodes the message once, for the stream and its copies.
func (s *actionStream) SendMsg(m any) error {
	s.idle.touch()
	if len(s.copies) == 0 {
		return s.ClientStream.SendMsg(m)
	}
	f, ok := m.(*frame)
	if !ok {
		var err error
		if f, err = s.codec.encode(m); err != nil {
			return s.ClientStream.SendMsg(m) // fails likewise, and ends the stream
		}
	}
	for _, c := range s.copies {
		c.send(f)
	}
	return s.ClientStream.SendMsg(f)
}

// CloseSend closes the sending side of the stream and of its copies.
func (s *actionStream) CloseSend() error {
	for _, c := range s.copies {
		c.closeSend()
	}
	return s.ClientStream.CloseSend()
}

// RecvMsg receives the next message.
func (s *actionStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	s.idle.touch()
	if err != nil || !s.desc.ServerStreams {
		s.editOptions() // the caller may look at them now, though OnFinish has yet to run elsewhere
	}
	return s.idle.cause(err)
}

// Header returns the response's headers with the route's edits.
func (s *actionStream) Header() (metadata.MD, error) {
	md, err := s.ClientStream.Header()
	if err == nil {
		editResponse(&md, nil, s.call.editHeaders)
	}
	return md, err
}

// Trailer returns the response's trailer, with the route's edits if the response
// has no headers but it.
func (s *actionStream) Trailer() metadata.MD {
	md := s.ClientStream.Trailer()
	editResponse(nil, &md, s.call.editHeaders)
	return md
}

// idleTimer ends a call whose stream neither sent nor received for a while. A
// nil idleTimer does nothing.
type idleTimer struct {
	d    time.Duration
	t    *time.Timer
	over atomic.Bool

	cancel context.CancelFunc
	ended  atomic.Bool
}

func withIdleTimeout(ctx context.Context, d time.Duration) (context.Context, *idleTimer) {
	own, cancel := context.WithCancel(ctx)
	i := &idleTimer{d: d, cancel: cancel}
	i.t = time.AfterFunc(d, func() {
		if ctx.Err() != nil {
			return // the call has ended, of which own hears in a moment, and why
		}
		i.over.Store(true)
		cancel()
	})
	return own, i
}

// cause is the end of the call as its caller should see it: to gRPC a stream that
// stood still for too long was cancelled.
func (i *idleTimer) cause(err error) error {
	if i == nil || !i.over.Load() || status.Code(err) != codes.Canceled {
		return err
	}
	return status.Error(codes.DeadlineExceeded, "stream idle timeout")
}

// tell has the caller's OnFinish options hear of the same end.
func (i *idleTimer) tell(opts []grpc.CallOption) []grpc.CallOption {
	opts = slices.Clone(opts)
	for n, o := range opts {
		if o, ok := o.(grpc.OnFinishCallOption); ok {
			opts[n] = grpc.OnFinish(func(err error) { o.OnFinish(i.cause(err)) })
		}
	}
	return opts
}

func (i *idleTimer) touch() {
	if i != nil && !i.ended.Load() {
		i.t.Reset(i.d)
	}
}

func (i *idleTimer) stop() {
	if i != nil {
		i.ended.Store(true)
		i.t.Stop()
		i.cancel()
	}
}
