package outlier

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meshframe/meshframe/mesh/outcome"
)

// rig is a detector with hosts and a clock that only the test moves.
type rig struct {
	*Detector
	t       *testing.T
	flags   []*atomic.Bool
	watched []*Host
	now     time.Time
	changes int
}

func newRig(t *testing.T, hosts int, c *Config) *rig {
	t.Helper()
	r := &rig{t: t, now: time.Unix(0, 0)}
	r.Detector = NewDetector(func() uint64 { return 49 }, func() { r.changes++ })
	for range hosts {
		r.add()
	}
	r.Configure(c)
	r.Sweep(r.now)
	return r
}

func (r *rig) add() {
	h, flag := &Host{}, &atomic.Bool{}
	r.Add(h, flag)
	r.watched, r.flags = append(r.watched, h), append(r.flags, flag)
}

// The attempts that tests report.
var (
	ok       = outcome.Attempt{HTTPStatus: 200}
	fail500  = outcome.Attempt{HTTPStatus: 500}
	fail503  = outcome.Attempt{HTTPStatus: 503}
	connect  = outcome.Attempt{Conditions: outcome.ConnectFailure, LocalOrigin: true}
	timeout  = outcome.Attempt{HTTPStatus: 504, LocalOrigin: true}
	overflow = outcome.Attempt{HTTPStatus: 503, Conditions: outcome.Overflow}
)

func (r *rig) report(host, times int, a outcome.Attempt) {
	for range times {
		r.Report(r.watched[host], &a, r.now)
	}
}

// sweep moves the clock to the next sweep and does it.
func (r *rig) sweep() bool {
	r.now = r.now.Add(r.config.Load().interval())
	_, changed := r.Sweep(r.now)
	return changed
}

// expect checks which hosts are ejected.
func (r *rig) expect(what string, hosts ...int) {
	r.t.Helper()
	var got []int
	for i, flag := range r.flags {
		if flag.Load() {
			got = append(got, i)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(hosts) {
		r.t.Errorf("%s: ejected %v, want %v", what, got, hosts)
	}
	if r.Ejected() != len(got) {
		r.t.Errorf("%s: Ejected() = %d, flags say %d", what, r.Ejected(), len(got))
	}
}

func TestConsecutiveFailures(t *testing.T) {
	external := Config{Consecutive5xx: 3, EnforcingConsecutive5xx: 100, MaxEjectionPercent: 100}
	gateway := Config{ConsecutiveGateway: 3, EnforcingConsecutiveGateway: 100, MaxEjectionPercent: 100}
	split := external
	split.SplitLocalOrigin, split.ConsecutiveLocalOrigin, split.EnforcingConsecutiveLocal = true, 2, 100
	unsplit := split
	unsplit.SplitLocalOrigin = false
	off := Config{Consecutive5xx: 3, MaxEjectionPercent: 100}
	for _, test := range []struct {
		name    string
		config  Config
		reports []outcome.Attempt
		ejected bool
	}{
		{"three in a row", external, []outcome.Attempt{fail500, fail503, fail500}, true},
		{"two", external, []outcome.Attempt{fail500, fail500}, false},
		{"interrupted", external, []outcome.Attempt{fail500, fail500, ok, fail500, fail500}, false},
		{"without a response", external, []outcome.Attempt{connect, connect, timeout}, true},
		{"refused by a limit", external, []outcome.Attempt{overflow, overflow, overflow}, false},
		{"not enforced", off, []outcome.Attempt{fail500, fail500, fail500}, false},
		{"gateway errors", gateway, []outcome.Attempt{fail503, timeout, connect}, true},
		{"500 is no gateway error and ends the row", gateway, []outcome.Attempt{fail503, fail503, fail500, fail503}, false},
		{"split: local failures", split, []outcome.Attempt{connect, timeout}, true},
		{"split: an answer ends the local row", split, []outcome.Attempt{connect, fail500, connect}, false},
		{"split: local failures are no 5xx", split, []outcome.Attempt{fail500, fail500, connect}, false},
		{"not split: no local row", unsplit, []outcome.Attempt{connect, timeout}, false},
	} {
		r := newRig(t, 2, &test.config)
		for _, a := range test.reports {
			r.report(1, 1, a)
		}
		if test.ejected {
			r.expect(test.name, 1)
		} else {
			r.expect(test.name)
		}
	}
}

// TestEjectionTime follows a host that fails each time it is back: out for
// base, twice base, up to the maximum; and shorter again after quiet sweeps.
func TestEjectionTime(t *testing.T) {
	r := newRig(t, 2, &Config{
		Interval: 10 * time.Second, BaseEjectionTime: 20 * time.Second, MaxEjectionTime: 60 * time.Second,
		Consecutive5xx: 1, EnforcingConsecutive5xx: 100, MaxEjectionPercent: 50,
	})
	out := func() time.Duration {
		r.report(0, 1, fail500)
		r.expect("reported", 0)
		start := r.now
		for r.Ejected() > 0 {
			r.sweep()
		}
		return r.now.Sub(start)
	}
	for i, want := range []int{20, 40, 60, 60, 60} {
		if got := out(); got != time.Duration(want)*time.Second {
			t.Errorf("ejection %d lasts %v, want %d s", i+1, got, want)
		}
	}
	// The base applies four times now (the greatest multiple is one above the
	// maximum, as in Envoy); each quiet sweep takes one away.
	r.sweep()
	r.sweep()
	r.sweep()
	if got := out(); got != 40*time.Second {
		t.Errorf("after three quiet sweeps an ejection lasts %v, want 40s", got)
	}
}

// TestReturningHostStartsAfresh: the counter of another detector that was near
// its threshold must not eject a host right after it came back.
func TestReturningHostStartsAfresh(t *testing.T) {
	r := newRig(t, 2, &Config{
		Interval: time.Second, BaseEjectionTime: time.Second, MaxEjectionPercent: 100,
		Consecutive5xx: 2, EnforcingConsecutive5xx: 100, ConsecutiveGateway: 3, EnforcingConsecutiveGateway: 100,
	})
	r.report(0, 2, fail503)
	r.expect("two 5xx", 0)
	r.sweep()
	r.expect("its time is over")
	r.report(0, 1, fail503)
	r.expect("one gateway error after its return")
}

func TestMaxEjectionPercent(t *testing.T) {
	for _, test := range []struct {
		hosts   int
		percent uint32
		want    int
	}{{10, 30, 3}, {10, 39, 3}, {10, 0, 0}, {10, 10, 1}, {9, 10, 0}, {3, 10, 0}, {3, 67, 2}, {3, 66, 1}, {1, 10, 0}, {1, 100, 1}, {4, 100, 4}, {4, 1000, 4}} {
		for _, one := range []bool{false, true} {
			r := newRig(t, test.hosts, &Config{
				Consecutive5xx: 1, EnforcingConsecutive5xx: 100, MaxEjectionPercent: test.percent, AlwaysEjectOne: one,
			})
			for i := range test.hosts {
				r.report(i, 1, fail500)
			}
			want := test.want
			if one {
				want = max(want, 1)
			}
			if r.Ejected() != want {
				t.Errorf("%d hosts, %d %%, always one %v: %d ejected, want %d", test.hosts, test.percent, one, r.Ejected(), want)
			}
		}
	}
}

func TestEnforcingPercentage(t *testing.T) {
	// The rig's random number is 49.
	for percent, want := range map[uint32]int{0: 0, 49: 0, 50: 1, 100: 1} {
		for name, test := range map[string]struct {
			config  Config
			attempt outcome.Attempt
		}{
			"5xx":          {Config{Consecutive5xx: 1, EnforcingConsecutive5xx: percent}, fail500},
			"gateway":      {Config{ConsecutiveGateway: 1, EnforcingConsecutiveGateway: percent}, fail503},
			"local origin": {Config{SplitLocalOrigin: true, ConsecutiveLocalOrigin: 1, EnforcingConsecutiveLocal: percent}, connect},
			"success rate": {Config{
				SuccessRateMinimumHosts: 1, SuccessRateRequestVolume: 1, EnforcingSuccessRate: percent,
			}, fail500},
			"failure percentage": {Config{
				FailurePercentageThreshold: 1, FailurePercentageMinimumHosts: 1, FailurePercentageRequestVolume: 1, EnforcingFailurePercentage: percent,
			}, fail500},
		} {
			test.config.MaxEjectionPercent = 100
			r := newRig(t, 2, &test.config)
			r.report(0, 1, test.attempt)
			r.report(1, 1, ok)
			r.sweep()
			if r.Ejected() != want {
				t.Errorf("%s enforced at %d %%: %d ejected", name, percent, r.Ejected())
			}
		}
	}
}

func TestSuccessRate(t *testing.T) {
	c := &Config{
		SuccessRateMinimumHosts: 3, SuccessRateRequestVolume: 10, SuccessRateStdevFactor: 1900,
		EnforcingSuccessRate: 100, MaxEjectionPercent: 100,
	}
	r := newRig(t, 5, c)
	fill := func() {
		for i := range 4 {
			r.report(i, 20, ok)
		}
		r.report(4, 10, ok)
		r.report(4, 10, fail500)
	}
	// Rates 100, 100, 100, 100 and 50: mean 90, deviation 20, threshold 52.
	fill()
	if !r.sweep() {
		t.Error("the sweep reports no change")
	}
	r.expect("one host at 50 %", 4)

	r = newRig(t, 5, c)
	r.report(4, 9, fail500)
	for i := range 4 {
		r.report(i, 9, ok)
	}
	r.sweep()
	r.expect("too few attempts")

	few := *c
	few.SuccessRateMinimumHosts = 6
	r = newRig(t, 5, &few)
	fill()
	r.sweep()
	r.expect("too few hosts")

	tight := *c
	tight.SuccessRateStdevFactor = 2100
	r = newRig(t, 5, &tight)
	fill()
	r.sweep()
	r.expect("within 2.1 deviations")

	r = newRig(t, 5, c)
	fill()
	r.now = r.now.Add(time.Second)
	if _, changed := r.Sweep(r.now); changed {
		t.Error("swept before the interval was over")
	}
	r.sweep()
	r.expect("after the interval", 4)
	// The windows began anew: nobody is judged twice by the same attempts.
	r.report(4, 100, fail500)
	r.Configure(nil)
	r.expect("turned off")
}

func TestFailurePercentage(t *testing.T) {
	c := &Config{
		FailurePercentageThreshold: 50, FailurePercentageMinimumHosts: 2, FailurePercentageRequestVolume: 4,
		EnforcingFailurePercentage: 100, MaxEjectionPercent: 100,
	}
	r := newRig(t, 3, c)
	r.report(0, 4, fail500)
	r.report(1, 2, fail500)
	r.report(1, 2, ok)
	r.report(2, 3, ok)
	r.report(2, 1, fail500)
	r.sweep()
	r.expect("at least half failed", 0, 1)

	r = newRig(t, 3, c)
	r.report(0, 4, fail500)
	r.sweep()
	r.expect("too few hosts with enough attempts")
}

func TestLocalOriginRates(t *testing.T) {
	split := Config{
		SplitLocalOrigin: true, MaxEjectionPercent: 100,
		FailurePercentageThreshold: 50, FailurePercentageMinimumHosts: 1, FailurePercentageRequestVolume: 4,
		SuccessRateMinimumHosts: 4, SuccessRateRequestVolume: 4, SuccessRateStdevFactor: 1000,
	}
	for _, test := range []struct {
		name    string
		enforce func(*Config)
		local   []int // hosts that connecting fails to are ejected
		answer  []int // hosts that answer with errors are
	}{
		{"failure percentage of local origin", func(c *Config) { c.EnforcingFailurePercentageLocalOrigin = 100 }, []int{0}, nil},
		{"failure percentage", func(c *Config) { c.EnforcingFailurePercentage = 100 }, nil, []int{1}},
		{"success rate of local origin", func(c *Config) { c.EnforcingLocalOriginSuccessRate = 100 }, []int{0}, nil},
		{"success rate", func(c *Config) { c.EnforcingSuccessRate = 100 }, nil, []int{1}},
		{"none is enforced", func(*Config) {}, nil, nil},
		{"both", func(c *Config) { c.EnforcingSuccessRate, c.EnforcingFailurePercentageLocalOrigin = 100, 100 }, []int{0}, []int{1}},
	} {
		c := split
		test.enforce(&c)
		r := newRig(t, 6, &c)
		r.report(0, 4, connect)
		r.report(1, 4, fail500)
		for i := 2; i < 6; i++ {
			r.report(i, 4, ok)
		}
		r.sweep()
		r.expect(test.name, append(test.local, test.answer...)...)
	}
	// Without the split there is nothing to judge apart.
	c := split
	c.SplitLocalOrigin, c.EnforcingFailurePercentageLocalOrigin = false, 100
	r := newRig(t, 2, &c)
	r.report(0, 4, connect)
	r.sweep()
	r.expect("not split")
}

// TestEjectionsByRatesGrow: a host that is found an outlier in the first sweep
// after its return is not forgiven before.
func TestEjectionsByRatesGrow(t *testing.T) {
	r := newRig(t, 3, &Config{
		Interval: 10 * time.Second, BaseEjectionTime: 10 * time.Second, MaxEjectionPercent: 100,
		FailurePercentageThreshold: 50, FailurePercentageMinimumHosts: 1, FailurePercentageRequestVolume: 4, EnforcingFailurePercentage: 100,
	})
	for i, want := range []int{1, 2, 3} {
		r.report(0, 4, fail500)
		r.sweep()
		r.expect("found", 0)
		sweeps := 0
		for r.Ejected() > 0 {
			r.sweep()
			sweeps++
		}
		if sweeps != want {
			t.Errorf("ejection %d lasts %d sweeps, want %d", i+1, sweeps, want)
		}
	}
}

func TestJitter(t *testing.T) {
	// The rig's random number is 49, which is the jitter in nanoseconds.
	r := newRig(t, 1, &Config{
		Interval: 10 * time.Millisecond, BaseEjectionTime: 20 * time.Millisecond, Jitter: 50,
		Consecutive5xx: 1, EnforcingConsecutive5xx: 100, MaxEjectionPercent: 100,
	})
	r.report(0, 1, fail500)
	r.sweep()
	r.sweep()
	r.expect("its time is over but for the jitter", 0)
	r.sweep()
	r.expect("and the jitter")
}

// TestErrors counts the responses that a set names, and no others; what was no
// response counts in any case.
func TestErrors(t *testing.T) {
	set := &StatusSet{}
	set.Add(404)
	set.Add(503)
	for _, test := range []struct {
		name    string
		attempt outcome.Attempt
		times   int
		ejected bool
	}{
		{"an error that is no 5xx", outcome.Attempt{HTTPStatus: 404}, 3, true},
		{"one that is no gateway error", outcome.Attempt{HTTPStatus: 404}, 2, false},
		{"a gateway error", outcome.Attempt{HTTPStatus: 503}, 2, true},
		{"a 5xx that is no error", outcome.Attempt{HTTPStatus: 500, Conditions: outcome.Server5xx}, 9, false},
		{"no response", outcome.Attempt{LocalOrigin: true, Conditions: outcome.Reset}, 2, true},
		{"a timeout", timeout, 2, true},
		{"a success", ok, 9, false},
	} {
		r := newRig(t, 1, &Config{
			Consecutive5xx: 3, EnforcingConsecutive5xx: 100, ConsecutiveGateway: 2, EnforcingConsecutiveGateway: 100,
			MaxEjectionPercent: 100, Errors: set,
		})
		r.report(0, test.times, test.attempt)
		if got := r.Ejected() == 1; got != test.ejected {
			t.Errorf("%s, %d times: ejected is %v", test.name, test.times, got)
		}
	}
}

// TestReportGoodIsReport compares what hosts come to by the one and by the other.
func TestReportGoodIsReport(t *testing.T) {
	var errors StatusSet
	errors.Add(200)
	for name, c := range map[string]Config{
		"consecutive":           {Consecutive5xx: 9, ConsecutiveGateway: 9},
		"split":                 {Consecutive5xx: 9, SplitLocalOrigin: true, ConsecutiveLocalOrigin: 9},
		"rates":                 {EnforcingSuccessRate: 100},
		"rates of local origin": {SplitLocalOrigin: true, EnforcingLocalOriginSuccessRate: 100},
		"200 is an error":       {Consecutive5xx: 9, Errors: &errors},
	} {
		r := newRig(t, 2, &c)
		for host := range r.watched {
			r.report(host, 3, fail503)
			r.report(host, 2, connect)
		}
		r.report(0, 1, ok)
		r.ReportGood(r.watched[1])
		counts := func(h *Host) string {
			return fmt.Sprint(h.consecutive5xx.Load(), h.consecutiveGateway.Load(), h.consecutiveLocal.Load(), h.external.counts.Load(), h.local.counts.Load())
		}
		if want, got := counts(r.watched[0]), counts(r.watched[1]); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	r := newRig(t, 1, nil)
	r.ReportGood(r.watched[0]) // without a configuration there is nothing to do
}

func TestStatusSet(t *testing.T) {
	for status := -1; status < 1000; status++ {
		s := &StatusSet{}
		s.Add(status)
		for other := -1; other < 1000; other++ {
			if want := other == status && status >= 100 && status <= 599; s.Has(other) != want {
				t.Fatalf("a set of %d has %d: %v", status, other, !want)
			}
		}
	}
}

func TestHostsComeAndGo(t *testing.T) {
	r := newRig(t, 3, &Config{Consecutive5xx: 1, EnforcingConsecutive5xx: 100, MaxEjectionPercent: 34, AlwaysEjectOne: true})
	r.report(0, 1, fail500)
	r.Remove(r.watched[0])
	r.Remove(r.watched[0])
	r.expect("an ejected host that leaves is ejected no more")
	r.report(0, 1, fail500)
	r.expect("nor is one that has left")
	r.report(2, 1, fail500)
	r.expect("its place is free", 2)
	r.add()
	r.report(3, 1, fail500)
	r.expect("and one of three is enough", 2)
	if r.changes != 3 {
		t.Errorf("told of %d changes, want 3: out, gone, out", r.changes)
	}
}

// TestIntervalChanges holds that the sweep which is due follows the interval that is in
// force by then.
func TestIntervalChanges(t *testing.T) {
	d := NewDetector(nil, nil)
	began := time.Unix(1e9, 0)
	for i, test := range []struct{ interval, at, next time.Duration }{
		{time.Hour, 0, time.Hour},
		{time.Minute, 30 * time.Second, time.Minute},
		{time.Minute, time.Minute, 2 * time.Minute},
		{time.Second, 90 * time.Second, 91 * time.Second},
		{time.Hour, 90*time.Second + 1, 90*time.Second + time.Hour},
	} {
		d.Configure(&Config{Interval: test.interval})
		if next, _ := d.Sweep(began.Add(test.at)); next.Sub(began) != test.next {
			t.Errorf("step %d: the next sweep is at %v, want %v", i, next.Sub(began), test.next)
		}
	}
}

// TestWindowsBeginWithTheirJudges holds that rates are of attempts since the detector of
// rates was turned on.
func TestWindowsBeginWithTheirJudges(t *testing.T) {
	on := &Config{
		Interval: time.Second, MaxEjectionPercent: 100, EnforcingFailurePercentage: 100, FailurePercentageThreshold: 50, FailurePercentageRequestVolume: 10,
	}
	r := newRig(t, 2, on)
	r.report(0, 10, fail500)
	r.Configure(&Config{Interval: time.Second})
	r.sweep()
	r.Configure(on)
	r.report(0, 10, ok)
	r.sweep()
	r.expect("ten good attempts")
}

func TestReportIsCheap(t *testing.T) {
	r := newRig(t, 1, &Config{
		Consecutive5xx: 3, EnforcingConsecutive5xx: 100, SplitLocalOrigin: true, EnforcingSuccessRate: 100,
	})
	for _, a := range []outcome.Attempt{ok, fail500} {
		if n := testing.AllocsPerRun(100, func() {
			r.Report(r.watched[0], &a, r.now)
			r.Report(r.watched[0], &ok, r.now)
		}); n != 0 {
			t.Errorf("Report of %+v allocates %v times", a, n)
		}
	}
}

// TestConcurrently is for the race detector.
func TestConcurrently(t *testing.T) {
	r := newRig(t, 4, &Config{
		Interval: 1, BaseEjectionTime: 1, Consecutive5xx: 2, EnforcingConsecutive5xx: 100,
		MaxEjectionPercent: 50, EnforcingSuccessRate: 100,
	})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 2000 {
				a := fail500
				if n%3 == 0 {
					a = ok
				}
				r.Report(r.watched[i], &a, time.Unix(0, int64(n)))
			}
		})
	}
	for n := range 2000 {
		r.Sweep(time.Unix(0, int64(n)))
	}
	wg.Wait()
	if n := r.Ejected(); n > 2 {
		t.Errorf("%d of 4 ejected at 50 %%", n)
	}
}

func BenchmarkReport(b *testing.B) {
	for name, c := range map[string]*Config{
		"off":         nil,
		"consecutive": {Consecutive5xx: 5, EnforcingConsecutive5xx: 100},
		"rates":       {EnforcingSuccessRate: 100},
	} {
		b.Run(name, func(b *testing.B) {
			d := NewDetector(nil, func() {})
			h := &Host{}
			d.Add(h, &atomic.Bool{})
			d.Configure(c)
			for b.Loop() {
				d.Report(h, &ok, time.Time{})
			}
		})
	}
}
