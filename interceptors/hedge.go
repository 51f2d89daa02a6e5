package interceptors

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// hedge makes the attempts of a unary call side by side: when one is not
// answered within the per-try timeout another starts beside it, and the first
// good answer wins (Envoy hedge_on_per_try_timeout). Every attempt has a reply
// of its own, undecoded; the winner's is decoded into the caller's.
type hedge struct {
	*unary
	codec    frameCodec
	req      *frame
	finished chan *hedgedAttempt
	backoff  *time.Timer // of the attempt that follows one that failed; nil is none
	running  []*hedgedAttempt
	admitted int // retries that the breaker counts
}

// hedgedAttempt is one attempt. It has its own record of the call, because it
// runs beside others.
type hedgedAttempt struct {
	call
	cancel context.CancelFunc
	reply  frame
	out    results
	err    error
}

func (u *unary) runHedged() error {
	codec, err := codecOf(u.opts)
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	req, err := codec.encode(u.req)
	if err != nil {
		return err
	}
	own := *u // on the heap, not the caller's
	h := &hedge{unary: &own, codec: codec, req: req, finished: make(chan *hedgedAttempt)}
	winner := h.race()
	err = winner.err
	if err == nil {
		err = codec.decode(&winner.reply, u.reply)
	}
	winner.out.copyOut(u.opts, u.responseEdits())
	return err
}

// race runs attempts until one is good or none is left, and returns the one
// that decides. When it returns, every attempt has ended.
func (h *hedge) race() *hedgedAttempt {
	defer h.stop()
	h.start()
	perTry := time.NewTimer(h.Decision.Retry.PerTryTimeout)
	defer perTry.Stop()
	var due <-chan time.Time
	var failed *hedgedAttempt
	for {
		select {
		case a := <-h.finished:
			h.running = slices.DeleteFunc(h.running, func(r *hedgedAttempt) bool { return r == a })
			if a.err == nil {
				return a
			}
			h.Last, h.Pushback, h.Picked, h.PickedHost = a.Last, a.Pushback, a.Picked, a.PickedHost
			wait, again := h.nextRetry(rand.Uint64)
			failed = a
			switch {
			case again && due == nil:
				h.admitted++
				h.backoff = time.NewTimer(wait)
				due = h.backoff.C
			case again: // one waits already
				h.admitted++
				h.start()
			case len(h.running) == 0 && due == nil:
				return a
			}
		case <-due:
			due = nil
			h.start()
			perTry.Reset(h.Decision.Retry.PerTryTimeout)
		case <-h.Done():
			if len(h.running) == 0 { // it waited for a backoff
				return failed
			}
			a := <-h.finished
			h.running = slices.DeleteFunc(h.running, func(r *hedgedAttempt) bool { return r == a })
			return a
		case <-perTry.C:
			if h.admitRetry() {
				h.admitted++
				h.start()
				perTry.Reset(h.Decision.Retry.PerTryTimeout)
			}
		}
	}
}

// start begins an attempt beside those that run.
func (h *hedge) start() {
	a := &hedgedAttempt{}
	a.client = h.client
	a.Decision, a.Observe, a.Retries = h.Decision, true, h.Retries
	a.Tried = slices.Clone(h.Tried)
	a.Context, a.cancel = context.WithCancel(h.call)
	ctx := h.counted(&a.call)
	a.out.replace(h.opts)
	h.running = append(h.running, a)
	permit, err := a.pass()
	go func() {
		if a.err = err; err != nil {
			h.finished <- a
			return
		}
		a.err = h.invoker(ctx, h.method, h.req, &a.reply, h.cc, append(a.out.opts, grpc.ForceCodecV2(h.codec))...)
		a.settle(a.err)
		a.donePending()
		a.passed(permit)
		h.finished <- a
	}()
}

// stop ends the attempts that lost and waits for them: they hold the request.
func (h *hedge) stop() {
	if h.backoff != nil {
		h.backoff.Stop()
	}
	for _, a := range h.running {
		a.cancel()
	}
	for range h.running {
		<-h.finished
	}
	for range h.admitted {
		h.Decision.Upstream.State.Breaker.DoneRetry()
	}
}
