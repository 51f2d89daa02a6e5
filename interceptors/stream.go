package interceptors

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// replayLimit is how many bytes of messages a stream keeps to send them again.
// A stream that sends more before it hears from a server is left to the attempt
// that has sent most of them, the youngest of such, and is not retried, nor does it
// fall back.
const replayLimit = 256 << 10

// frameOverhead is what a kept message costs beside its bytes.
const frameOverhead = 64

// retriedStream is a stream that more than one attempt may be made at, one after
// the other or side by side, until a server answers, and at last at its fallback.
// What is sent until then is kept, encoded, and goes to every attempt. An attempt is
// received from by its lane until it is the stream's, and then by the caller.
type retriedStream struct {
	race
	desc     *grpc.StreamDesc
	cc       *grpc.ClientConn
	streamer grpc.Streamer
	codec    frameCodec
	finished atomic.Bool   // somebody ends the call
	written  chan struct{} // closed when the caller's options have been written

	// Guarded by mu.
	news    *sync.Cond
	opened  bool     // some attempt got as far as a stream
	sent    []*frame // nil closes the sending side
	size    int      // of sent, in bytes
	taken   int      // how many of sent some attempt has sent
	pumps   int      // attempts whose queue is being sent
	refused error    // of what this side could not send
	unwatch func()   // set once the call has ended without the caller's knowing
}

// newRetriedStream makes attempts until one gets as far as a stream.
func (c *call) newRetriedStream(out outgoing, given *outgoing, desc *grpc.StreamDesc, cc *grpc.ClientConn, streamer grpc.Streamer) (grpc.ClientStream, error) {
	codec, err := codecOf(out.opts)
	if err != nil {
		return nil, c.unopened(out.opts, status.Error(codes.Internal, err.Error()))
	}
	s := &retriedStream{desc: desc, cc: cc, streamer: streamer, codec: codec}
	s.call, s.ctx, s.method, s.opts, s.hedge, s.given = c, out.ctx, out.method, out.opts, c.hedges(), given
	s.try, s.settled, s.news, s.written = s.attempt, s.hear, sync.NewCond(&s.mu), make(chan struct{})
	s.start()
	s.mu.Lock()
	for !s.opened && !s.over {
		s.news.Wait()
	}
	opened := s.opened
	s.mu.Unlock()
	if !opened {
		s.end(s.err)
		return nil, s.err
	}
	return s, nil
}

// attempt opens a stream, sends it what was sent before and waits for an answer.
func (s *retriedStream) attempt(a *attempt) error {
	var err error
	if a.permit, err = a.pass(); err != nil {
		a.end(err)
		return err
	}
	opts := append(a.out.opts, grpc.ForceCodecV2(s.codec), grpc.OnFinish(func(err error) { s.ended(a, err) }))
	st, err := s.streamer(a.counted(&a.call), s.desc, s.cc, s.method, opts...)
	if err != nil {
		s.ended(a, err) // gRPC has said so, unless an interceptor further in refused
		return s.fail(a, err)
	}
	s.join(a, st)
	if err = s.answer(a); err == nil && s.ctx.Err() != nil { // it came after the caller had given up
		err = status.FromContextError(s.ctx.Err()).Err()
	}
	if err == nil && s.win(a) {
		if s.desc.ServerStreams {
			a.permit.Answered()
		}
		return nil
	}
	return s.fail(a, err)
}

// join makes st that of attempt a.
func (s *retriedStream) join(a *attempt, st grpc.ClientStream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a.stream, a.queue, s.opened = st, slices.Clone(s.sent), true
	s.news.Broadcast()
	s.pump(a, true)
}

// answer waits for the headers of an attempt, and returns its end if there are
// none, io.EOF being a good one. Headers that ask for a retry are no answer yet.
func (s *retriedStream) answer(a *attempt) error {
	defer func() {
		s.mu.Lock()
		if a.heard = true; s.best == a && !s.told { // the stream was left to it before, and its caller receives now
			s.Picked, s.PickedHost = a.Picked, a.PickedHost
		}
		s.news.Broadcast()
		s.mu.Unlock()
	}()
	md, _ := a.stream.Header()
	if md != nil && a.measured() && s.desc.ServerStreams {
		a.Answer(time.Now())
	}
	conditions, after := a.asksForRetry(md)
	if md != nil && conditions == 0 && after == 0 {
		return nil
	}
	err := a.stream.RecvMsg(&a.reply)
	a.held = err == nil
	return err
}

// fail settles how an attempt ended and returns what the caller should see. Of one
// that the stream was left to the caller hears by himself.
func (s *retriedStream) fail(a *attempt, err error) error {
	s.mu.Lock()
	if s.best == a {
		s.mu.Unlock()
		return nil
	}
	if !a.closed { // another was faster, or an interceptor further in gave up
		a.cancel()
	}
	for !a.closed { // the balancer has written down what it saw
		s.news.Wait()
	}
	timedOut := a.timedOut
	s.mu.Unlock()
	switch ended := s.ctx.Err(); {
	case !timedOut:
	case ended == nil:
		a.Last, err = perTryTimeout(), status.Error(codes.DeadlineExceeded, "per-try timeout")
	default: // there is no time for another, which the call ends by
		err = status.FromContextError(ended).Err()
	}
	a.end(eofIsNil(err))
	return err
}

func eofIsNil(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// ended is called by gRPC when an attempt has ended, perhaps without anybody
// receiving.
func (s *retriedStream) ended(a *attempt, err error) {
	s.mu.Lock()
	a.closed, a.cause = true, err
	s.news.Broadcast()
	mine, heard := s.answered() == a, a.heard
	if mine && !heard {
		s.watch(err)
	}
	s.mu.Unlock()
	if mine && heard {
		s.end(err)
	}
}

// answered is the attempt that the stream was left to, or nil. The caller holds
// mu.
func (s *retriedStream) answered() *attempt {
	if s.err != nil {
		return nil
	}
	return s.best
}

// hear is called when the race is decided.
func (s *retriedStream) hear(err error) {
	s.sent, s.given, s.from = nil, nil, nil // of no use now, and the stream may last
	s.news.Broadcast()
	switch a := s.answered(); {
	case a == nil:
		s.watch(err)
	case a.closed:
		s.watch(a.cause)
	}
}

// watch lets the end of the context or of the channel end the call, unless the
// caller receives before how it ended. The caller holds mu.
func (s *retriedStream) watch(err error) {
	if s.unwatch != nil || s.told {
		return
	}
	var ctx context.Context
	ctx, s.unwatch = context.WithCancel(s.ctx)
	go func() {
		for state := s.cc.GetState(); state != connectivity.Shutdown && s.cc.WaitForStateChange(ctx, state); {
			state = s.cc.GetState()
		}
		s.end(err)
	}()
}

// end ends the call, once. When it returns the caller's options have been written,
// though their OnFinish may still run.
func (s *retriedStream) end(err error) {
	if !s.finished.CompareAndSwap(false, true) {
		<-s.written
		return
	}
	err = eofIsNil(err)
	s.mu.Lock()
	if s.unwatch != nil {
		s.unwatch()
	}
	best := s.best
	s.told = true
	s.mu.Unlock()
	if best != nil {
		best.end(err)
		best.out.copyOut(s.opts, nil)
	}
	s.release()
	close(s.written)
	finish(s.opts, err)
}

// commit leaves the stream to the attempt that has sent most of what there is to
// send, and reports whether the race is decided: without an open attempt it cannot
// be. Of several such it is the youngest, for the others are known to be slow. One
// that has been heard wins by itself, or has failed. The caller holds mu.
func (s *retriedStream) commit() bool {
	var most *attempt
	for _, a := range s.running {
		if a.stream != nil && !a.closed && !a.heard && !a.timedOut && (most == nil || a.taken >= most.taken) {
			most = a
		}
	}
	if most != nil {
		s.decide(most, nil)
	}
	return s.over
}

// SendMsg keeps the message until the race is decided.
func (s *retriedStream) SendMsg(m any) error {
	select {
	case <-s.decided:
		return s.pass(m)
	default:
	}
	f, err := s.codec.encode(m)
	if err != nil {
		return s.refuse(m, err)
	}
	switch refused, kept := s.keep(f); {
	case !kept:
		return s.pass(f)
	case refused != nil:
		s.end(refused)
		return refused
	}
	return nil
}

// refuse ends the call because m cannot be encoded. If the stream has been left to an
// attempt meanwhile, gRPC finds that out once more, and ends the attempt before the
// call ends.
func (s *retriedStream) refuse(m any, err error) error {
	s.mu.Lock()
	s.decide(nil, err)
	answered := s.answered() != nil
	s.mu.Unlock()
	if answered {
		return s.pass(m)
	}
	s.end(err)
	return err
}

// keep notes what is to be sent, nil being the end of it, and hands it to the
// attempts. It does nothing once the race is decided. With several attempts it
// waits for one to send it, not for those whose server does not read.
func (s *retriedStream) keep(f *frame) (refused error, kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f != nil {
		s.size += len(f.data) + frameOverhead
	}
	for s.size > replayLimit && !s.commit() {
		s.news.Wait()
	}
	if s.over {
		return nil, false
	}
	s.sent = append(s.sent, f)
	n := len(s.sent)
	for _, a := range s.running { // pump may let go of mu where there is but one
		if a.stream != nil {
			a.queue = append(a.queue, f)
			s.pump(a, s.hedge) // none waits for another
		}
	}
	for s.hedge && f != nil && s.taken < n && s.maySend() {
		s.news.Wait()
	}
	return s.refused, true
}

// maySend reports whether it is still open if what was kept can be sent. When the
// call has failed it may be for that very reason, which those know who send: they
// return soon, for every attempt has ended. When the stream was left to an attempt
// that one knows. The caller holds mu.
func (s *retriedStream) maySend() bool {
	if a := s.answered(); a != nil {
		return a.pumping
	}
	return !s.over || s.pumps > 0
}

// pump sees to it that a's queue is sent, beside the caller or by him. The caller
// holds mu.
func (s *retriedStream) pump(a *attempt, beside bool) {
	if a.pumping || len(a.queue) == 0 {
		return
	}
	a.pumping = true
	s.pumps++
	if beside {
		go func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.drain(a)
		}()
		return
	}
	s.drain(a)
}

// drain sends a's queue. The caller holds mu, which is free meanwhile.
func (s *retriedStream) drain(a *attempt) {
	for len(a.queue) > 0 {
		f := a.queue[0]
		a.queue = a.queue[1:]
		s.mu.Unlock()
		err := a.send(f)
		s.mu.Lock()
		switch {
		case err == nil:
			a.taken++
			s.taken = max(s.taken, a.taken)
		case s.refuses(a, err):
			s.refused = err
			s.decide(nil, err)
			fallthrough
		default:
			a.queue = nil // how it ended is heard by its lane
		}
		s.news.Broadcast()
	}
	a.queue, a.pumping = nil, false
	s.pumps--
	s.news.Broadcast()
}

// refuses reports whether err, with which a failed to send a message, is an error of
// this side that ends the call, such as a message that is too large. io.EOF only
// says that the attempt has ended, and one that was cancelled says nothing about
// the message. An error of this side ends the attempt too, so that its lane may
// have cancelled it by now: then err is what it ended with. The caller holds mu.
func (s *retriedStream) refuses(a *attempt, err error) bool {
	if errors.Is(err, io.EOF) || a.timedOut || a.Err() != nil && !errors.Is(err, a.cause) {
		return false
	}
	return !s.over || s.err != nil || s.best == a
}

func (a *attempt) send(f *frame) error {
	if f == nil {
		return a.stream.CloseSend()
	}
	return a.stream.SendMsg(f)
}

// pass sends a message by the attempt that the stream was left to, after what was
// kept.
func (s *retriedStream) pass(m any) error {
	s.mu.Lock()
	a := s.answered()
	for a != nil && a.pumping {
		s.news.Wait()
	}
	s.mu.Unlock()
	switch {
	case a != nil:
	case s.desc.ClientStreams:
		return io.EOF
	default: // generated code takes it for the status of the call, which RecvMsg has
		return nil
	}
	err := a.stream.SendMsg(m)
	if err != nil && !errors.Is(err, io.EOF) {
		s.end(err)
	}
	return err
}

// CloseSend closes the sending side of the attempts and those that follow.
func (s *retriedStream) CloseSend() error {
	if _, kept := s.keep(nil); kept {
		return nil
	}
	s.mu.Lock()
	a := s.answered()
	if a != nil && a.pumping {
		a.queue, a = append(a.queue, nil), nil
	}
	s.mu.Unlock()
	if a == nil {
		return nil
	}
	return a.stream.CloseSend()
}

// receiver waits until the race is decided and nobody else receives from the
// attempt that the stream was left to. An error is the end of the call.
func (s *retriedStream) receiver() (*attempt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.over || s.err == nil && !s.best.heard {
		s.news.Wait()
	}
	return s.best, s.err
}

// RecvMsg receives from the attempt that was answered.
func (s *retriedStream) RecvMsg(m any) error {
	a, err := s.receiver()
	switch {
	case err != nil:
	case a.held:
		return s.receiveHeld(a, m)
	default:
		err = a.stream.RecvMsg(m)
	}
	if err != nil || !s.desc.ServerStreams {
		s.end(err)
	}
	return err
}

// receiveHeld receives the message that a's lane has received, which may have been
// the last thing that there was.
func (s *retriedStream) receiveHeld(a *attempt, m any) error {
	a.held = false
	err := s.codec.decode(&a.reply, m)
	a.reply = frame{}
	if err != nil {
		s.end(err)
		return err
	}
	s.mu.Lock()
	closed, cause := a.closed, a.cause
	s.mu.Unlock()
	if closed || !s.desc.ServerStreams {
		s.end(cause)
	}
	return nil
}

// Header waits for the headers of the attempt that is answered.
func (s *retriedStream) Header() (metadata.MD, error) {
	a, err := s.receiver()
	if err != nil {
		s.end(err) // RecvMsg says why
	}
	if a == nil || a.stream == nil {
		return nil, nil
	}
	return a.stream.Header()
}

// Trailer returns the trailer of the attempt that ended the stream, which it is
// left to if none has.
func (s *retriedStream) Trailer() metadata.MD {
	s.mu.Lock()
	s.commit()
	a := s.best
	s.mu.Unlock()
	if a == nil || a.stream == nil {
		return nil
	}
	return a.stream.Trailer()
}

// Context returns the context of the attempt that the stream is left to, if
// necessary by asking for it.
func (s *retriedStream) Context() context.Context {
	s.mu.Lock()
	for !s.commit() {
		s.news.Wait()
	}
	a := s.best
	s.mu.Unlock()
	if a == nil || a.stream == nil {
		return s.ctx
	}
	return a.stream.Context()
}
