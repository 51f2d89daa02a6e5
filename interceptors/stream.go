package interceptors

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/outcome"
)

// replayLimit is how many bytes of messages a stream keeps to send them again.
// A stream that sends more before it hears from the server is not retried.
const replayLimit = 256 << 10

// frameOverhead is what a kept message costs beside its bytes.
const frameOverhead = 64

// retriedStream is a stream whose attempts are replaced until one answers. Only
// the receiving side learns how an attempt ended, and replaces it; what was sent
// is kept, encoded, until then.
type retriedStream struct {
	*call
	ctx      context.Context // what attempts derive theirs from
	permit   breaker.Permit
	desc     *grpc.StreamDesc
	method   string
	cc       *grpc.ClientConn
	streamer grpc.Streamer
	codec    frameCodec
	caller   []grpc.CallOption
	out      results
	once     sync.Once     // ends the call
	over     chan struct{} // closed when the call has ended; err says how
	err      error

	mu        sync.Mutex
	current   *streamAttempt
	sent      []*frame
	size      int
	closed    bool // CloseSend was called
	committed bool
	retrying  bool // the attempt counts against the limit of retries
}

// streamAttempt is one attempt of a stream.
type streamAttempt struct {
	grpc.ClientStream
	s         *retriedStream
	cancel    context.CancelFunc
	perTry    *time.Timer
	ended     chan struct{} // closed when gRPC has reported how the attempt ended
	endOnce   sync.Once
	unwatch   func() bool // set before ended is closed; nil without a watch
	sending   sync.Mutex  // messages reach the attempt in order
	receiving sync.Mutex  // Header may ask for the status beside RecvMsg
	committed atomic.Bool
	timedOut  atomic.Bool // by the per-try timeout
}

// newRetriedStream makes attempts until one gets as far as a stream.
func (c *call) newRetriedStream(ctx context.Context, permit breaker.Permit, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts []grpc.CallOption) (grpc.ClientStream, error) {
	codec, err := codecOf(opts)
	if err != nil {
		err = status.Error(codes.Internal, err.Error())
		permit.Abandon()
		c.release()
		finish(opts, err)
		return nil, err
	}
	s := &retriedStream{call: c, ctx: ctx, permit: permit, desc: desc, method: method, cc: cc, streamer: streamer, codec: codec, caller: opts, over: make(chan struct{})}
	s.out.replace(opts)
	s.mu.Lock()
	err = s.open()
	s.mu.Unlock()
	if err != nil {
		s.end(err)
		return nil, err
	}
	return s, nil
}

// open makes an attempt the current one, trying again as long as the policy
// admits it. The caller holds mu.
func (s *retriedStream) open() error {
	for {
		err := s.attempt()
		if err == nil || !s.again() {
			return err
		}
	}
}

// attempt opens one stream and sends it what was sent before.
func (s *retriedStream) attempt() error {
	s.Last, s.Picked = outcome.Attempt{}, nil
	s.out.clear()
	a := &streamAttempt{s: s, ended: make(chan struct{})}
	var ctx context.Context
	ctx, a.cancel = context.WithCancel(s.counted(s.ctx))
	if d := s.Decision.Retry.PerTryTimeout; d > 0 {
		a.perTry = time.AfterFunc(d, a.timeOut)
	}
	opts := append(s.out.opts[:len(s.out.opts):len(s.out.opts)], grpc.ForceCodecV2(s.codec), grpc.OnFinish(a.finished))
	var err error
	if a.ClientStream, err = s.streamer(ctx, s.desc, s.cc, s.method, opts...); err != nil {
		a.stop()
		a.cancel()
		a.endOnce.Do(func() { close(a.ended) }) // an interceptor refused: gRPC never saw it
		a.forget()
		return a.outcome(err)
	}
	s.current = a
	if len(s.sent) == 0 && !s.closed {
		return nil
	}
	// Beside the receiving side, which must go on or the server may stop reading.
	a.sending.Lock()
	go a.replay(s.sent[:len(s.sent):len(s.sent)], s.closed)
	return nil
}

// replay sends what was sent before; it holds a.sending.
func (a *streamAttempt) replay(sent []*frame, closed bool) {
	defer a.sending.Unlock()
	for _, f := range sent {
		if a.ClientStream.SendMsg(f) != nil {
			return // the receiving side will hear why
		}
	}
	if closed {
		_ = a.ClientStream.CloseSend() // always nil
	}
}

func (a *streamAttempt) SendMsg(m any) error {
	a.sending.Lock()
	defer a.sending.Unlock()
	return a.ClientStream.SendMsg(m)
}

func (a *streamAttempt) RecvMsg(m any) error {
	a.receiving.Lock()
	defer a.receiving.Unlock()
	return a.ClientStream.RecvMsg(m)
}

func (a *streamAttempt) CloseSend() error {
	a.sending.Lock()
	defer a.sending.Unlock()
	return a.ClientStream.CloseSend()
}

// timeOut ends an attempt that has not been answered in time.
func (a *streamAttempt) timeOut() {
	if !a.committed.Load() {
		a.timedOut.Store(true)
		a.cancel()
	}
}

// stop ends the per-try timeout.
func (a *streamAttempt) stop() {
	if a.perTry != nil {
		a.perTry.Stop()
	}
}

// outcome settles how the attempt ended and returns what the caller should see.
func (a *streamAttempt) outcome(err error) error {
	a.cancel() // if it was not gRPC that ended it
	<-a.ended  // the balancer has written down what it saw
	a.s.settle(err)
	if !a.timedOut.Load() || a.s.Err() != nil {
		return err
	}
	a.s.Last.Conditions = outcome.PerTryTimeout | outcome.Reset | outcome.Server5xx | outcome.GatewayError
	return status.Error(codes.DeadlineExceeded, "per-try timeout")
}

// finished is called by gRPC when the attempt has ended, perhaps without
// anybody receiving: then the call has ended with it.
func (a *streamAttempt) finished(err error) {
	a.stop()
	switch {
	case err == nil, a.committed.Load(), a.s.ctx.Err() != nil,
		errors.Is(err, grpc.ErrClientConnClosing): //nolint:staticcheck // CANCELLED may be the server's, and is retried
		a.s.end(err)
	default:
		// The receiving side replaces it; if nobody receives, the call ends with
		// its context.
		a.unwatch = context.AfterFunc(a.s.ctx, func() { a.s.abandoned(a) })
	}
	a.endOnce.Do(func() { close(a.ended) })
	a.cancel() // lets go of the caller's context, which may live on
}

// forget stops watching the context for an attempt that somebody looked at.
func (a *streamAttempt) forget() {
	select {
	case <-a.ended:
		if a.unwatch != nil {
			a.unwatch()
		}
	default: // it was cancelled: the call ends with it
	}
}

// abandoned ends the call if its context ended while nobody replaced a.
func (s *retriedStream) abandoned(a *streamAttempt) {
	s.mu.Lock()
	current := s.current == a && !s.committed
	if current {
		s.commitLocked() // RecvMsg replaces it no more
	}
	s.mu.Unlock()
	if current {
		s.end(status.FromContextError(s.ctx.Err()).Err())
	}
}

// commit makes a the last attempt.
func (s *retriedStream) commit(a *streamAttempt) {
	if a.committed.Load() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commitLocked()
}

func (s *retriedStream) commitLocked() {
	s.committed = true
	s.sent = nil
	s.current.committed.Store(true)
	s.current.stop()
}

// replace follows attempt a, which ended with err, by another. If there is none
// the call has ended with the error it returns.
func (s *retriedStream) replace(a *streamAttempt, err error) (again bool, _ error) {
	a.stop()
	defer a.forget()
	s.mu.Lock()
	again, err = s.replaceLocked(a, err)
	s.mu.Unlock() // the caller's OnFinish may use the stream
	if again {
		return true, nil
	}
	s.end(err)
	return false, s.result(err)
}

func (s *retriedStream) replaceLocked(a *streamAttempt, err error) (again bool, _ error) {
	switch {
	case a != s.current:
		return true, nil // somebody else did
	case s.committed:
		return false, err
	}
	md, _ := a.ClientStream.Header()
	err = a.outcome(err)
	if md != nil && !s.readHeader(md) { // it had been answered
		s.commitLocked()
		return false, err
	}
	if s.again() {
		a.cancel()
		if err = s.open(); err == nil {
			return true, nil
		}
	}
	s.commitLocked()
	return false, err
}

// result is how the call ended, which every later RecvMsg repeats.
func (s *retriedStream) result(err error) error {
	select {
	case <-s.over:
		if s.err != nil {
			return s.err
		}
	default: // OnFinish of this very call receives
	}
	return err
}

// again decides whether the attempt is followed by another, and waits for its
// backoff.
func (s *retriedStream) again() bool {
	s.endRetry()
	if s.ctx.Err() != nil { // also where the stream stood still for too long
		return false
	}
	wait, ok := s.nextRetry(rand.Uint64)
	if !ok {
		return false
	}
	s.retrying = true
	return s.sleep(wait) == nil
}

func (s *retriedStream) endRetry() {
	if s.retrying {
		s.retrying = false
		s.Decision.Upstream.State.Breaker.DoneRetry()
	}
}

// end ends the call, once.
func (s *retriedStream) end(err error) {
	s.once.Do(func() {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		s.err = err
		close(s.over)
		s.settle(err)
		s.passed(s.permit)
		s.endRetry()
		s.release()
		s.out.copyOut(s.caller, nil)
		finish(s.caller, err)
	})
}

func (s *retriedStream) attemptNow() *streamAttempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// SendMsg keeps the message until an attempt is committed.
func (s *retriedStream) SendMsg(m any) error {
	a, v, err := s.keep(m)
	if err != nil {
		s.fail(s.attemptNow(), err)
		return err
	}
	err = a.SendMsg(v)
	if err != nil && !errors.Is(err, io.EOF) {
		s.fail(a, err)
	}
	if errors.Is(err, io.EOF) && !a.committed.Load() {
		return nil // the receiving side replaces the attempt, or says why not
	}
	return err
}

// fail ends the call with an error of this side's making.
func (s *retriedStream) fail(a *streamAttempt, err error) {
	s.mu.Lock()
	s.commitLocked()
	current := s.current
	s.mu.Unlock()
	s.end(err)
	current.cancel()
	a.forget()
}

// keep notes a message to be sent and returns the attempt to send it to.
func (s *retriedStream) keep(m any) (*streamAttempt, any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.committed {
		return s.current, m, nil
	}
	f, err := s.codec.encode(m)
	if err != nil {
		return nil, nil, err
	}
	if s.size += len(f.data) + frameOverhead; s.size > replayLimit {
		s.commitLocked()
	} else {
		s.sent = append(s.sent, f)
	}
	return s.current, f, nil
}

// CloseSend closes the sending side of this attempt and those that follow.
func (s *retriedStream) CloseSend() error {
	s.mu.Lock()
	s.closed = true
	a := s.current
	s.mu.Unlock()
	return a.CloseSend()
}

// RecvMsg receives from the first attempt that answers.
func (s *retriedStream) RecvMsg(m any) error {
	for {
		a := s.attemptNow()
		err := a.RecvMsg(m)
		if err == nil || errors.Is(err, io.EOF) {
			s.commit(a)
			return err
		}
		if again, err := s.replace(a, err); !again {
			return err
		}
	}
}

// Header waits for the headers of the first attempt that sends some, which
// commits the stream to it.
func (s *retriedStream) Header() (metadata.MD, error) {
	for {
		a := s.attemptNow()
		md, err := a.Header()
		if md != nil || a.committed.Load() {
			s.commit(a)
			return md, err
		}
		if err == nil { // it ended without headers: the status says how
			err = a.RecvMsg(&frame{})
		}
		if err == nil || errors.Is(err, io.EOF) {
			s.commit(a)
			return md, nil
		}
		if again, _ := s.replace(a, err); !again {
			return md, nil // RecvMsg says why
		}
	}
}

// Trailer returns the trailer of the attempt that ended the stream.
func (s *retriedStream) Trailer() metadata.MD { return s.attemptNow().Trailer() }

// Context returns the context of the attempt, which commits the stream to it.
func (s *retriedStream) Context() context.Context {
	a := s.attemptNow()
	s.commit(a)
	return a.Context()
}
