package interceptors_test

import (
	"context"
	"errors"
	"io"
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
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/interceptors"
	"github.com/meshframe/meshframe/internal/xdstest"
)

// roads are the ways to make a call with one message each way.
var roads = map[string]func(ctx context.Context, cc grpc.ClientConnInterface, method string, opts ...grpc.CallOption) (string, error){
	"unary": xdstest.Call,
	"stream": func(ctx context.Context, cc grpc.ClientConnInterface, method string, opts ...grpc.CallOption) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		st, err := cc.NewStream(ctx, bidi, method, opts...)
		if err != nil {
			return "", err
		}
		if err := st.SendMsg(wrapperspb.String("hello")); err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		if err := st.CloseSend(); err != nil {
			return "", err
		}
		var m wrapperspb.StringValue
		if err := st.RecvMsg(&m); err != nil {
			return "", err
		}
		if err := st.RecvMsg(&wrapperspb.StringValue{}); !errors.Is(err, io.EOF) {
			return "", err
		}
		return m.GetValue(), nil
	},
}

func onEachRoad(t *testing.T, f func(t *testing.T, call func(ctx context.Context, f *fixture, method string, opts ...grpc.CallOption) (string, error))) {
	for name, road := range roads {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, func(ctx context.Context, f *fixture, method string, opts ...grpc.CallOption) (string, error) {
				return road(ctx, f.cc, method, opts...)
			})
		})
	}
}

// seen is what a server saw of a call.
type seen struct {
	method, authority string
	md                metadata.MD
}

// witness answers with text, a header "from" and what it saw.
func witness(t *testing.T, text string, saw chan<- seen) *xdstest.Server {
	return xdstest.NewServer(t, func(srv any, ss grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(ss)
		md, _ := metadata.FromIncomingContext(ss.Context())
		if saw != nil {
			saw <- seen{method: method, authority: strings.Join(md.Get(":authority"), ","), md: md}
		}
		if err := ss.SetHeader(metadata.Pairs("from", text, "secret", "s")); err != nil {
			return err
		}
		return xdstest.Answer(text, nil)(srv, ss)
	})
}

func headerOption(name, value string, action corev3.HeaderValueOption_HeaderAppendAction) *corev3.HeaderValueOption {
	return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}, AppendAction: action}
}

func TestHeaderEditsAndRewrite(t *testing.T) {
	t.Parallel()
	onEachRoad(t, func(t *testing.T, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
		saw := make(chan seen, 1)
		s := witness(t, "ok", saw)
		f := newFixture(t, nil)
		f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(func(r *routev3.Route) {
			r.Match.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/old.Service/"}
			r.RequestHeadersToAdd = []*corev3.HeaderValueOption{
				headerOption("x-set", "new", corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD),
				headerOption("x-add", "2", corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD),
			}
			r.RequestHeadersToRemove = []string{"x-gone"}
			r.ResponseHeadersToAdd = []*corev3.HeaderValueOption{headerOption("x-route", "r1", corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)}
			r.ResponseHeadersToRemove = []string{"secret"}
			r.GetRoute().PrefixRewrite = "/new.Service/"
			r.GetRoute().HostRewriteSpecifier = &routev3.RouteAction_HostRewriteLiteral{HostRewriteLiteral: "other.example"}
		}, "c"))
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-set", "old", "x-add", "1", "x-gone", "x", "x-kept", "k")
		var header metadata.MD
		if got, err := call(ctx, f, "/old.Service/Get", grpc.Header(&header)); err != nil || got != "ok" {
			t.Fatalf("got %q, %v", got, err)
		}
		g := <-saw
		if g.method != "/new.Service/Get" || g.authority != "other.example" {
			t.Errorf("the server saw %s at %s", g.method, g.authority)
		}
		for name, want := range map[string]string{"x-set": "new", "x-add": "1,2", "x-gone": "", "x-kept": "k"} {
			if got := strings.Join(g.md.Get(name), ","); got != want {
				t.Errorf("the server saw %s: %q, want %q", name, got, want)
			}
		}
		for name, want := range map[string]string{"from": "ok", "x-route": "r1", "secret": ""} {
			if got := strings.Join(header.Get(name), ","); got != want {
				t.Errorf("the caller saw %s: %q, want %q", name, got, want)
			}
		}
	})
}

func TestFixedAnswers(t *testing.T) {
	t.Parallel()
	onEachRoad(t, func(t *testing.T, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
		f := newFixture(t, nil)
		direct := &routev3.Route{
			Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/direct."}},
			Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
				Status: 403, Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "go away"}},
			}},
		}
		redirect := &routev3.Route{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/redirect."}},
			Action: &routev3.Route_Redirect{Redirect: &routev3.RedirectAction{HostRedirect: "elsewhere.example"}},
		}
		f.serve(map[string][]string{"c": {server(t, "c").Addr}}, direct, redirect, xdstest.Route(nil, "c"))
		var finished atomic.Int32
		_, err := call(t.Context(), f, "/direct.A/B", grpc.OnFinish(func(error) { finished.Add(1) }))
		wantCode(t, err, codes.PermissionDenied, "go away")
		if finished.Load() != 1 {
			t.Errorf("OnFinish was called %d times", finished.Load())
		}
		_, err = call(t.Context(), f, "/redirect.A/B")
		wantCode(t, err, codes.Unknown, "elsewhere.example", "301")
		if got, err := call(t.Context(), f, "/other.A/B"); err != nil || got != "c" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestMirror(t *testing.T) {
	t.Parallel()
	onEachRoad(t, func(t *testing.T, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
		copied := make(chan seen, 20)
		bad := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
			md, _ := metadata.FromIncomingContext(ss.Context())
			var m wrapperspb.StringValue
			if err := ss.RecvMsg(&m); err != nil {
				return err
			}
			copied <- seen{method: m.GetValue(), authority: strings.Join(md.Get(":authority"), ","), md: md}
			return status.Error(codes.Internal, "the mirror fails")
		})
		f := newFixture(t, nil)
		f.serve(map[string][]string{"c": {server(t, "c").Addr}, "m": {bad.Addr}}, xdstest.Route(func(r *routev3.Route) {
			r.GetRoute().RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "m"}}
		}, "c"))
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-user", "u")
		const n = 5
		for range n {
			if got, err := call(ctx, f, "/a.B/C"); err != nil || got != "c" {
				t.Fatalf("got %q, %v: a mirror must not touch the call", got, err)
			}
		}
		for range n {
			g := <-copied
			if g.method != "hello" || g.authority != "reviews-shadow:9080" || strings.Join(g.md.Get("x-user"), "") != "u" {
				t.Errorf("the copy had message %q, authority %q, metadata %v", g.method, g.authority, g.md)
			}
		}
		stats := &f.manager.Target(target).Snapshot().Upstream("m").State.Mirrored
		for c := stats.Snapshot(); c.Different != n; c = stats.Snapshot() {
			if t.Context().Err() != nil {
				t.Fatalf("%+v", c)
			}
		}
		if c := stats.Snapshot(); c.Sent != n || c.Equal != 0 || c.ByClass[2][5] != n {
			t.Errorf("%+v", c)
		}
	})
}

// TestMirrorNeverSlows checks that a mirror which hangs holds up nothing, and
// that copies are bounded.
func TestMirrorNeverSlows(t *testing.T) {
	t.Parallel()
	hang := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error { <-ss.Context().Done(); return ss.Context().Err() })
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {server(t, "c").Addr}, "m": {hang.Addr}}, xdstest.Route(func(r *routev3.Route) {
		r.GetRoute().RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "m"}}
		r.GetRoute().MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{MaxStreamDuration: durationpb.New(time.Hour)} // no copy ends by it
	}, "c"))
	const n = 600
	for range n {
		if _, err := f.call(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c := f.manager.Target(target).Snapshot().Upstream("m").State.Mirrored.Snapshot()
	if c.Sent+c.Dropped != n || c.Dropped == 0 {
		t.Errorf("%d sent, %d dropped of %d: copies are not bounded", c.Sent, c.Dropped, n)
	}
	hang.Stop()
}

func TestHedge(t *testing.T) {
	t.Parallel()
	leave := make(chan struct{})
	t.Cleanup(func() { close(leave) })
	var first atomic.Bool
	s := xdstest.NewServer(t, func(srv any, ss grpc.ServerStream) error {
		if first.CompareAndSwap(false, true) {
			select {
			case <-leave:
			case <-ss.Context().Done(): // the loser is cancelled
			}
			return status.Error(codes.Aborted, "late")
		}
		return witnessAnswer(srv, ss)
	})
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(func(r *routev3.Route) {
		retry("5xx", 1)(r) // on a busy machine a third would begin, too
		r.GetRoute().RetryPolicy.PerTryTimeout = durationpb.New(50 * time.Millisecond)
		r.GetRoute().HedgePolicy = &routev3.HedgePolicy{HedgeOnPerTryTimeout: true}
	}, "c"))
	var header metadata.MD
	var finished atomic.Int32
	got, err := f.call(t.Context(), grpc.Header(&header), grpc.OnFinish(func(error) { finished.Add(1) }))
	if err != nil || got != "winner" || strings.Join(header.Get("who"), "") != "winner" {
		t.Fatalf("got %q, %v, header %v", got, err, header)
	}
	if finished.Load() != 1 || s.Calls.Load() != 2 {
		t.Errorf("OnFinish %d times, %d attempts", finished.Load(), s.Calls.Load())
	}
}

func witnessAnswer(srv any, ss grpc.ServerStream) error {
	if err := ss.SetHeader(metadata.Pairs("who", "winner")); err != nil {
		return err
	}
	return xdstest.Answer("winner", nil)(srv, ss)
}

// extension is our metadata on a cluster or route.
func extension(t testing.TB, fields map[string]any) *corev3.Metadata {
	t.Helper()
	s, err := structpb.NewStruct(fields)
	if err != nil {
		t.Fatal(err)
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{"meshframe": s}}
}

func TestGateAndFallback(t *testing.T) {
	t.Parallel()
	onEachRoad(t, func(t *testing.T, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
		bad := xdstest.NewServer(t, func(any, grpc.ServerStream) error { return status.Error(codes.Internal, "broken") })
		f := newFixture(t, nil)
		c := xdstest.Cluster("c")
		c.Metadata = extension(t, map[string]any{"half_open": map[string]any{"minVolume": 10, "errorPercent": 10, "window": "10s", "openFor": "3600s", "probes": 1}})
		f.Set(c)
		f.Set(xdstest.Endpoints("c", bad.Addr), xdstest.Routes(target, xdstest.Route(nil, "c")), xdstest.Listener(target))
		for range 10 {
			_, err := call(t.Context(), f, "/a.B/C")
			wantCode(t, err, codes.Internal, "broken")
		}
		_, err := call(t.Context(), f, "/a.B/C")
		wantCode(t, err, codes.Unavailable, "circuit breaker is open")
		if n := bad.Calls.Load(); n != 10 {
			t.Errorf("the server saw %d calls", n)
		}

		f.Set(xdstest.Cluster("spare"), xdstest.Endpoints("spare", server(t, "spare").Addr))
		f.Set(xdstest.Routes(target, xdstest.Route(func(r *routev3.Route) {
			r.Metadata = extension(t, map[string]any{"fallback": map[string]any{"cluster": "spare"}})
		}, "c")))
		f.until(t, func(got string, err error) bool { return got == "spare" })
		if got, err := call(t.Context(), f, "/a.B/C"); err != nil || got != "spare" {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

func TestFixedFallback(t *testing.T) {
	t.Parallel()
	onEachRoad(t, func(t *testing.T, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
		f := newFixture(t, nil)
		f.serve(map[string][]string{"c": nil}, xdstest.Route(func(r *routev3.Route) {
			r.Metadata = extension(t, map[string]any{"fallback": map[string]any{"grpc": map[string]any{"code": 9, "message": "closed today"}}})
		}, "c"))
		_, err := call(t.Context(), f, "/a.B/C")
		wantCode(t, err, codes.FailedPrecondition, "closed today")
	})
}

func TestRingHashKeepsAUser(t *testing.T) {
	t.Parallel()
	f := newFixture(t, nil)
	var addrs []string
	for i := range 4 {
		addrs = append(addrs, server(t, strconv.Itoa(i)).Addr)
	}
	c := xdstest.Cluster("c")
	c.LbPolicy = clusterv3.Cluster_RING_HASH
	f.Set(c)
	f.Set(xdstest.Endpoints("c", addrs...), xdstest.Routes(target, xdstest.Route(func(r *routev3.Route) {
		r.GetRoute().HashPolicy = []*routev3.RouteAction_HashPolicy{{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
			Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: "x-user"},
		}}}
	}, "c")), xdstest.Listener(target))
	used := map[string]bool{}
	for u := range 20 {
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-user", "user-"+strconv.Itoa(u))
		first, err := f.call(ctx)
		if err != nil {
			t.Fatal(err)
		}
		used[first] = true
		for range 5 {
			if got, err := f.call(ctx); err != nil || got != first {
				t.Fatalf("user %d got %q, %v after %q", u, got, err, first)
			}
		}
	}
	if len(used) < 2 {
		t.Errorf("all users went to %v", used)
	}
}

// TestMirrorKeepsAUser: the cluster of the copies hashes and that of the calls does
// not. Copies are bound by what the caller sent, which the route takes away.
func TestMirrorKeepsAUser(t *testing.T) {
	t.Parallel()
	onEachRoad(t, func(t *testing.T, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
		const n = 40
		copied := make(chan int, n)
		var mirrors []string
		for i := range 4 {
			mirrors = append(mirrors, xdstest.NewServer(t, func(srv any, ss grpc.ServerStream) error {
				copied <- i
				return xdstest.Answer("", nil)(srv, ss)
			}).Addr)
		}
		f := newFixture(t, nil)
		m := xdstest.Cluster("m")
		m.LbPolicy = clusterv3.Cluster_RING_HASH
		f.Set(m)
		f.Set(xdstest.Endpoints("m", mirrors...))
		f.serve(map[string][]string{"c": {server(t, "c").Addr}}, xdstest.Route(func(r *routev3.Route) {
			hashBy("x-user")(t, r)
			r.RequestHeadersToRemove = []string{"x-user"}
			r.GetRoute().RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "m"}}
		}, "c"))
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-user", "u")
		reached := map[int]int{}
		for range n {
			if got, err := call(ctx, f, "/a.B/C"); err != nil || got != "c" {
				t.Fatalf("got %q, %v", got, err)
			}
			reached[<-copied]++
		}
		if len(reached) != 1 {
			t.Errorf("copies of one user's calls reached %v", reached)
		}
	})
}

func TestStreamIdleTimeout(t *testing.T) {
	t.Parallel()
	s := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error { <-ss.Context().Done(); return ss.Context().Err() })
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(func(r *routev3.Route) {
		r.GetRoute().IdleTimeout = durationpb.New(50 * time.Millisecond)
	}, "c"))
	for state := f.cc.GetState(); state != connectivity.Ready; state = f.cc.GetState() {
		f.cc.Connect() // or that alone may take too long
		f.cc.WaitForStateChange(t.Context(), state)
	}
	ended := make(chan error, 2)
	st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C", grpc.OnFinish(func(err error) { ended <- err }))
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, st.RecvMsg(&wrapperspb.StringValue{}), codes.DeadlineExceeded, "idle")
	wantCode(t, <-ended, codes.DeadlineExceeded, "idle")
}

func TestRegexRewriteAndMirrorShare(t *testing.T) {
	t.Parallel()
	saw := make(chan seen, 200)
	s := witness(t, "ok", saw)
	var mu sync.Mutex
	copies := 0
	m := xdstest.NewServer(t, func(srv any, ss grpc.ServerStream) error {
		mu.Lock()
		copies++
		mu.Unlock()
		return xdstest.Answer("", nil)(srv, ss)
	})
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {s.Addr}, "m": {m.Addr}}, xdstest.Route(func(r *routev3.Route) {
		r.GetRoute().RegexRewrite = &matcherv3.RegexMatchAndSubstitute{Pattern: &matcherv3.RegexMatcher{Regex: `^/v1\.(\w+)/`}, Substitution: `/v2.\1/`}
		r.GetRoute().RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{
			Cluster: "m", RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{Numerator: 0}},
		}}
	}, "c"))
	for range 100 {
		if _, err := xdstest.Call(t.Context(), f.cc, "/v1.Reviews/Get"); err != nil {
			t.Fatal(err)
		}
		if g := <-saw; g.method != "/v2.Reviews/Get" {
			t.Fatalf("the server saw %s", g.method)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if copies != 0 {
		t.Errorf("%d copies at 0 %%", copies)
	}
}

// TestPeakEWMAPrefersTheFast has a server that takes several times as long as the
// other ever did, however slow the machine is. Once it has shown so it is left
// alone: only an answer of the other that took longer still brings it another call.
func TestPeakEWMAPrefersTheFast(t *testing.T) {
	t.Parallel()
	var longest atomic.Int64 // that a call of the fast server took, as its caller sees it
	slow := xdstest.NewServer(t, func(srv any, ss grpc.ServerStream) error {
		select {
		case <-time.After(100*time.Millisecond + 5*time.Duration(longest.Load())):
		case <-ss.Context().Done():
		}
		return xdstest.Answer("slow", nil)(srv, ss)
	})
	f := newFixture(t, nil)
	c := xdstest.Cluster("c")
	c.Metadata = extension(t, map[string]any{"peak_ewma": map[string]any{"decay": "3600s"}})
	f.Set(c)
	f.Set(xdstest.Endpoints("c", slow.Addr, server(t, "fast").Addr), xdstest.Routes(target, xdstest.Route(nil, "c")), xdstest.Listener(target))
	timed := func() string {
		began := time.Now()
		got, err := f.call(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if took := int64(time.Since(began)); got == "fast" {
			longest.Store(max(longest.Load(), took))
		}
		return got
	}
	count := map[string]int{}
	for count["slow"] == 0 || count["fast"] == 0 {
		count[timed()]++
	}
	clear(count)
	for count["fast"] < 100 && count["slow"] <= 10 {
		count[timed()]++
	}
	if count["slow"] > 10 {
		t.Errorf("got %v", count)
	}
}

// TestPeakEWMAOfStreams has a server whose streams last, but are answered faster than
// the other answers anything: it is the fast one, by both ways to make a stream.
func TestPeakEWMAOfStreams(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*routev3.Route){"once": nil, "retry": retry("unavailable", 2)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const slow = 300 * time.Millisecond
			lasting := func(srv any, ss grpc.ServerStream) error {
				if method, _ := grpc.MethodFromServerStream(ss); method != "/a.B/Watch" {
					return xdstest.Answer("fast", nil)(srv, ss)
				}
				_ = ss.SendMsg(wrapperspb.String("fast"))
				<-time.After(3 * slow)
				return nil
			}
			other := func(srv any, ss grpc.ServerStream) error {
				<-time.After(slow)
				return xdstest.Answer("slow", nil)(srv, ss)
			}
			f := newFixture(t, nil)
			c := xdstest.Cluster("c")
			c.Metadata = extension(t, map[string]any{"peak_ewma": map[string]any{"decay": "3600s"}})
			f.Set(c, xdstest.Endpoints("c", xdstest.NewServer(t, lasting).Addr, xdstest.NewServer(t, other).Addr),
				xdstest.Routes(target, xdstest.Route(edit, "c")), xdstest.Listener(target))
			for met := map[string]bool{}; len(met) < 2; {
				st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/Watch")
				if err == nil {
					err = st.SendMsg(wrapperspb.String("hello"))
				}
				if err != nil {
					t.Fatal(err)
				}
				var from wrapperspb.StringValue
				for err = st.CloseSend(); err == nil; err = st.RecvMsg(&from) {
					if from.Value != "" {
						met[from.Value] = true
					}
				}
			}
			if got, err := f.call(t.Context()); got != "fast" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

// TestConnectTimeout looks at the deadline that connecting gets.
func TestConnectTimeout(t *testing.T) {
	t.Parallel()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	addr := lis.Addr().String()
	f := newFixture(t, nil)
	c := xdstest.Cluster("c")
	c.ConnectTimeout = durationpb.New(70 * time.Millisecond)
	f.Set(c)
	f.Set(xdstest.Endpoints("c", addr), xdstest.Routes(target, xdstest.Route(nil, "c")), xdstest.Listener(target))
	tgt := f.manager.Target(target)
	defer tgt.Acquire().Release()
	for s := tgt.Snapshot(); s == nil; s = tgt.Snapshot() {
		if t.Context().Err() != nil {
			t.Fatal("no snapshot")
		}
	}
	ic := interceptors.NewClient(tgt, interceptors.ClientOptions{})
	deadline := make(chan time.Duration, 1)
	ic.Control(func(ctx context.Context) {
		if d, ok := ctx.Deadline(); ok {
			deadline <- time.Until(d)
		}
	})
	conn, err := ic.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if d := <-deadline; d > 70*time.Millisecond {
		t.Errorf("connecting may take %v", d)
	}
}

func TestUnixSocketEndpoint(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/s"
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(grpc.UnknownServiceHandler(xdstest.Answer("by socket", nil)))
	go func() { _ = s.Serve(lis) }()
	defer s.Stop()
	cp := xdstest.NewControlPlane(t)
	a := xdstest.Endpoints("c", "127.0.0.1:1")
	a.Endpoints[0].LbEndpoints[0].GetEndpoint().Address = &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}
	cp.Set(xdstest.Cluster("c"), a, xdstest.Routes(target, xdstest.Route(nil, "c")), xdstest.Listener(target))
	var ic *interceptors.Client
	f := newFixtureFor(t, cp, nil, grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) { return ic.Dial(ctx, address) }))
	ic = interceptors.NewClient(f.manager.Target(target), interceptors.ClientOptions{})
	if got, err := f.call(t.Context()); err != nil || got != "by socket" {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestSessionKeepsTheHost(t *testing.T) {
	t.Parallel()
	onEachRoad(t, func(t *testing.T, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
		f := newFixture(t, nil)
		c := xdstest.Cluster("c")
		c.Metadata = extension(t, map[string]any{"session": map[string]any{"header": "x-session"}})
		f.Set(c)
		f.Set(xdstest.Endpoints("c", witness(t, "0", nil).Addr, witness(t, "1", nil).Addr, witness(t, "2", nil).Addr),
			xdstest.Routes(target, xdstest.Route(nil, "c")), xdstest.Listener(target))
		var header metadata.MD
		first, err := call(t.Context(), f, "/a.B/C", grpc.Header(&header))
		if err != nil || len(header.Get("x-session")) != 1 {
			t.Fatalf("%v, header %v", err, header)
		}
		ctx := metadata.AppendToOutgoingContext(t.Context(), "x-session", header.Get("x-session")[0])
		for range 10 {
			header = nil
			got, err := call(ctx, f, "/a.B/C", grpc.Header(&header))
			if err != nil || got != first {
				t.Fatalf("got %q, %v after %q", got, err, first)
			}
			if len(header.Get("x-session")) != 0 {
				t.Fatal("the client is bound again to the host that it is bound to")
			}
		}
	})
}
