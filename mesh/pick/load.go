package pick

// This file shares the calls out among the priorities as Envoy does: each
// takes what its available hosts can carry, overprovisioned, the next ones the
// rest, and degraded hosts what healthy ones cannot take.

// level is a priority as its hosts are now.
type level struct {
	*priority
	healthy, degraded []int32 // neither unhealthy nor ejected, and not failed to connect
	unreachable       bool    // a host that is neither has failed to connect
}

func (l *level) count() int { return len(l.healthy) + len(l.degraded) }

// panics reports whether too few hosts of the level are available.
func (l *level) panics(threshold uint32) bool {
	return l.count()*100 < int(min(threshold, 100))*len(l.hosts)
}

// portion is a part of the calls and the hosts that are to get it.
type portion struct {
	level int
	hosts []int32
	load  int // in percent
	// rescue is for panic: the hosts are all that there are, whatever their health.
	rescue bool
}

// levels returns the priorities as they are now.
func (p *Picker) levels() []level {
	levels := make([]level, len(p.set.levels))
	for i := range levels {
		l := &levels[i]
		l.priority = &p.set.levels[i]
		l.healthy = make([]int32, 0, len(l.hosts))
		for _, host := range l.hosts {
			switch health := p.hosts[host].health(); {
			case health == Unhealthy:
			case p.conns[host] == Failed:
				l.unreachable = true
			case health == Healthy:
				l.healthy = append(l.healthy, host)
			case health == Degraded:
				l.degraded = append(l.degraded, host)
			}
		}
	}
	return levels
}

// portions shares the calls out. Levels whose bit in avoid is set get none, if
// others have available hosts. It returns none if no host is available.
func (p *Picker) portions(levels []level, avoid uint64) []portion {
	healthy, degraded := make([]int, len(levels)), make([]int, len(levels))
	total := 0
	for i := range levels {
		l := &levels[i]
		healthy[i] = min(100, int(p.overprovisioning)*len(l.healthy)/len(l.hosts))
		degraded[i] = min(100, int(p.overprovisioning)*len(l.degraded)/len(l.hosts))
		total += healthy[i] + degraded[i]
	}
	panics := p.panicking(levels, total)
	switch {
	case len(panics) == len(levels):
		return p.totalPanic(levels)
	case total == 0:
		return firstAvailable(levels)
	}
	total = dodge(healthy, degraded, avoid, total)
	distribute(healthy, degraded, min(total, 100))
	var portions []portion
	add := func(level int, hosts []int32, load int, rescue bool) {
		if load > 0 && len(hosts) > 0 {
			portions = append(portions, portion{level, hosts, load, rescue})
		}
	}
	for i := range levels {
		if panics[i] {
			add(i, p.connectable(levels[i].hosts), healthy[i]+degraded[i], true)
		} else {
			add(i, levels[i].healthy, healthy[i], false)
		}
	}
	for i := range levels {
		if !panics[i] {
			add(i, levels[i].degraded, degraded[i], false)
		}
	}
	return portions
}

// panicking returns the levels that use all their hosts because too few are
// available. There is no panic where all priorities together can take the load.
func (p *Picker) panicking(levels []level, total int) map[int]bool {
	if total >= 100 || p.config.PanicThreshold == 0 {
		return nil
	}
	panics := map[int]bool{}
	for i := range levels {
		if levels[i].panics(p.config.PanicThreshold) {
			panics[i] = true
		}
	}
	return panics
}

// dodge takes the avoided levels out of the availabilities, unless nothing
// else is available, and returns the total.
func dodge(healthy, degraded []int, avoid uint64, total int) int {
	rest := 0
	avoided := func(i int) bool { return i < 64 && avoid>>i&1 == 1 }
	for i := range healthy {
		if !avoided(i) {
			rest += healthy[i] + degraded[i]
		}
	}
	if rest == 0 {
		return total
	}
	for i := range healthy {
		if avoided(i) {
			healthy[i], degraded[i] = 0, 0
		}
	}
	return rest
}

// distribute turns availabilities into loads that add up to 100: healthy hosts
// first, each level as much as it can take, and what rounding leaves to the
// first that has any.
func distribute(healthy, degraded []int, total int) {
	left, first := 100, (*int)(nil)
	for _, list := range [][]int{healthy, degraded} {
		for i := range list {
			if list[i] > 0 && first == nil {
				first = &list[i]
			}
			list[i] = min(left, list[i]*100/total)
			left -= list[i]
		}
	}
	*first += left
}

// totalPanic shares the calls out by the number of hosts, whatever their
// health. What rounding leaves goes to the first level, though it be too small for more.
func (p *Picker) totalPanic(levels []level) []portion {
	if len(levels) == 0 {
		return nil
	}
	sum := 0
	for i := range levels {
		sum += len(levels[i].hosts)
	}
	loads, left := make([]int, len(levels)), 100
	for i := range levels {
		loads[i] = 100 * len(levels[i].hosts) / sum
		left -= loads[i]
	}
	loads[0] += left
	var portions []portion
	for i, load := range loads {
		if hosts := p.connectable(levels[i].hosts); load > 0 && len(hosts) > 0 {
			portions = append(portions, portion{i, hosts, load, true})
		}
	}
	return portions
}

// firstAvailable is for hosts so few that they round to none: there is no panic,
// so they get all calls. It returns none if no host is available.
func firstAvailable(levels []level) []portion {
	for i := range levels {
		for _, hosts := range [][]int32{levels[i].healthy, levels[i].degraded} {
			if len(hosts) > 0 {
				return []portion{{level: i, hosts: hosts, load: 100}}
			}
		}
	}
	return nil
}

// unhealthy reports whether no host may get calls, whatever becomes of the
// connections: all are unhealthy or ejected, and there is no panic.
func (p *Picker) unhealthy(levels []level) bool {
	for i := range levels {
		if p.config.PanicThreshold > 0 || levels[i].unreachable || levels[i].count() > 0 {
			return false
		}
	}
	return true
}

// connectable returns the hosts to which connecting has not failed.
func (p *Picker) connectable(hosts []int32) []int32 {
	var list []int32
	for _, host := range hosts {
		if p.conns[host] != Failed {
			list = append(list, host)
		}
	}
	return list
}
