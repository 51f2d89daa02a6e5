package interceptors

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/retry"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

func newCall(ctx context.Context) *call { return (&Client{}).newCall(ctx) }

// TestCallIsAContext holds the call's own context to what the context package
// promises, beside a standard one with the same deadline.
func TestCallIsAContext(t *testing.T) {
	const d = time.Second
	for _, test := range []struct {
		name    string
		cancels bool // the caller's context can be cancelled
		stream  bool
		end     func(cancel func(), c *call)
	}{
		{"deadline", true, false, func(func(), *call) { time.Sleep(2 * d) }},
		{"deadline of a call that nobody can cancel", false, false, func(func(), *call) { time.Sleep(2 * d) }},
		{"deadline of a stream", false, true, func(func(), *call) { time.Sleep(2 * d) }},
		{"caller gives up", true, false, func(cancel func(), _ *call) { cancel() }},
		{"call has ended", true, false, func(_ func(), c *call) { c.release() }},
		{"stream has ended", false, true, func(_ func(), c *call) { c.release() }},
		{"ended, then late", true, false, func(cancel func(), c *call) { c.release(); cancel(); time.Sleep(2 * d) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.Background(), func() {}
				if test.cancels {
					parent, cancel = context.WithCancel(parent)
				}
				defer cancel()
				c := newCall(parent)
				c.endAfter(d, test.stream)
				std, stdCancel := context.WithTimeout(parent, d)
				defer stdCancel()
				ends := []context.Context{c}
				for range 3 {
					child, childCancel := context.WithCancel(c)
					defer childCancel()
					ends = append(ends, child)
				}
				var ran atomic.Int32
				stop := context.AfterFunc(c, func() { ran.Add(1) })
				context.AfterFunc(c, func() { ran.Add(1) })
				if !stop() || stop() {
					t.Error("stop works once, before the end")
				}

				want, _ := std.Deadline()
				if got, ok := c.Deadline(); !ok || got.Sub(want).Abs() > time.Millisecond {
					t.Errorf("deadline %v, want %v", got, want)
				}
				if c.Err() != nil {
					t.Fatal("ended before its time")
				}
				test.end(cancel, c)
				if strings.Contains(test.name, "ended") {
					stdCancel()
				}
				for _, ctx := range ends {
					<-ctx.Done() // without waiting for anybody
					if !errors.Is(ctx.Err(), std.Err()) {
						t.Errorf("Err is %v, want %v", ctx.Err(), std.Err())
					}
				}
				synctest.Wait()
				if ran.Load() != 1 {
					t.Errorf("AfterFunc ran %d functions, want 1", ran.Load())
				}
				late := make(chan struct{})
				context.AfterFunc(c, func() { close(late) })
				<-late
			})
		})
	}
}

// TestCancellationIsImmediate checks that what is derived from a call has ended
// when the caller's cancel returns.
func TestCancellationIsImmediate(t *testing.T) {
	parent, cancel := context.WithCancel(t.Context())
	c := newCall(parent)
	c.endAfter(time.Hour, false)
	defer c.release()
	child, childCancel := context.WithCancel(c)
	defer childCancel()
	cancel()
	if child.Err() == nil {
		t.Error("the derived context goes on for a moment")
	}
}

// opaqueContext hides what it is made of.
type opaqueContext struct{ context.Context }

func (opaqueContext) Value(any) any { return nil }

// TestCallFollowsAnyContext derives a context from a call whose caller's context
// is none of the standard ones, and which sets no deadline.
func TestCallFollowsAnyContext(t *testing.T) {
	parent, cancel := context.WithCancel(t.Context())
	child, childCancel := context.WithCancel(newCall(opaqueContext{parent}))
	defer childCancel()
	cancel()
	<-child.Done()
}

func TestCallersDeadlineComesFirst(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := newCall(ctx)
	c.endAfter(time.Hour, false)
	defer c.release()
	want, _ := ctx.Deadline()
	if got, ok := c.Deadline(); !ok || got != want {
		t.Errorf("deadline %v, want the caller's %v", got, want)
	}
	if c.Done() != ctx.Done() {
		t.Error("Done is not the caller's")
	}
}

// TestTimerIsUsedAgain checks that a timer which one call gave back does not
// end the next.
func TestTimerIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &Client{}
		for range 100 {
			c := client.reuse(context.Background())
			c.endAfter(time.Second, false)
			time.Sleep(900 * time.Millisecond)
			if c.Err() != nil {
				t.Fatal("a timer of an earlier call ended this one")
			}
			c.recycle()
		}
		for _, d := range []time.Duration{longest, time.Hour} {
			long := client.reuse(context.Background())
			long.endAfter(d, false)
			limit := &long.deadline
			long.recycle() // leaves the timer as it is, if that is not for too long
			if set := limit.timer.Stop(); set != (d <= longest) {
				t.Errorf("the timer of a call that had %v is set when that has ended: %v", d, set)
			}
			limit.timer.Reset(longest)
		}
		c := client.reuse(context.Background())
		c.endAfter(time.Second, false)
		time.Sleep(time.Second)
		synctest.Wait()
		if !errors.Is(c.Err(), context.DeadlineExceeded) {
			t.Errorf("Err is %v at the deadline", c.Err())
		}
		c.recycle()
	})
}

// TestTimeLeftHasThreeDigits holds what gRPC is told to tell the server of a route's
// deadline, a little after the call began, and that the call ends by the clock.
func TestTimeLeftHasThreeDigits(t *testing.T) {
	const after = 37 * time.Microsecond
	for timeout, want := range map[time.Duration]time.Duration{
		50 * time.Millisecond:      50*time.Millisecond - after,
		150 * time.Millisecond:     150 * time.Millisecond,
		time.Second:                time.Second,
		1234567 * time.Microsecond: 1240 * time.Millisecond,
		2 * time.Second:            2 * time.Second,
		90 * time.Second:           90 * time.Second,
		3 * time.Hour:              3 * time.Hour,
	} {
		synctest.Test(t, func(t *testing.T) {
			c := newCall(context.Background())
			c.endAfter(timeout, false)
			defer c.release()
			time.Sleep(after)
			if at, ok := c.Deadline(); !ok || time.Until(at) != want {
				t.Errorf("of %v are left %v, want %v", timeout, time.Until(at), want)
			}
			time.Sleep(timeout - after - time.Nanosecond)
			if at, ok := c.ends(); !ok || time.Until(at) != 1 || c.Err() != nil {
				t.Errorf("%v: %v are left to the end, Err is %v", timeout, time.Until(at), c.Err())
			}
			time.Sleep(time.Nanosecond)
			synctest.Wait()
			c.told.Store(0) // as before another attempt
			if at, ok := c.Deadline(); !ok || time.Until(at) != 0 || c.Err() == nil {
				t.Errorf("%v: %v are left at the end, Err is %v", timeout, time.Until(at), c.Err())
			}
		})
	}
}

// TestLongestTimeout has routes that give calls all the time there is.
func TestLongestTimeout(t *testing.T) {
	for _, stream := range []bool{false, true} {
		c := newCall(context.Background())
		c.endAfter(math.MaxInt64, stream)
		if at, ok := c.Deadline(); !ok || time.Until(at) < time.Hour {
			t.Errorf("the deadline is %v", at)
		}
		c.release()
	}
}

// TestTimerFiresTwice has a timer fire for the call, and once more as it did before
// it was set anew.
func TestTimerFiresTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCall(context.Background())
		c.endAfter(time.Second, false)
		time.Sleep(time.Second)
		synctest.Wait()
		c.deadline.fire()
		if !errors.Is(c.Err(), context.DeadlineExceeded) {
			t.Errorf("Err is %v at the deadline", c.Err())
		}
		c.release()
		c.deadline.fire()
	})
}

// TestDeadlineIsUsedAgain plays calls one after the other whose derived contexts
// are cancelled late and twice: they must not end a later call, nor be missed
// by its deadline.
func TestDeadlineIsUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &Client{}
		var last context.CancelFunc
		for range 100 {
			c := client.reuse(context.Background())
			c.endAfter(time.Second, false)
			child, cancel := context.WithTimeout(c, 500*time.Millisecond)
			if last != nil {
				last() // of the call before
			}
			if child.Err() != nil {
				t.Fatal("another call's context ended this one")
			}
			cancel()
			last = cancel
			c.recycle()
		}
		c := client.reuse(context.Background())
		c.endAfter(time.Second, false)
		child, cancel := context.WithCancel(c)
		defer cancel()
		last()
		time.Sleep(time.Second)
		synctest.Wait()
		if !errors.Is(child.Err(), context.DeadlineExceeded) {
			t.Errorf("Err is %v at the deadline", child.Err())
		}
		c.recycle()
		next := client.reuse(context.Background())
		next.endAfter(time.Second, false)
		if next.Err() != nil {
			t.Error("a deadline that has passed is used again")
		}
		next.recycle()
	})
}

// derive makes n contexts from one.
func derive(parent context.Context, n int) (children []context.Context, cancels []context.CancelFunc) {
	for range n {
		child, cancel := context.WithCancel(parent)
		children, cancels = append(children, child), append(cancels, cancel)
	}
	return children, cancels
}

// TestSeveralContextsFollowADeadline derives contexts from one call: those that are
// cancelled go, and the others end at the deadline, or with the call.
func TestSeveralContextsFollowADeadline(t *testing.T) {
	for name, want := range map[string]error{"deadline": context.DeadlineExceeded, "release": context.Canceled} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client := &Client{}
				c := client.reuse(context.Background())
				c.endAfter(time.Second, false)
				children, cancels := derive(c, 5)
				for _, i := range []int{0, 3} {
					cancels[i]()
					cancels[i]()
				}
				again, cancel := context.WithCancel(c) // in the place of the first
				defer cancel()
				cancels[0]()
				if name == "deadline" {
					time.Sleep(time.Second)
				} else {
					c.recycle()
				}
				synctest.Wait()
				children = append(children, again)
				for i, child := range children {
					want := want
					if i == 0 || i == 3 {
						want = context.Canceled
					}
					if !errors.Is(child.Err(), want) {
						t.Errorf("context %d: %v, want %v", i, child.Err(), want)
					}
				}
				late, cancel := context.WithCancel(c)
				defer cancel()
				synctest.Wait()
				if !errors.Is(late.Err(), want) {
					t.Errorf("derived afterwards: %v, want %v", late.Err(), want)
				}
				for _, cancel := range cancels {
					cancel()
				}
				if name == "deadline" {
					c.recycle()
				}
				if client.records.Get() != nil {
					t.Error("a deadline that has ended is used again")
				}
			})
		})
	}
}

func TestHeaderOfACall(t *testing.T) {
	c := newCall(metadata.NewOutgoingContext(t.Context(), metadata.Pairs("one", "1", "two", "a", "two", "b", "bytes-bin", "x")))
	c.client.userAgent = "agent/1"
	for name, want := range map[string]string{
		"one": "1", "two": "a,b", "bytes-bin": "", "absent": "", "content-type": "application/grpc", "user-agent": "agent/1",
	} {
		if got, ok := c.Header(name); got != want || ok != (want != "") {
			t.Errorf("%s is %q, %v; want %q", name, got, ok, want)
		}
	}
}

func TestCallIsFoundInItsContext(t *testing.T) {
	type key struct{}
	c := newCall(context.WithValue(t.Context(), key{}, "value"))
	ctx, cancel := context.WithCancel(c)
	defer cancel()
	if mesh.CallFrom(ctx) != &c.Call {
		t.Error("the call is not found")
	}
	if mesh.CallFrom(t.Context()) != nil {
		t.Error("a call is found where there is none")
	}
	if ctx.Value(key{}) != "value" {
		t.Error("the caller's values are not found")
	}
}

// TestRecordIsUsedAgain checks that nothing of a call is left in its record for the
// next one, and that nobody finds the next call in the context of an earlier one.
func TestRecordIsUsedAgain(t *testing.T) {
	client := &Client{}
	var kept int
	c := client.reuse(t.Context())
	r := c.record
	upstream := &snapshot.Upstream{State: &snapshot.ClusterState{}}
	c.Decision = mesh.Decision{Upstream: upstream, Route: &snapshot.RouteEntry{}, Timeout: time.Hour, HasHash: true, Retry: &retry.Policy{}}
	c.Observe, c.Retries, c.Place, c.Picked, c.PickedHost = true, 3, 2, upstream, 1
	c.Tried, c.Last, c.Pushback, c.Kept = []*pick.HostState{nil}, outcome.OfGRPC(14), time.Second, &kept
	c.from, c.md, c.mdRead, c.diverted = &snapshot.Snapshot{}, metadata.MD{}, true, true
	c.endAfter(time.Hour, false)
	if mesh.CallFrom(c) != &r.Call {
		t.Fatal("the call is not found in its context")
	}
	c.recycle()
	if mesh.CallFrom(c) != nil {
		t.Error("a call is found in the context of one that has ended")
	}
	left := record{client: client, Call: mesh.Call{Reused: true, Kept: &kept}}
	left.deadline, r.deadline = deadline{}, deadline{}
	if !reflect.DeepEqual(r, &left) { //nolint:govet // there are no errors in it
		t.Errorf("what is left in the record: %+v", r)
	}
}

// TestDeadlinesOfManyCalls makes calls with little time, one after the other and
// beside each other, that share their deadlines: each ends at its own time, and what
// is derived from its context not before and not after it.
func TestDeadlinesOfManyCalls(t *testing.T) {
	client := &Client{}
	var calls sync.WaitGroup
	for seed := range 8 {
		calls.Go(func() {
			rnd := rand.New(rand.NewPCG(1, uint64(seed)))
			var late []context.CancelFunc
			for range 1000 {
				c := client.reuse(context.Background())
				c.endAfter(time.Duration(1+rnd.IntN(40))*time.Microsecond, false)
				at, _ := c.Deadline()
				children, cancels := derive(c, rnd.IntN(4))
				for _, cancel := range cancels {
					if rnd.IntN(2) == 0 {
						late = append(late, cancel)
					} else {
						defer cancel()
					}
				}
				for _, cancel := range late[:len(late)/2] {
					cancel()
				}
				late = late[len(late)/2:]
				if rnd.IntN(2) == 0 {
					<-c.Done()
				}
				if err := c.Err(); err != nil && (!errors.Is(err, context.DeadlineExceeded) || time.Now().Before(at)) {
					t.Errorf("%v at %v before its time", err, time.Until(at))
				}
				c.recycle()
				for _, child := range children {
					<-child.Done()
				}
			}
			for _, cancel := range late {
				cancel()
			}
		})
	}
	calls.Wait()
}
