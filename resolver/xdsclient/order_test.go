package xdsclient

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// wordWatcher keeps what it was told.
type wordWatcher struct {
	mu   sync.Mutex
	said []string
}

func (w *wordWatcher) note(word string, done func()) {
	w.mu.Lock()
	w.said = append(w.said, word)
	w.mu.Unlock()
	done()
}

// all is what it was told so far.
func (w *wordWatcher) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.said)
}

func (w *wordWatcher) Update(u Update[string], done func()) { w.note("update "+u.Value, done) }

func (w *wordWatcher) Missing(_ string, _ error, done func()) { w.note("missing", done) }

func (w *wordWatcher) Error(_ string, _ error, done func()) { w.note("error", done) }

// TestExpiryWhileAnAnswerIsRead: the time for an answer may run out while the answer
// is decoded. It has come in time, and what it says is taken even where it repeats
// the bytes at hand.
func TestExpiryWhileAnAnswerIsRead(t *testing.T) {
	for name, answered := range map[string]bool{"never answered before": false, "answered before the stream broke": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, st, m := keeping(t, 1<<20)
				defer c.calls.stop()
				saved := Key{fuzzFull, "saved"}
				m.saved[saved] = Saved{Key: saved, Version: "1", Body: []byte("saved=1")}
				c.keeper.load()
				full := fuzzType(fuzzFull)
				var w wordWatcher
				Watch(c, full, "a", &w)
				c.flush()
				if answered {
					st.plan(time.Now())
					feedOne(st, "a=1")
					c.servers[0].end(st)
					c.down(c.servers[0], &ServerError{Err: errDamaged})
					// What no server has confirmed has the next stream ask for everything.
					Watch(c, full, "saved", fuzzWatcher{})
					c.keeper.restoreDue()
					st = c.servers[0].begin(Delta)
				}
				synctest.Wait()
				w.said = nil

				Watch(c, full, "slow", fuzzWatcher{})
				c.flush()
				c.cfg.WatchExpiry = DefaultWatchExpiry
				batch, _ := st.plan(time.Now())
				st.expect(batch)
				decode := full.Decode
				c.types[fuzzFull].decode = func(name string, body []byte) Decoded[any] {
					time.Sleep(DefaultWatchExpiry + time.Second)
					d := decode(name, body)
					return Decoded[any]{Name: d.Name, Value: d.Value, Usable: d.Usable, Err: d.Err}
				}
				feedOne(st, "a=1", "slow=1")
				synctest.Wait()
				var want []string
				if !answered {
					want = []string{"update 1"}
				}
				if diff := cmp.Diff(want, w.said); diff != "" {
					t.Errorf("the watch was told (-want +got):\n%s", diff)
				}
				for _, r := range c.Status().Resources {
					if r.Name == "a" && r.State != Accepted {
						t.Errorf("%s is %v after the server has sent it", r.Name, r.State)
					}
				}
				c.servers[0].end(st)
			})
		})
	}
}

// TestAskedAgainOnOneOfTwoStreams: a resource that is given up and wanted again at
// once may have been given up on one stream only, so that it is still known. What
// was said of it there before does not count: a response that crosses the new
// request, and so does not have it, takes nothing away, and an answer is due.
func TestAskedAgainOnOneOfTwoStreams(t *testing.T) {
	play := func(t *testing.T, f func(st *stream, w *wordWatcher)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			c := detachedFrom(t, 2)
			c.cfg.WatchExpiry = DefaultWatchExpiry
			defer c.calls.stop()
			primary, fallback := c.servers[0], c.servers[1]
			cancel := Watch(c, fuzzType1, "a", fuzzWatcher{})
			Watch(c, fuzzType1, "b", fuzzWatcher{})
			c.flush()
			one, two := takenOver(c, "a=1", "b=1")

			cancel()
			c.flush()
			one.plan(time.Now())
			var w wordWatcher
			Watch(c, fuzzType1, "a", &w)
			c.flush()
			batch, _ := one.plan(time.Now())
			one.expect(batch)
			feedAll(one, "b=2")
			synctest.Wait()
			if diff := cmp.Diff([]string{"update 1"}, w.all()); diff != "" {
				t.Errorf("after a response that crossed (-want +got):\n%s", diff)
			}
			f(one, &w)
			primary.end(one)
			fallback.end(two)
		})
	}
	t.Run("answered", func(t *testing.T) {
		play(t, func(st *stream, w *wordWatcher) {
			feedAll(st, "a=1", "b=2")
			time.Sleep(2 * DefaultWatchExpiry)
			feedAll(st, "b=2")
			synctest.Wait()
			if diff := cmp.Diff([]string{"update 1", "missing"}, w.all()); diff != "" {
				t.Errorf("after it was taken away (-want +got):\n%s", diff)
			}
		})
	})
	t.Run("not answered", func(t *testing.T) {
		play(t, func(_ *stream, w *wordWatcher) {
			time.Sleep(2 * DefaultWatchExpiry)
			synctest.Wait()
			if diff := cmp.Diff([]string{"update 1", "missing"}, w.all()); diff != "" {
				t.Errorf("after silence (-want +got):\n%s", diff)
			}
		})
	})
}

// TestLateWordOfARetiredStream: what a fallback said before the primary took over,
// and is read only after that was lost again, does not replace what it said.
func TestLateWordOfARetiredStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := detachedFrom(t, 2)
		defer c.calls.stop()
		primary, fallback := c.servers[0], c.servers[1]
		var w wordWatcher
		Watch(c, fuzzType1, "a", &w)
		c.flush()
		one, two := takenOver(c, "a=1")
		primary.end(one)
		Watch(c, fuzzType1, "b", fuzzWatcher{})
		c.down(primary, &ServerError{Err: errDamaged})
		if c.inCharge() != fallback {
			t.Fatal("the fallback is not asked")
		}
		feedAll(two, "a=0")
		synctest.Wait()
		if diff := cmp.Diff([]string{"update 1"}, w.all()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
		fallback.end(two)
	})
}

// feedAll has the server send all that there is, in state-of-the-world.
func feedAll(st *stream, bodies ...string) {
	r := &response{typeURL: fuzzFull, nonce: "n", version: strings.Join(bodies, " ")}
	for _, b := range bodies {
		r.resources = append(r.resources, received{version: r.version, body: []byte(b)})
	}
	<-st.handle(r).free
	st.setHeld(false)
}

// takenOver opens a stream to both servers of c, of which the first takes over with
// what it says: the stream of the second is yet to end.
func takenOver(c *Client, said ...string) (one, two *stream) {
	primary, fallback := c.servers[0], c.servers[1]
	c.down(primary, &ServerError{Err: errDamaged})
	two = fallback.begin(StateOfTheWorld)
	two.plan(time.Now())
	one = primary.begin(StateOfTheWorld)
	one.plan(time.Now())
	feedAll(one, said...)
	return one, two
}
