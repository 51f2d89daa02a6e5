package translate

import (
	"cmp"
	"maps"
	"slices"

	"github.com/meshframe/meshframe/xdsserver/support"
)

// Notes says what clients do not do because of how the rules come together on the routes of a service, beyond what
// package support says of each rule by itself. Clients are those of the namespaces that the services and the policies
// are in. It is for reports: it translates the routes of all services.
func (w *World) Notes(kind support.Client) []support.Entry {
	found := map[support.Entry]bool{}
	for _, host := range w.index.Hosts() {
		for _, s := range w.index.All(host) {
			namespaces := map[string]bool{s.Namespace: true}
			for _, p := range w.index.Model.Policies {
				namespaces[p.Namespace] = true
			}
			for namespace := range namespaces {
				c := Client{Type: kind.Type, Release: kind.Release, Namespace: namespace}
				for _, port := range s.Ports {
					for _, e := range w.Route(c, ClusterName{Host: host, Port: port.Number}.String()).Notes {
						found[e] = true
					}
				}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(found), func(a, b support.Entry) int {
		return cmp.Or(cmp.Compare(a.Object.Source.File, b.Object.Source.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Field, b.Field), cmp.Compare(a.Reason, b.Reason))
	})
}
