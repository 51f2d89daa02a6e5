package pick

import "math"

// maxChoices bounds what a configuration can make a pick cost.
const maxChoices = 100

func (c *Config) choices() uint32 { return min(max(c.ChoiceCount, 2), maxChoices) }

// leastRequest draws hosts by weight and takes the one with the fewest
// attempts in flight for its weight; of equals the first drawn. So an idle
// cluster is used by weight and a busy one carries load by weight. All hosts
// are drawn from the group of the first, whose priority and locality keep their
// share.
func (p *Picker) leastRequest(w *view, in *Input) int {
	if p.config.HasActiveRequestBias && p.config.ActiveRequestBias != 1 {
		return p.leastBiased(w, in)
	}
	share := below(in.Rand, w.total)
	g := group{0, w.total}
	if w.groups != nil {
		g = w.group(share)
	}
	slow := p.config.SlowStart != nil
	best := w.at(share)
	if slow {
		best = p.settle(w, in, share)
	}
	load := p.load(best)
	for range p.config.choices() - 1 {
		share = g.from + below(in.Rand, g.to-g.from)
		other := w.at(share)
		if slow {
			other = p.settle(w, in, share)
		}
		l, mine, its := p.load(other), weightOf(&p.hosts[best]), weightOf(&p.hosts[other])
		if slow {
			mine, its = p.presentWeight(best, in), p.presentWeight(other, in)
		}
		if l*mine < load*its {
			best, load = other, l
		}
	}
	return best
}

// leastBiased is for a bias other than 1, with which Envoy weighs a host by
// weight/(attempts+1)^bias: of the hosts drawn by weight it takes one with
// probability in proportion to the rest of the formula. Without bias it is a
// rotation by weight.
func (p *Picker) leastBiased(w *view, in *Input) int {
	bias := p.config.ActiveRequestBias
	if !(bias > 0) { // NaN too
		return p.settle(w, in, w.rotate(p.state.next.Next(in.Place)))
	}
	share := below(in.Rand, w.total)
	chosen := p.settle(w, in, share)
	sum := math.Pow(float64(p.load(chosen)+1), -bias)
	g := w.group(share)
	for range p.config.choices() - 1 {
		other := p.settle(w, in, g.from+below(in.Rand, g.to-g.from))
		chance := math.Pow(float64(p.load(other)+1), -bias)
		sum += chance
		if fraction(in.Rand())*sum < chance {
			chosen = other
		}
	}
	return chosen
}

func (p *Picker) load(host int) uint64 { return uint64(max(p.hosts[host].State.InFlight.Load(), 0)) }

// presentWeight is what slow start leaves of a host's weight, in finer units.
func (p *Picker) presentWeight(host int, in *Input) uint64 {
	weight := weightOf(&p.hosts[host])
	if in.Now.IsZero() {
		return weight
	}
	const units = 1 << 10
	return max(uint64(float64(weight)*units*p.factor(host, in.Now.UnixNano())), 1)
}
