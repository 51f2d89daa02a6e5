package xdsclient_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshframe/meshframe/resolver/xdsclient"
)

// pair is a primary and a fallback of go-control-plane's, and a client of both.
type pair struct {
	*testing.T

	primary, fallback *controlPlane
	client            *xdsclient.Client
	clusters          *xdsclient.ResourceType[string]
	endpoints         *xdsclient.ResourceType[string]
	ev                events
}

// eachPair runs a test with both protocols and two kinds of caches. Both servers
// are up.
func eachPair(t *testing.T, f func(p *pair)) {
	t.Helper()
	stores := map[string]func(t *testing.T) store{
		"SnapshotCache": newSnapshots(false),
		"LinearCache":   func(*testing.T) store { return newLinear() },
	}
	for name, newStore := range stores {
		for _, protocol := range []xdsclient.Protocol{xdsclient.Delta, xdsclient.StateOfTheWorld} {
			t.Run(fmt.Sprintf("%s/%v", name, protocol), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := &pair{
						T: t, clusters: clusterType(), endpoints: endpointType(),
						primary: &controlPlane{t: t, store: newStore(t)}, fallback: &controlPlane{t: t, store: newStore(t)},
					}
					p.primary.start()
					defer func() { p.primary.stop() }()
					p.fallback.start()
					defer p.fallback.stop()
					p.client = newClient(t, xdsclient.Config{
						Servers: []xdsclient.Server{p.primary.server("primary"), p.fallback.server("fallback")}, Protocol: protocol,
					})
					defer p.client.Close()
					f(p)
				})
			})
		}
	}
}

func (p *pair) watch(ty *xdsclient.ResourceType[string], names ...string) {
	for _, n := range names {
		xdsclient.Watch(p.client, ty, n, &recorder{name: "w", log: p.ev.log})
	}
}

// inCharge fails if another server is, or streams are open that should not be.
func (p *pair) inCharge(uri string, primaryStreams, fallbackStreams int64) {
	p.Helper()
	synctest.Wait()
	for _, s := range p.client.Status().Servers {
		if s.InCharge != (s.URI == uri) {
			p.Errorf("%s: in charge is %v, want %s to be", s.URI, s.InCharge, uri)
		}
	}
	got := [2]int64{p.primary.open.Load(), p.fallback.open.Load()}
	if want := [2]int64{primaryStreams, fallbackStreams}; got != want {
		p.Errorf("streams of primary and fallback: %v, want %v", got, want)
	}
}

func TestFailoverAtStart(t *testing.T) {
	eachPair(t, func(p *pair) {
		p.primary.store.set(texts{"a": "primary"}, texts{"a": "primary"})
		p.fallback.store.set(texts{"a": "fallback"}, texts{"a": "fallback"})
		p.primary.stop()
		p.watch(p.clusters, "a")
		p.watch(p.endpoints, "a")
		p.ev.want(p.T, "primary is down", "w update a fallback", "w update a fallback")
		p.inCharge("fallback", 0, 1)

		p.fallback.store.set(texts{"a": "news"}, texts{"a": "fallback"})
		p.ev.want(p.T, "news", "w update a news")

		p.primary.start()
		elapse(time.Minute)
		p.ev.want(p.T, "primary is back", "w update a primary", "w update a primary")
		p.inCharge("primary", 1, 0)

		p.fallback.store.set(texts{"a": "ignored"}, texts{"a": "ignored"})
		p.primary.store.set(texts{"a": "on"}, texts{"a": "on"})
		p.ev.want(p.T, "more news", "w update a on", "w update a on")
	})
}

func TestFailoverOfSomethingNew(t *testing.T) {
	eachPair(t, func(p *pair) {
		p.primary.store.set(texts{"a": "primary"}, nil)
		p.fallback.store.set(texts{"a": "fallback", "b": "fallback"}, nil)
		p.watch(p.clusters, "a")
		p.ev.want(p.T, "at first", "w update a primary")

		elapse(time.Minute)
		p.primary.stop()
		elapse(time.Minute)
		down := `w error: xds server "primary": cannot connect: Unavailable: connection error: desc = "transport: Error while dialing: closed"`
		p.ev.want(p.T, "everything is cached", down)
		p.inCharge("primary", 0, 0)
		if n := p.fallback.streams.Load(); n != 0 {
			p.Errorf("the fallback was asked %d times although everything was cached", n)
		}

		p.watch(p.clusters, "b")
		p.ev.want(p.T, "something new", "w update a fallback", "w update b fallback")
		p.inCharge("fallback", 0, 1)

		// Each has something that the other has not.
		p.primary.store.set(texts{"a": "primary", "c": "primary"}, nil)
		p.watch(p.clusters, "c")
		elapse(xdsclient.DefaultWatchExpiry)
		p.ev.want(p.T, "only the primary has it", `w missing: Cluster "c" does not exist: no answer from xds server "fallback"`)
		p.primary.start()
		elapse(2 * time.Minute)
		p.ev.mu.Lock()
		for i, l := range p.ev.lines { // by silence or by a word, as the cache and the protocol have it
			if strings.HasPrefix(l, `w missing: Cluster "b" does not exist`) {
				p.ev.lines[i] = "w missing b"
			}
		}
		p.ev.mu.Unlock()
		p.ev.want(p.T, "only the fallback had it", "w update a primary", "w update c primary", "w missing b")
		p.inCharge("primary", 1, 0)
	})
}

// TestFailoverTruth has the client watch at random, while two servers with the
// same contents and a store come and go, and compares what each watch was last
// told, and what is stored, with the truth.
func TestFailoverTruth(t *testing.T) {
	for _, protocol := range []xdsclient.Protocol{xdsclient.Delta, xdsclient.StateOfTheWorld} {
		for seed := range uint64(5) {
			t.Run(fmt.Sprintf("%v/%d", protocol, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { playFailovers(t, protocol, seed) })
			})
		}
	}
}

func playFailovers(t *testing.T, protocol xdsclient.Protocol, seed uint64) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, uint64(protocol)))
	contents := newLinear()
	planes := []*controlPlane{{t: t, store: contents}, {t: t, store: contents}, {t: t, store: contents}}
	up := []bool{true, true, true}
	saved := &memoryStore{saved: map[xdsclient.Key]xdsclient.Saved{}}
	cfg := xdsclient.Config{Protocol: protocol, Cache: saved}
	for i, cp := range planes {
		cp.start()
		cfg.Servers = append(cfg.Servers, cp.server(fmt.Sprint("cp", i)))
	}
	turn := func(i int) {
		if up[i] {
			planes[i].stop()
		} else {
			planes[i].start()
		}
		up[i] = !up[i]
	}
	c := newClient(t, cfg)
	ct := clusterType()
	truth := texts{}
	type watch struct {
		seen   *lastSeen
		cancel func()
	}
	var live []watch
	for step := range 400 {
		name := fmt.Sprintf("c%d", rnd.IntN(20))
		switch rnd.IntN(10) {
		case 0, 1, 2:
			w := &lastSeen{name: name}
			live = append(live, watch{w, xdsclient.Watch(c, ct, name, w)})
		case 3:
			if i := len(live); i > 0 {
				i = rnd.IntN(i)
				live[i].cancel()
				live = slices.Delete(live, i, i+1)
			}
		case 4:
			delete(truth, name)
			contents.set(truth, nil)
		case 5, 6:
			turn(rnd.IntN(len(planes)))
		case 7, 8:
			elapse(time.Duration(rnd.IntN(5000)) * time.Millisecond)
		default:
			truth[name] = fmt.Sprint("v", step)
			contents.set(truth, nil)
		}
	}
	for i := range up {
		if !up[i] {
			turn(i)
		}
	}
	elapse(10 * time.Minute)
	for _, l := range live {
		w := l.seen
		want, ok := truth[w.name]
		if !ok {
			want = "missing"
		}
		if got := w.get(); got != want {
			t.Errorf("seed %d: watch of %s was last told %q, the truth is %q", seed, w.name, got, want)
		}
		if s, ok := saved.saved[xdsclient.Key{TypeURL: ct.TypeURL, Name: w.name}]; want != "missing" && (!ok || ct.Decode("", s.Body).Value != want) {
			t.Errorf("seed %d: stored of %s is %+v, the truth is %q", seed, w.name, s, want)
		}
	}
	if len(live) == 0 {
		t.Error("no watch is left to be checked")
	}
	c.Close()
	for _, cp := range planes {
		cp.stop()
	}
}

// TestServersShareNothing: credentials of each server are checked before any is
// asked.
func TestServersShareNothing(t *testing.T) {
	s := newFakeServer(func(string) {})
	defer s.stop()
	_, err := xdsclient.New(xdsclient.Config{Servers: []xdsclient.Server{s.server(), {URI: "b:1"}}})
	if err == nil || !strings.HasPrefix(err.Error(), `xdsclient: server "b:1": `) {
		t.Errorf("error %v, want one about the second server", err)
	}
}

// TestOutageErrors: every server's failure can be found.
func TestOutageErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cfg xdsclient.Config
		for i := range 2 {
			s := newFakeServer(func(string) {})
			defer s.stop()
			s.uri = fmt.Sprint("fake:", i)
			s.setDown("connection refused")
			cfg.Servers = append(cfg.Servers, s.server())
		}
		c := newClient(t, cfg)
		defer c.Close()
		errs := make(chan error, 1)
		xdsclient.Watch(c, clusterType(), "a", errorWatcher{errs})
		err := <-errs
		list, ok := err.(interface{ Unwrap() []error })
		if !ok {
			t.Fatalf("error %#v does not list the servers", err)
		}
		got := map[string]bool{}
		for _, e := range list.Unwrap() {
			if s, ok := errors.AsType[*xdsclient.ServerError](e); ok {
				got[s.Server] = true
			}
		}
		if diff := cmp.Diff([]string{"fake:0", "fake:1"}, slices.Sorted(maps.Keys(got))); diff != "" {
			t.Errorf("servers: -want +got:\n%s", diff)
		}
	})
}
