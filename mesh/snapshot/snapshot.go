package snapshot

import (
	"maps"
	"slices"
)

// Snapshot is everything that calls to one target are decided from. It is
// immutable and safe for concurrent use.
type Snapshot struct {
	Target    string
	Authority string
	// Generation counts the snapshots of the target, from 1.
	Generation uint64
	// Upstreams are the clusters that routes can draw, each once.
	Upstreams []*Upstream
	// Err is why every call fails: the target has no configuration.
	Err error

	routes *routeSet
	extra  map[string]*Upstream // upstreams that are not of the own virtual host
}

// Build joins an update into a snapshot. prev is the target's previous
// snapshot, or nil: what did not change is taken from it, and so is the last
// good version of what was refused. live is the target's.
// The live state is attached; when the snapshot replaced prev, release it with
// Release.
func Build(prev *Snapshot, u *Update, states *States, live *Live) *Snapshot {
	if prev == nil {
		prev = &Snapshot{}
	}
	s := &Snapshot{
		Target: u.Target, Authority: u.Authority, Err: u.Err,
		Generation: prev.Generation + 1,
	}
	if s.Err == nil {
		s.routes = buildRoutes(prev.routes, u, live)
		s.buildUpstreams(prev, u, states)
	}
	return s
}

// Release frees the live state of the upstreams of prev that next, the
// snapshot that took its place (nil: none did), does not have.
func Release(prev, next *Snapshot, states *States) {
	if prev == nil {
		return
	}
	for _, u := range prev.Upstreams {
		if next == nil || next.Upstream(u.Name) != u {
			states.release(u)
		}
	}
}

// VirtualHost returns the virtual host that serves an authority, or nil.
func (s *Snapshot) VirtualHost(authority string) *VirtualHostEntry {
	return s.routes.host(authority)
}

// Draw chooses one of the route's destinations by weight; h is the route's
// virtual host, and the route has no Err. The upstream is nil if the route
// forwards nothing (its cluster is "" then, see VirtualHostEntry.Cluster), or (only
// where h is not the target's own virtual host) if the snapshot does not have the
// cluster.
func (s *Snapshot) Draw(h *VirtualHostEntry, r *RouteEntry, rnd func() uint64) (*Destination, *Upstream) {
	d := r.draw(rnd)
	switch {
	case d.cluster < 0:
		return d, nil
	case h == s.routes.own:
		return d, s.Upstreams[d.cluster]
	}
	return d, s.Upstream(h.names[d.cluster])
}

// ClusterNames returns the clusters that a target needs, sorted: those that the
// virtual host of the authority can draw (gRFC A27), including those of last
// good versions that are kept from prev. An empty authority stands for all
// virtual hosts.
func ClusterNames(prev *Snapshot, l *Listener, rc *RouteConfiguration, authority string) []string {
	var before []*hostSpec
	if prev != nil && prev.routes != nil {
		before = prev.routes.specs
	}
	if rc == nil && l != nil {
		rc = l.Routes
	}
	specs := resolveHosts(before, rc)
	if authority != "" {
		specs = []*hostSpec{specFor(specs, authority)}
	}
	var names []string
	for _, spec := range specs {
		if spec != nil {
			names = append(names, spec.clusterNames()...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// buildUpstreams fills Upstreams: first the clusters of the own virtual host, in
// the order in which it refers to them, then the others of the update, sorted.
func (s *Snapshot) buildUpstreams(prev *Snapshot, u *Update, states *States) {
	b := upstreamBuilder{update: u, states: states, last: map[string]*Upstream{}, built: map[string]*Upstream{}}
	for _, up := range prev.Upstreams {
		b.last[up.Name] = up
	}
	var own map[string]int
	if s.routes.own != nil {
		own = s.routes.own.slots
		for _, name := range s.routes.own.names {
			s.Upstreams = append(s.Upstreams, b.build(name))
		}
	}
	for name := range u.Clusters {
		b.build(name)
	}
	for name := range u.Missing {
		b.build(name)
	}
	for _, name := range slices.Sorted(maps.Keys(b.built)) { // those behind aggregate clusters too
		if _, ok := own[name]; ok {
			continue
		}
		if s.extra == nil {
			s.extra = map[string]*Upstream{}
		}
		s.extra[name] = b.built[name]
		s.Upstreams = append(s.Upstreams, b.built[name])
	}
}

// Upstream returns the upstream of a name, or nil.
func (s *Snapshot) Upstream(name string) *Upstream {
	if s.routes != nil && s.routes.own != nil {
		if i, ok := s.routes.own.slots[name]; ok {
			return s.Upstreams[i]
		}
	}
	return s.extra[name]
}
