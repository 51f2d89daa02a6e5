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
	byTier := p.tiers()
	for _, tier := range byTier {
		if hosts, v := p.usable(tier.available); v != Unavailable {
			if tier.panic {
				return p.usable(tier.all)
			}
			return hosts, v
		}
	}
	// None that is available can be used: rather any host than none.
	verdict := NoHosts
	for _, tier := range byTier {
		if len(tier.all) == 0 {
			continue
		}
		if hosts, v := p.usable(tier.all); v != Unavailable {
			return hosts, v
		}
		verdict = Unavailable
	}
	return nil, verdict
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

// tier is one step of preference.
type tier struct {
	degraded  bool
	priority  uint32
	available []int32 // neither unhealthy nor ejected
	all       []int32 // all of the priority but draining ones
	panic     bool
}

// tiers sorts the hosts into tiers, in order of preference.
func (p *Picker) tiers() []tier {
	levels := p.levels()
	short := p.overallShort(levels)
	var tiers []tier
	for _, degraded := range []bool{false, true} {
		for _, l := range levels {
			t := tier{degraded: degraded, priority: l.priority, all: l.all, available: l.healthy}
			if degraded {
				t.available = l.degraded
			}
			t.panic = short && l.available()*100 < int(p.config.PanicThreshold)*len(l.all)
			tiers = append(tiers, t)
		}
	}
	return tiers
}

// level holds the hosts of one priority.
type level struct {
	priority               uint32
	all, healthy, degraded []int32
}

func (l *level) available() int { return len(l.healthy) + len(l.degraded) }

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

// overallShort reports whether the available hosts of all priorities together,
// overprovisioned, cannot take the whole load. Only then is there panic (Envoy:
// a priority's panic threshold counts only below 100 % total availability).
func (p *Picker) overallShort(levels []level) bool {
	total := 0
	for i := range levels {
		l := &levels[i]
		total += min(100, l.available()*int(p.overprovisioned)/len(l.all))
	}
	return total < 100
}
