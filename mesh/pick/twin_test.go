package pick

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// The dumb twins: what pickers must agree with.

// linearShare finds the owner of a share by laying the weights out one by one.
func linearShare(hosts []Host, members []int32, share uint64) int {
	var layout []int
	for _, i := range members {
		for range max(hosts[i].Weight, 1) {
			layout = append(layout, int(i))
		}
	}
	return layout[share]
}

// slowShares computes which part of the calls each host is to get, the way
// Envoy's documentation tells it, one host after the other. For Connect the
// hosts are those to connect, in equal parts.
func slowShares(c Config, hosts []Host, conns []ConnState, over int) (shares map[int]float64, v Verdict) {
	members := func(priority uint32, test func(h *Host, i int) bool) (list []int) {
		for i := range hosts {
			if h := &hosts[i]; h.Health != Draining && h.Priority == priority && test(h, i) {
				list = append(list, i)
			}
		}
		return list
	}
	all := func(*Host, int) bool { return true }
	usable := func(_ *Host, i int) bool { return conns[i] != Failed }
	as := func(health Health) func(*Host, int) bool {
		return func(h *Host, i int) bool {
			return conns[i] != Failed && !h.State.Ejected.Load() && h.Health == health
		}
	}
	var priorities []uint32
	total, hostCount := 0, 0
	for n := range uint32(10) {
		if list := members(n, all); len(list) > 0 {
			priorities = append(priorities, n)
			hostCount += len(list)
			for _, health := range []Health{Healthy, Degraded} {
				total += min(100, over*len(members(n, as(health)))/len(list))
			}
		}
	}
	if len(priorities) == 0 {
		return nil, NoHosts
	}
	isPanic := func(n uint32) bool {
		available := len(members(n, as(Healthy))) + len(members(n, as(Degraded)))
		return total < 100 && float64(available)/float64(len(members(n, all)))*100 < float64(c.PanicThreshold)
	}
	pool := []slowPart{}
	if !slices.ContainsFunc(priorities, func(n uint32) bool { return !isPanic(n) }) {
		for k, n := range priorities {
			load := 100 * len(members(n, all)) / hostCount
			if k == 0 { // and what rounding leaves
				load = 100
				for _, other := range priorities[1:] {
					load -= 100 * len(members(other, all)) / hostCount
				}
			}
			if load > 0 {
				pool = append(pool, slowPart{hosts: members(n, usable), load: float64(load)})
			}
		}
	} else if total > 0 {
		left := 100
		first := -1
		for _, health := range []Health{Healthy, Degraded} {
			for _, n := range priorities {
				available := min(100, over*len(members(n, as(health)))/len(members(n, all)))
				load := min(left, available*100/min(total, 100))
				left -= load
				if available > 0 && first < 0 {
					first = len(pool)
				}
				list, local := members(n, as(health)), c.LocalityWeighted
				if isPanic(n) {
					list, local = members(n, usable), false
				}
				pool = append(pool, slowPart{hosts: list, load: float64(load)})
				if local {
					pool[len(pool)-1].localities = map[string]int{}
					for _, i := range members(n, all) {
						pool[len(pool)-1].localities[hosts[i].Locality]++
					}
				}
			}
		}
		pool[first].load += float64(left)
	}
	pool = slowLocalities(pool, hosts, over)
	some := slices.ContainsFunc(pool, func(a slowPart) bool { return a.load > 0 && len(a.hosts) > 0 })
	if c.PanicThreshold == 0 && total == 0 {
		for _, n := range priorities {
			for _, health := range []Health{Healthy, Degraded} {
				if list := members(n, as(health)); !some && len(list) > 0 {
					pool, some = []slowPart{{hosts: list, load: 1}}, true
				}
			}
		}
	}
	switch {
	case some:
		return slowConnected(pool, hosts, conns)
	case c.PanicThreshold == 0 && !slices.ContainsFunc(hosts, func(h Host) bool {
		return h.Health != Unhealthy && h.Health != Draining && !h.State.Ejected.Load()
	}):
		return nil, NoHealthy
	}
	return nil, Unavailable
}

type slowPart struct {
	hosts      []int
	load       float64
	localities map[string]int // sizes; nil unless the part is divided
}

func slowLocalities(pool []slowPart, hosts []Host, over int) (out []slowPart) {
	for _, a := range pool {
		weights, lists, sum := map[string]float64{}, map[string][]int{}, 0.0
		for _, i := range a.hosts {
			lists[hosts[i].Locality] = append(lists[hosts[i].Locality], i)
		}
		for name, size := range a.localities {
			if list := lists[name]; len(list) > 0 {
				weights[name] = float64(hosts[list[0]].LocalityWeight) * min(1, float64(over)/100*float64(len(list))/float64(size))
				sum += weights[name]
			}
		}
		if sum == 0 {
			out = append(out, slowPart{hosts: a.hosts, load: a.load})
			continue
		}
		for name, list := range lists {
			out = append(out, slowPart{hosts: list, load: a.load * weights[name] / sum})
		}
	}
	return out
}

func slowConnected(pool []slowPart, hosts []Host, conns []ConnState) (map[int]float64, Verdict) {
	ready, idle, loads := map[int]float64{}, map[int]float64{}, 0.0
	for _, a := range pool {
		sum := 0.0
		for _, i := range a.hosts {
			if conns[i] == Ready {
				sum += float64(max(hosts[i].Weight, 1))
			}
			if conns[i] == Idle && a.load > 0 {
				idle[i] = 1
			}
		}
		if sum > 0 {
			loads += a.load
		}
		for _, i := range a.hosts {
			if conns[i] == Ready && a.load > 0 {
				ready[i] += a.load * float64(max(hosts[i].Weight, 1)) / sum
			}
		}
	}
	switch {
	case len(ready) > 0:
		for i := range ready {
			ready[i] /= loads
		}
		return ready, Picked
	case len(idle) > 0:
		return idle, Connect
	}
	return nil, Queue
}

// linearLeastRequest draws as a least-request picker does, by layout.
func linearLeastRequest(hosts []Host, members []int32, choices int, rnd *rand.Rand) int {
	total := 0
	for _, i := range members {
		total += int(max(hosts[i].Weight, 1))
	}
	best := -1
	perWeight := func(i int) float64 {
		return float64(hosts[i].State.InFlight.Load()) / float64(max(hosts[i].Weight, 1))
	}
	for range choices {
		i := linearShare(hosts, members, below(rnd.Uint64, uint64(total)))
		if best < 0 || perWeight(i) < perWeight(best) {
			best = i
		}
	}
	return best
}

// linearPeak draws as a PeakEWMA picker does, by layout: the second host from
// what is left without the first.
func linearPeak(hosts []Host, members []int32, now time.Time, rnd *rand.Rand) int {
	layout := func(without int) (list []int) {
		for _, i := range members {
			if int(i) != without {
				list = append(list, slices.Repeat([]int{int(i)}, int(max(hosts[i].Weight, 1)))...)
			}
		}
		return list
	}
	all := layout(-1)
	mean := float64(len(all)) / float64(len(members))
	cost := func(i int) float64 {
		s := hosts[i].State
		inFlight := float64(s.InFlight.Load())
		latency := math.Float64frombits(s.latency.nanos.Load())
		switch {
		case latency == 0 && inFlight > 0:
			latency = math.MaxInt64
		case latency > 0:
			latency = max(latency*math.Exp(-float64(max(now.UnixNano()-s.latency.at.Load(), 0))/1e10), 1)
		}
		return latency * (inFlight*mean/float64(max(hosts[i].Weight, 1)) + 1)
	}
	first := all[below(rnd.Uint64, uint64(len(all)))]
	rest := layout(first)
	if len(rest) == 0 {
		return first
	}
	second := rest[below(rnd.Uint64, uint64(len(rest)))]
	if cost(second) < cost(first) {
		return second
	}
	return first
}
