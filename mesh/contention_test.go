package mesh_test

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/internal/enginetest"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
)

// sharedClusters are the options of a cluster that many goroutines call: every
// policy, and what a call counts besides (after "and": of the route). The gate by error ratio is not among
// them: it locks, for the routes that ask for it (see package breaker). Nor is the ejection of a host, which few failures
// in a row of many goroutines would bring about by chance.
var sharedClusters = map[string]string{
	"round_robin":   "lb=round_robin",
	"random":        "lb=random",
	"least_request": "lb=least_request",
	"ring_hash":     "lb=ring_hash",
	"maglev":        "lb=maglev",
	"peak_ewma":     "lb=peak_ewma",
	"utilization":   "lb=client_side_weighted_round_robin",
	"panic":         "lb=round_robin panic=100",
	"limits":        "lb=round_robin max_requests=1000 max_pending=1000 max_retries=1000",
	"budget":        "lb=round_robin retry_budget=20%,3,1s",
	"outliers":      "lb=round_robin consecutive=1000 gateway=1000 local=1000 success_rate_volume=5 failure_percentage=90 interval=1h",
	"rate_limit":    "lb=round_robin and limit=1000000000/1s",
	"sessions":      "lb=round_robin session=header:x-session",
}

// shared is a cluster of which many goroutines call the hosts.
type shared struct {
	engine *mesh.Engine
	snap   *snapshot.Snapshot
	picker *pick.Picker
	up     *snapshot.Upstream
	now    time.Time
	before func() // runs first in each call; nil: nothing
	after  func()
}

func newShared(t testing.TB, options string) *shared {
	t.Helper()
	c := enginetest.NewConfig("reviews:9080")
	options, limit, _ := strings.Cut(options, " and ")
	lines := "host vh reviews:9080\nroute r -> c hash=header:x-user timeout=1s retry=5xx*2 " + limit + "\n" +
		"cluster c " + options + "\nendpoints c"
	conns := make([]pick.ConnState, 50)
	for i := range conns {
		conns[i] = pick.Ready
		lines += fmt.Sprintf(" 10.0.0.%d:80,w%d", i+1, i%3+1)
	}
	if err := c.Add(lines); err != nil {
		t.Fatal(err)
	}
	s := &shared{engine: mesh.New(mesh.Options{}), now: time.Now()}
	s.snap = s.engine.Apply(c.Update())
	s.engine.Tick(s.now)
	s.up = s.snap.Upstreams[0]
	s.picker = s.up.NewPicker(conns)
	return s
}

// call is what an edge does for one call with one retry, without the network.
func (s *shared) call(d *mesh.Decision, r *mesh.Request, n int) error {
	if s.before != nil {
		s.before()
		defer s.after()
	}
	s.engine.Decide(s.snap, r, d)
	if d.Err != nil || !s.engine.Admit(d, r, s.now) {
		return fmt.Errorf("the call was refused: %w", d.Err)
	}
	b, limits := &d.Upstream.State.Breaker, &d.Upstream.Cluster.Limits
	at := d.Upstream.State.Acquire()
	defer d.Upstream.State.Release(at)
	in := pick.Input{Place: at, Rand: s.engine.Rand, Now: s.now, Hash: d.Hash, HasHash: d.HasHash}
	if d.Selection != nil {
		in.Override = d.Upstream.Override(d.Selection.SessionHost)
	}
	for attempt := range 2 {
		if !b.TryRequest(limits, at) {
			return fmt.Errorf("attempt %d was refused by a limit", attempt)
		}
		b.Began(limits, s.now)
		host, v := s.picker.Pick(&in)
		if v != pick.Picked {
			return fmt.Errorf("pick: %v", v)
		}
		a := outcome.Attempt{HTTPStatus: 200}
		if n%5 == 0 && attempt == 0 { // now and then, and not in a row
			a = outcome.OfGRPC(14)
		}
		s.picker.DoneAfter(host, s.now, time.Duration(n%7)*time.Millisecond, a.Failed())
		b.DoneRequest(limits, at)
		s.engine.Report(d.Upstream, host, &a, s.now)
		if !d.Retry.Retriable(&a) || !b.TryRetry(limits, s.now) {
			return nil
		}
		b.DoneRetry()
	}
	return nil
}

func sharedRequest(user int) *mesh.Request {
	return &mesh.Request{Path: "/a.B/C", Method: "POST", IsGRPC: true, Headers: enginetest.Headers{
		"x-user": fmt.Sprint(user), "x-session": "MTAuMC4wLjY6ODA=",
	}}
}

// contended lets 64 goroutines make calls and returns where, in this module, one
// waited for a lock that another held.
func (s *shared) contended(t *testing.T) []string {
	t.Helper()
	// What is made for the first call that needs it may be waited for.
	if err := s.call(&mesh.Decision{}, sharedRequest(0), 1); err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(max(8, runtime.GOMAXPROCS(0))))
	defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(1))
	before := waits(t)
	start, wg := make(chan struct{}), sync.WaitGroup{}
	for g := range 64 {
		r := sharedRequest(g)
		wg.Go(func() {
			<-start
			var d mesh.Decision
			for n := range 1000 {
				if err := s.call(&d, r, n+g); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	close(start)
	wg.Wait()
	var found []string
	for where, n := range waits(t) {
		if n > before[where] {
			found = append(found, where)
		}
	}
	slices.Sort(found)
	return found
}

// waits counts how often was waited for locks, by the stacks of this module that
// let them go.
func waits(t *testing.T) map[string]int64 {
	t.Helper()
	var records []runtime.BlockProfileRecord
	for n, ok := runtime.MutexProfile(nil); !ok || records == nil; {
		records = make([]runtime.BlockProfileRecord, n+50)
		if n, ok = runtime.MutexProfile(records); ok {
			records = records[:n]
		}
	}
	counts := map[string]int64{}
	for i := range records {
		var where []string
		locks := false // of the module, not of the runtime itself
		once := false  // for each processor
		frames := runtime.CallersFrames(records[i].Stack())
		for {
			f, more := frames.Next()
			locks = locks || strings.Contains(f.Function, "sync.(*Mutex)") || strings.Contains(f.Function, "sync.(*RWMutex)")
			once = once || strings.Contains(f.Function, "sync.(*Pool).pinSlow")
			if strings.HasPrefix(f.Function, "github.com/meshframe/meshframe/") {
				where = append(where, fmt.Sprintf("%s:%d", f.Function, f.Line))
			}
			if !more {
				break
			}
		}
		if locks && !once && len(where) > 0 {
			counts[strings.Join(where, " < ")] += records[i].Count
		}
	}
	return counts
}

// TestNoLockIsShared holds that calls to one cluster never wait for each other,
// whatever its policy: that they scale with the cores.
func TestNoLockIsShared(t *testing.T) {
	for name, options := range sharedClusters {
		t.Run(name, func(t *testing.T) {
			if found := newShared(t, options).contended(t); len(found) > 0 {
				t.Errorf("calls waited for a lock at\n%s", strings.Join(found, "\n"))
			}
		})
	}
}

// TestASharedLockIsFound shows that TestNoLockIsShared would fail: with a lock
// around each call.
func TestASharedLockIsFound(t *testing.T) {
	var mu sync.Mutex
	s := newShared(t, "lb=round_robin")
	s.before, s.after = func() {
		mu.Lock()
		runtime.Gosched() // held for long enough, on any machine
	}, mu.Unlock
	found := s.contended(t)
	if !slices.ContainsFunc(found, func(where string) bool { return strings.Contains(where, "shared).call") }) {
		t.Errorf("a lock that all calls share was not found: %q", found)
	}
}

// BenchmarkShared is what it costs that processors call the same cluster: batches
// of calls by all of them to one cluster, and to one each, in turn. Run it with as
// many processors as there are: x-private is 1 where they do not feel each other.
func BenchmarkShared(b *testing.B) {
	for _, name := range slices.Sorted(maps.Keys(sharedClusters)) {
		b.Run(name, func(b *testing.B) {
			one, each := newShared(b, sharedClusters[name]), make([]*shared, runtime.GOMAXPROCS(0))
			for i := range each {
				each[i] = newShared(b, sharedClusters[name])
			}
			var together, apart time.Duration
			for b.Loop() {
				together += callFromAll(b, func(int) *shared { return one })
				apart += callFromAll(b, func(i int) *shared { return each[i] })
			}
			b.ReportMetric(float64(together.Nanoseconds())/float64(b.N*callsOfBatch), "ns/call")
			b.ReportMetric(float64(together)/float64(apart), "x-private")
		})
	}
}

// callsOfBatch is how many calls a processor makes in a batch of BenchmarkShared.
const callsOfBatch = 2000

// callFromAll makes a batch of calls from each processor to the cluster that it is
// given, and returns how long they take.
func callFromAll(b *testing.B, cluster func(processor int) *shared) time.Duration {
	var wg sync.WaitGroup
	start := time.Now()
	for i := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			var d mesh.Decision
			r := sharedRequest(0)
			for n := range callsOfBatch {
				if err := cluster(i).call(&d, r, n+1); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}
