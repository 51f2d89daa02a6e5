package snapshot

import (
	"sync"

	"github.com/meshframe/meshframe/mesh/route"
)

// routeSet is the compiled routes of a snapshot. It depends on the listener and
// the route configuration only, so snapshots that differ in clusters share it.
//
// Only the virtual host of the target's own authority is compiled when the set
// is built. Calls to other authorities are rare on a client, and a route
// configuration may hold thousands of virtual hosts: what serves them is made
// when the first such call comes, and kept.
type routeSet struct {
	rc        *RouteConfiguration
	authority string
	defaults  defaults
	specs     []*hostSpec
	own       *VirtualHostEntry // nil if none serves the authority
	others    func() *otherHosts
}

// otherHosts finds the virtual host of any authority.
type otherHosts struct {
	hosts   *route.Hosts
	entries []func() *VirtualHostEntry // parallel to routeSet.specs; each compiles once
}

// buildRoutes compiles the routes of an update, or returns prev if nothing they
// depend on has changed.
func buildRoutes(prev *routeSet, u *Update, live *Live) *routeSet {
	set := &routeSet{rc: u.Routes, authority: u.Authority, defaults: defaults{live: live}}
	if l := u.Listener; l != nil {
		set.defaults.fault, set.defaults.session, set.defaults.inbound = l.Fault, l.Session, l.Inbound
		set.defaults.rateLimit, set.defaults.maxStreamDuration = l.RateLimit, l.MaxStreamDuration
		if set.rc == nil {
			set.rc = l.Routes
		}
	}
	if rc := set.rc; rc != nil {
		set.defaults.requestHeaders, set.defaults.responseHeaders = rc.RequestHeaders, rc.ResponseHeaders
		set.defaults.specificLast = rc.SpecificLast
	}
	var before []*hostSpec
	if prev != nil {
		if prev.rc == set.rc && prev.authority == set.authority && prev.defaults == set.defaults {
			return prev
		}
		before = prev.specs
	}
	live.renew()
	set.specs = resolveHosts(before, set.rc)
	domains := domainLists(set.specs)
	own := route.FindHost(domains, set.authority)
	if own >= 0 {
		set.own = compileHost(set.specs[own], set.defaults)
	}
	set.others = sync.OnceValue(func() *otherHosts { return newOtherHosts(set, domains, own) })
	return set
}

func newOtherHosts(set *routeSet, domains [][]string, own int) *otherHosts {
	o := &otherHosts{hosts: route.NewHosts(domains), entries: make([]func() *VirtualHostEntry, len(set.specs))}
	for i, spec := range set.specs {
		if i == own {
			o.entries[i] = func() *VirtualHostEntry { return set.own }
			continue
		}
		o.entries[i] = sync.OnceValue(func() *VirtualHostEntry { return compileHost(spec, set.defaults) })
	}
	return o
}

// host returns the virtual host that serves the authority, or nil.
func (r *routeSet) host(authority string) *VirtualHostEntry {
	if authority == r.authority {
		return r.own
	}
	o := r.others()
	if i := o.hosts.Find(authority); i >= 0 {
		return o.entries[i]()
	}
	return nil
}
