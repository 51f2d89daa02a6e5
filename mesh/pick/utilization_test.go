package pick

import (
	"math"
	"slices"
	"testing"
	"time"
)

// TestWeightsOfReports: weights are the rate of calls by the utilization, which is
// that of the metrics that were asked for, of the application or of the CPU, with a
// penalty for errors.
func TestWeightsOfReports(t *testing.T) {
	named := &Utilization{Metrics: []string{"named_metrics.queue", "mem_utilization", "no.such", "named_metrics"}}
	for name, test := range map[string]struct {
		u    *Utilization
		r    Report
		want float64
	}{
		"CPU":                                {&Utilization{}, Report{CPU: 0.5, QPS: 100}, 200},
		"the application comes before":       {&Utilization{}, Report{CPU: 0.5, Application: 0.8, QPS: 100}, 125},
		"other metrics are not asked for":    {&Utilization{}, Report{CPU: 0.5, Memory: 0.9, QPS: 100}, 200},
		"those that are asked for are first": {named, Report{Application: 0.1, Named: map[string]float64{"queue": 0.25}, QPS: 100}, 400},
		"the greatest of them counts":        {named, Report{Memory: 0.5, Named: map[string]float64{"queue": 0.25}, QPS: 100}, 200},
		"without them as if not asked for":   {named, Report{CPU: 0.2, Utilization: map[string]float64{"queue": 9}, QPS: 100}, 500},
		"every field has a name": {
			&Utilization{Metrics: []string{
				"cpu_utilization", "application_utilization", "eps", "utilization.u", "request_cost.c",
			}},
			Report{CPU: 0.1, Application: 0.2, Utilization: map[string]float64{"u": 0.3}, RequestCost: map[string]float64{"c": 4}, EPS: 0.4, QPS: 100}, 25,
		},
		"the rate has one, too":        {&Utilization{Metrics: []string{"rps_fractional"}}, Report{QPS: 100}, 1},
		"errors do not count unless":   {&Utilization{}, Report{CPU: 0.5, QPS: 100, EPS: 50}, 200},
		"errors count as a part":       {&Utilization{ErrorPenalty: 1}, Report{CPU: 0.5, QPS: 100, EPS: 50}, 100},
		"errors count more":            {&Utilization{ErrorPenalty: 3}, Report{CPU: 0.5, QPS: 100, EPS: 50}, 50},
		"errors alone are utilization": {&Utilization{ErrorPenalty: 1}, Report{QPS: 100, EPS: 50}, 200},
		"no rate":                      {&Utilization{}, Report{CPU: 0.5}, 0},
		"no utilization":               {&Utilization{}, Report{QPS: 100}, 0},
		"negative":                     {&Utilization{}, Report{CPU: -0.5, QPS: 100}, 0},
		"not a number":                 {&Utilization{}, Report{CPU: math.NaN(), QPS: 100}, 0},
		"not a rate":                   {&Utilization{}, Report{CPU: 0.5, QPS: math.NaN()}, 0},
		"endless":                      {&Utilization{}, Report{CPU: 0.5, QPS: math.Inf(1)}, 0},
	} {
		if got := test.u.weight(&test.r); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}

// TestReportsBecomeWeights plays what hosts report and how calls are shared out, in
// time.
func TestReportsBecomeWeights(t *testing.T) {
	u := &Utilization{Blackout: 10 * time.Second, Expiration: time.Minute, Update: time.Second}
	hosts, conns := hostsOf(1, 5, 1, 1) // weights of the control plane do not count
	hosts[3].Priority = 1
	c := Config{Policy: ClientSideWeightedRoundRobin, Utilization: u}
	state := &State{}
	p := New(c, state, hosts, conns, 0)
	now := time.Unix(1_700_000_000, 0)
	pass := func(d time.Duration) { now = now.Add(d) }
	report := func(host int, qps float64) { p.Reports(host, now, &Report{CPU: 1, QPS: qps}) }
	shares := func(what string, want ...int) {
		t.Helper()
		const n = 1200
		got := counts(t, p, &Input{Now: now}, len(hosts), n)
		sum := 0
		for _, w := range want {
			sum += w
		}
		for i := range got {
			share := 0
			if i < len(want) {
				share = want[i] * n / sum
			}
			if got[i] < share-2 || got[i] > share+2 { // a rotation that began anywhere
				t.Fatalf("%s: picked %v of %d, want in proportion to %v", what, got, n, want)
			}
		}
	}
	shares("nothing is known", 1, 1, 1)
	report(0, 100)
	report(1, 300)
	pass(9 * time.Second)
	shares("reports are too young", 1, 1, 1)
	pass(time.Second)
	shares("the third has the median of the others", 1, 3, 2)
	report(0, 500)
	pass(999 * time.Millisecond)
	shares("weights stay until they are due", 1, 3, 2)
	pass(time.Millisecond)
	shares("they follow the reports", 5, 3, 4)
	p = New(c, state, hosts, conns, 0)
	shares("another picker of the same hosts", 5, 3, 4)
	moved := slices.Clone(hosts)
	p = New(c, state, moved, conns, 0)
	shares("a picker of other hosts with the same state", 5, 3, 4)
	pass(49 * time.Second)
	shares("the second has not reported for a minute: the rest is its median", 1, 1, 1)
	report(1, 1500)
	pass(time.Second)
	shares("it is too young again", 1, 1, 1)
	report(0, 500)
	pass(9 * time.Second)
	shares("until its blackout is over", 5, 15, 10)
}

// TestWeightsAreOfAPriority: the median is that of the hosts of a priority, and
// localities keep their weights.
func TestWeightsAreOfAPriority(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	hosts, conns := hostsOf(1, 1, 1, 1)
	for i := range hosts {
		hosts[i].Locality, hosts[i].LocalityWeight = string("aabb"[i]), []uint32{1, 1, 3, 3}[i]
	}
	c := configOf(ClientSideWeightedRoundRobin)
	c.LocalityWeighted = true
	p := New(c, &State{}, hosts, conns, 0)
	for i, qps := range []float64{100, 300, 1, 3} {
		p.Reports(i, now, &Report{CPU: 1, QPS: qps})
	}
	got := counts(t, p, &Input{Now: now}, len(hosts), 1600)
	for i, want := range []int{100, 300, 300, 900} {
		if got[i] < want-2 || got[i] > want+2 {
			t.Fatalf("picked %v", got)
		}
	}
	for i := range hosts {
		hosts[i].Priority = uint32(i / 2)
	}
	c.LocalityWeighted = false
	p = New(c, &State{}, slices.Clone(hosts), []ConnState{Failed, Failed, Ready, Ready}, 0)
	if got := counts(t, p, &Input{Now: now.Add(2 * time.Minute)}, len(hosts), 400); got[2] < 98 || got[2] > 102 {
		t.Fatalf("picked %v, want the weights of the second priority", got)
	}
}

// TestWeightsFarApart: a host that is a hundred thousand times slower still gets
// its share.
func TestWeightsFarApart(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	hosts, conns := hostsOf(1, 1)
	p := New(configOf(ClientSideWeightedRoundRobin), &State{}, hosts, conns, 0)
	p.Reports(0, now, &Report{CPU: 1, QPS: 0.01})
	p.Reports(1, now, &Report{CPU: 1, QPS: 1000})
	if got := counts(t, p, &Input{Now: now}, len(hosts), 1_000_000); got[0] < 8 || got[0] > 12 {
		t.Fatalf("picked %v", got)
	}
}
