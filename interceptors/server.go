package interceptors

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/fault"
	"github.com/meshframe/meshframe/mesh/ratelimit"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/mesh/stripe"
)

// Server is the server side of one mesh member. Its methods are interceptors
// that run before the application's own, and are safe for concurrent use.
type Server struct {
	refused atomic.Pointer[error]
	policy  atomic.Pointer[serverPolicy]
	active  breaker.State // calls under way, while their number is bounded
	faults  fault.Counter
}

// serverPolicy is what an inbound listener asks for.
type serverPolicy struct {
	limiter *ratelimit.Limiter // nil: none
	fault   *fault.Injector    // nil: none
	limits  *breaker.Limits    // nil: none; the bound is MaxRequests
}

// NewServer returns interceptors that admit every call.
func NewServer() *Server { return &Server{} }

// Configure makes the policies of an inbound listener those of the server: its
// local rate limit, its bound of concurrent calls, and its faults. nil is none. An
// equal rate limit keeps its buckets.
func (s *Server) Configure(l *snapshot.Listener) {
	if l == nil || l.RateLimit == nil && l.Fault == nil && l.MaxConcurrent == 0 {
		s.policy.Store(nil)
		return
	}
	p := &serverPolicy{}
	if l.Fault != nil && l.Fault.Cluster == "" { // calls are served, and sent to no cluster
		p.fault = fault.NewInjector(l.Fault, &s.faults)
	}
	if l.MaxConcurrent > 0 {
		limits := breaker.NoLimits
		limits.MaxRequests = l.MaxConcurrent
		p.limits = &limits
	}
	if l.RateLimit != nil {
		if before := s.policy.Load(); before != nil && before.limiter != nil && before.limiter.Policy().Equal(l.RateLimit) {
			p.limiter = before.limiter
		} else {
			p.limiter = ratelimit.NewLimiter(l.RateLimit)
		}
	}
	s.policy.Store(p)
}

// Refuse makes every call fail with err, because the configuration of the
// listener holds a policy that cannot be evaluated: such a policy denies. A nil
// err admits calls again.
func (s *Server) Refuse(err error) {
	if err == nil {
		s.refused.Store(nil)
		return
	}
	s.refused.Store(&err)
}

// admit lets a call in or says why not. The caller calls done when the call has
// ended; it is nil if there is nothing to give back.
func (s *Server) admit(ctx context.Context, method string) (done func(), _ error) {
	if err := s.refused.Load(); err != nil {
		return nil, status.Errorf(codes.PermissionDenied, "the listener's policy cannot be evaluated: %v", *err)
	}
	p := s.policy.Load()
	if p == nil {
		return nil, nil
	}
	return s.apply(ctx, p, method)
}

func (s *Server) apply(ctx context.Context, p *serverPolicy, method string) (done func(), _ error) {
	h := incoming{ctx: ctx, method: method}
	if p.limiter != nil && !p.limiter.Allow(h, h.source(), time.Now()) {
		return nil, status.Error(codeOfRefusal(p.limiter.Policy().Status), "rate limited by the server")
	}
	if p.limits != nil {
		at := stripe.Here()
		if !s.active.TryRequest(p.limits, at) {
			return nil, status.Error(codes.Unavailable, "the server sheds load: too many calls at once")
		}
		done = func() { s.active.DoneRequest(p.limits, at) }
	}
	if p.fault == nil {
		return done, nil
	}
	if err := inject(ctx, p.fault, h); err != nil {
		if done != nil {
			done()
		}
		return nil, err
	}
	return done, nil
}

// inject draws and plays a fault of the server.
func inject(ctx context.Context, i *fault.Injector, h incoming) error {
	delay, abort, active := i.DrawFor(h, rand.Uint64)
	if !active {
		return nil
	}
	defer i.Done()
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
	if abort.None() {
		return nil
	}
	return status.Error(abortCode(abort), "fault filter abort")
}

// incoming answers the policies' questions for a call that arrives.
type incoming struct {
	ctx    context.Context
	method string
}

// Header returns an incoming header.
func (h incoming) Header(name string) (string, bool) {
	switch name {
	case ":path":
		return h.method, true
	case ":method":
		return "POST", true
	}
	return joined(name, metadata.ValueFromIncomingContext(h.ctx, name))
}

// source is the address of the caller, without its port.
func (h incoming) source() string {
	p, ok := peer.FromContext(h.ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	addr := p.Addr.String()
	if i := strings.LastIndexByte(addr, ':'); i >= 0 {
		addr = addr[:i]
	}
	return strings.Trim(addr, "[]")
}

// Unary is a grpc.UnaryServerInterceptor.
func (s *Server) Unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	done, err := s.admit(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	if done != nil {
		defer done()
	}
	return handler(ctx, req)
}

// Stream is a grpc.StreamServerInterceptor.
func (s *Server) Stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	done, err := s.admit(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	if done != nil {
		defer done()
	}
	return handler(srv, ss)
}
