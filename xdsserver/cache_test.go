package xdsserver_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/meshframe/meshframe/xdsserver"
)

// ways are the two ways to serve a cache: its own service, and go-control-plane's server around it.
var ways = map[string]func(context.Context, *grpc.Server, *xdsserver.Cache){
	"register": func(_ context.Context, s *grpc.Server, c *xdsserver.Cache) { c.Register(s) },
	"go-control-plane": func(ctx context.Context, s *grpc.Server, c *xdsserver.Cache) {
		discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, server.NewServer(ctx, c, nil))
	},
}

// serveCache serves a cache in memory.
func serveCache(t *testing.T, way string, c *xdsserver.Cache) dialer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	lis := bufconn.Listen(64 << 10)
	s := grpc.NewServer()
	ways[way](ctx, s, c)
	done := make(chan error, 1)
	go func() { done <- s.Serve(lis) }()
	t.Cleanup(func() { cancel(); s.Stop(); <-done })
	return func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }
}

// eachWay runs a test for each way and protocol, in a bubble in which synctest.Wait means that nothing moves any more.
func eachWay(t *testing.T, fn func(t *testing.T, c *xdsserver.Cache, connect func() *ads)) {
	for way := range ways {
		for _, protocol := range []string{"delta", "sotw"} {
			t.Run(way+"/"+protocol, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := xdsserver.NewCache()
					d := serveCache(t, way, c)
					fn(t, c, func() *ads { return connect(t, dial(t, d), protocol, node("n", nil)) })
				})
			})
		}
	}
}

func assignment(name string, port uint32) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Policy: &endpointv3.ClusterLoadAssignment_Policy{}, Endpoints: []*endpointv3.LocalityLbEndpoints{{Priority: port}}}
}

func TestCacheSendsChangesToSubscribersOnly(t *testing.T) {
	eachWay(t, func(t *testing.T, c *xdsserver.Cache, connect func() *ads) {
		must(t, c.Set(eds, "a", assignment("a", 1)))
		must(t, c.Set(eds, "b", assignment("b", 1)))
		one, two := connect(), connect()
		one.subscribe(eds, "a", "b")
		two.subscribe(eds, "b")
		one.expect("EDS +a +b")
		two.expect("EDS +b")

		must(t, c.Set(eds, "a", assignment("a", 2)))
		one.expect("EDS +a")
		two.expect()

		must(t, c.Set(eds, "a", assignment("a", 2))) // nothing new
		must(t, c.Set(eds, "c", assignment("c", 1))) // nobody's
		one.expect()
		two.expect()

		one.unsubscribe(eds, "a")
		one.expect()
		must(t, c.Set(eds, "a", assignment("a", 3)))
		one.expect()
		one.subscribe(eds, "a") // again: it may not have kept it
		one.expect("EDS +a")
	})
}

func TestCacheTellsWhatDoesNotExist(t *testing.T) {
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := xdsserver.NewCache()
				d := serveCache(t, way, c)
				must(t, c.Set(cds, "a", &clusterv3.Cluster{Name: "a"}))
				delta := connect(t, dial(t, d), "delta", node("n", nil))
				sotw := connect(t, dial(t, d), "sotw", node("n", nil))
				for _, client := range []*ads{delta, sotw} {
					client.subscribe(cds, "a", "b")
					client.subscribe(eds, "b")
				}
				delta.expect("CDS +a -b", "EDS -b")
				sotw.expect("CDS +a") // of partial types nothing can be said

				must(t, c.Set(cds, "b", &clusterv3.Cluster{Name: "b"}))
				delta.expect("CDS +b")
				sotw.expect("CDS +a +b") // the full state each time

				c.Delete(cds, "a")
				delta.expect("CDS -a")
				sotw.expect("CDS +b")
				c.Delete(cds, "a") // again
				c.Delete(cds, "nobody")
				delta.expect()
				sotw.expect()

				must(t, c.Set(eds, "b", assignment("b", 1)))
				delta.expect("EDS +b")
				sotw.expect("EDS +b")
			})
		})
	}
}

func TestCacheDoesNotAnswerRefusals(t *testing.T) {
	eachWay(t, func(t *testing.T, c *xdsserver.Cache, connect func() *ads) {
		must(t, c.Set(eds, "a", assignment("a", 1)))
		client := connect()
		client.subscribe(eds, "a")
		first := client.got()
		if len(first) != 1 {
			t.Fatalf("got %v", first)
		}
		client.nack(first[0], "no")
		client.expect()
		client.nack(first[0], "still no")
		client.expect()
		must(t, c.Set(eds, "a", assignment("a", 2)))
		client.expect("EDS +a")
	})
}

// A client that has not acknowledged is sent nothing; then it is sent the latest, once.
func TestCacheCoalesces(t *testing.T) {
	eachWay(t, func(t *testing.T, c *xdsserver.Cache, connect func() *ads) {
		must(t, c.Set(eds, "a", assignment("a", 0)))
		must(t, c.Set(eds, "b", assignment("b", 0)))
		client := connect()
		client.subscribe(eds, "a", "b")
		first := client.got()
		for i := range 100 {
			must(t, c.Set(eds, "a", assignment("a", uint32(i+1))))
			if i == 50 {
				must(t, c.Set(eds, "b", assignment("b", 1)))
			}
		}
		if more := client.got(); len(first) != 1 || len(more) != 0 {
			t.Fatalf("got %v, then %v before the first was acknowledged", first, more)
		}
		client.ack(first[0])
		list := client.expect("EDS +a +b")
		if got := list[0].resources["a"].(*endpointv3.ClusterLoadAssignment).GetEndpoints()[0].GetPriority(); got != 100 {
			t.Errorf("got generation %d", got)
		}
		// What is undone before it is sent was never news.
		must(t, c.Set(eds, "a", assignment("a", 7)))
		must(t, c.Set(eds, "a", assignment("a", 100)))
		client.drain()
	})
}

// Clusters go before endpoints, listeners and routes, also when a client is slow to acknowledge clusters.
func TestCacheOrder(t *testing.T) {
	for _, protocol := range []string{"delta", "sotw"} {
		t.Run(protocol, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := xdsserver.NewCache()
				client := connect(t, dial(t, serveCache(t, "register", c)), protocol, node("n", nil))
				set := func(n uint32) {
					must(t, c.Apply(
						xdsserver.Change{TypeURL: rds, Name: "r", Message: &routev3.RouteConfiguration{Name: "r", VirtualHosts: []*routev3.VirtualHost{{Name: fmt.Sprint(n)}}}},
						xdsserver.Change{TypeURL: eds, Name: "e", Message: assignment("e", n)},
						xdsserver.Change{TypeURL: cds, Name: "c", Message: &clusterv3.Cluster{Name: "c", AltStatName: fmt.Sprint(n)}},
					))
				}
				set(1)
				client.subscribe(rds, "r")
				client.expect("RDS +r")
				client.subscribe(cds, "c")
				client.expect("CDS +c")
				client.subscribe(eds, "e")
				client.expect("EDS +e")
				set(2)
				list := client.got()
				if got := fmt.Sprint(list); got != "[CDS +c EDS +e RDS +r]" {
					t.Fatal(got)
				}
				client.ack(list[1])
				client.ack(list[2])
				set(3) // the clusters of 2 are not acknowledged: the routes must wait for the clusters of 3
				if got := fmt.Sprint(client.got()); got != "[EDS +e]" && got != "[]" {
					t.Fatal(got)
				}
				client.ack(list[0])
				got := fmt.Sprint(client.got())
				if i, j := strings.Index(got, "CDS"), strings.Index(got, "RDS"); i < 0 || j < 0 || i > j {
					t.Fatal(got)
				}
			})
		})
	}
}

func TestCacheKnowsWhatAReturningClientHas(t *testing.T) {
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fill := func(c *xdsserver.Cache, b uint32) {
					must(t, c.Set(eds, "a", assignment("a", 1)))
					must(t, c.Set(eds, "b", assignment("b", b)))
				}
				before, after := xdsserver.NewCache(), xdsserver.NewCache()
				fill(before, 1)
				must(t, before.Set(eds, "c", assignment("c", 1)))
				fill(after, 2)
				client := connect(t, dial(t, serveCache(t, way, before)), "delta", node("n", nil))
				client.subscribe(eds, "a")
				client.subscribe(eds, "b")
				client.subscribe(eds, "c")
				versions := map[string]string{}
				for _, m := range client.drain() {
					for n := range m.resources {
						versions[n] = m.version // of the one resource in it
					}
				}
				back := connect(t, dial(t, serveCache(t, way, after)), "delta", node("n", nil))
				back.request(eds, "", "", nil, []string{"a", "b", "c"}, nil, versions)
				back.expect("EDS +b -c")
			})
		})
	}
}

func TestCacheWildcard(t *testing.T) {
	eachWay(t, func(t *testing.T, c *xdsserver.Cache, connect func() *ads) {
		must(t, c.Set(cds, "a", &clusterv3.Cluster{Name: "a"}))
		client := connect()
		client.subscribe(cds, "*")
		client.expect("CDS +a")
		must(t, c.Set(cds, "b", &clusterv3.Cluster{Name: "b"}))
		c.Delete(cds, "a")
		if client.isDelta() {
			client.drain()
		} else if got := client.drain(); got[len(got)-1].String() != "CDS +b" {
			t.Errorf("got %v", got)
		}
		must(t, c.Set(cds, "a", &clusterv3.Cluster{Name: "a"}))
		list := client.drain()
		if got := list[len(list)-1].resources; got["a"] == nil {
			t.Errorf("a came back, got %v", list)
		}
	})
}

// A client that reads nothing holds nobody up, and when it reads again it gets the latest.
// A name that one request both subscribes to and unsubscribes from is not subscribed to.
func TestCacheUnsubscribesLast(t *testing.T) {
	for way := range ways {
		t.Run(way, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := xdsserver.NewCache()
				client := connect(t, dial(t, serveCache(t, way, c)), "delta", node("n", nil))
				both := func(names ...string) { client.request(eds, "", "", nil, names, names, nil) }
				must(t, c.Set(eds, "a", assignment("a", 1)))
				client.request(eds, "", "", nil, []string{"a", "b"}, []string{"a"}, nil) // the first of the stream
				client.expect("EDS -b")
				both("a") // is new
				client.expect()
				must(t, c.Set(eds, "a", assignment("a", 2)))
				client.expect()
				client.subscribe(eds, "a")
				client.expect("EDS +a")
				both("a", "a") // is there
				client.expect()
				must(t, c.Set(eds, "a", assignment("a", 3)))
				client.expect()

				// Who subscribes to everything is told how it stands, and goes on hearing of it.
				client.subscribe(eds, "*")
				client.expect("EDS +a")
				both("a", "c")
				client.expect("EDS +a -c")
				both("c")
				client.expect("EDS -c")
				must(t, c.Set(eds, "a", assignment("a", 4)))
				client.expect("EDS +a")
			})
		})
	}
}

func TestCacheStuckSubscriber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := xdsserver.NewCache()
		d := serveCache(t, "register", c)
		big := func(n int) *clusterv3.Cluster {
			return &clusterv3.Cluster{Name: "a", AltStatName: strings.Repeat("x", 1<<20) + fmt.Sprint(n)}
		}
		must(t, c.Set(cds, "a", big(0)))
		// It acknowledges in advance whatever may come, and never reads: its window fills, then the server's sends block.
		cc := dial(t, d)
		stuck, err := discoveryv3.NewAggregatedDiscoveryServiceClient(cc).DeltaAggregatedResources(t.Context())
		must(t, err)
		must(t, stuck.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds, ResourceNamesSubscribe: []string{"a"}}))
		good := connect(t, dial(t, d), "delta", node("n", nil))
		good.subscribe(cds, "a")
		good.expect("CDS +a")
		const changes = 20
		for i := range changes {
			must(t, stuck.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds}))
			must(t, c.Set(cds, "a", big(i+1)))
			good.expect("CDS +a")
		}
		received := 0
		for {
			m, err := stuck.Recv()
			must(t, err)
			must(t, stuck.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: cds}))
			received++
			if len(m.GetResources()) == 1 && strings.HasSuffix(unpack(m.GetResources()[0].GetResource()).(*clusterv3.Cluster).GetAltStatName(), fmt.Sprint("x", changes)) {
				break
			}
		}
		if received > 3 {
			t.Errorf("%d responses were kept for a client that did not read", received)
		}
	})
}

// Whatever happens in whatever order, in the end every client has what the cache has.
func TestCacheConverges(t *testing.T) {
	eachWay(t, func(t *testing.T, c *xdsserver.Cache, connect func() *ads) {
		rnd := rand.New(rand.NewPCG(1, 2))
		names := []string{"a", "b", "c", "d", "e"}
		want := map[string]uint32{}
		has := map[*ads]map[string]uint32{}
		subscribed := map[*ads][]string{}
		clients := []*ads{connect(), connect(), connect()}
		for _, client := range clients {
			has[client] = map[string]uint32{}
		}
		look := func(client *ads) {
			for _, m := range client.got() {
				for n, r := range m.resources {
					has[client][n] = r.(*endpointv3.ClusterLoadAssignment).GetEndpoints()[0].GetPriority()
				}
				for _, n := range m.removed {
					delete(has[client], n)
				}
				client.ack(m)
			}
		}
		for i := range 300 {
			name := names[rnd.IntN(len(names))]
			switch rnd.IntN(6) {
			case 0, 1, 2:
				want[name] = uint32(i + 1)
				must(t, c.Set(eds, name, assignment(name, want[name])))
			case 3:
				client := clients[rnd.IntN(len(clients))]
				if !slices.Contains(subscribed[client], name) {
					subscribed[client] = append(subscribed[client], name)
					client.subscribe(eds, name)
				}
			case 4:
				client := clients[rnd.IntN(len(clients))]
				if j := slices.Index(subscribed[client], name); j >= 0 && len(subscribed[client]) > 1 {
					look(client)
					subscribed[client] = slices.Delete(subscribed[client], j, j+1)
					client.unsubscribe(eds, name)
				}
			default:
				look(clients[rnd.IntN(len(clients))])
			}
		}
		for range 5 {
			for _, client := range clients {
				look(client)
			}
		}
		for i, client := range clients {
			for _, name := range subscribed[client] {
				if has[client][name] != want[name] {
					t.Errorf("client %d has generation %d of %s, the cache %d", i, has[client][name], name, want[name])
				}
			}
		}
	})
}
