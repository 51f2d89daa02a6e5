package snapshot

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/meshframe/meshframe/mesh/route"
)

// This file decides what is in force of a route configuration when parts of it
// were refused: their last good versions, unless they were denied.

// denied reports whether a refusal forbids the last good version.
func denied(err error) bool {
	var d interface{ Deny() bool }
	return errors.As(err, &d) && d.Deny()
}

// refusal is the error of calls that meet what was refused and has no last good
// version. A denial speaks for itself.
func refusal(err error) error {
	if denied(err) {
		return err
	}
	return fmt.Errorf("refused: %w", err)
}

// hostSpec is a virtual host in force: as received, or with last good versions
// in place of what was refused.
type hostSpec struct {
	name    string
	domains []string
	// source is the resource; it is the last good version if the virtual host
	// was refused as a whole.
	source *VirtualHost
	// routes are in force, in order; those still Refused have no last good
	// version, and calls that they catch fail.
	routes []*Route
	err    error // the virtual host was refused and has no last good version
}

// resolveHosts returns the virtual hosts in force for a new route
// configuration, given those of the previous snapshot. One that nothing
// changed in is returned as it was.
func resolveHosts(prev []*hostSpec, rc *RouteConfiguration) []*hostSpec {
	if rc == nil {
		return nil
	}
	last := make(map[string]*hostSpec, len(prev))
	for _, spec := range prev {
		if _, ok := last[spec.name]; !ok {
			last[spec.name] = spec
		}
	}
	specs := make([]*hostSpec, len(rc.VirtualHosts))
	kept := false
	for i, vh := range rc.VirtualHosts {
		specs[i] = resolveHost(last[vh.Name], vh)
		kept = kept || specs[i].source != vh
	}
	if kept {
		yieldDomains(specs, rc)
	}
	return specs
}

func resolveHost(prev *hostSpec, vh *VirtualHost) *hostSpec {
	if prev != nil && prev.source == vh {
		return prev
	}
	if vh.Refused != nil {
		if prev != nil && prev.err == nil && !denied(vh.Refused) {
			return prev
		}
		return &hostSpec{name: vh.Name, domains: vh.Domains, source: vh, err: refusal(vh.Refused)}
	}
	spec := &hostSpec{name: vh.Name, domains: vh.Domains, source: vh, routes: vh.Routes}
	if prev != nil && slices.ContainsFunc(vh.Routes, isRefused) {
		spec.routes = keepRoutes(prev.routes, vh.Routes)
	}
	return spec
}

// yieldDomains takes from virtual hosts that are kept the domains that the new
// configuration gives to others: a domain may move away from a virtual host in
// the same update that is refused for it.
func yieldDomains(specs []*hostSpec, rc *RouteConfiguration) {
	taken := map[string]bool{}
	for i, vh := range rc.VirtualHosts {
		if specs[i].source == vh {
			for _, domain := range vh.Domains {
				taken[strings.ToLower(domain)] = true
			}
		}
	}
	for i, vh := range rc.VirtualHosts {
		if specs[i].source == vh {
			continue
		}
		kept := *specs[i]
		kept.domains = slices.DeleteFunc(slices.Clone(kept.source.Domains), func(domain string) bool {
			return taken[strings.ToLower(domain)]
		})
		specs[i] = &kept
	}
}

func isRefused(r *Route) bool { return r.Refused != nil }

// keepRoutes puts the last good version of each refused route at its place.
func keepRoutes(prev, routes []*Route) []*Route {
	good := slices.DeleteFunc(slices.Clone(prev), isRefused)
	lastByName, lastByMatch := routesByName(good), routesByMatch(good)
	names := routesByName(routes)
	kept := slices.Clone(routes)
	for i, r := range routes {
		if r.Refused == nil || denied(r.Refused) {
			continue
		}
		last := lastByMatch[r.Match.String()]
		if names[r.Name] != nil && lastByName[r.Name] != nil {
			last = lastByName[r.Name]
		}
		if last != nil {
			kept[i] = last
		}
	}
	return kept
}

// routesByName maps the names that only one route has. Routes without a name
// are not in it.
func routesByName(routes []*Route) map[string]*Route {
	byName := make(map[string]*Route, len(routes))
	for _, r := range routes {
		if _, twice := byName[r.Name]; twice || r.Name == "" {
			byName[r.Name] = nil
			continue
		}
		byName[r.Name] = r
	}
	return byName
}

func routesByMatch(routes []*Route) map[string]*Route {
	byMatch := make(map[string]*Route, len(routes))
	for _, r := range routes {
		key := r.Match.String()
		if byMatch[key] == nil {
			byMatch[key] = r
		}
	}
	return byMatch
}

// domainLists are the domains of virtual hosts, in order, as FindHost reads them.
func domainLists(specs []*hostSpec) [][]string {
	lists := make([][]string, len(specs))
	for i, spec := range specs {
		lists[i] = spec.domains
	}
	return lists
}

// specFor returns the virtual host that serves an authority, or nil.
func specFor(specs []*hostSpec, authority string) *hostSpec {
	if i := route.FindHost(domainLists(specs), authority); i >= 0 {
		return specs[i]
	}
	return nil
}

// clusterNames returns the clusters that the routes of a virtual host can send
// calls or copies of them to, each once, in the order of their first use.
func (h *hostSpec) clusterNames() []string {
	var names []string
	seen := map[string]bool{}
	note := func(name string) {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	for _, r := range h.routes {
		if r.Refused == nil {
			r.eachCluster(h.source, note)
		}
	}
	return names
}

// eachCluster tells the clusters of a route of virtual host vh.
func (r *Route) eachCluster(vh *VirtualHost, note func(name string)) {
	for i := range r.Clusters {
		if c := &r.Clusters[i]; c.Weight > 0 {
			note(c.Cluster)
		}
	}
	for _, m := range r.mirrors(vh) {
		note(m.Cluster)
	}
	if r.Fallback != nil && r.Fallback.Cluster != "" {
		note(r.Fallback.Cluster)
	}
}

// mirrors are the route's own, else those of its virtual host. Those that get no
// call are left out.
func (r *Route) mirrors(vh *VirtualHost) []Mirror {
	list := vh.Mirrors
	if r.Mirrors != nil {
		list = r.Mirrors
	}
	return slices.DeleteFunc(slices.Clone(list), func(m Mirror) bool { return m.Fraction == 0 })
}
