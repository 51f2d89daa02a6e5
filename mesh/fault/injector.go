package fault

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// Counter counts the faults of one listener that are active, for
// Policy.MaxActive. It outlives the policies. The zero Counter is ready; it
// must not be copied.
type Counter struct{ n atomic.Int64 }

// Active is the number of active faults.
func (c *Counter) Active() int64 { return c.n.Load() }

// Injector draws the faults of one policy. It is safe for concurrent use and
// allocates nothing.
type Injector struct {
	policy *Policy
	active *Counter
}

// NewInjector returns an injector for p whose active faults are counted in c.
// It returns nil for a policy that can inject nothing.
func NewInjector(p *Policy, c *Counter) *Injector {
	if p == nil || !p.delays() && !p.aborts() {
		return nil
	}
	return &Injector{policy: p, active: c}
}

// Policy is what the injector draws from.
func (i *Injector) Policy() *Policy { return i.policy }

// Abort is the end of a call that a fault makes. The zero Abort is none.
type Abort struct {
	// HTTP is the HTTP status to end with, or 0. 200 is an answer without content.
	HTTP int
	// GRPC is the gRPC status code to fail with; read it only if HTTP is 0.
	GRPC int
}

// abortGRPC ends with a gRPC status. OK, too, ends the call.
func abortGRPC(code int) Abort {
	if code == 0 {
		return Abort{HTTP: 200}
	}
	return Abort{GRPC: code}
}

// None reports whether there is no abort.
func (a Abort) None() bool { return a == Abort{} }

// Draw decides the faults of one call: a delay to wait before anything else (0
// for none) and an abort to end it with after the delay. The two are drawn
// independently of each other, each once, delay first. active reports that a
// fault was drawn: then the caller must call Done when the call has ended.
func (i *Injector) Draw(rnd func() uint64) (delay time.Duration, abort Abort, active bool) {
	return i.DrawFor(nil, rnd)
}

// DrawFor is Draw for a request with headers, which may ask for the faults that
// the policy leaves to them.
func (i *Injector) DrawFor(h Headers, rnd func() uint64) (delay time.Duration, abort Abort, active bool) {
	p := i.policy
	if p.Meets != nil && (h == nil || !p.Meets(h.Header)) {
		return 0, Abort{}, false
	}
	if d, f := p.delay(h); d > 0 && f.Hit(rnd) {
		delay = d
	}
	if a, f := p.abort(h); !a.None() && f.Hit(rnd) {
		abort = a
	}
	if delay == 0 && abort.None() || !i.acquire() {
		return 0, Abort{}, false
	}
	return delay, abort, true
}

// Done ends a fault that Draw reported as active.
func (i *Injector) Done() { i.active.n.Add(-1) }

func (i *Injector) acquire() bool {
	limit := int64(i.policy.MaxActive)
	if limit == 0 {
		i.active.n.Add(1)
		return true
	}
	for {
		n := i.active.n.Load()
		if n >= limit {
			return false
		}
		if i.active.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (p *Policy) delays() bool { return (p.Delay > 0 || p.HeaderDelay) && p.DelayFraction > 0 }

func (p *Policy) aborts() bool {
	return (p.AbortHTTP > 0 || p.AbortGRPC >= 0 || p.HeaderAbort) && p.AbortFraction > 0
}

// delay is the delay of a call and how likely it is.
func (p *Policy) delay(h Headers) (time.Duration, Fraction) {
	switch {
	case !p.delays():
		return 0, 0
	case p.HeaderDelay:
		return headerDelay(h), p.DelayFraction.lowered(h, delayPercentHeader, p.DelayPer)
	}
	return p.Delay, p.DelayFraction
}

// abort is the abort of a call and how likely it is.
func (p *Policy) abort(h Headers) (Abort, Fraction) {
	switch {
	case !p.aborts():
		return Abort{}, 0
	case p.HeaderAbort:
		return headerAbort(h), p.AbortFraction.lowered(h, abortPercentHeader, p.AbortPer)
	case p.AbortHTTP > 0:
		return Abort{HTTP: p.AbortHTTP}, p.AbortFraction
	}
	return abortGRPC(p.AbortGRPC), p.AbortFraction
}

// Hit reports whether an event of probability f happens. Certain and
// impossible events draw nothing.
func (f Fraction) Hit(rnd func() uint64) bool {
	switch {
	case f >= Million:
		return true
	case f == 0:
		return false
	}
	n, _ := bits.Mul64(rnd(), Million)
	return n < uint64(f)
}
