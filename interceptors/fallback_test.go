package interceptors_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/internal/xdstest"
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
		r.Metadata = extension(t, map[string]any{"fallback": map[string]any{"cluster": "spare"}})
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
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lis.Close()
	for when, hosts := range map[string][]string{"no host": nil, "no connection": {lis.Addr().String()}} {
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
