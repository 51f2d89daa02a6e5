package xdsclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

const (
	userAgent = "meshframe"
	// featureWrapped tells servers that state-of-the-world resources may come
	// in a wrapper that gives their name.
	featureWrapped = "xds.config.resource-in-sotw"

	// keepaliveTime and keepaliveTimeout find out about a connection that has
	// broken without a word before a server's registration is given up for long.
	keepaliveTime    = 30 * time.Second
	keepaliveTimeout = 10 * time.Second
	// calmKeepaliveTime is for servers that call this too many pings. By default
	// those of gRPC want 5 minutes between two.
	calmKeepaliveTime = 6 * time.Minute
	maxMessage        = 256 << 20
)

// server is the connection to one control plane: it opens streams one after the
// other while it is needed.
type server struct {
	c     *Client
	cfg   Server
	index int // in Client.servers
	node  *corev3.Node
	wake  chan struct{} // one slot: something is to be sent

	// Only run touches these.
	cc      *grpc.ClientConn // nil: to be made
	sotw    bool             // this connection has no delta
	attempt int              // attempts that failed in a row
	ping    time.Duration    // after so much silence

	// Guarded by Client.mu.
	leave  context.CancelFunc // ends the shift
	stream *stream            // nil: none is open
	due    bool               // changed subscriptions are not to wait any longer
	memory map[string]*memory // by type URL; survives the stream
	health ServerStatus       // without Types
	outage *ServerError       // why it cannot be reached; nil once it has answered
}

// memory is what is remembered about a type and a server beyond one stream.
type memory struct {
	// accepted is the version last accepted as a whole, by protocol: one's
	// versions mean nothing to the other.
	accepted [StateOfTheWorld + 1]string
	mixed    bool // what was good of later versions has been applied on top
	nack     NACKStatus
}

func newServer(c *Client, index int, cfg Server) (*server, error) {
	s := &server{
		c: c, cfg: cfg, index: index, leave: func() {},
		node:   withFeatures(c.cfg.Node),
		wake:   make(chan struct{}, 1),
		memory: map[string]*memory{},
		ping:   keepaliveTime,
		health: ServerStatus{URI: cfg.URI, Protocol: c.cfg.Protocol, Since: time.Now()},
	}
	var err error
	s.cc, err = s.newConn() // also validates cfg
	return s, err
}

// withFeatures returns a copy of the node that says who is asking.
func withFeatures(n *corev3.Node) *corev3.Node {
	n, _ = proto.Clone(n).(*corev3.Node)
	if n == nil {
		n = &corev3.Node{}
	}
	if n.GetUserAgentName() == "" {
		n.UserAgentName = userAgent
	}
	if !slices.Contains(n.GetClientFeatures(), featureWrapped) {
		n.ClientFeatures = append(n.ClientFeatures, featureWrapped)
	}
	return n
}

// newConn makes a connection that has not been opened yet.
func (s *server) newConn() (*grpc.ClientConn, error) {
	opts := []grpc.DialOption{
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: s.ping, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)),
		grpc.WithDisableServiceConfig(),
	}
	if s.cfg.Credentials != nil {
		opts = append(opts, grpc.WithTransportCredentials(s.cfg.Credentials))
	}
	target := s.cfg.URI
	if s.cfg.Dialer != nil {
		opts = append(opts, grpc.WithContextDialer(s.cfg.Dialer))
		if !hasScheme(target) {
			target = "passthrough:///" + target
		}
	}
	return grpc.NewClient(target, append(opts, s.cfg.DialOptions...)...)
}

// hasScheme reports whether a target names a resolver.
func hasScheme(target string) bool {
	u, err := url.Parse(target)
	return err == nil && resolver.Get(u.Scheme) != nil
}

// poke has the sender look for work. It never blocks.
func (s *server) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// talk is what was said about a type on the open stream; nil if nothing was.
// Client.mu is held.
func (s *server) talk(e *typeEntry) *talk {
	if s.stream == nil {
		return nil
	}
	return s.stream.talks[e.url]
}

// knows reports whether the server was asked for a resource on the open stream.
// Client.mu is held.
func (s *server) knows(sub *subscription) bool {
	t := s.talk(sub.entry)
	if t == nil {
		return false
	}
	_, ok := t.known[sub.name]
	return ok
}

// run works whenever the server is needed, until ctx ends.
func (s *server) run(ctx context.Context) {
	defer s.disconnect()
	for {
		shift, ok := s.nextShift(ctx)
		if !ok {
			return
		}
		s.work(shift)
		if shift.Err() != nil {
			s.disconnect()
			s.attempt = 0
			s.attempting() // nothing is due any more
		}
		s.leave()
	}
}

// nextShift waits until the server is needed.
func (s *server) nextShift(ctx context.Context) (shift context.Context, ok bool) {
	for ctx.Err() == nil {
		if shift, ok := s.c.shift(ctx, s); ok {
			return shift, true
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
		}
	}
	return nil, false
}

// work keeps a stream open while anything is watched, until ctx ends.
func (s *server) work(ctx context.Context) {
	for s.c.stays(s) {
		began := time.Now()
		o, err := s.session(ctx)
		if ctx.Err() != nil {
			return
		}
		if s.giveUpDelta(err, o) {
			continue
		}
		if !sleep(ctx, s.failed(err, o, time.Since(began))) {
			return
		}
	}
}

// protocol is the one to try next.
func (s *server) protocol() Protocol {
	switch {
	case s.c.cfg.Protocol != Auto:
		return s.c.cfg.Protocol
	case s.sotw:
		return StateOfTheWorld
	}
	return Delta
}

// outcome is how far a stream got before it ended.
type outcome uint8

const (
	dead     outcome = iota // it was not opened, or ended at once
	quiet                   // the server had taken it, and had nothing to say
	answered                // it brought a response
)

// session opens a stream and works on it until it ends.
func (s *server) session(ctx context.Context) (o outcome, err error) {
	if s.cc == nil {
		if s.cc, err = s.newConn(); err != nil {
			return dead, err
		}
	}
	s.attempting()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := open(ctx, s.cc, s.protocol())
	if err != nil {
		return dead, &streamError{"cannot connect", err}
	}
	opened := time.Now()
	st := s.begin(s.protocol())
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		st.sendAll(ctx, w)
	}()
	err = st.receiveAll(ctx, w)
	o = st.outcome(w.taken(), time.Since(opened))
	cancel()
	<-sent
	s.end(st)
	return o, &streamError{"the stream ended", err}
}

// giveUpDelta reports whether err says that the server does not know delta, and
// notes it.
func (s *server) giveUpDelta(err error, o outcome) bool {
	if o == answered || s.protocol() != Delta || s.c.cfg.Protocol != Auto || status.Code(errors.Unwrap(err)) != codes.Unimplemented {
		return false
	}
	s.c.log.Info("xds server does not implement delta; using state-of-the-world", "server", s.cfg.URI)
	s.sotw = true
	return true
}

// failed notes the end of a stream, or that there was none, and answers how
// long to wait. The end of a quiet stream is no failure, as a resumed one has
// nothing to say, unless something was waited for.
func (s *server) failed(err error, o outcome, lived time.Duration) time.Duration {
	s.heed(err)
	if status.Code(errors.Unwrap(err)) == codes.Unavailable || s.cc != nil && s.cc.GetState() != connectivity.Ready {
		s.disconnect()
	}
	if o != dead {
		s.attempt = 0
		delay := max(0, s.delay()-lived)
		s.c.log.Info("xds stream ended", "server", s.cfg.URI, "error", err, "retry_in", delay)
		s.note(err, delay)
		if o == quiet && s.c.lacks() {
			s.c.down(s, &ServerError{Server: s.cfg.URI, Err: err})
		}
		return delay
	}
	delay := s.delay()
	s.attempt++
	s.c.log.Warn("xds server is not available", "server", s.cfg.URI, "error", err, "retry_in", delay)
	s.note(err, delay)
	s.c.down(s, &ServerError{Server: s.cfg.URI, Err: err})
	return delay
}

// heed has later connections ping less often when this one was closed for its
// pings (gRFC A8). gRPC does so itself, but only as long as a ClientConn lasts.
func (s *server) heed(err error) {
	if s.ping == calmKeepaliveTime || !strings.Contains(status.Convert(errors.Unwrap(err)).Message(), "too_many_pings") {
		return
	}
	s.ping = calmKeepaliveTime
	s.c.log.Info("xds server refuses frequent pings: a broken connection will be noticed later", "server", s.cfg.URI, "interval", s.ping)
}

// delay is the time before the next attempt, by the algorithm of gRPC's
// connection backoff.
func (s *server) delay() time.Duration {
	b := s.c.cfg.Backoff
	d := float64(b.BaseDelay) * math.Pow(b.Multiplier, float64(s.attempt))
	d = min(d, float64(b.MaxDelay))
	jitter := 2*rand.Float64() - 1
	return time.Duration(d * (1 + b.Jitter*jitter))
}

// disconnect closes the connection: the next one is made afresh, so that this
// client alone decides when to try again.
func (s *server) disconnect() {
	if s.cc == nil {
		return
	}
	if err := s.cc.Close(); err != nil {
		s.c.log.Debug("closing xds connection", "server", s.cfg.URI, "error", err)
	}
	s.cc, s.sotw = nil, false
}

// attempting notes that the next attempt is not due any more, but made.
func (s *server) attempting() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.health.NextAttempt = time.Time{}
}

// begin publishes a new stream.
func (s *server) begin(p Protocol) *stream {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.stream = newStream(s, p)
	s.health.Protocol, s.health.Connected, s.health.Since = p, true, time.Now()
	s.c.log.Info("xds stream opened", "server", s.cfg.URI, "protocol", p.String())
	return s.stream
}

// end withdraws a stream, and forgets the resources that nobody wants and no
// other server believes in: there is no one left to unsubscribe from.
func (s *server) end(st *stream) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	st.stopExpiry()
	s.stream = nil
	s.health.Connected, s.health.Since = false, time.Now()
	for _, e := range s.c.order {
		for _, sub := range e.subs {
			if !sub.wanted() && !s.c.known(sub) {
				e.drop(sub)
			}
		}
	}
}

// note records a failure for Status.
func (s *server) note(err error, delay time.Duration) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.health.LastError, s.health.Failures = err, s.attempt
	s.health.NextAttempt = time.Now().Add(delay)
}

// answered notes that the server has spoken. Client.mu is held.
func (s *server) answered() {
	s.outage, s.c.lastOutage = nil, nil
	s.c.keeper.relax()
	s.health.LastError, s.health.Failures, s.health.LastResponse = nil, 0, time.Now()
}

// streamError says what was going on when a stream failed.
type streamError struct {
	what string
	err  error // io.EOF, or with a gRPC status
}

func (e *streamError) Error() string {
	if errors.Is(e.err, io.EOF) {
		return e.what + ": closed by the server"
	}
	if st, ok := status.FromError(e.err); ok {
		return fmt.Sprintf("%s: %v: %s", e.what, st.Code(), st.Message())
	}
	return e.what + ": " + e.err.Error()
}

func (e *streamError) Unwrap() error { return e.err }

// sleep waits; it answers false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
