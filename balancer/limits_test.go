package balancer_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/srvframe"
	"github.com/meshframe/meshframe/srvframe/meshtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rules are a DestinationRule of reviews, and a VirtualService that sends calls
// with the header version to the subset of that name.
func rules(policy, subsetV1 string) string {
	return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}, connectionPool: {%s}}
  subsets:
  - {name: v1, labels: {version: v1}%s}
  - {name: v2, labels: {version: v2}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - {match: [{headers: {version: {exact: v1}}}], retries: {attempts: 0}, route: [{destination: {host: reviews, subset: v1}}]}
  - {match: [{headers: {version: {exact: v2}}}], retries: {attempts: 0}, route: [{destination: {host: reviews, subset: v2}}]}
  - {retries: {attempts: 0}, route: [{destination: {host: reviews}}]}
`, policy, subsetV1)
}

// noLimits is what changes nothing about connections.
const noLimits = "http: {http2MaxRequests: 1000}"

// ledger is what a server saw of its connections.
type ledger struct {
	mu       sync.Mutex
	requests []int // by connection, in the order in which they were made
	open     int
	most     int // open at once
}

type connectionKey struct{}

// TagConn implements stats.Handler.
func (l *ledger) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests = append(l.requests, 0)
	return context.WithValue(ctx, connectionKey{}, len(l.requests)-1)
}

// HandleConn implements stats.Handler.
func (l *ledger) HandleConn(_ context.Context, s stats.ConnStats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch s.(type) {
	case *stats.ConnBegin:
		l.open++
		l.most = max(l.most, l.open)
	case *stats.ConnEnd:
		l.open--
	}
}

// TagRPC implements stats.Handler.
func (l *ledger) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests[ctx.Value(connectionKey{}).(int)]++
	return ctx
}

// HandleRPC implements stats.Handler.
func (l *ledger) HandleRPC(context.Context, stats.RPCStats) {}

// seen are the requests of each connection, those that are open and those that
// were at most.
func (l *ledger) seen() (requests []int, open, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.requests), l.open, l.most
}

// start starts a server of reviews that echoes messages until the stream ends.
func start(m *meshtest.Mesh, version string, opts ...grpc.ServerOption) *ledger {
	l := &ledger{}
	opts = append(opts, grpc.StatsHandler(l), grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
		for {
			var message wrapperspb.StringValue
			if ss.RecvMsg(&message) != nil {
				return nil
			}
			if err := ss.SendMsg(wrapperspb.String(version)); err != nil {
				return err
			}
		}
	}))
	m.Server("reviews:9080", map[string]string{"version": version}, func(grpc.ServiceRegistrar) {}, opts...)
	return l
}

func unary(ctx context.Context, cc *grpc.ClientConn) (string, error) {
	var reply wrapperspb.StringValue
	err := cc.Invoke(ctx, "/shop.Reviews/Get", wrapperspb.String("?"), &reply)
	return reply.GetValue(), err
}

// call makes a unary call to a version; empty is any.
func call(t *testing.T, cc *grpc.ClientConn, version string) string {
	t.Helper()
	ctx := t.Context()
	if version != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "version", version)
	}
	got, err := unary(ctx, cc)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// talk is a stream that is under way.
type talk struct {
	t      *testing.T
	stream grpc.ClientStream
	cancel context.CancelFunc
}

func begin(t *testing.T, cc *grpc.ClientConn) *talk {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/shop.Reviews/Talk")
	if err != nil {
		t.Fatal(err)
	}
	s := &talk{t, stream, cancel}
	s.say()
	return s
}

// say sends a message and waits for the answer.
func (s *talk) say() {
	s.t.Helper()
	if err := s.stream.SendMsg(wrapperspb.String("?")); err != nil {
		s.t.Fatal(err)
	}
	if err := s.stream.RecvMsg(&wrapperspb.StringValue{}); err != nil {
		s.t.Fatal(err)
	}
}

func (s *talk) end() { s.cancel() }

func wantRequests(t *testing.T, l *ledger, want ...int) {
	t.Helper()
	synctest.Wait()
	if got, _, _ := l.seen(); !slices.Equal(got, want) {
		t.Errorf("requests on the connections: %v, want %v", got, want)
	}
}

// inMemory runs a test in a bubble, with a mesh in it.
func inMemory(t *testing.T, policy, subsetV1 string, test func(t *testing.T, m *meshtest.Mesh)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		test(t, meshtest.New(t, rules(policy, subsetV1), meshtest.InMemory()))
	})
}

// TestNoConnectionServesMoreThanItMay has many calls compete for connections of
// few requests: none fails, and the bound is exact.
func TestNoConnectionServesMoreThanItMay(t *testing.T) {
	const goroutines = 64
	for _, tt := range []struct {
		name, policy    string
		calls, requests int // by each goroutine, on a connection
	}{
		{"requests", "http: {maxRequestsPerConnection: 10}", 60, 10},
		{"one request", "http: {maxRequestsPerConnection: 1}", 5, 1},
		{"requests and streams", "http: {maxRequestsPerConnection: 25, maxConcurrentStreams: 4}", 40, 25},
		{"few connections", "tcp: {maxConnections: 3}, http: {maxRequestsPerConnection: 10, maxConcurrentStreams: 5}", 12, 10},
		{"short lives", "tcp: {maxConnectionDuration: 20ms}, http: {idleTimeout: 2ms}", 30, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := meshtest.New(t, rules(tt.policy, ""))
			v1, v2 := start(m, "v1"), start(m, "v2")
			cc := m.Client("reviews:9080")
			var failed atomic.Int64
			var wg sync.WaitGroup
			for g := range goroutines {
				wg.Go(func() {
					for i := range tt.calls {
						var err error
						if (g+i)%2 == 0 {
							_, err = unary(t.Context(), cc)
						} else {
							err = pingPong(t.Context(), cc)
						}
						if err != nil && failed.Add(1) < 5 {
							t.Errorf("call %d: %v", i, err)
						}
					}
				})
			}
			wg.Wait()
			total := 0
			for _, l := range []*ledger{v1, v2} {
				requests, _, _ := l.seen()
				for _, n := range requests {
					total += n
					if tt.requests > 0 && n > tt.requests {
						t.Errorf("a connection served %d requests, want at most %d", n, tt.requests)
					}
				}
				t.Logf("%d connections", len(requests))
			}
			if failed.Load() > 0 || total != goroutines*tt.calls {
				t.Errorf("%d calls failed, servers saw %d, want %d", failed.Load(), total, goroutines*tt.calls)
			}
		})
	}
}

// pingPong makes a stream with two messages in either direction.
func pingPong(ctx context.Context, cc *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/shop.Reviews/Talk")
	if err != nil {
		return err
	}
	for range 2 {
		_ = stream.SendMsg(wrapperspb.String("?")) // what is wrong is said where messages are received
		if err := stream.RecvMsg(&wrapperspb.StringValue{}); err != nil {
			return err
		}
	}
	return nil
}

func TestTheSuccessorIsThereBeforeItIsNeeded(t *testing.T) {
	inMemory(t, "http: {maxRequestsPerConnection: 10}", "", func(t *testing.T, m *meshtest.Mesh) {
		l := start(m, "v1")
		cc := m.Client("reviews:9080")
		for range 7 {
			call(t, cc, "")
		}
		wantRequests(t, l, 7)
		call(t, cc, "")
		wantRequests(t, l, 8, 0)
		call(t, cc, "")
		call(t, cc, "")
		wantRequests(t, l, 10, 0)
		if _, open, _ := l.seen(); open != 1 {
			t.Errorf("%d connections are open: the one that is used up has no calls", open)
		}
		call(t, cc, "")
		wantRequests(t, l, 10, 1)
	})
}

// TestLimitsComeToAConnection has a rule appear while there is a connection with
// a call, and go again.
func TestLimitsComeToAConnection(t *testing.T) {
	inMemory(t, noLimits, "", func(t *testing.T, m *meshtest.Mesh) {
		l := start(m, "v1")
		cc := m.Client("reviews:9080")
		long := begin(t, cc)
		for range 20 {
			call(t, cc, "")
		}
		wantRequests(t, l, 21)
		m.Apply(rules("http: {maxRequestsPerConnection: 10}", ""))
		wantRequests(t, l, 21, 0) // what was not counted is not used any more
		for range 12 {
			call(t, cc, "")
		}
		wantRequests(t, l, 21, 10, 2)
		long.say()
		m.Apply(rules(noLimits, ""))
		for range 20 {
			call(t, cc, "")
		}
		wantRequests(t, l, 21, 10, 22)
		long.say()
		long.end()
		time.Sleep(2 * time.Second) // it stays open for calls that were just given it
		synctest.Wait()
		if _, open, _ := l.seen(); open != 1 {
			t.Errorf("%d connections are open, want 1", open)
		}
	})
}

func TestAShorterDurationCountsFromTheBeginning(t *testing.T) {
	inMemory(t, "tcp: {maxConnectionDuration: 1h}", "", func(t *testing.T, m *meshtest.Mesh) {
		l := start(m, "v1")
		cc := m.Client("reviews:9080")
		call(t, cc, "")
		time.Sleep(50 * time.Second)
		m.Apply(rules("tcp: {maxConnectionDuration: 60s}", ""))
		call(t, cc, "")
		wantRequests(t, l, 2)
		time.Sleep(9 * time.Second)
		call(t, cc, "")
		wantRequests(t, l, 3, 0) // the successor is there
		time.Sleep(1100 * time.Millisecond)
		call(t, cc, "")
		wantRequests(t, l, 3, 1)
		time.Sleep(10 * time.Second)
		m.Apply(rules("tcp: {maxConnectionDuration: 10s}", "")) // it is older than that
		call(t, cc, "")
		wantRequests(t, l, 3, 1, 1)
	})
}

// TestDurationsComeToAConnection has a rule appear: the age of a connection is
// known before.
func TestDurationsComeToAConnection(t *testing.T) {
	inMemory(t, noLimits, "", func(t *testing.T, m *meshtest.Mesh) {
		l := start(m, "v1")
		cc := m.Client("reviews:9080")
		call(t, cc, "")
		time.Sleep(50 * time.Second)
		m.Apply(rules("tcp: {maxConnectionDuration: 60s}", ""))
		call(t, cc, "")
		wantRequests(t, l, 2)
		time.Sleep(11 * time.Second)
		call(t, cc, "")
		wantRequests(t, l, 2, 1)
	})
}

// TestACallConnectsWhatRests has calls to one of two servers only. The connection
// to the other rests, until a call could have gone there.
func TestACallConnectsWhatRests(t *testing.T) {
	inMemory(t, "http: {idleTimeout: 30s}", "", func(t *testing.T, m *meshtest.Mesh) {
		v1, v2 := start(m, "v1"), start(m, "v2")
		cc := m.Client("reviews:9080")
		for range 4 {
			call(t, cc, "")
			synctest.Wait()
		}
		for range 10 {
			time.Sleep(10 * time.Second)
			call(t, cc, "v1")
		}
		synctest.Wait()
		_, open1, _ := v1.seen()
		if requests, open2, _ := v2.seen(); open1 != 1 || open2 != 0 || len(requests) != 1 {
			t.Fatalf("%d and %d connections are open, the second of %d", open1, open2, len(requests))
		}
		m.Sync() // nobody connects because of a snapshot
		synctest.Wait()
		if _, open2, _ := v2.seen(); open2 != 0 {
			t.Fatal("the second is connected")
		}
		call(t, cc, "")
		synctest.Wait()
		if _, open2, _ := v2.seen(); open2 != 1 {
			t.Fatal("the second is not connected, though calls are for both")
		}
		seen := map[string]int{}
		for range 10 {
			seen[call(t, cc, "")]++
		}
		if seen["v1"] != 5 || seen["v2"] != 5 {
			t.Errorf("answers %v", seen)
		}
	})
}

func TestConnectConnectsWhatRests(t *testing.T) {
	inMemory(t, "http: {idleTimeout: 30s}", "", func(t *testing.T, m *meshtest.Mesh) {
		l := start(m, "v1")
		cc := m.Client("reviews:9080")
		call(t, cc, "")
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if _, open, _ := l.seen(); open != 0 {
			t.Fatal("the connection does not rest")
		}
		cc.Connect()
		synctest.Wait()
		if _, open, _ := l.seen(); open != 1 {
			t.Fatal("Connect does not connect")
		}
	})
}

// TestTheStrictestClusterCounts has two clusters with the same server.
func TestTheStrictestClusterCounts(t *testing.T) {
	inMemory(t, "http: {maxRequestsPerConnection: 10}", ", trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 4}}}", func(t *testing.T, m *meshtest.Mesh) {
		l := start(m, "v1")
		cc := m.Client("reviews:9080")
		for i := range 10 {
			call(t, cc, []string{"", "v1"}[i%2])
		}
		wantRequests(t, l, 4, 4, 2)
	})
}

// TestALostConnectionIsMadeAgain has a server that ends connections by itself.
func TestALostConnectionIsMadeAgain(t *testing.T) {
	inMemory(t, "http: {maxRequestsPerConnection: 1000}", "", func(t *testing.T, m *meshtest.Mesh) {
		l := start(m, "v1", grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: 10 * time.Second}))
		cc := m.Client("reviews:9080")
		for range 100 {
			call(t, cc, "")
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if requests, open, _ := l.seen(); len(requests) < 5 || open > 1 {
			t.Errorf("requests on the connections: %v, %d open", requests, open)
		}
	})
}

// TestClientsShareTheLimitOfConnections has two clients of one process.
func TestClientsShareTheLimitOfConnections(t *testing.T) {
	inMemory(t, "tcp: {maxConnections: 3}, http: {maxConcurrentStreams: 1, idleTimeout: 10s}", "", func(t *testing.T, m *meshtest.Mesh) {
		l := start(m, "v1")
		member := m.Member(srvframe.Options{})
		a, b := member.Client("reviews:9080"), member.Client("reviews:9080")
		first, second := begin(t, a), begin(t, b)
		var third, fourth *talk
		var wg sync.WaitGroup
		wg.Go(func() { third = begin(t, a) })
		wg.Wait()
		wg.Go(func() { fourth = begin(t, b) })
		synctest.Wait()
		if _, open, most := l.seen(); open != 3 || most != 3 {
			t.Fatalf("%d connections, %d at most, want 3", open, most)
		}
		second.end()
		wg.Wait() // the place that became free is the fourth's
		if requests, _, _ := l.seen(); len(requests) != 3 {
			t.Errorf("requests on the connections: %v", requests)
		}
		for _, s := range []*talk{first, third, fourth} {
			s.end()
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if _, open, _ := l.seen(); open != 0 {
			t.Fatalf("%d connections do not rest", open)
		}
		// All places were given back.
		var talks []*talk
		for range 3 {
			talks = append(talks, begin(t, a))
		}
		if _, open, _ := l.seen(); open != 3 {
			t.Errorf("%d connections, want 3", open)
		}
		for _, s := range talks {
			s.end()
		}
	})
}

// TestAClientHearsOfRoomThatAnotherLeaves has a call wait for a connection that
// another client of the process has, and gives up.
func TestAClientHearsOfRoomThatAnotherLeaves(t *testing.T) {
	inMemory(t, "tcp: {maxConnections: 3}, http: {maxConcurrentStreams: 1, idleTimeout: 10s}", "", func(t *testing.T, m *meshtest.Mesh) {
		l := start(m, "v1")
		member := m.Member(srvframe.Options{})
		a, b := member.Client("reviews:9080"), member.Client("reviews:9080")
		talks := []*talk{begin(t, a), begin(t, a), begin(t, b)}
		var waited time.Duration
		var wg sync.WaitGroup
		wg.Go(func() {
			began := time.Now()
			talks = append(talks, begin(t, b))
			waited = time.Since(began)
		})
		synctest.Wait()
		if _, open, _ := l.seen(); open != 3 {
			t.Fatalf("%d connections, want 3", open)
		}
		talks[0].end()
		wg.Wait()
		if _, open, most := l.seen(); open != 3 || most != 3 || waited > 12*time.Second {
			t.Errorf("%d connections, %d at most, want 3; the call waited %v for one that rests after 10s", open, most, waited)
		}
		for _, s := range talks {
			s.end()
		}
	})
}

// door is a dialer that can be closed.
type door struct {
	mesh   *meshtest.Mesh
	closed atomic.Bool
}

var errClosed = errors.New("the door is closed")

func (d *door) dial(ctx context.Context, address string) (net.Conn, error) {
	if d.closed.Load() {
		return nil, errClosed
	}
	return d.mesh.Dial(ctx, address)
}

// TestASuccessorThatFailsIsTriedAgain has a server that cannot be connected to
// for a while.
func TestASuccessorThatFailsIsTriedAgain(t *testing.T) {
	inMemory(t, "http: {maxRequestsPerConnection: 10}", "", func(t *testing.T, m *meshtest.Mesh) {
		l := start(m, "v1")
		d := &door{mesh: m}
		cc := m.Client("reviews:9080", srvframe.WithContextDialer(d.dial))
		call(t, cc, "")
		d.closed.Store(true)
		for range 9 { // they do not need the next connection
			call(t, cc, "")
			synctest.Wait()
		}
		if _, err := unary(t.Context(), cc); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), errClosed.Error()) {
			t.Errorf("got %v", err)
		}
		d.closed.Store(false)
		time.Sleep(5 * time.Second) // longer than gRPC waits
		call(t, cc, "")
		wantRequests(t, l, 10, 1)
	})
}

// TestCallsWaitForAStream has a server that cannot be connected to once more.
func TestCallsWaitForAStream(t *testing.T) {
	inMemory(t, "http: {maxConcurrentStreams: 1}", "", func(t *testing.T, m *meshtest.Mesh) {
		l := start(m, "v1")
		d := &door{mesh: m}
		cc := m.Client("reviews:9080", srvframe.WithContextDialer(d.dial))
		first := begin(t, cc)
		d.closed.Store(true)
		var calls sync.WaitGroup
		for range 5 {
			calls.Go(func() { call(t, cc, "") })
		}
		time.Sleep(time.Minute)
		first.say()
		wantRequests(t, l, 1)
		first.end()
		calls.Wait()
		wantRequests(t, l, 6)
	})
}
