package interceptors

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// call is one call, and its context: the caller's, with the deadline that the route
// set. What was derived from it may be held on to when the call has ended, so a call
// is never used again; all that need not outlive it is in its record, which is.
type call struct {
	context.Context // the caller's, with the deadline of the route if cancel is set
	*record

	// The deadline of the route, if it ends before the caller's own. At most one
	// of the two is set: at for unary calls that the caller cannot cancel, which the
	// record's deadline ends, else cancel, of the record.
	at   time.Duration // since epoch; 0: the call has no such end
	told atomic.Int64  // since epoch: what Deadline says instead; 0: the attempt has not asked

	over atomic.Bool // the record is not of this call any more
}

// record is what there is to a call while it is under way: the decision, and what the
// call holds. Unary calls use records one after the other, with the deadline that is
// part of each: so they are where the processor has looked not long ago, and
// garbage collection is not asked to find out that nobody needs them.
type record struct {
	mesh.Call

	client *Client
	from   *snapshot.Snapshot // of the decision, if the call may fall back; else nil
	md     metadata.MD        // outgoing metadata, read when the first header matcher asks
	cancel context.CancelFunc

	mdRead   bool
	peeked   uint8 // headers looked up before md was read
	acquired bool  // the call holds its cluster
	fault    bool  // a fault of this call is active
	diverted bool  // the call was sent to its fallback, once
	shared   bool  // more than one context leads to the record, which is not used again

	deadline deadline
}

// newCall returns a call that nothing is known of yet.
func (c *Client) newCall(ctx context.Context) *call {
	return &call{Context: ctx, record: &record{client: c}}
}

// reuse is newCall for a unary call, which gives its record back by recycle.
func (c *Client) reuse(ctx context.Context) *call {
	r, _ := c.records.Get().(*record)
	if r == nil {
		r = &record{client: c, Call: mesh.Call{Reused: true}}
	}
	return &call{Context: ctx, record: r}
}

// recycle releases the call and has another use its record, if nothing that is left
// of the call can reach it.
func (c *call) recycle() {
	r := c.record
	if !c.release() || r.shared || !r.Ended() {
		return
	}
	c.over.Store(true)
	r.Call = mesh.Call{Reused: true, Kept: r.Kept}
	r.from, r.md, r.cancel, r.mdRead, r.peeked, r.diverted = nil, nil, nil, false, 0, false
	r.client.records.Put(r)
}

// anew returns the call with another context of its caller, for attempts to come.
// Those that have been made may still look at the one that they had.
func (c *call) anew(ctx context.Context) *call {
	c.shared = true
	return &call{Context: ctx, record: c.record, at: c.at}
}

// Value answers the engine's question for the call.
func (c *call) Value(key any) any {
	if mesh.IsCallKey(key) {
		if c.over.Load() {
			return nil
		}
		return &c.Call
	}
	return c.Context.Value(key)
}

// Deadline is the route's or the caller's, whichever comes first. To the route's there
// is as long as writable says, for gRPC asks to tell the server, at once and twice.
func (c *call) Deadline() (time.Time, bool) {
	if c.at == 0 {
		return c.Context.Deadline()
	}
	told := time.Duration(c.told.Load())
	if told == 0 {
		now := time.Since(epoch)
		told = now + writable(c.at-now)
		c.told.Store(int64(told))
	}
	return epoch.Add(told), true
}

// ends is when the call ends by the clock, if there is such a time.
func (c *call) ends() (time.Time, bool) {
	if c.at == 0 {
		return c.Context.Deadline()
	}
	return epoch.Add(c.at), true
}

// Done is closed at the deadline and when the caller gives up. It need not be
// closed when the call has ended: what is derived from its context has been
// cancelled by then.
func (c *call) Done() <-chan struct{} {
	if c.at == 0 {
		return c.Context.Done()
	}
	return c.deadline.done
}

// Err says why Done is closed.
func (c *call) Err() error {
	if c.at == 0 {
		return c.Context.Err()
	}
	return c.deadline.why()
}

// AfterFunc runs f once the context has ended. The context
// package would start a goroutine for each context derived from this one if the
// caller's is none of the standard ones.
func (c *call) AfterFunc(f func()) (stop func() bool) {
	if c.at == 0 {
		return context.AfterFunc(c.Context, f)
	}
	return c.deadline.afterFunc(f)
}

// endAfter gives the call a deadline of its own, d from now, unless the caller's
// comes first. The context of a stream may be looked at when the stream has
// ended.
func (c *call) endAfter(d time.Duration, stream bool) {
	switch own, ok := c.Context.Deadline(); {
	case ok && time.Until(own) < d: // not since epoch: a clock that was set has moved one that is not monotonic
	case stream || c.Context.Done() != nil:
		c.Context, c.cancel = context.WithTimeout(c.Context, d)
	default:
		d = min(d, forever)
		c.at = time.Since(epoch) + d
		c.deadline.begin(c.at, d)
	}
}

// release gives back what the call holds: its cluster, its place among the
// pending requests, its fault, its deadline. It reports whether the record has
// nothing more to do with the call.
func (c *call) release() (free bool) {
	c.donePending()
	if c.acquired {
		c.acquired = false
		c.Decision.Upstream.State.Release(c.Place)
	}
	c.endFault()
	if c.cancel != nil {
		c.cancel()
	}
	return c.at == 0 || c.deadline.release()
}

// donePending gives back the place among the pending requests.
func (c *call) donePending() {
	if c.Pending {
		c.Pending = false
		c.Decision.Upstream.State.Breaker.DonePending()
	}
}

func (c *call) endFault() {
	if c.fault {
		c.fault = false
		c.Decision.Fault.Done()
	}
}

// Header answers the engine's matchers: what goes out as a header, and the
// headers that gRPC adds by itself. Binary headers never match (gRFC A28).
func (c *call) Header(name string) (string, bool) {
	switch name {
	case "content-type":
		return "application/grpc", true
	case "user-agent":
		return c.client.userAgent, true
	}
	if strings.HasSuffix(name, "-bin") {
		return "", false
	}
	if !c.mdRead && c.peeked < peeks {
		c.peeked++
		return joined(name, metadata.ValueFromOutgoingContext(c.Context, name))
	}
	return joined(name, c.outgoingMetadata()[name])
}

// peeks is how many headers are looked up before it is cheaper to read them all, for
// which gRPC makes a copy.
const peeks = 3

// outgoingMetadata is what the caller sends, as it was when first asked for.
func (c *call) outgoingMetadata() metadata.MD {
	c.readMetadata(c.Context)
	return c.md
}

// readMetadata reads what goes out with ctx, if it was not asked for before.
func (c *call) readMetadata(ctx context.Context) {
	if !c.mdRead {
		c.md, _ = metadata.FromOutgoingContext(ctx)
		c.mdRead = true
	}
}
