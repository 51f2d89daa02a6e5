package mesh

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/mesh/stripe"
)

// Call is the record of one call, from decision to outcome. The edge that
// receives the call creates it and carries it in the call's context; the edge
// that connects reads the decision from it and writes down what was picked and
// how the attempt ended.
//
// A Call is used by one goroutine at a time. Attempts that may run beside others
// have a Call each (see Fork).
type Call struct {
	Decision Decision

	// Observe asks for Last to be written when an attempt ends. Only calls that
	// something of their decision wants to know of set it.
	Observe bool
	// Reused says that the record is used by further calls. It is set by whoever
	// makes the record, once.
	Reused bool
	// Unsettled reports that Last is not final: the edge that received the call
	// may know better. It calls Settle.
	Unsettled bool
	// Pending reports that the call counts against the cluster's limit of
	// pending requests.
	Pending bool
	// Retries is how many attempts came before the present one.
	Retries uint32
	// Place is where the call is counted.
	Place stripe.Place
	// PickedHost is the index of the host that the present attempt was sent to.
	PickedHost int32
	// Tried are the hosts of the attempts that failed.
	Tried []*pick.HostState

	// Picked is the cluster that the present attempt was sent to; nil until then.
	Picked *snapshot.Upstream
	// Attempting, if set, is told of the present attempt before that has ended, for
	// whoever makes another beside it.
	Attempting *Attempting
	// Last is how the last attempt ended, if it got as far as a pick.
	Last outcome.Attempt
	// Pushback is what the server of the last attempt asked for: negative not
	// to retry, positive to wait that long; 0 is no wish.
	Pushback time.Duration
	// Kept is what the edge that connects keeps with a Reused record, from one
	// call to the next.
	Kept any

	watched  atomic.Int32
	answered atomic.Int64 // when the present attempt was, in Unix nanoseconds; 0: not that it is known
}

// Answer notes that a server has answered the present attempt, a stream, which may go
// on for long. Only the first time counts.
func (c *Call) Answer(now time.Time) { c.answered.CompareAndSwap(0, now.UnixNano()) }

// Answered is how long after a time the attempt was answered, if it is known to be.
func (c *Call) Answered(began time.Time) (after time.Duration, ok bool) {
	at := c.answered.Load()
	return time.Duration(at - began.UnixNano()), at != 0
}

// Watch notes that the edge that connects will write down how an attempt ends; it
// calls Unwatch when it has.
func (c *Call) Watch() { c.watched.Add(1) }

// Unwatch ends what Watch began.
func (c *Call) Unwatch() { c.watched.Add(-1) }

// Ended reports whether a host was picked for the call, and nothing more will be
// written down of it. It may not be so when the call returns: what the caller runs
// between the edges may answer a call whose attempt it leaves to itself.
func (c *Call) Ended() bool { return c.watched.Load() == 0 && c.Picked != nil }

// Attempting is what is known of an attempt that has not ended. It must not be
// copied.
type Attempting struct {
	// Host is where the attempt is under way; nil until one is picked.
	Host atomic.Pointer[pick.HostState]
	// Overdue reports that outlier detection was told that the attempt takes too
	// long: it is not to hear so again when the time of the call is over.
	Overdue atomic.Bool
}

// ReportOverdue tells outlier detection that the attempt, at a cluster that was
// decided on, was not answered in time, as it ends or goes on.
func (a *Attempting) ReportOverdue(e *Engine, u *snapshot.Upstream, last *outcome.Attempt, now time.Time) {
	if h := a.Host.Load(); h != nil && u.Cluster != nil && u.Cluster.Outlier != nil {
		a.Overdue.Store(true)
		e.Report(u, u.IndexOf(h), last, now)
	}
}

// callKey is the context key of the Call; an empty struct, so that looking it
// up allocates nothing.
type callKey struct{}

// IsCallKey reports whether key asks a context for its Call. A context type
// that embeds a Call answers it from its Value method.
func IsCallKey(key any) bool { _, ok := key.(callKey); return ok }

// CallFrom returns the Call that ctx carries, or nil.
func CallFrom(ctx context.Context) *Call {
	c, _ := ctx.Value(callKey{}).(*Call)
	return c
}

// Fork returns the record of an attempt at the call that may run beside others:
// what it writes down concerns it alone.
func (c *Call) Fork() Call {
	return Call{Decision: c.Decision, Observe: c.Observe, Place: c.Place, Retries: c.Retries, Tried: slices.Clone(c.Tried)}
}

// Settle makes Last, if it is not final, the end that the caller got to see, and
// reports it.
func (c *Call) Settle(e *Engine, last outcome.Attempt, now time.Time) {
	if !c.Unsettled {
		return
	}
	c.Unsettled, c.Last = false, last
	e.Report(c.Picked, int(c.PickedHost), &c.Last, now)
}

// SettleGood is Settle for a call that went well, as Last says already.
func (c *Call) SettleGood(e *Engine) {
	if !c.Unsettled {
		return
	}
	c.Unsettled = false
	e.ReportGood(c.Picked, int(c.PickedHost))
}

// Host returns the state of the host that the present attempt was sent to, or
// nil.
func (c *Call) Host() *pick.HostState {
	if c.Picked == nil {
		return nil
	}
	return &c.Picked.Hosts[c.PickedHost].State.HostState
}
