package pick

// detour is a view for retries that avoid some priorities. Each is built once,
// by the first retry that needs it.
type detour struct {
	avoid uint64 // bit i is level i
	view  *view
	next  *detour
}

// maxDetours bounds the detours of a view: few sets of priorities come up in
// practice.
const maxDetours = 8

// avoiding returns the view without the priorities of hosts that were tried.
func (p *Picker) avoiding(w *view, tried []*HostState) *view {
	avoid := p.levelsOf(tried)
	if avoid == 0 {
		return w
	}
	first := w.detours.Load()
	known := 0
	for d := first; d != nil; d = d.next {
		if d.avoid == avoid {
			return d.view
		}
		known++
	}
	other := p.build(avoid)
	if known < maxDetours {
		// If another pick was faster, this view is built again some time.
		w.detours.CompareAndSwap(first, &detour{avoid, other, first})
	}
	return other
}

// levelsOf returns the set of the levels of hosts.
func (p *Picker) levelsOf(hosts []*HostState) uint64 {
	var levels uint64
	index := p.set.index()
	for _, h := range hosts {
		i, ok := index[h]
		if !ok {
			continue
		}
		if at, found := p.set.levelOf(p.hosts[i].Priority); found {
			levels |= 1 << at // nothing from the 65th on, which is not avoided
		}
	}
	return levels
}
