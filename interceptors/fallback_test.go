package interceptors_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/balancer"
	"github.com/meshframe/meshframe/interceptors"
	"github.com/meshframe/meshframe/internal/xdstest"
	"github.com/meshframe/meshframe/resolver"
)

// everything is a route from c to its fallback spare, with edits of its own, of both
// clusters and of what is copied to m.
func everything(t *testing.T, edit func(*routev3.Route)) *routev3.Route {
	set := func(name, value string) []*corev3.HeaderValueOption {
		return []*corev3.HeaderValueOption{headerOption(name, value, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)}
	}
	add := []*corev3.HeaderValueOption{headerOption("x-add", "route", corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD)}
	return xdstest.Route(func(r *routev3.Route) {
		r.Match.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/old."}
		r.Metadata = fallbackTo(t, map[string]any{"cluster": "spare"})
		r.RequestHeadersToAdd, r.ResponseHeadersToAdd = add, add
		a := r.GetRoute()
		a.PrefixRewrite = "/new."
		a.HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: "other.example"}
		a.RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "m"}}
		a.IdleTimeout = durationpb.New(time.Minute)
		for i, c := range a.GetWeightedClusters().GetClusters() {
			c.Weight = wrapperspb.UInt32([]uint32{1 << 30, 1}[i]) // of no weight it would be none of the route's
			c.RequestHeadersToAdd = append(set("x-to", c.GetName()), set("x-"+c.GetName(), "1")...)
			c.ResponseHeadersToAdd = c.GetRequestHeadersToAdd()
		}
		edit(r)
	}, "c", "spare")
}

// TestFallbackWithEverything falls back, as early and as late as a call can, with all
// that a route may do beside: what is sent and what is shown is that of the fallback,
// once, and nothing is held when the call has ended.
func TestFallbackWithEverything(t *testing.T) {
	t.Parallel()
	gone := goneAddress(t)
	for when, hosts := range map[string][]string{"no host": nil, "no connection": {gone}} {
		for name, edit := range map[string]func(*routev3.Route){
			"once":  func(*routev3.Route) {},
			"retry": retry("5xx", 2),
			"hedge": func(r *routev3.Route) {
				withPerTry("5xx", 2, 10*time.Second)(r)
				r.GetRoute().HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
			},
		} {
			t.Run(when+"/"+name, func(t *testing.T) {
				onEachRoad(t, func(t *testing.T, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
					saw := make(chan seen, 10)
					f := newFixture(t, nil)
					c, spare := xdstest.Cluster("c"), xdstest.Cluster("spare")
					c.Metadata, spare.Metadata = gated(t, "3600s", 1), gated(t, "3600s", 1)
					f.Set(c, spare, xdstest.Endpoints("c", hosts...), xdstest.Endpoints("spare", witness(t, "spare", saw).Addr))
					f.serve(map[string][]string{"m": {server(t, "m").Addr}}, everything(t, edit))
					fallBack(t, f, call, saw)
					held(t, f, "c", "spare", "m")
				})
			})
		}
	}
}

func fallBack(t *testing.T, f *fixture, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error), saw <-chan seen) {
	t.Helper()
	var header, heard metadata.MD
	var from peer.Peer
	ends := make(chan error, 10)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-add", "caller")
	got, err := call(ctx, f, "/old.A/B", grpc.Header(&header), grpc.Peer(&from), grpc.OnFinish(func(err error) {
		heard = header.Copy()
		ends <- err
	}))
	if err != nil || got != "spare" {
		t.Fatalf("%q, %v", got, err)
	}
	if err := <-ends; err != nil || len(ends) > 0 {
		t.Errorf("OnFinish(%v), and %d times more", err, len(ends))
	}
	if from.Addr == nil {
		t.Error("no peer")
	}
	s := <-saw
	if s.method != "/new.A/B" || s.authority != "other.example" || len(saw) > 0 {
		t.Errorf("the server saw %s at %s, and %d calls more", s.method, s.authority, len(saw))
	}
	for side, md := range map[string]metadata.MD{"server": s.md, "caller": header, "OnFinish": heard} {
		added := []string{"caller", "route"}
		if side != "server" {
			added = added[1:]
		}
		if !slices.Equal(md["x-add"], added) || !slices.Equal(md["x-to"], []string{"spare"}) || len(md["x-spare"]) != 1 || len(md["x-c"]) != 0 {
			t.Errorf("the %s saw %v", side, map[string][]string(md))
		}
	}
}

// held fails if some cluster is still held, in a while.
func held(t *testing.T, f *fixture, clusters ...string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; <-time.After(time.Millisecond) {
		var left []string
		for _, name := range clusters {
			up := f.manager.Target(target).Snapshot().Upstream(name)
			if up == nil {
				continue
			}
			if s := up.State; s.InUse() || s.Breaker.Requests()+s.Breaker.Pending()+s.Breaker.Retries() != 0 {
				left = append(left, name)
			}
		}
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("still in use: %s", strings.Join(left, ", "))
		}
	}
}

// fallbackTo is metadata of a route whose calls fall back as fields say.
func fallbackTo(t *testing.T, fields map[string]any) *corev3.Metadata {
	return extension(t, map[string]any{"fallback": fields})
}

// TestFallbackIsThatOfTheCall has the configuration change between two attempts of a
// call: it falls back to where it would have when it began, though that is gone.
func TestFallbackIsThatOfTheCall(t *testing.T) {
	t.Parallel()
	onEachRoad(t, func(t *testing.T, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
		f := newFixture(t, nil)
		var changed atomic.Bool
		c := xdstest.NewServer(t, func(any, grpc.ServerStream) error {
			if changed.CompareAndSwap(false, true) {
				f.serve(map[string][]string{"c": nil}, xdstest.Route(nil, "c"))
				for f.manager.Target(target).Snapshot().Upstream("spare") != nil {
					<-time.After(time.Millisecond)
				}
			}
			return status.Error(codes.Unavailable, "gone")
		})
		f.serve(map[string][]string{"c": {c.Addr}, "spare": {server(t, "spare").Addr}}, xdstest.Route(func(r *routev3.Route) {
			retry("unavailable", 1000)(r)
			r.Metadata = fallbackTo(t, map[string]any{"cluster": "spare"})
		}, "c"))
		if got, err := call(t.Context(), f, "/a.B/C"); got != "spare" {
			t.Errorf("%q, %v", got, err)
		}
		held(t, f, "c")
	})
}

// TestFallbackAfterATransparentRetry loses the only host of a call when gRPC has
// opened it already: the host says that it did not look at the call, and gRPC's own
// second try finds nobody.
func TestFallbackAfterATransparentRetry(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*routev3.Route){"once": func(*routev3.Route) {}, "retry": retry("cancelled", 1)} {
		t.Run(name, func(t *testing.T) {
			onEachRoad(t, func(t *testing.T, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
				f := newFixture(t, nil)
				f.serve(map[string][]string{"c": {leaver(t)}, "spare": {server(t, "spare").Addr}}, xdstest.Route(func(r *routev3.Route) {
					edit(r)
					r.Metadata = fallbackTo(t, map[string]any{"cluster": "spare"})
				}, "c"))
				if got, err := call(t.Context(), f, "/a.B/C"); got != "spare" {
					t.Errorf("%q, %v", got, err)
				}
				held(t, f, "c", "spare")
			})
		})
	}
}

// leaver is the address of a server that goes away, saying so, when it gets its first
// call, and looks at none.
func leaver(t *testing.T) string {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { lis.Close(); <-done })
	go func() {
		defer close(done)
		conn, err := lis.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		const settings, headers, goAway = 4, 1, 7
		conn.Write([]byte{0, 0, 0, settings, 0, 0, 0, 0, 0})
		io.CopyN(io.Discard, conn, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")))
		for head := make([]byte, 9); ; {
			if _, err := io.ReadFull(conn, head); err != nil {
				return
			}
			io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(append([]byte{0}, head[:3]...))))
			if head[3] == headers {
				lis.Close()
				conn.Write([]byte{0, 0, 8, goAway, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
			}
		}
	}()
	return lis.Addr().String()
}

// TestFallbackFunctionGetsTheCall holds that a function gets the call as its caller
// gave it, not as the route would have had it sent.
func TestFallbackFunctionGetsTheCall(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*routev3.Route){
		"once":  func(*routev3.Route) {},
		"retry": retry("5xx", 2),
		"hedge": func(r *routev3.Route) {
			withPerTry("5xx", 2, 10*time.Second)(r)
			r.GetRoute().HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, nil)
			f.serve(map[string][]string{"c": nil, "spare": nil, "m": {server(t, "m").Addr}}, everything(t, func(r *routev3.Route) {
				edit(r)
				r.Metadata = fallbackTo(t, map[string]any{"function": "mine"})
			}))
			tgt, n := f.manager.Target(target), 0
			ic := interceptors.NewClient(tgt, interceptors.ClientOptions{Fallbacks: map[string]interceptors.Fallback{"mine": func(ctx context.Context, method string, req, reply any) error {
				n++
				md, _ := metadata.FromOutgoingContext(ctx)
				if method != "/old.A/B" || !slices.Equal(md["x-add"], []string{"caller"}) || len(md["x-c"]) > 0 {
					t.Errorf("the function got %s with %v", method, md)
				}
				reply.(*wrapperspb.StringValue).Value = "made up for " + req.(*wrapperspb.StringValue).GetValue()
				return nil
			}}})
			cc, err := grpc.NewClient("mesh:///"+target, grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithResolvers(resolver.NewBuilder(tgt)), grpc.WithDefaultServiceConfig(balancer.ServiceConfig), grpc.WithChainUnaryInterceptor(ic.Unary()))
			if err != nil {
				t.Fatal(err)
			}
			defer cc.Close()
			got, err := xdstest.Call(metadata.AppendToOutgoingContext(t.Context(), "x-add", "caller"), cc, "/old.A/B")
			if err != nil || !strings.HasPrefix(got, "made up for ") || n != 1 {
				t.Errorf("%q, %v, after %d calls", got, err, n)
			}
		})
	}
}

// TestStreamThatDoesNotOpenHasNoCopy holds that a stream which nobody takes, or that
// falls back to a fixed answer as it is opened, is not mirrored: there is no message
// of it.
func TestStreamThatDoesNotOpenHasNoCopy(t *testing.T) {
	t.Parallel()
	for name, fallback := range map[string]map[string]any{
		"no fallback": nil, "fixed": {"fallback": map[string]any{"grpc": map[string]any{"code": 14, "message": "later"}}},
	} {
		t.Run(name, func(t *testing.T) {
			m, f := server(t, "m"), newFixture(t, nil)
			f.serve(map[string][]string{"c": nil, "m": {m.Addr}}, xdstest.Route(func(r *routev3.Route) {
				r.Metadata = extension(t, fallback)
				r.GetRoute().RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "m"}}
			}, "c"))
			_, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C")
			wantCode(t, err, codes.Unavailable)
			held(t, f, "c", "m")
			if n := f.state("m").Mirrored.Snapshot().Sent; n != 0 || m.Calls.Load() != 0 {
				t.Errorf("%d copies, counted as %d", m.Calls.Load(), n)
			}
		})
	}
}

// TestFallbackKeepsTheCallersAuthority has calls that name their authority fall back from
// a destination with edits to one without.
func TestFallbackKeepsTheCallersAuthority(t *testing.T) {
	t.Parallel()
	onEachRoad(t, func(t *testing.T, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
		saw := make(chan seen, 10)
		f := newFixture(t, nil)
		c, spare := xdstest.Cluster("c"), xdstest.Cluster("spare")
		c.Metadata = fallbackTo(t, map[string]any{"cluster": "spare"})
		f.Set(c, spare, xdstest.Endpoints("c"), xdstest.Endpoints("spare", witness(t, "spare", saw).Addr))
		f.serve(nil, xdstest.Route(func(r *routev3.Route) {
			clusters := r.GetRoute().GetWeightedClusters().GetClusters()
			clusters[0].Weight, clusters[1].Weight = wrapperspb.UInt32(1<<30), wrapperspb.UInt32(1)
			clusters[0].RequestHeadersToAdd = []*corev3.HeaderValueOption{headerOption("x-a", "b", corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)}
			clusters[0].HostRewriteSpecifier = &routev3.WeightedCluster_ClusterWeight_HostRewriteLiteral{HostRewriteLiteral: "first.example"}
		}, "c", "spare"))
		for _, test := range []struct {
			opts []grpc.CallOption
			want string
		}{{[]grpc.CallOption{grpc.CallAuthority("mine.example")}, "mine.example"}, {nil, target}} {
			_, _ = call(t.Context(), f, "/a.B/C", test.opts...)
			if s := <-saw; s.authority != test.want {
				t.Errorf("authority %q, want %q", s.authority, test.want)
			}
		}
	})
}
