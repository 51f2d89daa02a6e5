package xdsclient

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// wordWatcher keeps what it was told.
type wordWatcher struct{ said []string }

func (w *wordWatcher) note(word string, done func()) {
	w.said = append(w.said, word)
	done()
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
