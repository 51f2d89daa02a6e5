package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/retry"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/srvframe"
	"github.com/meshframe/meshframe/srvframe/meshtest"
)

// TestSoak changes all policies at random under calls of all kinds, and holds that
// each call ends in time, in a way that the rules which were in force meanwhile
// explain, and that nothing is left over when it is done.
//
// It plays one seed in a bubble, where time is exact, and one on loopback. With
// SOAK=10m in the environment it plays one seed after another for as long. SOAK_SEED
// is the first of them, and SOAK_MODE=bubble or loopback plays one way only.
func TestSoak(t *testing.T) {
	seed, err := strconv.ParseUint(environment("SOAK_SEED", "1"), 10, 64)
	if err != nil {
		t.Fatal("SOAK_SEED: ", err)
	}
	length, err := time.ParseDuration(environment("SOAK", "0s"))
	if err != nil {
		t.Fatal("SOAK: ", err)
	}
	mode := os.Getenv("SOAK_MODE")
	for end := time.Now().Add(length); ; seed++ {
		if mode != "loopback" {
			t.Run(fmt.Sprintf("bubble seed %d", seed), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { playSoak(t, seed, true) })
			})
		}
		if mode != "bubble" {
			t.Run(fmt.Sprintf("loopback seed %d", seed), func(t *testing.T) { playSoak(t, seed, false) })
		}
		if err := goleak.Find(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if t.Failed() || !time.Now().Before(end) {
			return
		}
	}
}

func environment(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

const (
	soakFlips = 8 // configurations that a seed plays
	// soakTime is when a seed on loopback ends though it has not played all.
	soakTime = 4 * time.Second
	// soakPatience is what calls get that nothing bounds. On loopback it is added
	// to what bounds calls, too.
	soakPatience = 20 * time.Second
	// mirrorPatience is how long copies of calls may be under way after them.
	mirrorPatience = 35 * time.Second
	// soakHeap bounds what may be live on the heap beside what was before.
	soakHeap = 96 << 20
)

// soak is one seed being played.
type soak struct {
	t      *testing.T
	seed   uint64
	exact  bool // time is
	client *meshtest.Member
	done   atomic.Bool
	told   sync.Once

	// Of the goroutine that changes things.
	servers []soakServer
	started uint64

	// The rules that may be in force, of all there were: from those that are known
	// to be everywhere up to those that are on their way.
	all  []*soakRules // guarded by mu
	sure atomic.Int64
	last atomic.Int64

	// Guarded by mu.
	mu     sync.Mutex
	calls  int
	active int
	paused bool
	moved  *sync.Cond
	tally  map[string]int
	seen   map[string]int // attempts that servers saw, by call
	states map[*snapshot.ClusterState]bool
	steady bool // no call under way was decided by other rules
}

// playSoak plays one seed.
func playSoak(t *testing.T, seed uint64, bubble bool) {
	s := &soak{t: t, seed: seed, exact: bubble, tally: map[string]int{}, seen: map[string]int{}, states: map[*snapshot.ClusterState]bool{}}
	s.moved = sync.NewCond(&s.mu)
	before := heap()
	var opts []meshtest.Option
	if bubble {
		opts = append(opts, meshtest.InMemory())
	}
	m := meshtest.New(t, "", opts...)
	rnd := rand.New(rand.NewPCG(seed, 0))
	m.Batch(func() { s.begin(m, rnd) })
	s.client = m.Member(srvframe.Options{Fallbacks: map[string]srvframe.Fallback{"answer": func(_ context.Context, _ string, _, reply any) error {
		reply.(*wrapperspb.StringValue).Value = "answer"
		return nil
	}}})
	steady := s.client.Client("reviews:9080", grpc.WithStatsHandler(s), srvframe.WithEnvoyRequestHeaders())
	idling := s.client.Client("reviews:9080", grpc.WithStatsHandler(s), grpc.WithIdleTimeout(10*time.Millisecond))
	var workers sync.WaitGroup
	for i := range uint64(6) {
		workers.Go(func() { s.work(steady, 100+i, 5, true) })
	}
	for i := range uint64(2) {
		workers.Go(func() { s.work(idling, 200+i, 40, false) })
	}
	workers.Go(s.closeOften)
	var most int64
	flips := 0
	for began := time.Now(); flips < soakFlips && (bubble || time.Since(began) < soakTime); flips++ {
		s.flip(m, rnd)
		pass(time.Duration(rnd.IntN(60)) * time.Millisecond)
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		most = max(most, int64(stats.HeapAlloc)-before)
		if t.Failed() {
			break
		}
	}
	s.done.Store(true)
	workers.Wait()
	s.pause()
	if most > 2*soakHeap { // with garbage
		s.errorf("%d MiB were on the heap", most>>20)
	}
	t.Logf("seed %d: %d calls, %d changes, %d clusters, %d MiB", seed, s.calls, flips, len(s.states), most>>20)
	for _, kind := range slices.Sorted(func(yield func(string) bool) {
		for kind := range s.tally {
			if !yield(kind) {
				return
			}
		}
	}) {
		t.Logf("%6d %s", s.tally[kind], kind)
	}
}

// begin starts the servers and applies the first rules.
func (s *soak) begin(m *meshtest.Mesh, rnd *rand.Rand) {
	for _, version := range []string{"v1", "v1", "v2", "v2"} {
		s.servers = append(s.servers, s.start(m, version))
	}
	m.Server("ratings:9080", nil, func(grpc.ServiceRegistrar) {}, grpc.UnknownServiceHandler(s.serve(10, "ratings")))
	s.all = append(s.all, drawRules(rnd))
	m.Apply(s.all[0].yaml)
}

// start starts a server of reviews.
func (s *soak) start(m *meshtest.Mesh, version string) soakServer {
	s.started++
	return soakServer{version, m.Server("reviews:9080", map[string]string{"version": version}, func(grpc.ServiceRegistrar) {},
		grpc.UnknownServiceHandler(s.serve(100+s.started, version)))}
}

// soakServer is a server of reviews.
type soakServer struct {
	version string
	*meshtest.Server
}

// replace starts a server and then stops one of the same version, at once.
func (s *soak) replace(m *meshtest.Mesh, i int) {
	old := s.servers[i]
	s.servers[i] = s.start(m, old.version)
	old.Stop()
	old.Kill() // its member leaves, too
}

// pass lets some time pass.
func pass(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
}

// flip applies other rules: under calls, or while there are none, so that all
// which follow go by them.
func (s *soak) flip(m *meshtest.Mesh, rnd *rand.Rand) {
	still := rnd.IntN(3) == 0
	if still {
		s.pause()
	}
	next := drawRules(rnd)
	next.stops = rnd.IntN(4) == 0
	s.mu.Lock()
	s.all, s.steady = append(s.all, next), still
	s.last.Store(int64(len(s.all) - 1))
	s.mu.Unlock()
	if next.stops {
		m.Batch(func() { s.replace(m, rnd.IntN(len(s.servers))) })
	}
	m.Apply(next.yaml)
	s.sure.Store(s.last.Load())
	s.resume()
}

// pause lets no call begin, waits for those under way and holds that they have
// given back what they had.
func (s *soak) pause() {
	s.mu.Lock()
	s.paused = true
	for s.active > 0 {
		s.moved.Wait()
	}
	s.mu.Unlock()
	for end := time.Now().Add(mirrorPatience); ; pass(time.Millisecond) {
		left := s.inUse()
		if len(left) == 0 {
			return
		}
		if time.Now().After(end) {
			s.errorf("after the last call: %s", strings.Join(left, "\n"))
			return
		}
	}
}

func (s *soak) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused = false
	s.moved.Broadcast()
}

// inUse says what clusters have in use.
func (s *soak) inUse() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left []string
	for c := range s.states {
		if b := &c.Breaker; b.Requests() != 0 || b.Pending() != 0 || b.Retries() != 0 || c.InUse() {
			left = append(left, fmt.Sprintf("%s: %d requests, %d pending, %d retries, in use %v", c.Name, b.Requests(), b.Pending(), b.Retries(), c.InUse()))
		}
	}
	return left
}

// errorf fails the test. The first failure tells of the rules in force.
func (s *soak) errorf(format string, args ...any) { s.failf(s.sure.Load(), format, args...) }

// failf is errorf for what began under the rules of some number.
func (s *soak) failf(first int64, format string, args ...any) {
	s.t.Errorf("seed %d: %s", s.seed, fmt.Sprintf(format, args...))
	s.told.Do(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, r := range s.all[first:] {
			s.t.Logf("rules %d:\n%s", int(first)+i, r.yaml)
		}
	})
}

// errorf fails the test over a call.
func (w *soakWorker) errorf(c *soakCall, format string, args ...any) {
	kind := "stream"
	if c.unary {
		kind = "unary"
	}
	if c.waits {
		kind += " waiting for ready"
	}
	w.failf(c.first, "call %s (%s, route %d, deadline %v, session %q, asking for %q): %s", c.id, kind, c.route, c.deadline, c.session, c.asks, fmt.Sprintf(format, args...))
}

// The soak sees every attempt as a stats.Handler of its channels.
var _ stats.Handler = (*soak)(nil)

// TagRPC implements stats.Handler.
func (s *soak) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	call := mesh.CallFrom(ctx)
	if call == nil || call.Decision.Upstream == nil {
		return ctx
	}
	up := call.Decision.Upstream
	s.mu.Lock()
	s.states[up.State] = true
	steady := s.steady
	s.mu.Unlock()
	if steady {
		s.within(&up.State.Breaker, &up.Cluster.Limits, up.Name)
	}
	return ctx
}

// within holds that no more is in use than the limits admit.
func (s *soak) within(b *breaker.State, l *breaker.Limits, cluster string) {
	requests, pending, retries := b.Requests(), b.Pending(), b.Retries()
	s.mu.Lock()
	steady := s.steady // or limits have changed meanwhile
	s.mu.Unlock()
	if steady && (requests > int64(l.MaxRequests) || pending > int64(l.MaxPendingRequests) || !l.HasBudget && retries > int64(l.MaxRetries)) {
		s.errorf("%s: %d requests, %d pending, %d retries, limits %+v", cluster, requests, pending, retries, *l)
	}
}

// HandleRPC implements stats.Handler.
func (s *soak) HandleRPC(context.Context, stats.RPCStats) {}

// TagConn implements stats.Handler.
func (s *soak) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (s *soak) HandleConn(context.Context, stats.ConnStats) {}

// serve is a server that echoes, with its name before what it got. At times it
// takes a while, or fails.
func (s *soak) serve(number uint64, who string) grpc.StreamHandler {
	var n atomic.Uint64
	name := fmt.Sprint(who, "-", number)
	return func(_ any, stream grpc.ServerStream) error {
		rnd := rand.New(rand.NewPCG(s.seed<<8|number, n.Add(1)))
		md, _ := metadata.FromIncomingContext(stream.Context())
		if who != "ratings" {
			s.mu.Lock()
			s.seen[strings.Join(md["call"], "")]++
			s.mu.Unlock()
		}
		for name := range md {
			if retry.IsRequestHeader(name) {
				s.errorf("%s sees the header %s", who, name)
			}
		}
		stream.SetTrailer(metadata.Pairs("who", name))
		_ = stream.SetHeader(metadata.Pairs("who", name))
		switch p := rnd.Float64(); {
		case p < 0.04:
			return status.Error(codes.Unavailable, "injected by "+who)
		case p < 0.06:
			_ = stream.SetHeader(metadata.Pairs("again", "yes"))
			return status.Error(codes.Unavailable, "injected by "+who)
		case p < 0.2:
			wait(stream.Context(), time.Duration(rnd.IntN(30))*time.Millisecond)
		case p < 0.23:
			_ = stream.SendHeader(nil)
			wait(stream.Context(), time.Duration(rnd.IntN(30))*time.Millisecond)
		}
		for {
			var m wrapperspb.StringValue
			switch err := stream.RecvMsg(&m); {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			}
			if rnd.Float64() < 0.01 {
				return status.Error(codes.Unavailable, "injected late by "+who)
			}
			if rnd.Float64() < 0.02 {
				wait(stream.Context(), time.Duration(rnd.IntN(10))*time.Millisecond)
			}
			m.Value = name + "|" + m.Value
			if err := stream.SendMsg(&m); err != nil {
				return err
			}
		}
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// work makes calls, with pauses between some.
func (s *soak) work(cc *grpc.ClientConn, number uint64, pauses int, asks bool) {
	w := &soakWorker{soak: s, rnd: rand.New(rand.NewPCG(s.seed, number)), cc: cc, number: number, asks: asks}
	for !s.done.Load() && !s.t.Failed() {
		if w.call(); w.failed {
			pass(time.Millisecond) // or nothing else gets done
		}
		if w.rnd.IntN(2) == 0 {
			pass(time.Duration(w.rnd.IntN(pauses*1000)) * time.Microsecond)
		}
	}
}

// closeOften closes a channel with calls under way, again and again.
func (s *soak) closeOften() {
	rnd := rand.New(rand.NewPCG(s.seed, 300))
	for n := uint64(0); !s.done.Load() && !s.t.Failed(); n++ {
		cc := s.client.Client("reviews:9080", grpc.WithStatsHandler(s))
		var closing atomic.Bool
		var workers sync.WaitGroup
		for i := range uint64(2) {
			w := &soakWorker{soak: s, rnd: rand.New(rand.NewPCG(s.seed, 400+i+n<<8)), cc: cc, number: 400 + i + n<<8, closing: &closing}
			workers.Go(func() {
				for !closing.Load() {
					if w.call(); w.failed {
						pass(time.Millisecond)
					}
				}
			})
		}
		pass(time.Duration(rnd.IntN(40)) * time.Millisecond)
		closing.Store(true)
		_ = cc.Close()
		workers.Wait()
	}
}

// soakWorker makes one call after the other.
type soakWorker struct {
	*soak

	rnd     *rand.Rand
	cc      *grpc.ClientConn
	number  uint64
	made    int
	session string
	asks    bool         // its calls may ask by Envoy's headers
	failed  bool         // the last call
	closing *atomic.Bool // the channel is being closed; nil: never
}

// soakCall is a call under way.
type soakCall struct {
	ended

	ctx             context.Context
	cancel          context.CancelFunc
	id, session     string
	asks            []string
	waits           bool  // for ready
	first           int64 // the rules that were in force when it began
	began           time.Time
	opts            []grpc.CallOption
	header, trailer metadata.MD
	from            peer.Peer
	reports         bool // header, trailer and from are asked for
	abandoned       bool
	who             string // the server that answered
	finished        chan error
}

// enter waits while calls may not begin.
func (s *soak) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.paused {
		s.moved.Wait()
	}
	s.active++
	s.calls++
}

func (s *soak) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	s.moved.Broadcast()
}

// call makes one call of some kind, and judges its end.
func (w *soakWorker) call() {
	w.enter()
	defer w.leave()
	c := w.newCall()
	defer c.cancel()
	hang := time.AfterFunc(c.deadline+soakPatience, func() {
		buf := make([]byte, 4<<20)
		w.errorf(c, "hangs\n%s", buf[:runtime.Stack(buf, true)])
		c.cancel()
	})
	defer hang.Stop()
	if c.unary {
		w.unary(c)
	} else {
		w.stream(c)
	}
	c.took = time.Since(c.began)
	c.canceled = c.ctx.Err() != nil && errors.Is(c.ctx.Err(), context.Canceled)
	last := w.last.Load()
	w.mu.Lock()
	rules := w.all[c.first : last+1]
	w.mu.Unlock()
	w.judge(c, rules)
	w.judgeFinish(c)
	w.note(c)
	w.failed = c.err != nil
}

// newCall draws a call.
func (w *soakWorker) newCall() *soakCall {
	w.made++
	c := &soakCall{began: time.Now(), first: w.sure.Load(), id: fmt.Sprint(w.number, "-", w.made), finished: make(chan error, 8)}
	c.unary, c.route = w.rnd.IntN(2) == 0, 1
	ctx := metadata.AppendToOutgoingContext(context.Background(), "id", fmt.Sprint(w.rnd.IntN(20)), "call", c.id)
	if w.rnd.IntN(3) == 0 {
		c.route = 0
		ctx = metadata.AppendToOutgoingContext(ctx, "version", "v2")
	}
	if c.session = w.session; c.session != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "session", w.session)
	}
	c.waits = w.rnd.IntN(3) == 0
	if w.asks && w.rnd.IntN(3) == 0 {
		c.asks = c.ask(w.rnd)
		ctx = metadata.AppendToOutgoingContext(ctx, c.asks...)
	}
	c.ctx, c.cancel = context.WithCancel(ctx)
	kind := w.rnd.IntN(6)
	if c.waits && c.session != "" {
		kind = 0 // it may wait for ever for the endpoint of a strict session
	}
	switch kind {
	case 0:
		c.deadline = time.Duration(1+w.rnd.IntN(100)) * time.Millisecond
		c.ctx, c.cancel = context.WithTimeout(ctx, c.deadline)
	case 1:
		context.AfterFunc(c.ctx, func() {}) // as callers do
		t := time.AfterFunc(time.Duration(w.rnd.IntN(20_000))*time.Microsecond, c.cancel)
		context.AfterFunc(c.ctx, func() { t.Stop() })
	case 2: // the caller cannot cancel
		if c.unary {
			c.ctx = ctx
		}
	}
	c.opts = []grpc.CallOption{grpc.OnFinish(func(err error) { c.finished <- err })}
	if c.reports = w.rnd.IntN(2) == 0; c.reports {
		c.opts = append(c.opts, grpc.Header(&c.header), grpc.Trailer(&c.trailer), grpc.Peer(&c.from))
	}
	if c.waits {
		c.opts = append(c.opts, grpc.WaitForReady(true))
	}
	return c
}

// ask draws what the call asks for by Envoy's headers.
func (c *soakCall) ask(rnd *rand.Rand) (headers []string) {
	draw := func(name string, value any) bool {
		if rnd.IntN(2) == 0 {
			return false
		}
		headers = append(headers, name, fmt.Sprint(value))
		return true
	}
	ms := func(most int) (int, time.Duration) {
		n := rnd.IntN(most)
		return n, time.Duration(n) * time.Millisecond
	}
	n, timeout := ms(100)
	if c.asksTime = draw(retry.TimeoutHeader, n); c.asksTime {
		c.asked = timeout
	}
	n, perTry := ms(30)
	if draw(retry.PerTryTimeoutHeader, n) {
		c.askedPerTry = perTry
	}
	if n := rnd.IntN(4); draw(retry.MaxRetriesHeader, n) {
		c.retries = n
	}
	if draw(retry.OnHeader, "reset,5xx,retriable-headers") {
		c.retries = max(c.retries, 1)
	}
	draw(retry.HedgeHeader, rnd.IntN(2) == 0)
	draw(retry.HeaderNamesHeader, "again")
	return headers
}

// content draws what to send.
func (w *soakWorker) content() string {
	size := 1
	switch w.rnd.IntN(30) {
	case 0:
		size = 100_000
	case 1, 2:
		size = 5_000
	}
	return strings.Repeat("x", size) + strconv.FormatUint(w.rnd.Uint64(), 36)
}

func (w *soakWorker) unary(c *soakCall) {
	want := w.content()
	var reply wrapperspb.StringValue
	c.err = w.cc.Invoke(c.ctx, "/shop.Reviews/Get", wrapperspb.String(want), &reply, c.opts...)
	if c.err != nil {
		return
	}
	who, got, _ := strings.Cut(reply.GetValue(), "|")
	if c.who = who; who != "answer" && got != want {
		w.errorf(c, "sent %.40q, got %.40q", want, reply.GetValue())
	}
	if v := c.header.Get("session"); len(v) > 0 {
		w.session = v[0]
	}
}

// stream plays a stream of some messages.
func (w *soakWorker) stream(c *soakCall) {
	stream, err := w.cc.NewStream(c.ctx, bidi, "/shop.Reviews/Watch", c.opts...)
	if err != nil {
		c.err = err
		return
	}
	n, content := w.rnd.IntN(10), w.content()
	if w.rnd.IntN(20) == 0 {
		c.cancel() // and away
		c.abandoned = true
		return
	}
	var sender sync.WaitGroup
	defer sender.Wait()
	sender.Go(func() {
		for i := range n {
			if stream.SendMsg(wrapperspb.String(fmt.Sprint(content, i))) != nil {
				return
			}
		}
		_ = stream.CloseSend()
	})
	switch w.rnd.IntN(8) {
	case 0:
		_, _ = stream.Header()
	case 1:
		_ = stream.Context()
	}
	abandonAt := -1
	if w.rnd.IntN(10) == 0 {
		abandonAt = w.rnd.IntN(10)
	}
	for i := 0; ; i++ {
		if i == abandonAt {
			c.cancel()
			c.abandoned = true
			return
		}
		var m wrapperspb.StringValue
		err := stream.RecvMsg(&m)
		switch {
		case errors.Is(err, io.EOF):
			if c.header, _ = stream.Header(); i != n {
				w.errorf(c, "%d messages of %d", i, n)
			}
			c.trailer, c.reports = stream.Trailer(), true
			return
		case err != nil:
			c.err = err
			return
		}
		who, got, _ := strings.Cut(m.GetValue(), "|")
		if i > 0 && who != c.who || got != fmt.Sprint(content, i) {
			w.errorf(c, "%s: message %d of %d is %.40q", c.who, i, n, m.GetValue())
		}
		c.who = who
	}
}

// judge holds that one of the rules explains how the call ended.
func (w *soakWorker) judge(c *soakCall, rules []*soakRules) {
	if w.closing != nil && w.closing.Load() && (status.Code(c.err) == codes.Canceled || status.Code(c.err) == codes.Unavailable) {
		return
	}
	is := slices.ContainsFunc[[]*soakRules]
	if c.err != nil && !is(rules, func(r *soakRules) bool { return r.explains(&c.ended) }) {
		w.errorf(c, "failed after %v: %v", c.took, c.err)
	}
	var slack time.Duration
	if !w.exact {
		slack = soakPatience
	}
	if !is(rules, func(r *soakRules) bool { b := r.bound(&c.ended); return b == 0 || c.took <= b+slack }) {
		w.errorf(c, "took %v: %v", c.took, c.err)
	}
	attempts := c.retries + 1
	for _, r := range rules {
		attempts = max(attempts, r.routes[c.route].attempts+1)
	}
	w.mu.Lock()
	seen := w.seen[c.id]
	delete(w.seen, c.id)
	w.mu.Unlock()
	if seen > attempts {
		w.errorf(c, "servers saw %d attempts, want at most %d", seen, attempts)
	}
	if c.err != nil || c.who == "" {
		return
	}
	version, _, _ := strings.Cut(c.who, "-")
	if !is(rules, func(r *soakRules) bool { return slices.Contains(r.answerers(c.route), version) }) {
		w.errorf(c, "%s answered", c.who)
	}
	w.judgeReports(c, rules)
}

// judgeReports holds that headers and trailers are those of the server that
// answered, with the route's edits.
func (w *soakWorker) judgeReports(c *soakCall, rules []*soakRules) {
	if !c.reports || c.abandoned || c.who == "answer" {
		return
	}
	header, trailer := strings.Join(c.header["who"], ","), strings.Join(c.trailer["who"], ",")
	if header != c.who || trailer != c.who {
		w.errorf(c, "%s answered, header of %q, trailer of %q", c.who, header, trailer)
	}
	if c.unary && c.from.Addr == nil {
		w.errorf(c, "no peer")
	}
	if len(rules) == 1 && rules[0].fallback == "" && rules[0].routes[c.route].edits != (len(c.header["edited"]) == 1) {
		w.errorf(c, "headers %v", c.header)
	}
}

// judgeFinish holds that OnFinish is called once, with the call's end. gRPC itself
// is not exact about streams that are cancelled or come to their deadline.
func (w *soakWorker) judgeFinish(c *soakCall) {
	c.cancel()
	t := time.NewTimer(soakPatience)
	defer t.Stop()
	select {
	case err := <-c.finished:
		code := status.Code(err)
		loose := !c.unary && (code == codes.Canceled || code == codes.DeadlineExceeded) || c.abandoned || w.closing != nil && w.closing.Load()
		if code != status.Code(c.err) && !loose {
			w.errorf(c, "OnFinish(%v), the call ended with %v", err, c.err)
		}
	case <-t.C:
		w.errorf(c, "OnFinish was not called; it ended with %v", c.err)
	}
	if w.rnd.IntN(100) == 0 {
		pass(2 * time.Millisecond)
	}
	if len(c.finished) > 0 {
		w.errorf(c, "OnFinish was called again with %v", <-c.finished)
	}
}

// addresses are parts of messages that differ from call to call.
var addresses = regexp.MustCompile(`"outbound[^"]*"|[0-9.]+:[0-9]+`)

// note counts how calls end.
func (w *soakWorker) note(c *soakCall) {
	kind := "stream "
	if c.unary {
		kind = "unary "
	}
	kind += status.Code(c.err).String()
	if c.err != nil {
		kind += " " + addresses.ReplaceAllString(status.Convert(c.err).Message(), "X")
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tally[kind]++
}
