package pick

import (
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Utilization is how ClientSideWeightedRoundRobin makes weights of what hosts
// report of their load: the rate of their calls divided by their utilization
// (Envoy ClientSideWeightedRoundRobin, gRFC A58). Weights of the control plane do
// not count. All periods must be positive, but for Blackout.
type Utilization struct {
	// Blackout is how long a host must have reported before its weight counts.
	Blackout time.Duration
	// Expiration is for how long a report counts.
	Expiration time.Duration
	// Update is how often weights are computed anew.
	Update time.Duration
	// ErrorPenalty is how much a host's rate of errors, as a part of its calls, adds
	// to its utilization; 0 is nothing.
	ErrorPenalty float64
	// Metrics are the fields of a Report of which the greatest is the utilization,
	// if it is positive. Else, and without them, it is that of the application, and
	// where that is not positive, that of the CPU.
	Metrics []string
}

// Report is what a host says of its load (xds.data.orca.v3.OrcaLoadReport).
type Report struct {
	CPU, Memory, Application float64 // utilizations: 1 is all that there is
	QPS, EPS                 float64 // calls and errors per second, of all clients

	RequestCost, Utilization, Named map[string]float64
}

// metric returns the field of a name like cpu_utilization or named_metrics.x; 0
// is absent.
func (r *Report) metric(name string) float64 {
	switch name {
	case "cpu_utilization":
		return r.CPU
	case "mem_utilization":
		return r.Memory
	case "application_utilization":
		return r.Application
	case "rps_fractional":
		return r.QPS
	case "eps":
		return r.EPS
	}
	of, key, _ := strings.Cut(name, ".")
	switch of {
	case "request_cost":
		return r.RequestCost[key]
	case "utilization":
		return r.Utilization[key]
	case "named_metrics":
		return r.Named[key]
	}
	return 0
}

// utilization is the one that the configuration asks for.
func (u *Utilization) utilization(r *Report) float64 {
	most := 0.0
	for _, name := range u.Metrics {
		most = max(most, r.metric(name))
	}
	switch {
	case most > 0:
		return most
	case r.Application > 0:
		return r.Application
	}
	return r.CPU
}

// weight is that of a host that reports r, or 0 if r does not tell.
func (u *Utilization) weight(r *Report) float64 {
	if !(r.QPS > 0) {
		return 0
	}
	weight := r.QPS / (u.utilization(r) + r.EPS/r.QPS*u.ErrorPenalty)
	if !(weight > 0) || math.IsInf(weight, 0) {
		return 0
	}
	return weight
}

// reported is the weight that follows from the last report of a host.
type reported struct {
	weight  atomic.Uint64 // the bits of a float64
	since   atomic.Int64  // when the reports began, in Unix nanoseconds; 0 is not yet
	updated atomic.Int64  // when the last came
}

func (r *reported) set(now int64, weight float64) {
	r.weight.Store(math.Float64bits(weight))
	r.updated.Store(now)
	r.since.CompareAndSwap(0, now)
}

// get returns the weight as far as it counts, else 0. After an expiration the
// blackout begins again.
func (r *reported) get(now int64, u *Utilization) float64 {
	since := r.since.Load()
	switch {
	case since == 0:
		return 0
	case now-r.updated.Load() >= int64(u.Expiration):
		r.since.CompareAndSwap(since, 0)
		return 0
	case now-since < int64(u.Blackout):
		return 0
	}
	return math.Float64frombits(r.weight.Load())
}

// Reports notes that the end of an attempt on a host brought a report, which came
// at now. It has no effect with other policies than ClientSideWeightedRoundRobin,
// and reports without a rate of calls or a utilization do not count.
func (p *Picker) Reports(host int, now time.Time, r *Report) {
	u := p.config.Utilization
	if u == nil {
		return
	}
	if weight := u.weight(r); weight > 0 {
		p.hosts[host].State.reported.set(now.UnixNano(), weight)
	}
}

// weights are those of the hosts of a set, as of some time.
type weights struct {
	at int64 // Unix nanoseconds
	of []uint64
}

// heaviest is the weight of the heaviest host. It is fine enough for weights a
// million times apart, and leaves room for the sum of many.
const heaviest = 1 << 20

// weighed returns the view with the weights of now, for which one caller at a time
// makes a new one; the others go on with the one that they have. Without a present
// weights stay as they are.
func (p *Picker) weighed(w *view, now time.Time) *view {
	if now.IsZero() || !w.outweighed(p, now.UnixNano()) || !p.weighing.CompareAndSwap(false, true) {
		return w
	}
	defer p.weighing.Store(false)
	if p.set.weights.Load().old(now.UnixNano(), p.config.Utilization) {
		p.set.weights.Store(p.set.weigh(now.UnixNano(), p.config.Utilization))
	}
	return p.refresh()
}

// outweighed reports whether the view's weights are not those of now.
func (w *view) outweighed(p *Picker, now int64) bool {
	return w.weights != p.set.weights.Load() || w.weights.old(now, p.config.Utilization)
}

func (w *weights) old(now int64, u *Utilization) bool {
	return w == nil || now-w.at >= int64(u.Update)
}

// weigh computes the weights of all hosts. Hosts whose weight is not known get the
// median of the others of their priority.
func (s *hostSet) weigh(now int64, u *Utilization) *weights {
	w := &weights{at: now, of: make([]uint64, len(s.hosts))}
	known := make([]float64, len(s.hosts))
	for i := range s.levels {
		hosts := s.levels[i].hosts
		var sorted []float64
		for _, host := range hosts {
			if known[host] = s.hosts[host].State.reported.get(now, u); known[host] > 0 {
				sorted = append(sorted, known[host])
			}
		}
		slices.Sort(sorted)
		middle, most := median(sorted), 1.0
		if len(sorted) > 0 {
			most = sorted[len(sorted)-1]
		}
		for _, host := range hosts {
			if known[host] == 0 {
				known[host] = middle
			}
			w.of[host] = max(1, uint64(known[host]/most*heaviest))
		}
	}
	return w
}

// median returns the one of sorted values; 1 if there is none.
func median(sorted []float64) float64 {
	n := len(sorted)
	switch {
	case n == 0:
		return 1
	case n%2 == 0:
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[n/2]
}
