package xdsclient_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/config"
	"github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/meshframe/meshframe/resolver/xdsclient"
)

// controlPlane is go-control-plane's server over one of its caches.
type controlPlane struct {
	t       *testing.T
	store   store
	opts    []config.XDSOption
	lis     atomic.Pointer[bufconn.Listener]
	grpc    *grpc.Server
	cancel  context.CancelFunc
	nacks   atomic.Int64
	streams atomic.Int64 // ever opened
	open    atomic.Int64 // open now
}

// store is a cache of clusters and endpoints.
type store interface {
	cache.Cache
	// set replaces everything: text by name.
	set(clusters, endpoints map[string]string)
}

func (cp *controlPlane) start() {
	ctx, cancel := context.WithCancel(context.Background())
	cp.cancel = cancel
	srv := serverv3.NewServer(ctx, cp.store, serverv3.CallbackFuncs{
		StreamOpenFunc:        func(context.Context, int64, string) error { cp.streams.Add(1); cp.open.Add(1); return nil },
		DeltaStreamOpenFunc:   func(context.Context, int64, string) error { cp.streams.Add(1); cp.open.Add(1); return nil },
		StreamClosedFunc:      func(int64, *corev3.Node) { cp.open.Add(-1) },
		DeltaStreamClosedFunc: func(int64, *corev3.Node) { cp.open.Add(-1) },
		StreamRequestFunc: func(_ int64, r *discoveryv3.DiscoveryRequest) error {
			if r.GetErrorDetail() != nil {
				cp.nacks.Add(1)
			}
			return nil
		},
		StreamDeltaRequestFunc: func(_ int64, r *discoveryv3.DeltaDiscoveryRequest) error {
			if r.GetErrorDetail() != nil {
				cp.nacks.Add(1)
			}
			return nil
		},
	}, cp.opts...)
	g := grpc.NewServer()
	cp.grpc = g
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, srv)
	lis := bufconn.Listen(1 << 20)
	cp.lis.Store(lis)
	go func() { _ = g.Serve(lis) }()
}

func (cp *controlPlane) stop() {
	cp.grpc.Stop()
	cp.cancel()
}

func (cp *controlPlane) dial(ctx context.Context, _ string) (net.Conn, error) {
	return cp.lis.Load().DialContext(ctx)
}

func (cp *controlPlane) client(p xdsclient.Protocol) *xdsclient.Client {
	return newClient(cp.t, xdsclient.Config{Servers: []xdsclient.Server{cp.server("cp")}, Protocol: p})
}

// server is what a client needs to reach cp.
func (cp *controlPlane) server(uri string) xdsclient.Server {
	return xdsclient.Server{URI: uri, Credentials: insecure.NewCredentials(), Dialer: cp.dial}
}

func newClient(t *testing.T, cfg xdsclient.Config) *xdsclient.Client {
	t.Helper()
	cfg.Node = &corev3.Node{Id: "me"}
	c, err := xdsclient.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// snapshots is a store over SnapshotCache.
type snapshots struct {
	cache.SnapshotCache
	t       *testing.T
	version int
}

func newSnapshots(ads bool) func(t *testing.T) store {
	return func(t *testing.T) store {
		t.Helper()
		return &snapshots{cache.NewSnapshotCache(ads, cache.IDHash{}, nil), t, 0}
	}
}

func (s *snapshots) set(clusters, endpoints map[string]string) {
	s.version++
	snap, err := cache.NewSnapshot(strconv.Itoa(s.version), map[resource.Type][]types.Resource{
		resource.ClusterType:  clusterList(clusters),
		resource.EndpointType: endpointList(endpoints),
	})
	if err == nil {
		err = s.SetSnapshot(context.Background(), "me", snap)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func clusterList(m map[string]string) (out []types.Resource) {
	for n, text := range m {
		out = append(out, cluster(n, text))
	}
	return out
}

func endpointList(m map[string]string) (out []types.Resource) {
	for n, text := range m {
		out = append(out, endpoints(n, text))
	}
	return out
}

// linear is a store over a LinearCache per type.
type linear struct {
	cache.MuxCache
	clusters, endpoints *cache.LinearCache
}

func newLinear() *linear {
	l := &linear{
		clusters:  cache.NewLinearCache(resource.ClusterType),
		endpoints: cache.NewLinearCache(resource.EndpointType),
	}
	l.MuxCache = cache.MuxCache{
		Classify:      func(r *cache.Request) string { return r.GetTypeUrl() },
		ClassifyDelta: func(r *cache.DeltaRequest) string { return r.GetTypeUrl() },
		Caches:        map[string]cache.Cache{resource.ClusterType: l.clusters, resource.EndpointType: l.endpoints},
	}
	return l
}

func (l *linear) set(clusters, endpointTexts map[string]string) {
	c, e := map[string]types.Resource{}, map[string]types.Resource{}
	for n, text := range clusters {
		c[n] = cluster(n, text)
	}
	for n, text := range endpointTexts {
		e[n] = endpoints(n, text)
	}
	l.clusters.SetResources(c)
	l.endpoints.SetResources(e)
}

// events collects what watchers are told, without versions.
type events struct {
	mu    sync.Mutex
	lines []string
}

func (e *events) log(line string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	line, _, _ = strings.Cut(line, " version=")
	e.lines = append(e.lines, line)
}

// want compares what happened since the last call, in any order, as caches
// answer in any.
func (e *events) want(t *testing.T, what string, want ...string) {
	t.Helper()
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	slices.Sort(e.lines)
	slices.Sort(want)
	if diff := cmp.Diff(want, e.lines); diff != "" {
		t.Errorf("%s: watchers were told (-want +got):\n%s", what, diff)
	}
	e.lines = nil
}

// TestControlPlane plays the life of a few resources against go-control-plane's
// server, in each of its modes.
func TestControlPlane(t *testing.T) {
	stores := map[string]func(t *testing.T) store{
		"SnapshotCache":     newSnapshots(false),
		"SnapshotCache,ads": newSnapshots(true),
		"LinearCache":       func(*testing.T) store { return newLinear() },
	}
	for name, newStore := range stores {
		for _, p := range []xdsclient.Protocol{xdsclient.Auto, xdsclient.StateOfTheWorld} {
			for _, ordered := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%v/ordered=%v", name, p, ordered), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						cp := &controlPlane{t: t, store: newStore(t)}
						if ordered {
							cp.opts = append(cp.opts, sotw.WithOrderedADS())
						}
						cp.start()
						playLife(t, cp, p)
						cp.stop()
					})
				})
			}
		}
	}
}

type texts = map[string]string

func playLife(t *testing.T, cp *controlPlane, p xdsclient.Protocol) {
	t.Helper()
	c := cp.client(p)
	defer c.Close()
	ct, et := clusterType(), endpointType()
	var ev events
	watch := func(label string, ty *xdsclient.ResourceType[string], name string) (cancel func()) {
		return xdsclient.Watch(c, ty, name, &recorder{name: label, log: ev.log})
	}
	cp.store.set(texts{"a": "1", "b": "1"}, texts{"a": "1", "b": "1"})
	watch("ca", ct, "a")
	cancelB := watch("cb", ct, "b")
	watch("ea", et, "a")
	watch("eb", et, "b")
	ev.want(t, "first values", "ca update a 1", "cb update b 1", "ea update a 1", "eb update b 1")

	cp.store.set(texts{"a": "2", "b": "1"}, texts{"a": "1", "b": "2"})
	ev.want(t, "changes", "ca update a 2", "eb update b 2")

	// A refused cluster: no loop, and the other one is not affected.
	cp.store.set(texts{"a": "3", "b": "bad"}, texts{"a": "1", "b": "2"})
	synctest.Wait()
	elapse(10 * time.Second)
	if n := cp.nacks.Load(); n < 1 || n > 11 {
		t.Errorf("%d NACKs in 10 s, want at least 1 and at most one a second", n)
	}
	ev.mu.Lock()
	for i, l := range ev.lines {
		ev.lines[i], _, _ = strings.Cut(l, ":")
	}
	ev.mu.Unlock()
	ev.want(t, "a refused cluster", "ca update a 3", "cb error")

	// SnapshotCache looks for news only when a request comes in: here the NACK
	// that is held back.
	cp.store.set(texts{"a": "3", "b": "4"}, texts{"a": "1", "b": "2"})
	elapse(time.Second)
	ev.want(t, "mended", "cb update b 4")
	elapse(5 * time.Second)
	before := cp.nacks.Load()
	elapse(10 * time.Second)
	if n := cp.nacks.Load(); n != before {
		t.Errorf("%d NACKs after the cluster was mended", n-before)
	}

	// Dropped and asked for again.
	cancelB()
	synctest.Wait()
	cancelB = watch("cb", ct, "b")
	ev.want(t, "subscribed again", "cb update b 4")

	// Deleted. State-of-the-world cannot say that endpoints are gone.
	cp.store.set(texts{"a": "3"}, texts{"a": "1"})
	gone := []string{`cb missing: Cluster "b" does not exist on xds server "cp"`}
	if p != xdsclient.StateOfTheWorld {
		gone = append(gone, `eb missing: Endpoints "b" does not exist on xds server "cp"`)
	}
	ev.want(t, "deleted", gone...)
	cp.store.set(texts{"a": "3", "b": "5"}, texts{"a": "1", "b": "5"})
	ev.want(t, "created again", "cb update b 5", "eb update b 5")

	// The server goes away and comes back with news.
	cp.stop()
	elapse(5 * time.Second)
	cp.store.set(texts{"a": "6", "b": "5"}, texts{"a": "1", "b": "6"})
	cp.start()
	elapse(time.Minute)
	synctest.Wait()
	ev.mu.Lock()
	ev.lines = slices.DeleteFunc(ev.lines, func(l string) bool { return strings.Contains(l, `error: xds server "cp": cannot connect`) })
	ev.mu.Unlock()
	ev.want(t, "server restarted", "ca update a 6", "eb update b 6")
	cancelB()
}

// TestTwoClients: two clients in one process share nothing.
func TestTwoClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cp := &controlPlane{t: t, store: newLinear()}
		cp.start()
		defer cp.stop()
		cp.store.set(texts{"a": "1"}, texts{})
		ct := clusterType() // even the type may be shared
		var ev events
		c1, c2 := cp.client(xdsclient.Delta), cp.client(xdsclient.StateOfTheWorld)
		defer c2.Close()
		xdsclient.Watch(c1, ct, "a", &recorder{name: "one", log: ev.log})
		xdsclient.Watch(c2, ct, "a", &recorder{name: "two", log: ev.log})
		ev.want(t, "both", "one update a 1", "two update a 1")
		c1.Close()
		cp.store.set(texts{"a": "2"}, texts{})
		ev.want(t, "one closed", "two update a 2")
		if n := cp.streams.Load(); n != 2 {
			t.Errorf("%d streams, want one for each client", n)
		}
	})
}
