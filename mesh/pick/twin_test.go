package pick

import "math/rand/v2"

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

// rankedHosts chooses hosts by giving each a rank, without panic thresholds.
func rankedHosts(hosts []Host, conns []ConnState) (members []int32, v Verdict) {
	rank := func(i int) uint64 {
		r := uint64(hosts[i].Priority)
		switch h := &hosts[i]; {
		case h.Health == Unhealthy || h.State.Ejected.Load():
			return r + 2<<32
		case h.Health == Degraded:
			return r + 1<<32
		}
		return r
	}
	const nothing = 1 << 63
	best := uint64(nothing)
	v = NoHosts
	for i := range hosts {
		if hosts[i].Health == Draining {
			continue
		}
		if v == NoHosts {
			v = Unavailable
		}
		if conns[i] != Failed {
			best = min(best, rank(i))
		}
	}
	if best == nothing {
		return nil, v
	}
	// From here on any host counts if even the best is unavailable.
	fallback := best >= 2<<32
	if fallback {
		best -= 2 << 32
	}
	byState := map[ConnState][]int32{}
	for i := range hosts {
		in := rank(i) == best || fallback && uint64(hosts[i].Priority) == best
		if in && hosts[i].Health != Draining {
			byState[conns[i]] = append(byState[conns[i]], int32(i))
		}
	}
	switch {
	case len(byState[Ready]) > 0:
		return byState[Ready], Picked
	case len(byState[Idle]) > 0:
		return byState[Idle], Connect
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
