package pick

// part is a set of hosts and its share of the calls, in any unit.
type part struct {
	hosts []int32
	load  float64
}

// parts divides the portions by locality, where localities have weights. The
// weight of a locality counts as far as its available hosts, overprovisioned,
// can carry it. In panic localities do not count, as in Envoy.
func (p *Picker) parts(levels []level, portions []portion) []part {
	parts := make([]part, 0, len(portions))
	for i := range portions {
		t := &portions[i]
		var local []part
		if p.config.LocalityWeighted && !t.rescue {
			local = p.localParts(levels[t.level].localities, t)
		}
		if local == nil {
			local = []part{{t.hosts, float64(t.load)}}
		}
		parts = append(parts, local...)
	}
	return parts
}

// localParts returns the parts of a portion, or nil if no locality of its hosts
// has a weight.
func (p *Picker) localParts(localities []locality, t *portion) []part {
	members := make([][]int32, len(localities))
	for _, i := range t.hosts {
		members[p.set.places[i]] = append(members[p.set.places[i]], i)
	}
	var parts []part
	sum := 0.0
	for i, l := range localities {
		available := min(1, float64(p.overprovisioning)/100*float64(len(members[i]))/float64(l.size))
		if weight := float64(l.weight) * available; weight > 0 {
			parts = append(parts, part{members[i], weight})
			sum += weight
		}
	}
	for i := range parts {
		parts[i].load *= float64(t.load) / sum
	}
	return parts
}
