package xdsclient_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/resolver/xdsclient"
)

func TestConfig(t *testing.T) {
	creds := insecure.NewCredentials()
	tests := map[string]struct {
		cfg  xdsclient.Config
		want string
	}{
		"no server":      {xdsclient.Config{}, "xdsclient: Config.Servers is empty: at least one server is needed"},
		"no URI":         {xdsclient.Config{Servers: []xdsclient.Server{{URI: "a:1", Credentials: creds}, {}}}, "xdsclient: Config.Servers[1].URI is empty: a gRPC target such as 127.0.0.1:15010 is needed"},
		"protocol":       {xdsclient.Config{Servers: []xdsclient.Server{{URI: "a:1", Credentials: creds}}, Protocol: 9}, "xdsclient: Config.Protocol is Protocol(9): want Auto, Delta or StateOfTheWorld"},
		"no credentials": {xdsclient.Config{Servers: []xdsclient.Server{{URI: "a:1"}}}, `xdsclient: server "a:1": grpc: no transport security set`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c, err := xdsclient.New(tt.cfg)
			if err == nil {
				c.Close()
				t.Fatal("no error")
			}
			if !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("error %q, want %q", err, tt.want)
			}
		})
	}
}

// inBubble runs a test with a fake server and a client of it.
func inBubble(t *testing.T, p xdsclient.Protocol, f func(t *testing.T, c *xdsclient.Client, s *fakeServer, ev, sent *events)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var ev, sent events
		s := newFakeServer(sent.log)
		defer s.stop()
		c, err := xdsclient.New(xdsclient.Config{Servers: []xdsclient.Server{s.server()}, Protocol: p})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		f(t, c, s, &ev, &sent)
	})
}

func (f *fakeServer) send(t *testing.T, ty *xdsclient.ResourceType[string], nonce string, rs ...*discoveryv3.Resource) {
	t.Helper()
	if err := f.current().delta.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: ty.TypeURL, Nonce: nonce, Resources: rs}); err != nil {
		t.Fatal(err)
	}
}

func res(name, text string) *discoveryv3.Resource {
	return &discoveryv3.Resource{Name: name, Version: "1", Resource: pack(cluster(name, text))}
}

// TestReentrant: a callback may watch, cancel and look at the status, and all
// that it subscribes to goes out in one request.
func TestReentrant(t *testing.T) {
	inBubble(t, xdsclient.Delta, func(t *testing.T, c *xdsclient.Client, s *fakeServer, ev, sent *events) {
		t.Helper()
		ct, et := clusterType(), endpointType()
		var cancel func()
		var names []string
		r := &recorder{name: "w", log: ev.log, then: func() {
			for i := range 50 {
				name := fmt.Sprintf("e%02d", i)
				names = append(names, name)
				xdsclient.Watch(c, et, name, &recorder{name: name, log: ev.log})
			}
			xdsclient.Watch(c, ct, "a", &recorder{name: "again", log: ev.log})
			if n := len(c.Status().Resources); n != 51 {
				t.Errorf("%d resources in the status, want 51", n)
			}
			cancel()
		}}
		cancel = xdsclient.Watch(c, ct, "a", r)
		synctest.Wait()
		s.send(t, ct, "n1", res("a", "one"))
		ev.want(t, "callbacks", "again update a one", "w update a one")
		sent.want(t, "requests", "stream delta", "Cluster subscribe=a", "Cluster nonce=n1", "ClusterLoadAssignment subscribe="+strings.Join(names, ","))
		s.send(t, ct, "n2", res("a", "two"))
		ev.want(t, "after cancel", "again update a two")
	})
}

// TestDoneTwice: a watcher that owes two and pays one of them twice still owes
// the other.
func TestDoneTwice(t *testing.T) {
	inBubble(t, xdsclient.Delta, func(t *testing.T, c *xdsclient.Client, s *fakeServer, ev, _ *events) {
		t.Helper()
		ct := clusterType()
		r := &recorder{name: "w", log: ev.log, hold: true}
		xdsclient.Watch(c, ct, "a", r)
		synctest.Wait()
		s.send(t, ct, "n1", res("a", "one"), res("a", "two"))
		ev.want(t, "callbacks", "w update a one", "w update a two")
		s.send(t, ct, "n2", res("a", "three"))
		r.dones[0]()
		r.dones[0]()
		ev.want(t, "after one done, called twice")
		r.dones[1]()
		ev.want(t, "after both", "w update a three")
	})
}

// TestCancelInFlight: no callback begins after cancel, although it was due.
func TestCancelInFlight(t *testing.T) {
	inBubble(t, xdsclient.Delta, func(t *testing.T, c *xdsclient.Client, s *fakeServer, ev, _ *events) {
		t.Helper()
		ct := clusterType()
		var cancelSecond func()
		first := &recorder{name: "first", log: ev.log, then: func() { cancelSecond() }}
		xdsclient.Watch(c, ct, "a", first)
		cancelSecond = xdsclient.Watch(c, ct, "a", &recorder{name: "second", log: ev.log})
		synctest.Wait()
		s.send(t, ct, "n1", res("a", "one"))
		ev.want(t, "callbacks", "first update a one")
		s.send(t, ct, "n2", res("a", "two"))
		ev.want(t, "callbacks", "first update a two")
		cancelSecond()
	})
}

// TestClose: it waits for the running callback, drops those that are due, is
// idempotent, and a closed client is dead but does not hurt.
func TestClose(t *testing.T) {
	inBubble(t, xdsclient.Delta, func(t *testing.T, c *xdsclient.Client, s *fakeServer, ev, _ *events) {
		t.Helper()
		ct := clusterType()
		gate := make(chan struct{})
		xdsclient.Watch(c, ct, "a", &recorder{name: "slow", log: ev.log, hold: true, then: func() { <-gate }})
		cancel := xdsclient.Watch(c, ct, "a", &recorder{name: "due", log: ev.log})
		synctest.Wait()
		s.send(t, ct, "n1", res("a", "one"))
		ev.want(t, "before Close", "slow update a one")

		var closed atomic.Int32
		for range 2 {
			go func() {
				if err := c.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
				closed.Add(1)
			}()
		}
		synctest.Wait()
		if closed.Load() != 0 {
			t.Error("Close did not wait for the callback")
		}
		close(gate)
		synctest.Wait()
		if closed.Load() != 2 {
			t.Error("Close did not return after the callback")
		}
		ev.want(t, "after Close")

		cancel()
		xdsclient.Watch(c, ct, "b", &recorder{name: "late", log: ev.log})()
		elapse(time.Minute)
		ev.want(t, "of a closed client")
		if st := c.Status(); st.Servers[0].Connected {
			t.Errorf("connected after Close: %+v", st.Servers[0])
		}
	})
}

// TestCloseAnyTime closes clients in every phase of their life.
func TestCloseAnyTime(t *testing.T) {
	phases := map[string]func(c *xdsclient.Client, s *fakeServer){
		"new":        func(*xdsclient.Client, *fakeServer) {},
		"connecting": func(c *xdsclient.Client, _ *fakeServer) { watchNothing(c) },
		"connected":  func(c *xdsclient.Client, _ *fakeServer) { watchNothing(c); synctest.Wait() },
		"in backoff": func(c *xdsclient.Client, s *fakeServer) {
			s.setDown("connection refused")
			watchNothing(c)
			synctest.Wait()
		},
	}
	for name, phase := range phases {
		t.Run(name, func(t *testing.T) {
			inBubble(t, xdsclient.Auto, func(_ *testing.T, c *xdsclient.Client, s *fakeServer, _, _ *events) { phase(c, s) })
		})
	}
	t.Run("dialing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			c, err := xdsclient.New(xdsclient.Config{Servers: []xdsclient.Server{{
				URI: "nowhere", Credentials: insecure.NewCredentials(),
				Dialer: func(ctx context.Context, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
			}}})
			if err != nil {
				t.Fatal(err)
			}
			watchNothing(c)
			synctest.Wait()
			c.Close()
		})
	})
}

// TestLongOutage: after however long an outage, a client is back before xdsserver
// stops waiting for servers that were registered, 30 s after its start.
func TestLongOutage(t *testing.T) {
	inBubble(t, xdsclient.Auto, func(t *testing.T, c *xdsclient.Client, s *fakeServer, _, _ *events) {
		t.Helper()
		s.setDown("connection refused")
		watchNothing(c)
		elapse(24 * time.Hour)
		for range 50 {
			s.setDown("")
			elapse(25 * time.Second)
			if st := c.Status(); !st.Servers[0].Connected {
				t.Fatalf("not connected after 25s: %+v", st.Servers[0])
			}
			s.setDown("connection refused")
			s.current().end <- status.Error(codes.Unavailable, "down")
			elapse(10 * time.Minute)
			if st := c.Status(); st.Servers[0].Connected {
				t.Fatal("still connected")
			}
		}
	})
}

func watchNothing(c *xdsclient.Client) {
	xdsclient.Watch(c, clusterType(), "a", &recorder{log: func(string) {}})
}

// TestHopelessWatches get an error instead of breaking the stream for others.
func TestHopelessWatches(t *testing.T) {
	inBubble(t, xdsclient.Delta, func(t *testing.T, c *xdsclient.Client, _ *fakeServer, ev, sent *events) {
		t.Helper()
		ct := clusterType()
		watch := func(label string, ty *xdsclient.ResourceType[string], name string) {
			xdsclient.Watch(c, ty, name, &recorder{name: label, log: ev.log})
		}
		watch("empty", ct, "")
		watch("bytes", ct, "\xff")
		watch("no type", &xdsclient.ResourceType[string]{}, "a")
		watch("good", ct, "a")
		watch("other type", clusterType(), "a")
		ev.want(t, "callbacks",
			`empty error: xdsclient: cannot watch: resource name "" is empty or not UTF-8`,
			`bytes error: xdsclient: cannot watch: resource name "\xff" is empty or not UTF-8`,
			`no type error: xdsclient: cannot watch: type URL "" is empty or not UTF-8`,
			`other type error: xdsclient: cannot watch: type URL `+ct.TypeURL+` is in use with another ResourceType`)
		sent.want(t, "requests", "stream delta", "Cluster subscribe=a")
	})
}

// TestNode: who is asking, and what it can do.
func TestNode(t *testing.T) {
	node := &corev3.Node{Id: "me", UserAgentName: "mine", ClientFeatures: []string{"x"}}
	for name, tt := range map[string]struct{ in, want *corev3.Node }{
		"none":  {nil, &corev3.Node{UserAgentName: "meshframe", ClientFeatures: []string{"xds.config.resource-in-sotw"}}},
		"given": {node, &corev3.Node{Id: "me", UserAgentName: "mine", ClientFeatures: []string{"x", "xds.config.resource-in-sotw"}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				nodes := make(chan *corev3.Node, 10)
				s := newFakeServer(func(string) {})
				s.onNode = func(n *corev3.Node) { nodes <- n }
				defer s.stop()
				c, err := xdsclient.New(xdsclient.Config{Servers: []xdsclient.Server{s.server()}, Node: tt.in})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				watchNothing(c)
				if got := <-nodes; got.String() != tt.want.String() {
					t.Errorf("node %v, want %v", got, tt.want)
				}
			})
		})
	}
	if len(node.GetClientFeatures()) != 1 {
		t.Error("the caller's node was changed")
	}
}

// TestErrors: what a caller can find out with errors.As.
func TestErrors(t *testing.T) {
	inBubble(t, xdsclient.Delta, func(t *testing.T, c *xdsclient.Client, s *fakeServer, _, _ *events) {
		t.Helper()
		ct := clusterType()
		errs := make(chan error, 10)
		xdsclient.Watch(c, ct, "a", errorWatcher{errs})
		synctest.Wait()

		s.send(t, ct, "n1", res("a", "bad"))
		err := <-errs
		refused, ok := errors.AsType[*xdsclient.RefusedError](err)
		if !ok || refused.Resource != "a" || refused.Type != "Cluster" || refused.Version != "1" {
			t.Errorf("refused: %#v", err)
		}
		elapse(10 * time.Second)
		s.setDown("connection refused")
		s.current().end <- nil
		s.grpc.Stop()
		err = <-errs
		server, ok := errors.AsType[*xdsclient.ServerError](err)
		if !ok || server.Server != "fake:1" {
			t.Errorf("server: %#v", err)
		}
		st := c.Status().Servers[0]
		if st.Connected || st.LastError == nil || st.NextAttempt.Before(time.Now()) || !st.LastResponse.Equal(time.Now().Add(-10*time.Second)) {
			t.Errorf("status does not say how stale it is: %+v", st)
		}
	})
}

type errorWatcher struct{ errs chan error }

func (w errorWatcher) Update(_ xdsclient.Update[string], done func()) { done() }

func (w errorWatcher) Missing(_ string, err error, done func()) { w.errs <- err; done() }

func (w errorWatcher) Error(_ string, err error, done func()) { w.errs <- err; done() }

// TestNothingListens uses a real socket and the default resolver.
func TestNothingListens(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := lis.Addr().String()
	lis.Close()
	c, err := xdsclient.New(xdsclient.Config{Servers: []xdsclient.Server{{URI: address, Credentials: insecure.NewCredentials()}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	errs := make(chan error, 10)
	xdsclient.Watch(c, clusterType(), "a", errorWatcher{errs})
	if text := (<-errs).Error(); !strings.Contains(text, address) || !strings.Contains(text, "connection refused") {
		t.Errorf("error %q, want one that names %s and the cause", text, address)
	}
}

// TestTruth lets many goroutines watch and cancel at random, while the
// configuration changes and the server restarts, and compares what each watch
// was last told with the truth: a map.
func TestTruth(t *testing.T) {
	for _, p := range []xdsclient.Protocol{xdsclient.Delta, xdsclient.StateOfTheWorld} {
		for seed := range uint64(5) {
			t.Run(fmt.Sprintf("%v/%d", p, seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { playTruth(t, p, seed) })
			})
		}
	}
}

func playTruth(t *testing.T, p xdsclient.Protocol, seed uint64) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(seed, uint64(p)))
	cp := &controlPlane{t: t, store: newLinear()}
	cp.start()
	c := cp.client(p)
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
		case 3, 4:
			if i := len(live); i > 0 {
				i = rnd.IntN(i)
				live[i].cancel()
				live = slices.Delete(live, i, i+1)
			}
		case 5:
			delete(truth, name)
			cp.store.set(truth, nil)
		case 6:
			if rnd.IntN(10) == 0 {
				cp.stop()
				cp.start()
			}
		case 7:
			elapse(time.Duration(rnd.IntN(2000)) * time.Millisecond)
		default:
			truth[name] = fmt.Sprint("v", step)
			cp.store.set(truth, nil)
		}
	}
	elapse(10 * time.Minute)
	synctest.Wait()
	for _, w := range live {
		want, ok := truth[w.seen.name]
		if !ok {
			want = "missing"
		}
		if got := w.seen.get(); got != want {
			t.Errorf("seed %d: watch of %s was last told %q, the truth is %q", seed, w.seen.name, got, want)
		}
	}
	if len(live) == 0 {
		t.Error("no watch is left to be checked")
	}
	c.Close()
	cp.stop()
}

// lastSeen remembers the last it was told.
type lastSeen struct {
	name string
	mu   sync.Mutex
	last string
}

func (w *lastSeen) set(s string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = s
}

func (w *lastSeen) get() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

func (w *lastSeen) Update(u xdsclient.Update[string], done func()) { w.set(u.Value); done() }

func (w *lastSeen) Missing(_ string, _ error, done func()) { w.set("missing"); done() }

func (w *lastSeen) Error(_ string, _ error, done func()) { done() }
