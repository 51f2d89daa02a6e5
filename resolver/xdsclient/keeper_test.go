package xdsclient

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// mapStore is a Store that remembers what it was told, and may be slow.
type mapStore struct {
	saved map[Key]Saved
	puts  [][]string
	gate  chan struct{} // if set, Save waits for it
}

func (m *mapStore) Load() (out []Saved, err error) {
	for _, s := range m.saved {
		out = append(out, s)
	}
	return out, nil
}

func (m *mapStore) Save(put []Saved, remove []Key) error {
	if m.gate != nil {
		<-m.gate
	}
	var names []string
	for _, s := range put {
		m.saved[s.Key] = s
		names = append(names, s.Name)
	}
	for _, k := range remove {
		delete(m.saved, k)
		names = append(names, "-"+k.Name)
	}
	m.puts = append(m.puts, names)
	return nil
}

// keeping is detached with a store. What the keeper's goroutines do, the test
// does.
func keeping(t *testing.T, limit int64) (*Client, *stream, *mapStore) {
	t.Helper()
	c, st := detached(t, Delta)
	m := &mapStore{saved: map[Key]Saved{}}
	c.cfg.CacheBytes = limit
	c.keeper = newKeeper(c, m)
	return c, st, m
}

// feedOne has the server send resources "name=text", or "-name" for one that is
// gone.
func feedOne(st *stream, list ...string) {
	r := &response{typeURL: fuzzFull, nonce: "n"}
	for _, text := range list {
		name, _, _ := strings.Cut(text, "=")
		if gone, ok := strings.CutPrefix(name, "-"); ok {
			r.removed = append(r.removed, gone)
			continue
		}
		r.resources = append(r.resources, received{name: name, version: "1", body: []byte(text)})
	}
	<-st.handle(r).free
}

func watchAll(c *Client, st *stream, names ...string) {
	for _, n := range names {
		Watch(c, fuzzType1, n, fuzzWatcher{})
	}
	c.flush()
	st.plan(time.Now())
}

var fuzzType1 = fuzzType(fuzzFull)

// TestCoalescing: of several changes only the last is saved, and what is there
// already is not saved again.
func TestCoalescing(t *testing.T) {
	c, st, m := keeping(t, 1<<20)
	defer c.calls.stop()
	watchAll(c, st, "a", "b", "c")
	feedOne(st, "a=1", "b=1")
	feedOne(st, "a=2", "-b")
	feedOne(st, "a=3", "c=1")
	c.keeper.save()
	feedOne(st, "a=4")
	feedOne(st, "a=3")
	c.keeper.save()
	feedOne(st, "-a", "-b")
	c.keeper.save()
	c.keeper.save()
	want := [][]string{{"a", "c"}, {"-a"}}
	if diff := cmp.Diff(want, m.puts); diff != "" {
		t.Errorf("saved: -want +got:\n%s", diff)
	}
	if got := string(m.saved[Key{fuzzFull, "c"}].Body); got != "c=1" {
		t.Errorf("c is %q", got)
	}
}

// TestCacheBytes: the store is bounded. What nobody watches goes first, the
// oldest before the others, and what does not fit is not saved.
func TestCacheBytes(t *testing.T) {
	size := (&Saved{Key: Key{fuzzFull, "a"}, Version: "1", Server: "nowhere", Body: []byte("a=1")}).size()
	c, st, m := keeping(t, 3*size)
	defer c.calls.stop()
	for i, n := range []string{"x", "y", "z"} {
		k := Key{fuzzFull, n}
		m.saved[k] = Saved{Key: k, Version: "1", Server: "nowhere", Body: []byte(n + "=1"), Accepted: time.Unix(int64(100-i), 0)}
	}
	c.keeper.load()
	watchAll(c, st, "a", "b", "c", "y")
	step := func(what string, want []string, list ...string) {
		t.Helper()
		feedOne(st, list...)
		c.keeper.save()
		var got []string
		for k := range m.saved {
			got = append(got, k.Name)
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
		if s := c.Status().Cache; s.Bytes > 3*size || s.Resources != len(got) {
			t.Errorf("%s: status %+v, want at most %d bytes", what, s, 3*size)
		}
	}
	step("the oldest that is not watched goes", []string{"a", "x", "y"}, "a=1")
	step("what is watched stays", []string{"a", "b", "y"}, "b=1")
	step("all is watched: what is too much is not saved", []string{"a", "b", "y"}, "c=1")
	step("what got larger stays as it was", []string{"a", "b", "y"}, "a=22222")
	if got := string(m.saved[Key{fuzzFull, "a"}].Body); got != "a=1" {
		t.Errorf("a is %q, want the version that fits", got)
	}
	step("room is used", []string{"b", "c", "y"}, "-a", "c=2")
}

// TestSlowStore: neither the stream nor a watcher waits for the disk. Close
// does.
func TestSlowStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, st, m := keeping(t, 1<<20)
		m.gate = make(chan struct{})
		c.cancel = func() {}
		watchAll(c, st, "a")
		feedOne(st, "a=1")
		saved := false
		c.wg.Go(func() { saved = c.keeper.save() })
		synctest.Wait()
		for i := range 1000 {
			feedOne(st, fmt.Sprint("a=", i))
		}
		if n := c.Status().Cache.Pending; n != 1 {
			t.Errorf("%d changes are pending, want 1", n)
		}
		closed := false
		go func() { closed = c.Close() == nil }()
		synctest.Wait()
		if saved || closed {
			t.Error("the store was not waited for")
		}
		close(m.gate)
		synctest.Wait()
		if got := string(m.saved[Key{fuzzFull, "a"}].Body); !closed || got != "a=999" {
			t.Errorf("after Close (%v) the store has %q, want the last version", closed, got)
		}
	})
}

// TestRestoreWhileSaving: what is being saved, also after it was given up, is
// brought back as soon as the store has it, and what is being deleted is not.
func TestRestoreWhileSaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, st, m := keeping(t, 1<<20)
		defer c.calls.stop()
		k := Key{fuzzFull, "gone"}
		m.saved[k] = Saved{Key: k, Version: "0", Body: []byte("gone=0")}
		c.keeper.load()
		cancelA := Watch(c, fuzzType1, "a", fuzzWatcher{})
		cancelGone := Watch(c, fuzzType1, "gone", fuzzWatcher{})
		c.flush()
		st.plan(time.Now())
		feedOne(st, "a=1", "-gone")
		m.gate = make(chan struct{})
		go c.keeper.save()
		synctest.Wait()
		cancelA()
		cancelGone()
		c.servers[0].end(st)
		Watch(c, fuzzType1, "a", fuzzWatcher{})
		Watch(c, fuzzType1, "gone", fuzzWatcher{})
		c.down(c.servers[0], &ServerError{Err: errDamaged})
		if due := c.keeper.due(); len(due) != 1 || due[0].name != "a" {
			t.Errorf("%d copies are due, want that of a", len(due))
		}
		close(m.gate)
		c.keeper.restoreDue()
		for _, r := range c.Status().Resources {
			if want := r.Name == "a"; r.Stale != want {
				t.Errorf("%s: stale=%v, want %v", r.Name, r.Stale, want)
			}
		}
	})
}

// TestRestore: copies that are not usable, are not what they are called, or
// are not wanted any more do no harm.
func TestRestore(t *testing.T) {
	c, st, m := keeping(t, 1<<20)
	defer c.calls.stop()
	for n, body := range map[string]string{"good": "good=1", "refused": "refused=bad", "half": "half=part", "other": "another=1", "panics": "panics=panic", "silent": "silent=silent"} {
		k := Key{fuzzFull, n}
		m.saved[k] = Saved{Key: k, Version: "1", Body: []byte(body)}
	}
	c.keeper.load()
	c.servers[0].end(st)
	c.down(c.servers[0], &ServerError{Err: errDamaged})
	for n := range m.saved {
		Watch(c, fuzzType1, n.Name, fuzzWatcher{})
	}
	cancel := Watch(c, fuzzType1, "gone", fuzzWatcher{})
	due := c.keeper.due()
	cancel()
	c.keeper.restoreDue()
	if len(due) != 6 {
		t.Errorf("%d copies are due, want 6", len(due))
	}
	for _, r := range c.Status().Resources {
		if want := r.Name == "good"; r.Stale != want {
			t.Errorf("%s: stale=%v, want %v", r.Name, r.Stale, want)
		}
	}
	if len(c.keeper.due()) != 0 {
		t.Error("useless copies are tried again")
	}
	for _, s := range due { // the watches or the need ended meanwhile
		before := c.Status()
		s.watches = nil
		c.keeper.give(s, &Saved{}, "late")
		if diff := cmp.Diff(len(before.Resources), len(c.Status().Resources)); diff != "" || s.value == "late" {
			t.Errorf("%s was brought back for nobody", s.name)
		}
	}
}

// TestNoMemoryKept: copies are given back when a server has answered.
func TestNoMemoryKept(t *testing.T) {
	c, st, m := keeping(t, 1<<20)
	defer c.calls.stop()
	k := Key{fuzzFull, "a"}
	m.saved[k] = Saved{Key: k, Body: []byte("a=1")}
	c.keeper.load()
	if c.keeper.forget(); c.keeper.copies == nil {
		t.Error("nothing is kept although no server has answered yet")
	}
	watchAll(c, st, "a")
	feedOne(st, "a=1")
	if c.keeper.copies != nil {
		t.Error("copies are kept although a server has answered")
	}
}
