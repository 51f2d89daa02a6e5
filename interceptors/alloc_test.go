//go:build !race

// Under the race detector pools lose what they are given, now and then.

package interceptors_test

import (
	"context"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/interceptors"
	"github.com/meshframe/meshframe/internal/xdstest"
)

// maxAllocations is how many allocations a call with every policy of the route
// may cost beyond those of plain gRPC with a timeout. The timeout itself costs
// gRPC three on the client; all together shall stay below 11 % of its 85.
const maxAllocations = 6

// TestAllocationsOfACall compares a call through the mesh, by a route with
// weights, retries, a timeout, a breaker and outlier detection, with the same
// call by gRPC alone. Both have a timeout, for which the server allocates too.
func TestAllocationsOfACall(t *testing.T) {
	s := xdstest.NewServer(t, xdstest.Echo)
	f := newFixture(t, nil)
	asking := newFixtureOf(t, f.ControlPlane, nil, interceptors.ClientOptions{EnvoyRequestHeaders: true})
	for _, name := range []string{"a", "b"} {
		c := xdstest.Cluster(name)
		c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{MaxRequests: wrapperspb.UInt32(1000)}}}
		c.OutlierDetection = &clusterv3.OutlierDetection{Consecutive_5Xx: wrapperspb.UInt32(5)}
		f.Set(c)
		f.Set(xdstest.Endpoints(name, s.Addr))
	}
	f.Set(xdstest.Listener(target), xdstest.Routes(target, xdstest.Route(func(r *routev3.Route) {
		r.Match.Headers = []*routev3.HeaderMatcher{{Name: "x-other", HeaderMatchSpecifier: &routev3.HeaderMatcher_ExactMatch{ExactMatch: "yes"}}}
	}, "b"), xdstest.Route(func(r *routev3.Route) {
		retry("unavailable", 3)(r)
		r.GetRoute().MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: durationpb.New(10 * time.Second)}
	}, "a", "b")))
	plain, err := grpc.NewClient(s.Addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultServiceConfig(`{"methodConfig":[{"name":[{}],"timeout":"10s"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()

	req, reply := wrapperspb.String("hello"), &wrapperspb.StringValue{}
	count := func(ctx context.Context, cc *grpc.ClientConn) float64 {
		call := func() {
			if err := cc.Invoke(ctx, "/a.B/C", req, reply, grpc.WaitForReady(true)); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			call()
		}
		return testing.AllocsPerRun(1000, call)
	}
	cancellable, cancel := context.WithCancel(t.Context())
	defer cancel()
	for name, ctx := range map[string]context.Context{"background": context.Background(), "cancellable": cancellable} {
		base := count(ctx, plain)
		for kind, cc := range map[string]*grpc.ClientConn{"a call": f.cc, "a call that may ask": asking.cc} {
			if extra := count(ctx, cc) - base; extra > maxAllocations {
				t.Errorf("%s: %s through the mesh allocates %v times more than the %v of plain gRPC; want at most %d", name, kind, extra, base, maxAllocations)
			} else {
				t.Logf("%s: %s: %v allocations more than the %v of plain gRPC", name, kind, extra, base)
			}
		}
	}
}

// TestUnusedPoliciesCostNothing holds the policies that do nothing in a call to
// the allocations of a call without any.
func TestUnusedPoliciesCostNothing(t *testing.T) {
	count := func(c *policyCase) float64 {
		p := newPath(t, c)
		return testing.AllocsPerRun(1000, func() {
			if err := p.call(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
	none := count(&policyCase{})
	for i := range policyCases {
		c := &policyCases[i]
		if !c.inactive {
			continue
		}
		if n := count(c); n > none {
			t.Errorf("%s: %v allocations, %v without", c.name, n, none)
		}
	}
}
