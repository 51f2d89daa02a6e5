package interceptors

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/pick"
)

// race makes the attempts at a call until one decides how it ends. An attempt
// that failed is followed by another in the same goroutine. One that is not
// answered within the per-try timeout is ended by it, or, where the route hedges,
// goes on beside another (Envoy hedge_on_per_try_timeout).
//
// The first answer decides; so does a status of the server that the policy does
// not try again. Attempts that failed otherwise leave it to those under way and to
// come, and the last of them decides.
type race struct {
	*call                  // its record is guarded by mu
	ctx    context.Context // what attempts derive theirs from
	method string          // of streams
	opts   []grpc.CallOption
	hedge  bool
	// given is a stream as its caller gave it, if attempts are to follow at the
	// call's fallback where none has reached a host; nil leaves that to whoever races.
	given *outgoing
	// try makes an attempt, and calls win if it was answered. An attempt for which
	// it returns nil is not followed by another.
	try func(*attempt) error
	// settled hears how the race was decided, with mu held. nil is nobody.
	settled func(err error)
	decided chan struct{}
	lanes   sync.WaitGroup // goroutines that make attempts

	mu      sync.Mutex
	left    int        // lanes that may still make an attempt or have one under way
	running []*attempt // in the order in which they began
	over    bool       // decided is closed; best and err are final
	best    *attempt   // decided it; nil if no attempt did
	err     error      // nil: best was answered
	told    bool       // the caller hears of the end: the record is final
}

// attempt is one attempt. It has a record of its own, because it may run beside
// others, and a place of its own for what the caller's options ask for.
type attempt struct {
	call
	own    record // of call
	cancel context.CancelFunc
	about  mesh.Attempting
	out    results
	permit breaker.Permit
	reply  frame
	perTry *time.Timer
	retry  bool // counts against the limit of retries
	ended  bool // end was called

	// Guarded by the mutex of the race.
	timedOut bool

	// Of a stream only, likewise.
	stream  grpc.ClientStream // nil until it is open
	queue   []*frame          // to be sent
	taken   int               // frames sent
	pumping bool              // something sends the queue
	closed  bool              // gRPC has reported the end, with cause
	cause   error
	heard   bool // the lane receives no more
	held    bool // reply is a message that the lane received
}

// hedges reports whether the per-try timeout starts attempts beside others.
func (c *call) hedges() bool {
	return c.Decision.Hedge && c.Decision.Retry != nil
}

// start begins the first attempt.
func (r *race) start() {
	r.decided = make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.enter(r.begin(false))
}

// enter starts a lane with an attempt. The caller holds mu.
func (r *race) enter(a *attempt) {
	r.left++
	r.lanes.Go(func() {
		for a != nil {
			a = r.follow(a, r.try(a))
		}
	})
}

// begin makes an attempt. The caller holds mu.
func (r *race) begin(retry bool) *attempt {
	a := &attempt{retry: retry}
	a.record = &a.own
	a.client, a.Call = r.client, r.Fork()
	a.Observe, a.Attempting = true, &a.about
	if r.Decision.Retry.Avoids() {
		a.Tried = append(a.Tried, r.hosts()...)
	}
	a.Context, a.cancel = context.WithCancel(r.ctx)
	a.out.replace(r.opts)
	if r.readsHeaders() {
		a.out.opts = append(a.out.opts, grpc.Header(&a.out.header))
	}
	r.running = append(r.running, a)
	if p := r.Decision.Retry; p != nil && p.PerTryTimeout > 0 {
		a.perTry = time.AfterFunc(p.PerTryTimeout, func() { r.overdue(a) })
	}
	return a
}

// hosts are those that attempts are under way at. The caller holds mu.
func (r *race) hosts() []*pick.HostState {
	var list []*pick.HostState
	for _, a := range r.running {
		if h := a.about.Host.Load(); h != nil {
			list = append(list, h)
		}
	}
	return list
}

// overdue is called when a has not been answered within the per-try timeout.
func (r *race) overdue(a *attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || !slices.Contains(r.running, a) {
		return
	}
	last := perTryTimeout()
	a.about.ReportOverdue(r.client.engine, r.Decision.Upstream, &last, time.Now())
	switch {
	case !r.hedge:
		a.timedOut = true
		a.cancel()
	case r.admitRetry():
		r.enter(r.begin(true))
	}
}

// follow returns the attempt that follows a, which ended with err, after its
// backoff; nil is none.
func (r *race) follow(a *attempt, err error) *attempt {
	wait, again, other := r.next(a, err)
	if !again {
		return other
	}
	r.pause(wait)
	r.mu.Lock()
	defer r.mu.Unlock()
	ended := r.ctx.Err()
	if !r.over && ended == nil {
		return r.begin(true)
	}
	if ended != nil { // the call ends by that, and not by how the last attempt ended
		err = status.FromContextError(ended).Err()
	}
	r.Decision.Upstream.State.Breaker.DoneRetry()
	return r.giveUp(a, err)
}

// next decides whether a is followed by another, and how much later; else by the
// first one at the call's fallback, if it has such.
func (r *race) next(a *attempt, err error) (wait time.Duration, again bool, other *attempt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.stop()
	r.running = slices.DeleteFunc(r.running, func(o *attempt) bool { return o == a })
	if r.over || err == nil {
		return 0, false, nil
	}
	r.Last, r.Pushback, r.Picked, r.PickedHost = a.Last, a.Pushback, a.Picked, a.PickedHost
	if r.ctx.Err() == nil { // a stream that stood still for too long ends it too
		wait, again = r.nextRetry(rand.Uint64)
	}
	switch {
	case again:
	case a.Picked != nil && a.Last.HTTPStatus != 0 && !a.Last.LocalOrigin && !r.Decision.Retry.Retriable(&a.Last):
		r.decide(a, err)
	default:
		other = r.giveUp(a, err)
	}
	return wait, again, other
}

// giveUp ends a lane, whose last attempt was a. If it was the last of all and
// reached no host, the lane goes on with the attempt at the call's fallback that
// giveUp returns. The caller holds mu.
func (r *race) giveUp(a *attempt, err error) *attempt {
	if f := r.fallsBack(); f != nil && r.given != nil && r.left == 1 && !r.over && r.ctx.Err() == nil {
		var goesOn bool
		if goesOn, err = r.fallBack(f, r.given.method, err); goesOn {
			r.redirect()
			return r.begin(false)
		}
	}
	if r.left--; r.left == 0 {
		r.decide(a, err)
	}
	return nil
}

// pause waits for d, or until the call needs no more attempts.
func (r *race) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.decided:
	case <-r.ctx.Done():
	}
}

// win makes a, which was answered, the attempt that counts, unless another is.
func (r *race) win(a *attempt) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.over && !a.timedOut { // else who left the stream to a has noted what it picked
		r.decide(a, nil)
		r.Picked, r.PickedHost = a.Picked, a.PickedHost
	}
	return r.best == a
}

// decide ends the race, once: with the answer of a, or with err. The caller holds
// mu.
func (r *race) decide(a *attempt, err error) {
	if r.over {
		return
	}
	r.over, r.best, r.err = true, a, err
	for _, o := range r.running {
		o.stop()
		if o != a {
			o.cancel()
		}
	}
	close(r.decided)
	if r.settled != nil {
		r.settled(err)
	}
}

// stop ends the per-try timeout.
func (a *attempt) stop() {
	if a.perTry != nil {
		a.perTry.Stop()
	}
}

// end gives back what the attempt holds, once it has ended with err, and notes
// what is known of it.
func (a *attempt) end(err error) {
	if a.ended {
		return
	}
	a.ended = true
	a.settle(err)
	if err != nil {
		a.readHeader(a.out.header)
	}
	a.donePending()
	a.passed(a.permit)
	if a.retry {
		a.Decision.Upstream.State.Breaker.DoneRetry()
	}
	a.cancel() // lets go of the caller's context, which may live on
}
