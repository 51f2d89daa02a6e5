package pick

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// wheel is the circle of a priority, and which of its hosts the members are.
type wheel struct {
	*circle
	hosts []int32 // by member
}

// newWheel returns the wheel of a priority. With localities weighted, a host
// counts for the weight of its locality, of which it gets its part (in Envoy
// too; there the part grows while neighbours are down); hosts of localities
// without a weight are not on the wheel unless none has one.
func newWheel(set *hostSet, l *priority) *wheel {
	type candidate struct {
		circleMember
		host int32
	}
	candidates := make([]candidate, 0, len(l.hosts))
	for i, weight := range set.normalize(l) {
		host := l.hosts[i]
		if weight > 0 {
			key := set.hosts[host].hashKey(set.config.HashByHostname)
			candidates = append(candidates, candidate{circleMember{key, weight}, host})
		}
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(a.key, b.key) })
	w := &wheel{hosts: make([]int32, len(candidates))}
	spec := newCircleSpec(&set.config)
	spec.members = make([]circleMember, len(candidates))
	for i := range candidates {
		w.hosts[i], spec.members[i] = candidates[i].host, candidates[i].circleMember
	}
	w.circle = set.state.circleOf(spec)
	return w
}

// normalize returns the weights of the hosts of a priority; they add up to 1.
func (s *hostSet) normalize(l *priority) []float64 {
	weights := make([]float64, len(l.hosts))
	localities := uint64(0)
	for i := range l.localities {
		localities += uint64(l.localities[i].weight)
	}
	sum := uint64(0)
	for _, host := range l.hosts {
		sum += weightOf(&s.hosts[host])
	}
	for i, host := range l.hosts {
		weight := float64(weightOf(&s.hosts[host]))
		if localities == 0 {
			weights[i] = weight / float64(sum)
			continue
		}
		own := &l.localities[s.places[host]]
		weights[i] = weight * (float64(own.weight) / float64(localities)) / float64(own.sum)
	}
	return weights
}

// bucket is a portion of the calls for the policies that hash: the same
// requests get it as long as loads do not change.
type bucket struct {
	until      uint64 // the loads of the buckets up to this one, in percent
	wheel      *wheel
	usable     []bool  // by member
	ready      []int32 // hosts
	connecting bool
	next       atomic.Pointer[[]int32]
}

// fillBuckets makes the portions buckets.
func (w *view) fillBuckets(p *Picker, levels []level, portions []portion) {
	w.buckets = make([]bucket, len(portions))
	until, n := uint64(0), 0
	used := make([]bool, len(p.hosts))
	for i := range portions {
		clear(used)
		for _, host := range portions[i].hosts {
			used[host] = true
		}
		b := &w.buckets[n]
		if !b.fill(p, levels[portions[i].level].wheel(), used) {
			continue
		}
		until += uint64(portions[i].load)
		b.until = until
		n++
	}
	w.buckets = w.buckets[:n]
	if n > 0 {
		w.verdict = Picked
	}
}

// fill reports whether any host of the wheel is used.
func (b *bucket) fill(p *Picker, w *wheel, used []bool) bool {
	b.wheel, b.usable = w, make([]bool, len(w.hosts))
	some := false
	for member, host := range w.hosts {
		if !used[host] {
			continue
		}
		b.usable[member], some = true, true
		switch p.conns[host] {
		case Ready:
			b.ready = append(b.ready, host)
		case Connecting:
			b.connecting = true
		}
	}
	return some
}

// hashed follows the hash of the request to a host: the first one from there on
// that may be used and has not failed to connect. If it is idle it is to be
// connected, as in gRPC. Requests without a hash use a random one, and rather a
// ready host than to wait (gRFC A76).
func (p *Picker) hashed(w *view, in *Input) (host int, v Verdict) {
	hash := in.Hash
	if !in.HasHash {
		hash = in.Rand()
	}
	b := w.bucket(hash)
	host = b.find(hash, 0)
	for attempt := 0; attempt < in.MaxRepicks && host >= 0 && p.tried(host, in); attempt++ {
		host = b.find(hash, uint64(attempt)+1)
	}
	switch {
	case host < 0:
		return -1, Unavailable
	case p.conns[host] == Ready:
		return host, Picked
	case !in.HasHash && len(b.ready) > 0:
		if p.conns[host] == Idle && !b.connecting {
			in.Warm = int32(host) + 1
		}
		return p.anyReady(b, in), Picked
	case p.conns[host] == Idle:
		return host, Connect
	}
	return -1, Queue
}

// anyReady returns one of the ready hosts, whatever their weights: it is for the
// time until all hosts are connected.
func (p *Picker) anyReady(b *bucket, in *Input) int {
	draw := func() int { return int(b.ready[below(in.Rand, uint64(len(b.ready)))]) }
	host := draw()
	for repick := 0; repick < in.MaxRepicks && p.tried(host, in); repick++ {
		host = draw()
	}
	return host
}

// bucket returns the bucket that a hash falls into.
func (w *view) bucket(hash uint64) *bucket {
	last := len(w.buckets) - 1
	hash %= w.buckets[last].until
	for i := range last {
		if hash < w.buckets[i].until {
			return &w.buckets[i]
		}
	}
	return &w.buckets[last]
}

// maxWalk is how many entries that cannot be used are passed by one by one.
const maxWalk = 64

// find returns the host for a hash, or -1 if no entry of the circle is of a
// usable host.
func (b *bucket) find(hash, attempt uint64) int {
	owners := b.wheel.owners
	at := b.wheel.start(hash, attempt)
	for range maxWalk {
		if owner := owners[at]; b.usable[owner] {
			return int(b.wheel.hosts[owner])
		}
		if at++; at == len(owners) {
			at = 0
		}
	}
	next := b.next.Load()
	if next == nil {
		next = b.link()
	}
	if owner := (*next)[at]; owner >= 0 {
		return int(b.wheel.hosts[owner])
	}
	return -1
}

// link finds, once, the usable owner that follows each entry, so that circles
// with few usable hosts are as fast as others.
func (b *bucket) link() *[]int32 {
	owners := b.wheel.owners
	next := make([]int32, len(owners))
	following := int32(-1)
	for i := 2*len(owners) - 1; i >= 0; i-- { // the second lap wraps around
		at := i % len(owners)
		if b.usable[owners[at]] {
			following = owners[at]
		}
		next[at] = following
	}
	b.next.Store(&next)
	return &next
}
