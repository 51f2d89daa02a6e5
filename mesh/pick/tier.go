package pick

import (
	"cmp"
	"slices"
)

// selectHosts chooses the hosts that picks draw from. Healthy hosts come
// first, then degraded ones, each by priority; the first of these tiers in
// which a connection is up or may come up is used. Hosts that are unhealthy or
// ejected are left out, unless too few are left (panic).
func (p *Picker) selectHosts() ([]int32, Verdict) {
	levels := p.levels()
	short := p.short(levels)
	for _, degraded := range []bool{false, true} {
		for i := range levels {
			l := &levels[i]
			hosts, verdict := p.usable(l.available(degraded))
			if verdict == Unavailable {
				continue
			}
			if short && l.panics(p.config.PanicThreshold) {
				return p.usable(l.all)
			}
			return hosts, verdict
		}
	}
	return p.anyHosts(levels)
}

// anyHosts is for when none of the available hosts can be used: rather any host
// than none.
func (p *Picker) anyHosts(levels []level) ([]int32, Verdict) {
	if len(levels) == 0 {
		return nil, NoHosts
	}
	for i := range levels {
		if hosts, verdict := p.usable(levels[i].all); verdict != Unavailable {
			return hosts, verdict
		}
	}
	return nil, Unavailable
}

// usable returns the ready hosts of a list; where none is ready, the idle ones
// to connect; where none is idle, whether to wait.
func (p *Picker) usable(list []int32) ([]int32, Verdict) {
	verdict := Unavailable
	var ready, idle []int32
	for _, i := range list {
		switch p.conns[i] {
		case Ready:
			ready = append(ready, i)
		case Idle:
			idle = append(idle, i)
		case Connecting:
			verdict = Queue
		default: // failed: not usable
		}
	}
	switch {
	case len(ready) > 0:
		return ready, Picked
	case len(idle) > 0:
		return idle, Connect
	}
	return nil, verdict
}

// level holds the hosts of one priority; draining ones are nowhere in it.
type level struct {
	priority          uint32
	all               []int32
	healthy, degraded []int32 // those that are neither unhealthy nor ejected
}

func (l *level) available(degraded bool) []int32 {
	if degraded {
		return l.degraded
	}
	return l.healthy
}

func (l *level) count() int { return len(l.healthy) + len(l.degraded) }

func (l *level) panics(threshold uint32) bool { return l.count()*100 < int(threshold)*len(l.all) }

// levels sorts the hosts by priority.
func (p *Picker) levels() []level {
	var levels []level
	for i := range p.hosts {
		h := &p.hosts[i]
		if h.Health == Draining {
			continue
		}
		at, found := slices.BinarySearchFunc(levels, h.Priority, func(l level, priority uint32) int {
			return cmp.Compare(l.priority, priority)
		})
		if !found {
			levels = slices.Insert(levels, at, level{priority: h.Priority})
		}
		l := &levels[at]
		l.all = append(l.all, int32(i))
		switch {
		case h.Health == Unhealthy || h.State.Ejected.Load():
		case h.Health == Degraded:
			l.degraded = append(l.degraded, int32(i))
		default:
			l.healthy = append(l.healthy, int32(i))
		}
	}
	return levels
}

// short reports whether the available hosts of all priorities together,
// overprovisioned, cannot take the whole load. Only then is there panic: in
// Envoy too the threshold of a priority counts only below 100 % in total.
func (p *Picker) short(levels []level) bool {
	total := 0
	for i := range levels {
		total += min(100, levels[i].count()*int(p.overprovisioning)/len(levels[i].all))
	}
	return total < 100
}
