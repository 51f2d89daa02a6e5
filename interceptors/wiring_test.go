package interceptors_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	faultcommonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/fault/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/balancer"
	"github.com/meshframe/meshframe/interceptors"
	"github.com/meshframe/meshframe/internal/xdstest"
	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/resolver"
	"github.com/meshframe/meshframe/resolver/watch"
	"github.com/meshframe/meshframe/resolver/xdsclient"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const target = "reviews:9080"

// fixture is a control plane and one channel to reviews:9080.
type fixture struct {
	*xdstest.ControlPlane
	manager *watch.Manager
	cc      *grpc.ClientConn
}

func newFixture(t testing.TB, edit func(*watch.Config), opts ...grpc.DialOption) *fixture {
	t.Helper()
	return newFixtureFor(t, xdstest.NewControlPlane(t), edit, opts...)
}

func newFixtureFor(t testing.TB, cp *xdstest.ControlPlane, edit func(*watch.Config), opts ...grpc.DialOption) *fixture {
	t.Helper()
	return newFixtureOf(t, cp, edit, interceptors.ClientOptions{}, opts...)
}

func newFixtureOf(t testing.TB, cp *xdstest.ControlPlane, edit func(*watch.Config), o interceptors.ClientOptions, opts ...grpc.DialOption) *fixture {
	t.Helper()
	client, err := xdsclient.New(xdsclient.Config{
		Servers: []xdsclient.Server{{URI: cp.Addr(), Credentials: insecure.NewCredentials()}},
		Node:    &corev3.Node{Id: "test"},
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := watch.Config{Client: client, Engine: mesh.New(mesh.Options{})}
	if edit != nil {
		edit(&cfg)
	}
	f := &fixture{ControlPlane: cp, manager: watch.New(cfg)}
	tgt := f.manager.Target(target)
	ic := interceptors.NewClient(tgt, o)
	f.cc, err = grpc.NewClient("mesh:///"+target, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithResolvers(resolver.NewBuilder(tgt)),
		grpc.WithDefaultServiceConfig(balancer.ServiceConfig),
		grpc.WithChainUnaryInterceptor(ic.Unary()),
		grpc.WithChainStreamInterceptor(ic.Stream),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.cc.Close()
		f.manager.Close()
		client.Close()
	})
	return f
}

// serve publishes routes and, for each cluster, its endpoints.
func (f *fixture) serve(clusters map[string][]string, routes ...*routev3.Route) {
	for name, addrs := range clusters {
		f.Set(xdstest.Cluster(name), xdstest.Endpoints(name, addrs...))
	}
	f.Set(xdstest.Routes(target, routes...), xdstest.Listener(target))
}

func (f *fixture) call(ctx context.Context, opts ...grpc.CallOption) (string, error) {
	return xdstest.Call(ctx, f.cc, "/reviews.Reviews/Get", opts...)
}

// until calls until check is content with the answer, which must be soon.
func (f *fixture) until(t *testing.T, check func(string, error) bool) {
	t.Helper()
	var got string
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		if got, err = f.call(t.Context()); check(got, err) {
			return
		}
	}
	t.Fatalf("last answer %q, %v", got, err)
}

func server(t *testing.T, text string) *xdstest.Server {
	return xdstest.NewServer(t, xdstest.Answer(text, nil))
}

func wantCode(t *testing.T, err error, code codes.Code, texts ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("got %v, want %v", err, code)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Fatalf("error %q does not say %q", err, text)
		}
	}
}

func TestHeaderRouteAndWeights(t *testing.T) {
	t.Parallel()
	v1, v2, v3 := server(t, "v1"), server(t, "v2"), server(t, "v3")
	f := newFixture(t, nil)
	jason := xdstest.Route(func(r *routev3.Route) {
		r.Match.Headers = []*routev3.HeaderMatcher{{Name: "end-user", HeaderMatchSpecifier: &routev3.HeaderMatcher_ExactMatch{ExactMatch: "jason"}}}
	}, "v2")
	f.serve(map[string][]string{"v1": {v1.Addr}, "v2": {v2.Addr}, "v3": {v3.Addr}}, jason, xdstest.Route(nil, "v1", "v3"))

	ctx := metadata.AppendToOutgoingContext(t.Context(), "end-user", "jason")
	for range 20 {
		if got, err := f.call(ctx); err != nil || got != "v2" {
			t.Fatalf("jason got %q, %v; want v2", got, err)
		}
	}
	count := map[string]int{}
	const n = 1000
	for range n {
		got, err := f.call(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		count[got]++
	}
	// Five standard deviations of a fair coin: less than one failure in a
	// million runs.
	if d := math.Abs(float64(count["v1"]) - n/2); d > 5*math.Sqrt(n)/2 || count["v2"] != 0 {
		t.Errorf("got %v, want v1 and v3 about equal", count)
	}
}

func TestTimeoutOfTheRoute(t *testing.T) {
	t.Parallel()
	began := make(chan time.Duration, 100)
	slow := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
		if d, ok := ss.Context().Deadline(); ok {
			began <- time.Until(d)
		}
		<-ss.Context().Done()
		return ss.Context().Err()
	})
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {slow.Addr}}, xdstest.Route(func(r *routev3.Route) {
		r.GetRoute().MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: durationpb.New(50 * time.Millisecond)}
	}, "c"))
	for {
		begin := time.Now()
		_, err := f.call(t.Context())
		wantCode(t, err, codes.DeadlineExceeded)
		if d := time.Since(begin); d > 5*time.Second {
			t.Errorf("it took %v", d)
		}
		select {
		case d := <-began:
			if d > 50*time.Millisecond {
				t.Errorf("the server was told %v", d)
			}
			return
		default: // on a loaded machine the time is over before the server hears of the call
		}
	}
}

// TestDeadlinesThatServersAreTold crosses what routes say of deadlines with those
// that callers have, in hours.
func TestDeadlinesThatServersAreTold(t *testing.T) {
	t.Parallel()
	hours := func(n int) *durationpb.Duration { return durationpb.New(time.Duration(n) * time.Hour) }
	for name, test := range map[string]struct {
		route func(*routev3.RouteAction)
		want  map[int]int // by the caller's, 0 being none
	}{
		"nothing":          {func(*routev3.RouteAction) {}, map[int]int{0: 0, 5: 5}},
		"timeout":          {func(a *routev3.RouteAction) { a.Timeout = hours(3) }, map[int]int{0: 3, 2: 2, 5: 3}},
		"max_grpc_timeout": {func(a *routev3.RouteAction) { a.Timeout, a.MaxGrpcTimeout = hours(3), hours(4) }, map[int]int{0: 4, 2: 2, 5: 4}},
		"any grpc timeout": {func(a *routev3.RouteAction) { a.Timeout, a.MaxGrpcTimeout = hours(3), hours(0) }, map[int]int{0: 0, 2: 2, 5: 5}},
		"max_stream_duration": {func(a *routev3.RouteAction) {
			a.Timeout, a.MaxGrpcTimeout = hours(1), hours(2)
			a.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: hours(3)}
		}, map[int]int{0: 3, 2: 2, 5: 3}},
		"grpc_timeout_header_max": {func(a *routev3.RouteAction) {
			a.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: hours(3), GrpcTimeoutHeaderMax: hours(4)}
		}, map[int]int{0: 3, 2: 2, 5: 4}},
		"grpc_timeout_header_offset": {func(a *routev3.RouteAction) {
			a.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: hours(9), GrpcTimeoutHeaderMax: hours(4), GrpcTimeoutHeaderOffset: hours(1)}
		}, map[int]int{0: 9, 1: -1, 2: 1, 5: 3}},
		"offset alone": {func(a *routev3.RouteAction) {
			a.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{GrpcTimeoutHeaderOffset: hours(1)}
		}, map[int]int{0: 0, 2: 2}},
		"offset of any": {func(a *routev3.RouteAction) {
			a.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{GrpcTimeoutHeaderMax: hours(0), GrpcTimeoutHeaderOffset: hours(1)}
		}, map[int]int{0: 0, 5: 4}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			told := make(chan int, 10)
			s := xdstest.NewServer(t, func(srv any, ss grpc.ServerStream) error {
				d, ok := ss.Context().Deadline()
				if !ok {
					told <- 0
				} else {
					told <- int((time.Until(d) + 30*time.Minute) / time.Hour)
				}
				return xdstest.Answer("ok", nil)(srv, ss)
			})
			f := newFixture(t, nil)
			f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(func(r *routev3.Route) { test.route(r.GetRoute()) }, "c"))
			for road, call := range map[string]func(context.Context) error{
				"unary": func(ctx context.Context) error {
					return f.cc.Invoke(ctx, "/a.B/C", wrapperspb.String("hello"), &wrapperspb.StringValue{})
				},
				"stream": func(ctx context.Context) error {
					st, err := f.cc.NewStream(ctx, bidi, "/a.B/C")
					if err != nil {
						return err
					}
					if err = st.SendMsg(wrapperspb.String("hello")); err != nil {
						return err
					}
					return st.RecvMsg(&wrapperspb.StringValue{})
				},
			} {
				for own, want := range test.want {
					ctx, cancel := context.WithCancel(t.Context())
					if own > 0 {
						ctx, cancel = context.WithTimeout(ctx, time.Duration(own)*time.Hour)
					}
					err := call(ctx)
					cancel()
					if want < 0 {
						wantCode(t, err, codes.DeadlineExceeded)
					} else if err != nil {
						t.Errorf("%s: %v", road, err)
					} else if got := <-told; got != want {
						t.Errorf("%s: the caller has %d hours, the server was told %d, want %d", road, own, got, want)
					}
				}
			}
		})
	}
}

func retry(on string, n uint32) func(*routev3.Route) {
	return func(r *routev3.Route) {
		r.GetRoute().RetryPolicy = &routev3.RetryPolicy{
			RetryOn: on, NumRetries: wrapperspb.UInt32(n),
			RetryBackOff:                  &routev3.RetryPolicy_RetryBackOff{BaseInterval: durationpb.New(time.Millisecond)},
			RetryHostPredicate:            []*routev3.RetryPolicy_RetryHostPredicate{{Name: "envoy.retry_host_predicates.previous_hosts"}},
			HostSelectionRetryMaxAttempts: 5,
		}
	}
}

func TestRetryAvoidsThePreviousHost(t *testing.T) {
	t.Parallel()
	bad := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
		ss.SetTrailer(metadata.Pairs("who", "bad"))
		return status.Error(codes.Unavailable, "no")
	})
	good := xdstest.NewServer(t, func(srv any, ss grpc.ServerStream) error {
		ss.SetTrailer(metadata.Pairs("who", "good"))
		ss.SetHeader(metadata.Pairs("who", "good"))
		return xdstest.Answer("good", nil)(srv, ss)
	})
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {bad.Addr, good.Addr}}, xdstest.Route(retry("unavailable", 3), "c"))
	// A host that is not connected yet cannot be the other one.
	f.until(t, func(got string, _ error) bool { return got == "good" })
	for n := 0; n < 50 || bad.Calls.Load() == 0 && n < 10_000; n++ {
		var finished atomic.Int32
		var header, trailer metadata.MD
		var p peer.Peer
		got, err := f.call(t.Context(), grpc.OnFinish(func(error) { finished.Add(1) }), grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&p))
		if err != nil || got != "good" {
			t.Fatalf("got %q, %v", got, err)
		}
		if finished.Load() != 1 {
			t.Fatalf("OnFinish was called %d times", finished.Load())
		}
		if header.Get("who")[0] != "good" || len(trailer.Get("who")) != 1 || trailer.Get("who")[0] != "good" || p.Addr.String() != good.Addr {
			t.Fatalf("header %v, trailer %v, peer %v are not the winner's", header, trailer, p)
		}
	}
	if bad.Calls.Load() == 0 {
		t.Error("the failing server was never tried")
	}
}

func TestRetriesEnd(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, on string
		code     codes.Code
		trailer  metadata.MD
		want     int64
	}{
		{"after num_retries", "unavailable", codes.Unavailable, nil, 3},
		{"at a status that is not listed", "unavailable", codes.NotFound, nil, 1},
		{"at a pushback that forbids it", "unavailable", codes.Unavailable, metadata.Pairs("grpc-retry-pushback-ms", "-1"), 1},
		{"5xx reads the status as HTTP", "5xx", codes.Internal, nil, 3},
		{"gateway-error is not internal", "gateway-error", codes.Internal, nil, 1},
		{"an answer is no reset", "reset", codes.Unavailable, nil, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
				ss.SetTrailer(tc.trailer)
				return status.Error(tc.code, "no")
			})
			f := newFixture(t, nil)
			f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry(tc.on, 2), "c"))
			_, err := f.call(t.Context())
			wantCode(t, err, tc.code)
			if got := s.Calls.Load(); got != tc.want {
				t.Errorf("%d attempts, want %d", got, tc.want)
			}
		})
	}
}

func TestPerTryTimeout(t *testing.T) {
	t.Parallel()
	hang := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error { <-ss.Context().Done(); return ss.Context().Err() })
	good := server(t, "good")
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {hang.Addr, good.Addr}}, xdstest.Route(func(r *routev3.Route) {
		retry("5xx", 2)(r)
		r.GetRoute().RetryPolicy.PerTryTimeout = durationpb.New(500 * time.Millisecond)
	}, "c"))
	for hang.Calls.Load() == 0 {
		if got, err := f.call(t.Context()); err != nil || got != "good" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

func faults(p *faultv3.HTTPFault) func(*routev3.Route) {
	return func(r *routev3.Route) {
		retry("unavailable", 3)(r)
		r.TypedPerFilterConfig = map[string]*anypb.Any{"envoy.filters.http.fault": xdstest.Any(p)}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	always := &typev3.FractionalPercent{Numerator: 100}
	s := server(t, "ok")
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(faults(&faultv3.HTTPFault{
		Abort: &faultv3.FaultAbort{ErrorType: &faultv3.FaultAbort_HttpStatus{HttpStatus: 503}, Percentage: always},
	}), "c"))
	_, err := f.call(t.Context())
	wantCode(t, err, codes.Unavailable, "fault")
	if n := s.Calls.Load(); n != 0 {
		t.Errorf("the server saw %d calls: an injected fault is not retried", n)
	}

	const delay = 60 * time.Millisecond
	f.Set(xdstest.Routes(target, xdstest.Route(faults(&faultv3.HTTPFault{
		Delay: &faultcommonv3.FaultDelay{FaultDelaySecifier: &faultcommonv3.FaultDelay_FixedDelay{FixedDelay: durationpb.New(delay)}, Percentage: always},
	}), "c")))
	f.until(t, func(_ string, err error) bool { return err == nil })
	begin := time.Now()
	if _, err := f.call(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(begin); d < delay {
		t.Errorf("it took %v", d)
	}
	ctx, cancel := context.WithTimeout(t.Context(), delay/2)
	defer cancel()
	_, err = f.call(ctx)
	wantCode(t, err, codes.DeadlineExceeded)
}

func TestCircuitBreaker(t *testing.T) {
	t.Parallel()
	arrived, leave := make(chan struct{}), make(chan struct{})
	s := xdstest.NewServer(t, func(srv any, ss grpc.ServerStream) error {
		arrived <- struct{}{}
		<-leave
		return xdstest.Answer("ok", nil)(srv, ss)
	})
	f := newFixture(t, nil)
	c := xdstest.Cluster("c")
	c.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{MaxRequests: wrapperspb.UInt32(2)}}}
	f.Set(c, xdstest.Endpoints("c", s.Addr), xdstest.Routes(target, xdstest.Route(retry("unavailable", 3), "c")), xdstest.Listener(target))
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := f.call(t.Context()); err != nil {
				t.Error(err)
			}
		})
		<-arrived
	}
	_, err := f.call(t.Context())
	wantCode(t, err, codes.Unavailable, "circuit breaker", `"c"`)
	close(leave)
	wg.Wait()
	go func() { <-arrived }()
	if _, err := f.call(t.Context()); err != nil {
		t.Errorf("after the others ended: %v", err)
	}
}

func TestOutlierDetectionEjectsAtOnce(t *testing.T) {
	t.Parallel()
	bad := xdstest.NewServer(t, xdstest.Answer("", status.Error(codes.Unavailable, "no")))
	good := server(t, "good")
	f := newFixture(t, nil)
	c := xdstest.Cluster("c")
	c.OutlierDetection = &clusterv3.OutlierDetection{Consecutive_5Xx: wrapperspb.UInt32(3), BaseEjectionTime: durationpb.New(time.Hour), MaxEjectionPercent: wrapperspb.UInt32(50)}
	f.Set(c, xdstest.Endpoints("c", bad.Addr, good.Addr), xdstest.Routes(target, xdstest.Route(nil, "c")), xdstest.Listener(target))
	failed := 0
	for range 200 {
		if _, err := f.call(t.Context()); err != nil {
			failed++
		}
	}
	if failed != 3 {
		t.Errorf("%d calls failed, want 3: then the host is ejected", failed)
	}
}

func TestUnknownTarget(t *testing.T) {
	t.Parallel()
	s := server(t, "ok")
	f := newFixture(t, nil)
	f.Set(xdstest.Listener("other:1"))
	client, err := xdsclient.New(xdsclient.Config{
		Servers: []xdsclient.Server{{URI: f.Addr(), Credentials: insecure.NewCredentials()}}, WatchExpiry: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	f = newFixtureFor(t, f.ControlPlane, func(c *watch.Config) { c.Client = client })
	_, err = f.call(t.Context())
	wantCode(t, err, codes.Unavailable, target, "does not exist")

	answer := make(chan error, 1)
	go func() {
		_, err := f.call(t.Context(), grpc.WaitForReady(true))
		answer <- err
	}()
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(nil, "c"))
	if err := <-answer; err != nil {
		t.Errorf("a call that waits for ready: %v", err)
	}
}

func TestControlPlaneIsDown(t *testing.T) {
	t.Parallel()
	cp := xdstest.NewControlPlane(t)
	cp.Stop()
	f := newFixtureFor(t, cp, nil)
	_, err := f.call(t.Context())
	wantCode(t, err, codes.Unavailable, cp.Addr(), "refused")

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = f.call(ctx, grpc.WaitForReady(true))
	wantCode(t, err, codes.DeadlineExceeded, cp.Addr())
}

func TestIdleChannelWakes(t *testing.T) {
	t.Parallel()
	s := server(t, "ok")
	f := newFixture(t, nil, grpc.WithIdleTimeout(50*time.Millisecond))
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(nil, "c"))
	for range 3 {
		if got, err := f.call(t.Context()); err != nil || got != "ok" {
			t.Fatalf("got %q, %v", got, err)
		}
		for f.cc.GetState().String() != "IDLE" {
			if !f.cc.WaitForStateChange(t.Context(), f.cc.GetState()) {
				t.Fatal("the channel did not become idle")
			}
		}
	}
}

// load calls from several goroutines until stop; every call must succeed.
func (f *fixture) load(t *testing.T) (stop func() int64) {
	var wg sync.WaitGroup
	var n atomic.Int64
	ctx, cancel := context.WithCancel(context.Background())
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if got, err := f.call(context.Background()); err != nil {
					t.Errorf("call %d: %q, %v", n.Load(), got, err)
					return
				}
				n.Add(1)
			}
		})
	}
	return func() int64 { cancel(); wg.Wait(); return n.Load() }
}

func TestRoutesFlipUnderLoad(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	clusters := map[string][]string{}
	for i := range 4 {
		clusters["c"+strconv.Itoa(i)] = []string{server(t, strconv.Itoa(i)).Addr}
	}
	f.serve(clusters, xdstest.Route(nil, "c0"))
	f.until(t, func(got string, err error) bool { return got == "0" })
	stop := f.load(t)
	for i := range 100 {
		to := strconv.Itoa((i + 1) % 4)
		f.Set(xdstest.Routes(target, xdstest.Route(nil, "c"+to)))
		f.until(t, func(got string, err error) bool { return got == to })
	}
	t.Logf("%d calls, none lost", stop())
}

func TestControlPlaneRestartsUnderLoad(t *testing.T) {
	t.Parallel()
	a, b := server(t, "a"), server(t, "b")
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {a.Addr}, "d": {b.Addr}}, xdstest.Route(nil, "c"))
	f.until(t, func(got string, err error) bool { return got == "a" })
	stop := f.load(t)
	f.Stop()
	for range 200 {
		if _, err := f.call(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	f.Set(xdstest.Routes(target, xdstest.Route(nil, "d")))
	f.Start()
	f.until(t, func(got string, err error) bool { return got == "b" })
	t.Logf("%d calls, none lost", stop())
}

func TestEndpointDies(t *testing.T) {
	t.Parallel()
	a, b := server(t, "a"), server(t, "b")
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {a.Addr, b.Addr}}, xdstest.Route(retry("unavailable,reset", 2), "c"))
	f.until(t, func(got string, err error) bool { return got == "a" })
	stop := f.load(t)
	a.Stop()
	for range 100 {
		if got, err := f.call(t.Context()); err != nil || got != "b" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	stop()
}

// TestChannelThatNeverHadTheCluster checks a call that was decided before its
// channel had any configuration, for a cluster that is gone when it has.
func TestChannelThatNeverHadTheCluster(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	slow := faults(&faultv3.HTTPFault{Delay: &faultcommonv3.FaultDelay{
		FaultDelaySecifier: &faultcommonv3.FaultDelay_FixedDelay{FixedDelay: durationpb.New(300 * time.Millisecond)}, Percentage: &typev3.FractionalPercent{Numerator: 100},
	}})
	f.serve(map[string][]string{"old": {server(t, "old").Addr}}, xdstest.Route(slow, "old"))
	f.until(t, func(got string, _ error) bool { return got == "old" })

	tgt := f.manager.Target(target)
	ic := interceptors.NewClient(tgt, interceptors.ClientOptions{})
	cc, err := grpc.NewClient("mesh:///"+target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithResolvers(resolver.NewBuilder(tgt)), grpc.WithDefaultServiceConfig(balancer.ServiceConfig), grpc.WithChainUnaryInterceptor(ic.Unary()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	answer := make(chan error, 1)
	go func() {
		got, err := xdstest.Call(t.Context(), cc, "/a.B/C")
		if err == nil && got != "old" {
			err = fmt.Errorf("answered by %s", got)
		}
		answer <- err
	}()
	for !tgt.Snapshot().Upstreams[0].State.InUse() {
		if t.Context().Err() != nil {
			t.Fatal("the call was never decided")
		}
	}
	f.serve(map[string][]string{"new": {server(t, "new").Addr}}, xdstest.Route(nil, "new"))
	f.until(t, func(got string, _ error) bool { return got == "new" })
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

func TestWaitForReadyWaitsForACluster(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *watch.Config) { c.WarmTimeout = 10 * time.Millisecond })
	f.Set(xdstest.Routes(target, xdstest.Route(nil, "c")), xdstest.Listener(target))
	f.until(t, func(_ string, err error) bool { return strings.Contains(fmt.Sprint(err), `cluster`) })
	answer := make(chan error, 1)
	go func() {
		_, err := f.call(t.Context(), grpc.WaitForReady(true))
		answer <- err
	}()
	f.serve(map[string][]string{"c": {server(t, "c").Addr}}, xdstest.Route(nil, "c"))
	if err := <-answer; err != nil {
		t.Error(err)
	}
}

// goneAddress is an address at which nobody listens any more.
func goneAddress(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lis.Close()
	return lis.Addr().String()
}

// TestWaitForReadyOutlivesErrors checks that no error of a connection, which may
// wrap a status, ends a call that waits: neither the control plane's nor an
// endpoint's.
func TestWaitForReadyOutlivesErrors(t *testing.T) {
	t.Parallel()
	gone := goneAddress(t)
	cp := xdstest.NewControlPlane(t)
	cp.Stop()
	f := newFixtureFor(t, cp, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	plain, err := grpc.NewClient("mesh:///"+target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithResolvers(resolver.NewBuilder(f.manager.Target(target))), grpc.WithDefaultServiceConfig(balancer.ServiceConfig))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	_, err = xdstest.Call(ctx, plain, "/a.B/C", grpc.WaitForReady(true)) // no interceptor: the picker says it
	wantCode(t, err, codes.DeadlineExceeded)

	f = newFixture(t, nil)
	f.serve(map[string][]string{"c": {gone}}, xdstest.Route(nil, "c"))
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = f.call(ctx, grpc.WaitForReady(true))
	wantCode(t, err, codes.DeadlineExceeded)
}

func TestCloseEndsCallsThatWait(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	answer := make(chan error, 1)
	go func() {
		_, err := f.call(t.Context(), grpc.WaitForReady(true))
		answer <- err
	}()
	select {
	case err := <-answer:
		t.Fatal(err)
	case <-time.After(50 * time.Millisecond):
	}
	f.manager.Close()
	wantCode(t, <-answer, codes.Unavailable, "closed")
}

func TestAllEndpointsDown(t *testing.T) {
	t.Parallel()
	gone := goneAddress(t)
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {gone}}, xdstest.Route(nil, "c"))
	_, err := f.call(t.Context())
	wantCode(t, err, codes.Unavailable, `"c"`, gone)
	f.Set(xdstest.Endpoints("c"))
	f.until(t, func(_ string, err error) bool { return strings.Contains(fmt.Sprint(err), "no endpoints") })
}

func TestRemovedClusterKeepsItsCalls(t *testing.T) {
	t.Parallel()
	arrived, leave := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	old := xdstest.NewServer(t, func(srv any, ss grpc.ServerStream) error {
		if first.CompareAndSwap(false, true) {
			close(arrived)
			<-leave
		}
		return xdstest.Answer("old", nil)(srv, ss)
	})
	f := newFixture(t, nil)
	f.serve(map[string][]string{"old": {old.Addr}}, xdstest.Route(nil, "old"))
	answer := make(chan error, 1)
	go func() {
		_, err := f.call(t.Context())
		answer <- err
	}()
	<-arrived
	f.serve(map[string][]string{"new": {server(t, "new").Addr}}, xdstest.Route(nil, "new"))
	f.Delete(resource.ClusterType, "old")
	f.Delete(resource.EndpointType, "old")
	f.until(t, func(got string, err error) bool { return got == "new" })
	close(leave)
	if err := <-answer; err != nil {
		t.Errorf("the call that was under way: %v", err)
	}
}

func TestWarmingKeepsWhatWasThere(t *testing.T) {
	t.Parallel()
	f := newFixture(t, func(c *watch.Config) { c.WarmTimeout = 300 * time.Millisecond })
	f.serve(map[string][]string{"c": {server(t, "c").Addr}}, xdstest.Route(nil, "c"))
	f.until(t, func(got string, err error) bool { return got == "c" })
	typo := xdstest.Route(func(r *routev3.Route) {
		r.Match.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/typo.Typo/"}
	}, "nowhere")
	f.Set(xdstest.Routes(target, typo, xdstest.Route(nil, "c")))
	stop := f.load(t)
	for {
		_, err := xdstest.Call(t.Context(), f.cc, "/typo.Typo/Get")
		if err == nil {
			continue // the routes before the change
		}
		wantCode(t, err, codes.Unavailable, "nowhere")
		break
	}
	stop()
}

func TestStreams(t *testing.T) {
	t.Parallel()
	s := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
		for {
			var m wrapperspb.StringValue
			if err := ss.RecvMsg(&m); errors.Is(err, io.EOF) {
				return nil
			} else if err != nil {
				return err
			}
			if err := ss.SendMsg(&m); err != nil {
				return err
			}
		}
	})
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(func(r *routev3.Route) {
		r.GetRoute().MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: durationpb.New(500 * time.Millisecond)}
	}, "c"))
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	open := func() grpc.ClientStream {
		st, err := f.cc.NewStream(t.Context(), desc, "/reviews.Reviews/Chat")
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	st := open()
	for i := range 10 {
		m, got := wrapperspb.String(strconv.Itoa(i)), &wrapperspb.StringValue{}
		if err := errors.Join(st.SendMsg(m), st.RecvMsg(got)); err != nil || got.GetValue() != m.GetValue() {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	if err := st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := st.RecvMsg(&wrapperspb.StringValue{}); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	cluster := f.manager.Target(target).Snapshot().Upstreams[0].State
	if cluster.InUse() {
		t.Error("the cluster is in use after the stream has ended")
	}
	err := open().RecvMsg(&wrapperspb.StringValue{})
	wantCode(t, err, codes.DeadlineExceeded)
	if cluster.InUse() {
		t.Error("the cluster is in use after the stream has timed out")
	}
}

func TestDNSCluster(t *testing.T) {
	t.Parallel()
	s := server(t, "found")
	_, port, _ := net.SplitHostPort(s.Addr)
	n, _ := strconv.Atoi(port)
	f := newFixture(t, func(c *watch.Config) {
		c.LookupHost = func(_ context.Context, host string) ([]string, error) {
			if host != "reviews.example" {
				return nil, &net.DNSError{Err: "no such host", Name: host}
			}
			return []string{"127.0.0.1"}, nil
		}
	})
	a := xdstest.Endpoints("dns", "reviews.example:"+strconv.Itoa(n))
	f.Set(&clusterv3.Cluster{Name: "dns", ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_LOGICAL_DNS}, LoadAssignment: a})
	f.serve(nil, xdstest.Route(nil, "dns"))
	if got, err := f.call(t.Context()); err != nil || got != "found" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestWithoutInterceptorThePickerDecides(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {server(t, "c").Addr}}, xdstest.Route(nil, "c"))
	cc, err := grpc.NewClient("mesh:///"+target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithResolvers(resolver.NewBuilder(f.manager.Target(target))), grpc.WithDefaultServiceConfig(balancer.ServiceConfig))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	if got, err := xdstest.Call(t.Context(), cc, "/a.B/C"); err != nil || got != "c" {
		t.Fatalf("got %q, %v", got, err)
	}
}

// TestAbandonedCallDoesNotTouchTheNext has an interceptor further in answer a call and
// leave its attempt to itself: how that ends is nothing to the calls that follow.
func TestAbandonedCallDoesNotTouchTheNext(t *testing.T) {
	t.Parallel()
	arrived, release, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
		_ = ss.RecvMsg(&wrapperspb.StringValue{})
		if method, _ := grpc.MethodFromServerStream(ss); method == "/a.B/Slow" {
			close(arrived)
			<-release
			ss.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", "-1"))
			return status.Error(codes.Aborted, "late")
		}
		return status.Error(codes.Unavailable, "again")
	})
	var attempts atomic.Int32
	inner := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		if method == "/a.B/Slow" {
			go func() {
				defer close(ended)
				_ = invoker(ctx, method, req, &wrapperspb.StringValue{}, cc, opts...)
			}()
			<-arrived
			return status.Error(codes.Aborted, "too slow")
		}
		err := invoker(ctx, method, req, reply, cc, opts...)
		if attempts.Add(1) == 1 {
			close(release)
			<-ended
		}
		return err
	}
	f := newFixture(t, nil, grpc.WithChainUnaryInterceptor(inner))
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(retry("unavailable", 3), "c"))
	_ = f.cc.Invoke(t.Context(), "/a.B/Slow", wrapperspb.String("x"), &wrapperspb.StringValue{})
	_, _ = f.call(t.Context())
	if n := attempts.Load(); n != 4 {
		t.Errorf("%d attempts, want 4", n)
	}
}
