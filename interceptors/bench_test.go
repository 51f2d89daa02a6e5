package interceptors_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	cswrrv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/attributes"
	grpcbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	grpcresolver "google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/balancer"
	"github.com/meshframe/meshframe/interceptors"
	"github.com/meshframe/meshframe/internal/xdstest"
	"github.com/meshframe/meshframe/resolver/watch"
)

// policyCase is one policy, alone on a route to three endpoints. With inactive
// set it is configured and does nothing in the call that is measured.
type policyCase struct {
	name     string
	inactive bool
	route    func(testing.TB, *routev3.Route)
	cluster  func(testing.TB, *clusterv3.Cluster)
	before   *routev3.Route // a route that does not match
	md       metadata.MD    // of the call
	copies   int            // of the call, which are waited for
}

var policyCases = []policyCase{
	{name: "none"},
	{
		name: "all of a canary", // a header match that fails, weights, retries, a timeout, limits, outlier detection
		route: func(_ testing.TB, r *routev3.Route) {
			a := r.GetRoute()
			a.RetryPolicy, a.Timeout = retries(), durationpb.New(2*time.Second)
			a.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: &routev3.WeightedCluster{Clusters: []*routev3.WeightedCluster_ClusterWeight{
				{Name: "a", Weight: wrapperspb.UInt32(90)}, {Name: "b", Weight: wrapperspb.UInt32(10)},
			}}}
		},
		before: headerRoute("b"),
		cluster: func(_ testing.TB, c *clusterv3.Cluster) {
			c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{MaxRequests: wrapperspb.UInt32(1000), MaxPendingRequests: wrapperspb.UInt32(10)}}}
			c.OutlierDetection = &clusterv3.OutlierDetection{Consecutive_5Xx: wrapperspb.UInt32(5)}
		},
	},
	{
		name: "all that do nothing", inactive: true, // what can be configured beside a canary and do nothing in a call that goes well
		route: func(t testing.TB, r *routev3.Route) {
			a := r.GetRoute()
			a.RetryPolicy = retries()
			a.RetryPolicy.RetryHostPredicate = []*routev3.RetryPolicy_RetryHostPredicate{{Name: "envoy.retry_host_predicates.previous_hosts"}}
			a.HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
			mirrorAt(0)(t, r)
			hashBy("end-user")(t, r)
			r.Metadata = extension(t, map[string]any{"fallback": map[string]any{"cluster": "b"}})
		},
		cluster: func(_ testing.TB, c *clusterv3.Cluster) {
			c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
				MaxRequests: wrapperspb.UInt32(1000), MaxPendingRequests: wrapperspb.UInt32(10), MaxRetries: wrapperspb.UInt32(10),
				RetryBudget: &clusterv3.CircuitBreakers_Thresholds_RetryBudget{BudgetPercent: &typev3.Percent{Value: 20}},
			}}}
			c.OutlierDetection = &clusterv3.OutlierDetection{Consecutive_5Xx: wrapperspb.UInt32(5), SplitExternalLocalOriginErrors: true}
		},
	},
	{name: "timeout", route: onRoute(func(a *routev3.RouteAction) { a.Timeout = durationpb.New(2 * time.Second) })},
	{name: "retries", inactive: true, route: onRoute(func(a *routev3.RouteAction) { a.RetryPolicy = retries() })},
	{name: "per-try timeout", route: onRoute(func(a *routev3.RouteAction) {
		a.RetryPolicy = retries()
		a.RetryPolicy.PerTryTimeout = durationpb.New(time.Second)
	})},
	{name: "hedge", route: onRoute(func(a *routev3.RouteAction) {
		a.RetryPolicy = retries()
		a.RetryPolicy.PerTryTimeout = durationpb.New(time.Second)
		a.HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
	})},
	{name: "header match", md: metadata.Pairs("end-user", "ann"), before: headerRoute("b")},
	{name: "header edits", route: func(_ testing.TB, r *routev3.Route) {
		r.RequestHeadersToAdd = []*corev3.HeaderValueOption{headerOption("x-colour", "blue", corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)}
	}},
	{name: "rewrite", route: onRoute(func(a *routev3.RouteAction) { a.PrefixRewrite = "/v2/" })},
	{name: "mirror at 0 %", inactive: true, route: mirrorAt(0)},
	{name: "mirror", route: mirrorAt(100), copies: 1},
	{name: "rate limit", route: func(t testing.TB, r *routev3.Route) {
		r.Metadata = extension(t, map[string]any{"rate_limit": map[string]any{"maxTokens": 1e9, "tokensPerFill": 1e9, "fillInterval": "1s"}})
	}},
	{name: "fallback", inactive: true, route: func(t testing.TB, r *routev3.Route) {
		r.Metadata = extension(t, map[string]any{"fallback": map[string]any{"cluster": "b"}})
	}},
	{name: "half-open breaker", cluster: func(t testing.TB, c *clusterv3.Cluster) {
		c.Metadata = extension(t, map[string]any{"half_open": map[string]any{"minVolume": 10, "errorPercent": 10, "window": "10s", "openFor": "10s", "probes": 1}})
	}},
	{name: "circuit breaker limits", inactive: true, cluster: func(_ testing.TB, c *clusterv3.Cluster) {
		c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{MaxRequests: wrapperspb.UInt32(1000), MaxPendingRequests: wrapperspb.UInt32(10)}}}
	}},
	{name: "outlier detection", inactive: true, cluster: func(_ testing.TB, c *clusterv3.Cluster) {
		c.OutlierDetection = &clusterv3.OutlierDetection{Consecutive_5Xx: wrapperspb.UInt32(5)}
	}},
	{name: "least request", cluster: policy(clusterv3.Cluster_LEAST_REQUEST)},
	{name: "random", cluster: policy(clusterv3.Cluster_RANDOM)},
	{name: "weights by utilization", cluster: func(t testing.TB, c *clusterv3.Cluster) { // without a report
		c.LoadBalancingPolicy = &clusterv3.LoadBalancingPolicy{Policies: []*clusterv3.LoadBalancingPolicy_Policy{{
			TypedExtensionConfig: &corev3.TypedExtensionConfig{Name: "p", TypedConfig: xdstest.Any(&cswrrv3.ClientSideWeightedRoundRobin{})},
		}}}
	}},
	{name: "ring hash by header", md: metadata.Pairs("end-user", "jason"), route: hashBy("end-user"), cluster: policy(clusterv3.Cluster_RING_HASH)},
	{name: "maglev by header", md: metadata.Pairs("end-user", "jason"), route: hashBy("end-user"), cluster: policy(clusterv3.Cluster_MAGLEV)},
}

// headerRoute sends jason's calls to a cluster.
func headerRoute(cluster string) *routev3.Route {
	r := xdstest.Route(nil, cluster)
	r.Match.Headers = []*routev3.HeaderMatcher{{Name: "end-user", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{
		StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "jason"}}}}}
	return r
}

func retries() *routev3.RetryPolicy {
	return &routev3.RetryPolicy{RetryOn: "unavailable", NumRetries: wrapperspb.UInt32(3)}
}

func onRoute(edit func(*routev3.RouteAction)) func(testing.TB, *routev3.Route) {
	return func(_ testing.TB, r *routev3.Route) { edit(r.GetRoute()) }
}

func mirrorAt(percent uint32) func(testing.TB, *routev3.Route) {
	return onRoute(func(a *routev3.RouteAction) {
		a.RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{
			Cluster: "b", RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{Numerator: percent}},
		}}
	})
}

func policy(p clusterv3.Cluster_LbPolicy) func(testing.TB, *clusterv3.Cluster) {
	return func(_ testing.TB, c *clusterv3.Cluster) { c.LbPolicy = p }
}

func hashBy(header string) func(testing.TB, *routev3.Route) {
	return onRoute(func(a *routev3.RouteAction) {
		a.HashPolicy = []*routev3.RouteAction_HashPolicy{{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
			Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: header}}}}
	})
}

// BenchmarkCall measures what each policy costs a unary call between the caller
// and the wire: decision, context, pick, report. There is no network; in its
// place stands an invoker that does with a call what gRPC's does on the way to
// its transport, and nothing else ("bare").
//
// Two benchmarks cannot be compared to a few per cent on a busy machine. So calls
// with the policy take turns with calls without any, in short batches, and what
// is reported is the fastest batch of each ("x-none").
func BenchmarkCall(b *testing.B) {
	for _, c := range append([]policyCase{{name: "bare"}}, policyCases...) {
		b.Run(c.name, func(b *testing.B) {
			with, without := newPath(b, &c), newPath(b, &policyCase{})
			if c.name == "bare" {
				with.client = nil
			}
			ctx := context.Background()
			if c.md != nil {
				ctx = metadata.NewOutgoingContext(ctx, c.md)
			}
			least, leastWithout := time.Hour, time.Hour
			for b.Loop() {
				least = min(least, with.batch(ctx, b))
				leastWithout = min(leastWithout, without.batch(context.Background(), b))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(least)/float64(leastWithout), "x-none")
			b.ReportMetric(float64(least.Nanoseconds())/batchSize, "ns/call")
			b.ReportMetric(testing.AllocsPerRun(1000, func() { _ = with.call(ctx) }), "allocs/call")
		})
	}
}

const batchSize = 200

// batch makes some calls and returns how long they took.
func (p *path) batch(ctx context.Context, b *testing.B) time.Duration {
	began := time.Now()
	for range batchSize {
		if err := p.call(ctx); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began)
}

// path is a call's way through the interceptor and the balancer.
type path struct {
	client  *interceptors.Client
	cc      *grpc.ClientConn
	picker  grpcbalancer.Picker
	invoker grpc.UnaryInvoker // invoke, made once
	copies  int
	invoked chan struct{} // with copies: an invocation has ended
	req     *wrapperspb.StringValue
	reply   *wrapperspb.StringValue
}

// newPath configures cluster "a" with policy c and a plain cluster "b", both
// with the same three endpoints, which are connected.
func newPath(t testing.TB, c *policyCase) *path {
	t.Helper()
	f := newFixture(t, nil)
	addrs := []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"}
	r, a := xdstest.Route(nil, "a"), xdstest.Cluster("a")
	if c.route != nil {
		c.route(t, r)
	}
	if c.cluster != nil {
		c.cluster(t, a)
	}
	f.Set(a, xdstest.Cluster("b"), xdstest.Endpoints("a", addrs...), xdstest.Endpoints("b", addrs...))
	routes := []*routev3.Route{r, xdstest.Route(nil, "b")}
	if c.before != nil {
		routes = append([]*routev3.Route{c.before}, routes...)
	}
	f.Set(xdstest.Routes(target, routes...), xdstest.Listener(target))

	tgt := f.manager.Target(target)
	lease := tgt.Acquire()
	t.Cleanup(lease.Release)
	deadline := time.After(10 * time.Second)
	for {
		p, _, changed := tgt.Current()
		if p.Snapshot != nil && p.Snapshot.Upstream("a") != nil && len(p.Snapshot.Upstream("a").Hosts) == len(addrs) {
			channel := &fakeChannel{}
			b := grpcbalancer.Get(balancer.Name).Build(channel, grpcbalancer.BuildOptions{})
			t.Cleanup(b.Close)
			state := grpcresolver.State{Attributes: attributes.New(watch.PublishedKey{}, p)}
			if err := b.UpdateClientConnState(grpcbalancer.ClientConnState{ResolverState: state}); err != nil {
				t.Fatal(err)
			}
			picker := channel.becomeReady()
			out := &path{
				client: interceptors.NewClient(tgt, interceptors.ClientOptions{}), cc: f.cc, picker: picker,
				req: wrapperspb.String("hello"), reply: &wrapperspb.StringValue{}, copies: c.copies, invoked: make(chan struct{}, 1+c.copies),
			}
			out.invoker = out.invoke
			return out
		}
		select {
		case <-changed:
		case <-deadline:
			t.Fatal("the configuration did not arrive")
		}
	}
}

func (p *path) call(ctx context.Context) error {
	if p.client == nil {
		return p.invoke(ctx, "/a.B/C", p.req, p.reply, p.cc)
	}
	err := p.client.Unary()(ctx, "/a.B/C", p.req, p.reply, p.cc, p.invoker)
	if p.copies > 0 {
		for range 1 + p.copies {
			<-p.invoked
		}
	}
	return err
}

var errUnpicked = status.Error(codes.Internal, "no connection was picked")

// invoke does with a call what gRPC does: it derives a context, asks the picker
// and says that the attempt went well.
func (p *path) invoke(ctx context.Context, method string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if p.copies > 0 {
		defer func() { p.invoked <- struct{}{} }()
	}
	if p.client == nil {
		return nil
	}
	r, err := p.picker.Pick(grpcbalancer.PickInfo{FullMethodName: method, Ctx: ctx})
	if err != nil || r.SubConn == nil {
		return errUnpicked
	}
	if r.Done != nil {
		r.Done(grpcbalancer.DoneInfo{BytesSent: true, BytesReceived: true})
	}
	return nil
}

// fakeChannel is the channel that the balancer works for, which publishes pickers
// and makes connections when its timers say so, too.
type fakeChannel struct {
	grpcbalancer.ClientConn

	mu        sync.Mutex
	picker    grpcbalancer.Picker
	listeners []func(grpcbalancer.SubConnState)
}

func (c *fakeChannel) UpdateState(s grpcbalancer.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.picker = s.Picker
}

func (c *fakeChannel) NewSubConn(_ []grpcresolver.Address, o grpcbalancer.NewSubConnOptions) (grpcbalancer.SubConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listeners = append(c.listeners, o.StateListener)
	return &fakeConn{}, nil
}

// becomeReady connects every connection that there is, and returns the picker for
// them.
func (c *fakeChannel) becomeReady() grpcbalancer.Picker {
	c.mu.Lock()
	listeners := slices.Clone(c.listeners)
	c.mu.Unlock()
	for _, ready := range listeners { // without mu: the balancer publishes a picker
		ready(grpcbalancer.SubConnState{ConnectivityState: connectivity.Ready})
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.picker
}

// TestFakeChannel uses a channel from several goroutines, as timers of a balancer
// do: the race detector looks on.
func TestFakeChannel(t *testing.T) {
	t.Parallel()
	c := &fakeChannel{}
	var ready atomic.Int32
	o := grpcbalancer.NewSubConnOptions{StateListener: func(grpcbalancer.SubConnState) {
		ready.Add(1)
		c.UpdateState(grpcbalancer.State{})
	}}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := c.NewSubConn(nil, o); err != nil {
				t.Error(err)
			}
			c.UpdateState(grpcbalancer.State{})
			c.becomeReady()
		})
	}
	wg.Wait()
	if n := ready.Load(); n < 4 {
		t.Errorf("%d connections became ready", n)
	}
}

type fakeConn struct{ grpcbalancer.SubConn }

func (*fakeConn) Connect()  {}
func (*fakeConn) Shutdown() {}
