package xdsclient

import (
	"fmt"
	"testing"
)

// BenchmarkDispatch measures one response from the wire's words to the last
// watcher's done: what a change costs a client, without the network.
func BenchmarkDispatch(b *testing.B) {
	for _, p := range []Protocol{Delta, StateOfTheWorld} {
		for _, n := range []int{1, 1000} {
			b.Run(fmt.Sprintf("%v/1 changed of %d", p, n), func(b *testing.B) { dispatch(b, p, n, 1) })
		}
	}
	b.Run("delta/1 changed, 100 watches", func(b *testing.B) { dispatch(b, Delta, 1, 100) })
}

func dispatch(b *testing.B, p Protocol, resources, watches int) {
	b.Helper()
	c, st := detached(b, p)
	defer c.calls.stop()
	t := fuzzType(fuzzFull)
	all := make([]received, resources)
	for i := range all {
		name := fmt.Sprint("resource", i)
		all[i] = received{version: "1", body: []byte(name + "=x")}
		if p == Delta {
			all[i].name = name
		}
		for range watches {
			Watch(c, t, name, fuzzWatcher{})
		}
	}
	c.flush()
	st.plan(c.servers[0].health.Since)
	<-st.handle(&response{typeURL: fuzzFull, nonce: "0", resources: all}).free

	bodies := [2][]byte{[]byte("resource0=even"), []byte("resource0=odd")}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		all[0].body = bodies[i%2]
		r := &response{typeURL: fuzzFull, nonce: "n", resources: all}
		if p == Delta {
			r.resources = all[:1] // only what changed is sent
		}
		<-st.handle(r).free
		st.plan(c.servers[0].health.Since)
	}
}
