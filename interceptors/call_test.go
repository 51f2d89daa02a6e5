package interceptors

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/meshframe/meshframe/mesh"
)

func newCall(ctx context.Context) *call { return &call{Context: ctx, client: &Client{}} }

// TestCallIsAContext holds the call's own context to what the context package
// promises, beside a standard one with the same deadline.
func TestCallIsAContext(t *testing.T) {
	const d = time.Second
	for name, end := range map[string]func(cancel func(), c *call){
		"deadline":         func(func(), *call) { time.Sleep(2 * d) },
		"caller gives up":  func(cancel func(), _ *call) { cancel() },
		"call has ended":   func(_ func(), c *call) { c.release() },
		"ended, then late": func(cancel func(), c *call) { c.release(); cancel(); time.Sleep(2 * d) },
	} {
		for _, cancels := range []bool{true, false} {
			if !cancels && name == "caller gives up" {
				continue
			}
			t.Run(fmt.Sprintf("%s, cancellable %v", name, cancels), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testContext(t, d, name, cancels, end) })
			})
		}
	}
}

func testContext(t *testing.T, d time.Duration, name string, cancels bool, end func(cancel func(), c *call)) {
	parent, cancel := context.Background(), func() {}
	if cancels {
		parent, cancel = context.WithCancel(parent)
	}
	defer cancel()
	c := newCall(parent)
	c.endAfter(d)
	std, stdCancel := context.WithTimeout(parent, d)
	defer stdCancel()
	child, childCancel := context.WithCancel(c)
	defer childCancel()
	second, secondCancel := context.WithCancel(c)
	defer secondCancel()
	gone, goneCancel := context.WithCancel(c)
	goneCancel()
	var ran atomic.Int32
	stop := context.AfterFunc(c, func() { ran.Add(1) })
	context.AfterFunc(c, func() { ran.Add(1) })
	if !stop() || stop() {
		t.Error("stop works once, before the end")
	}
	_, twice := context.WithTimeout(c, time.Hour)
	twice()
	again := context.AfterFunc(c, func() {})
	twice() // must not take back what came after it
	if !again() {
		t.Error("a context that was cancelled twice took another's function back")
	}

	want, _ := std.Deadline()
	if got, ok := c.Deadline(); !ok || got.Sub(want).Abs() > time.Millisecond {
		t.Errorf("deadline %v, want %v", got, want)
	}
	if c.Err() != nil || child.Err() != nil {
		t.Fatal("ended before its time")
	}
	end(cancel, c)
	synctest.Wait()
	if name == "call has ended" || name == "ended, then late" {
		stdCancel()
	} else if !errors.Is(c.Err(), std.Err()) {
		t.Errorf("Err is %v, want %v", c.Err(), std.Err())
	}
	for _, ctx := range []context.Context{c, child, second, gone} {
		select {
		case <-ctx.Done():
		default:
			t.Errorf("%v is not done", ctx)
		}
	}
	if ran.Load() != 1 {
		t.Errorf("AfterFunc ran %d functions, want 1", ran.Load())
	}
	late := make(chan struct{})
	context.AfterFunc(c, func() { close(late) })
	<-late
	c.release()
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
	c.endAfter(time.Hour)
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
			c := &call{Context: context.Background(), client: client}
			c.endAfter(time.Second)
			time.Sleep(900 * time.Millisecond)
			if c.Err() != nil {
				t.Fatal("a timer of an earlier call ended this one")
			}
			c.release()
		}
		long := &call{Context: context.Background(), client: client}
		long.endAfter(time.Hour)
		long.release() // leaves the timer at an hour from now
		c := &call{Context: context.Background(), client: client}
		c.endAfter(time.Second)
		time.Sleep(time.Second)
		synctest.Wait()
		if !errors.Is(c.Err(), context.DeadlineExceeded) {
			t.Errorf("Err is %v at the deadline", c.Err())
		}
		c.release()
	})
}

// TestDeadlineIsNotUsedAgainWhileLookedAt checks that what was derived from a
// call ends with it, and does not hang on the next.
func TestDeadlineIsNotUsedAgainWhileLookedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &Client{}
		first := &call{Context: context.Background(), client: client}
		first.endAfter(time.Second)
		child, cancel := context.WithCancel(first)
		defer cancel()
		first.release()
		synctest.Wait()
		if child.Err() == nil {
			t.Error("a derived context goes on after its call")
		}
		second := &call{Context: context.Background(), client: client}
		second.endAfter(time.Second)
		defer second.release()
		if second.Err() != nil || second.Done() == first.Done() {
			t.Error("the next call uses a deadline that is looked at")
		}
		if first.release(); second.Err() != nil {
			t.Error("a call that was released twice ended another")
		}
	})
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
