package interceptors

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// call is the context of one call: the caller's context, the decision, and the
// deadline that the route set. One object carries them all because contexts
// stacked for each would cost an allocation and a look-up step apiece.
type call struct {
	context.Context // the caller's, with the deadline of the route if cancel is set
	mesh.Call

	client *Client
	from   *snapshot.Snapshot // of the decision, if the call may fall back; else nil
	md     metadata.MD        // outgoing metadata, read when the first header matcher asks

	// The deadline of the route, if it ends before the caller's own. At most one
	// of the two is set: limit for unary calls that the caller cannot cancel, else
	// cancel.
	limit  *deadline
	at     time.Duration // since epoch: when limit ends the call
	cancel context.CancelFunc

	mdRead   bool
	acquired bool // the call holds its cluster
	fault    bool // a fault of this call is active
	diverted bool // the call was sent to its fallback, once
}

// Value answers the engine's question for the call.
func (c *call) Value(key any) any {
	if mesh.IsCallKey(key) {
		return &c.Call
	}
	return c.Context.Value(key)
}

// Deadline is the route's or the caller's, whichever comes first.
func (c *call) Deadline() (time.Time, bool) {
	if c.limit == nil {
		return c.Context.Deadline()
	}
	return epoch.Add(c.at), true
}

// Done is closed at the deadline and when the caller gives up. It need not be
// closed when the call has ended: what is derived from its context has been
// cancelled by then.
func (c *call) Done() <-chan struct{} {
	if c.limit == nil {
		return c.Context.Done()
	}
	return c.limit.done
}

// Err says why Done is closed.
func (c *call) Err() error {
	if c.limit == nil {
		return c.Context.Err()
	}
	return c.limit.why()
}

// AfterFunc runs f in its own goroutine once the context has ended. The context
// package would start a goroutine for each context derived from this one if the
// caller's is none of the standard ones.
func (c *call) AfterFunc(f func()) (stop func() bool) {
	if c.limit == nil {
		return context.AfterFunc(c.Context, f)
	}
	return c.limit.afterFunc(f)
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
		c.at = time.Since(epoch) + d
		c.limit = c.client.deadline(c.at, d)
	}
}

// release gives back what the call holds: its cluster, its place among the
// pending requests, its fault, its deadline.
func (c *call) release() {
	c.donePending()
	if c.acquired {
		c.acquired = false
		c.Decision.Upstream.State.Release(c.Place)
	}
	c.endFault()
	if c.cancel != nil {
		c.cancel()
	}
	if c.limit != nil && c.limit.release() {
		c.client.deadlines.Put(c.limit)
	}
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
	return joined(name, c.outgoingMetadata()[name])
}

// outgoingMetadata is what the caller sends, as it was when first asked for.
func (c *call) outgoingMetadata() metadata.MD {
	if !c.mdRead {
		c.md, _ = metadata.FromOutgoingContext(c.Context)
		c.mdRead = true
	}
	return c.md
}
