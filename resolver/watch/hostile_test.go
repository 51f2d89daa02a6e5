package watch_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshframe/meshframe/internal/xdstest"
	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/resolver/watch"
	"github.com/meshframe/meshframe/resolver/xdsclient"
)

const (
	listenerURL = "type.googleapis.com/envoy.config.listener.v3.Listener"
	routeURL    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	clusterURL  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	endpointURL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
)

// hostile is a control plane that answers with what a test makes up.
type hostile struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	target *watch.Target
	client *xdsclient.Client
	// answer makes the body of a resource that is asked for; nil is none, and no
	// answer.
	answer func(typeURL, name string) proto.Message
	// fails makes the error that takes the place of a resource; nil is none.
	fails func(typeURL, name string) error
	// hangsUp ends each stream after its first response.
	hangsUp bool
	// away turns further streams away.
	away atomic.Bool

	mu      sync.Mutex
	stream  grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]
	streams int
	asked   int      // requests
	names   int      // subscriptions
	nacks   []string // reasons
}

// play runs f with a client of a hostile control plane, in a bubble.
func play(t *testing.T, h *hostile, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		lis := bufconn.Listen(1 << 20)
		s := grpc.NewServer(grpc.MaxSendMsgSize(1 << 30))
		discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, h)
		go func() { _ = s.Serve(lis) }()
		var err error
		h.client, err = xdsclient.New(xdsclient.Config{Servers: []xdsclient.Server{{
			URI: "hostile:1", Credentials: insecure.NewCredentials(),
			Dialer: func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) },
		}}})
		if err != nil {
			t.Fatal(err)
		}
		m := watch.New(watch.Config{Client: h.client, Engine: mesh.New(mesh.Options{}), Logger: slog.New(slog.DiscardHandler)})
		h.target = m.Target(name)
		h.target.Acquire()
		synctest.Wait()
		f(t)
		m.Close()
		h.client.Close()
		s.Stop()
	})
}

// good is a configuration with one cluster.
func good(typeURL, resource string) proto.Message {
	switch {
	case typeURL == listenerURL && resource == name:
		return xdstest.Listener(name)
	case typeURL == routeURL:
		return xdstest.Routes(name, xdstest.Route(nil, "a"))
	case typeURL == clusterURL && resource == "a":
		return xdstest.Cluster("a")
	case typeURL == endpointURL && resource == "a":
		return xdstest.Endpoints("a", "10.0.0.1:1")
	}
	return nil
}

func (h *hostile) DeltaAggregatedResources(st grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
	if h.away.Load() {
		return status.Error(codes.Unavailable, "gone for good")
	}
	h.mu.Lock()
	h.stream = st
	h.streams++
	h.mu.Unlock()
	for {
		m, err := st.Recv()
		if err != nil {
			return err
		}
		h.mu.Lock()
		h.asked++
		h.names += len(m.GetResourceNamesSubscribe())
		if d := m.GetErrorDetail(); d != nil {
			h.nacks = append(h.nacks, d.GetMessage())
		}
		h.mu.Unlock()
		var list []*discoveryv3.Resource
		for _, n := range m.GetResourceNamesSubscribe() {
			if h.fails != nil && h.fails(m.GetTypeUrl(), n) != nil {
				h.fail(m.GetTypeUrl(), n, h.fails(m.GetTypeUrl(), n))
				continue
			}
			if body := h.answer(m.GetTypeUrl(), n); body != nil && m.GetInitialResourceVersions()[n] == "" {
				list = append(list, &discoveryv3.Resource{Name: n, Version: "1", Resource: xdstest.Any(body)})
			}
		}
		if len(list) > 0 {
			h.send(m.GetTypeUrl(), "n", list...)
			if h.hangsUp {
				return nil
			}
		}
	}
}

func (h *hostile) send(typeURL, nonce string, list ...*discoveryv3.Resource) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.stream.Send(&discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, Nonce: nonce, Resources: list}) // the client may have gone
}

// fail sends an error for a resource (gRFC A88).
func (h *hostile) fail(typeURL, resource string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.stream.Send(&discoveryv3.DeltaDiscoveryResponse{ // the client may have gone
		TypeUrl: typeURL, Nonce: "e", ResourceErrors: []*discoveryv3.ResourceError{{
			ResourceName: &discoveryv3.ResourceName{Name: resource}, ErrorDetail: status.Convert(err).Proto(),
		}},
	})
}

// counts are streams, requests, subscriptions and the reasons of refusals so far.
func (h *hostile) counts() (streams, asked, names int, nacks string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.streams, h.asked, h.names, strings.Join(h.nacks, "\n")
}

func body(url string, raw []byte) *anypb.Any { return &anypb.Any{TypeUrl: url, Value: raw} }

// TestHostileAnswers has a control plane send what it must not, to a client that
// has a good configuration: that stays, a refusal says which resource is bad, and
// the next good word counts.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	junk := bytes.Repeat([]byte{0xff, 0x07, 0x0a}, 1000)
	endpoints := func(version, addr string) *discoveryv3.Resource {
		return &discoveryv3.Resource{Name: "a", Version: version, Resource: xdstest.Any(xdstest.Endpoints("a", addr))}
	}
	var strangers []*discoveryv3.Resource
	for i := range 10_000 {
		n := fmt.Sprintf("stranger-%d", i)
		strangers = append(strangers, &discoveryv3.Resource{Name: n, Version: "1", Resource: xdstest.Any(xdstest.Cluster(n))})
	}
	for title, test := range map[string]struct {
		misbehave func(h *hostile)
		nack      string // what a refusal says; "" is that there is none
		becomes   string // what the snapshot is; "" is as before
	}{
		"garbage": {nack: "a", misbehave: func(h *hostile) {
			h.send(clusterURL, "1", &discoveryv3.Resource{Name: "a", Version: "2", Resource: body(clusterURL, junk)})
		}},
		"garbage of each type": {nack: name, misbehave: func(h *hostile) {
			for _, r := range []struct{ url, name string }{{endpointURL, "a"}, {clusterURL, "a"}, {routeURL, name}, {listenerURL, name}} {
				h.send(r.url, "1", &discoveryv3.Resource{Name: r.name, Version: "2", Resource: body(r.url, junk)})
			}
		}},
		"a resource of another type": {nack: "a", misbehave: func(h *hostile) {
			h.send(clusterURL, "1", &discoveryv3.Resource{Name: "a", Version: "2", Resource: xdstest.Any(xdstest.Listener("a"))})
		}},
		"no resource at all": {nack: "a", misbehave: func(h *hostile) {
			h.send(clusterURL, "1", &discoveryv3.Resource{Name: "a", Version: "2"}, nil, &discoveryv3.Resource{})
		}},
		"a type that nobody knows": {misbehave: func(h *hostile) {
			for i := range 1000 {
				h.send(fmt.Sprintf("type.googleapis.com/no.Such%d", i), "1", &discoveryv3.Resource{Name: "a", Version: "2", Resource: body("x", junk)})
			}
		}},
		"one name twice": {nack: "a", misbehave: func(h *hostile) {
			h.send(clusterURL, "1", &discoveryv3.Resource{Name: "a", Version: "2", Resource: body(clusterURL, junk)},
				&discoveryv3.Resource{Name: "a", Version: "3", Resource: body(clusterURL, junk)})
		}},
		"one nonce for all, and none": {becomes: "a[10.0.0.9:1]", misbehave: func(h *hostile) {
			for i := range 10 {
				h.send(endpointURL, "same", endpoints(fmt.Sprint(i), fmt.Sprintf("10.0.0.%d:1", i)))
				h.send(endpointURL, "", endpoints(fmt.Sprint(i), fmt.Sprintf("10.0.0.%d:1", i)))
			}
		}},
		"resources that nobody asked for": {misbehave: func(h *hostile) { h.send(clusterURL, "1", strangers...) }},
		"thousands of updates": {becomes: "a[10.0.19.135:1]", misbehave: func(h *hostile) {
			for i := range 5000 {
				h.send(endpointURL, fmt.Sprint(i), endpoints(fmt.Sprint(i), fmt.Sprintf("10.0.%d.%d:1", i/256, i%256)))
			}
		}},
		"thousands of bad updates": {nack: "a", misbehave: func(h *hostile) {
			for i := range 5000 {
				h.send(endpointURL, fmt.Sprint(i), &discoveryv3.Resource{Name: "a", Version: fmt.Sprint(i), Resource: body(endpointURL, junk)})
			}
		}},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			h := &hostile{answer: good}
			play(t, h, func(t *testing.T) {
				if got := describe(h.target.Snapshot()); got != "a[10.0.0.1:1]" {
					t.Fatalf("at first %s", got)
				}
				_, before, _, _ := h.counts()
				test.misbehave(h)
				synctest.Wait()
				time.Sleep(5 * time.Second) // of the bubble
				want := test.becomes
				if want == "" {
					want = "a[10.0.0.1:1]"
				}
				if got := describe(h.target.Snapshot()); got != want {
					t.Errorf("it became %s, want %s", got, want)
				}
				streams, asked, names, nacks := h.counts()
				if test.nack == "" && nacks != "" || !strings.Contains(nacks, test.nack) {
					t.Errorf("refusals %.300q, want one that says %q", nacks, test.nack)
				}
				if limit := 100; test.becomes == "" && asked-before > limit {
					t.Errorf("%d requests in answer", asked-before)
				}
				if streams != 1 || names != 4 {
					t.Errorf("%d streams, %d subscriptions", streams, names)
				}
				h.send(endpointURL, "good", endpoints("good", "10.9.9.9:1"))
				synctest.Wait()
				if got := describe(h.target.Snapshot()); got != "a[10.9.9.9:1]" {
					t.Errorf("after a good word %s", got)
				}
			})
		})
	}
}

func aggregate(name string, members ...string) *clusterv3.Cluster {
	return &clusterv3.Cluster{Name: name, ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
		Name: "envoy.clusters.aggregate", TypedConfig: xdstest.Any(&aggregatev3.ClusterConfig{Clusters: members}),
	}}}
}

// TestHostileAggregates has clusters stand behind each other in a circle, without
// an end, and in so many ways that nobody may walk them all.
func TestHostileAggregates(t *testing.T) {
	t.Parallel()
	for title, test := range map[string]struct {
		members func(cluster string) []string
		err     string
		names   int // subscriptions to clusters at most
	}{
		"in a circle": {func(c string) []string {
			return map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"a"}}[c]
		}, "contains itself", 3},
		"without an end": {func(c string) []string { return []string{c + "a"} }, "more than 16", 17},
		"each behind all": {func(c string) []string {
			var n int
			if _, err := fmt.Sscanf(c, "l%d", &n); err != nil {
				n = -1
			}
			var list []string
			for i := range 10 {
				list = append(list, fmt.Sprintf("l%d-%d", n+1, i))
			}
			return list
		}, "more than 16", 161},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			h := &hostile{answer: func(typeURL, resource string) proto.Message {
				if typeURL != clusterURL {
					return good(typeURL, resource)
				}
				return aggregate(resource, test.members(resource)...)
			}}
			play(t, h, func(t *testing.T) {
				time.Sleep(20 * time.Second) // of the bubble
				s := h.target.Snapshot()
				if s == nil || s.Upstream("a") == nil || s.Upstream("a").Err == nil || !strings.Contains(s.Upstream("a").Err.Error(), test.err) {
					t.Errorf("got %s, want an error that says %q", describe(s), test.err)
				}
				if _, _, names, _ := h.counts(); names > test.names+2 {
					t.Errorf("%d subscriptions", names)
				}
			})
		})
	}
}

// TestHostileStreams has a control plane say nothing at all, and hang up after
// each message: the client neither waits for ever nor calls without a pause.
func TestHostileStreams(t *testing.T) {
	t.Parallel()
	t.Run("silence", func(t *testing.T) {
		t.Parallel()
		h := &hostile{answer: func(string, string) proto.Message { return nil }}
		play(t, h, func(t *testing.T) {
			time.Sleep(16 * time.Second) // of the bubble
			if p, err, _ := h.target.Current(); err == nil && p.Snapshot == nil {
				t.Error("calls wait for ever")
			}
			if streams, asked, _, _ := h.counts(); streams != 1 || asked != 1 {
				t.Errorf("%d streams, %d requests", streams, asked)
			}
		})
	})
	t.Run("hanging up", func(t *testing.T) {
		t.Parallel()
		h := &hostile{answer: good, hangsUp: true}
		play(t, h, func(t *testing.T) {
			time.Sleep(time.Minute) // of the bubble
			if got := describe(h.target.Snapshot()); got != "a[10.0.0.1:1]" {
				t.Errorf("got %s", got)
			}
			if streams, _, _, _ := h.counts(); streams < 4 || streams > 80 {
				t.Errorf("%d streams in a minute", streams)
			}
		})
	})
}

// TestLostBetweenListenerAndRoutes has the control plane go before it has sent the
// routes: once calls fail for want of a configuration, they hear why there is none.
func TestLostBetweenListenerAndRoutes(t *testing.T) {
	t.Parallel()
	h := &hostile{hangsUp: true}
	h.answer = func(typeURL, resource string) proto.Message {
		h.away.Store(true)
		return good(typeURL, resource)
	}
	play(t, h, func(t *testing.T) {
		for range 2 { // when the time is over, and on later attempts to connect
			time.Sleep(16 * time.Second) // of the bubble
			p, err, _ := h.target.Current()
			if p.Snapshot != nil || err == nil || !strings.Contains(err.Error(), "hostile:1") || !strings.Contains(err.Error(), "gone for good") {
				t.Errorf("calls fail with %v, want the control plane and what is wrong with it", err)
			}
		}
	})
}

// TestHostileSize sends a resource of 200 MB: it is refused, and nothing of it is
// kept.
func TestHostileSize(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes 1 GB of memory")
	}
	h := &hostile{answer: good}
	play(t, h, func(t *testing.T) {
		h.send(clusterURL, "1", &discoveryv3.Resource{Name: "a", Version: "2", Resource: body(clusterURL, bytes.Repeat([]byte{0xff}, 200<<20))})
		synctest.Wait()
		if _, _, _, nacks := h.counts(); !strings.Contains(nacks, "a") {
			t.Errorf("refusals %.300q", nacks)
		}
		if got := describe(h.target.Snapshot()); got != "a[10.0.0.1:1]" {
			t.Errorf("got %s", got)
		}
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // pools let go of what they have in two
		if runtime.ReadMemStats(&m); m.HeapAlloc > 100<<20 {
			t.Errorf("%d MiB are kept", m.HeapAlloc>>20)
		}
	})
}

// TestErrorsOfResources has the control plane answer with an error for one resource
// (gRFC A88). It is no outage: calls hear at once which resource and why, as soon as
// there is one they go by it, and a later error takes nothing away.
func TestErrorsOfResources(t *testing.T) {
	t.Parallel()
	for _, url := range []string{listenerURL, routeURL, clusterURL, endpointURL} {
		t.Run(url[strings.LastIndex(url, ".")+1:], func(t *testing.T) {
			t.Parallel()
			h := &hostile{answer: good}
			h.fails = func(typeURL, _ string) error {
				if typeURL != url {
					return nil
				}
				return status.Error(codes.PermissionDenied, "not for this tenant")
			}
			play(t, h, func(t *testing.T) { h.errorsOf(t, url) })
		})
	}
}

func (h *hostile) errorsOf(t *testing.T, url string) {
	t.Helper()
	resource := "a"
	if url == listenerURL || url == routeURL {
		resource = name
	}
	if err := h.whyCallsFail(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", resource)) || !strings.Contains(err.Error(), "not for this tenant") {
		t.Errorf("calls fail with %v, want the resource and what the control plane says of it", err)
	}
	h.send(url, "n", &discoveryv3.Resource{Name: resource, Version: "2", Resource: xdstest.Any(good(url, resource))})
	synctest.Wait()
	if got := describe(h.target.Snapshot()); got != "a[10.0.0.1:1]" {
		t.Errorf("got %s", got)
	}
	h.fail(url, resource, status.Error(codes.Internal, "database is down"))
	synctest.Wait()
	if got := describe(h.target.Snapshot()); got != "a[10.0.0.1:1]" {
		t.Errorf("an error took away what was good: %s", got)
	}
}

// whyCallsFail is the error of fail-fast calls; nil if they wait or succeed.
func (h *hostile) whyCallsFail() error {
	p, err, _ := h.target.Current()
	switch {
	case p.Snapshot == nil:
		return err
	case p.Snapshot.Err != nil:
		return p.Snapshot.Err
	}
	for _, u := range p.Snapshot.Upstreams {
		if u.Err != nil {
			return u.Err
		}
	}
	return nil
}
