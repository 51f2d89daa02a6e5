package translate

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
)

// DefaultRootNamespace is where rules for the whole mesh are looked for where nothing else is said.
const DefaultRootNamespace = "istio-system"

// Options are what the whole mesh has in common.
type Options struct {
	// RegistryOnly makes hosts that the registry does not know not exist. Without it they are left to DNS.
	RegistryOnly bool
	// RootNamespace holds DestinationRules for all namespaces; default DefaultRootNamespace.
	RootNamespace string
}

// World is everything that translation reads, at one moment. It is immutable and safe for concurrent use.
type World struct {
	index *registry.Index
	rules *rules
	opts  Options
}

// rules is the rules of a model by host.
type rules struct {
	model   *config.Model
	virtual byHost[*config.VirtualService] // those that apply inside of the mesh
	// destination rules by the namespace that they are in
	destination map[string]byHost[*config.DestinationRule]
	labelKeys   []string // of client labels that some rule reads, sorted
}

// byHost finds rules by host, exactly or by wildcard, each list in Istio's order of precedence.
type byHost[T any] struct {
	exact    map[string][]T
	wildcard []string // keys of exact that start with "*", most specific first
}

func (b *byHost[T]) add(host string, rule T) {
	if b.exact == nil {
		b.exact = map[string][]T{}
	}
	if b.exact[host] == nil && strings.HasPrefix(host, "*") {
		b.wildcard = append(b.wildcard, host)
	}
	b.exact[host] = append(b.exact[host], rule)
}

func (b *byHost[T]) sort() {
	slices.SortFunc(b.wildcard, func(x, y string) int {
		return cmp.Or(len(y)-len(x), strings.Compare(x, y))
	})
}

// find calls fn for the lists of rules that may apply to host, most specific first, until fn returns true.
func (b *byHost[T]) find(host string, fn func(host string, rules []T) bool) {
	if list := b.exact[host]; len(list) > 0 && fn(host, list) {
		return
	}
	for _, w := range b.wildcard {
		if w != host && Matches(w, host) && fn(w, b.exact[w]) {
			return
		}
	}
}

// Matches reports whether a wildcard host such as *.example.com covers another, which may be a narrower wildcard.
func Matches(wildcard, host string) bool {
	suffix, ok := strings.CutPrefix(wildcard, "*")
	return ok && strings.HasSuffix(strings.TrimPrefix(host, "*"), suffix) && len(host) > len(suffix)
}

// NewWorld makes a world of an index. Of previous, which may be nil, it reuses what did not change.
func NewWorld(x *registry.Index, opts Options, previous *World) *World {
	opts.RootNamespace = cmp.Or(opts.RootNamespace, DefaultRootNamespace)
	w := &World{index: x, opts: opts}
	if previous != nil && previous.rules.model == x.Model {
		w.rules = previous.rules
	} else {
		w.rules = newRules(x.Model)
	}
	return w
}

func newRules(m *config.Model) *rules {
	r := &rules{model: m, destination: map[string]byHost[*config.DestinationRule]{}}
	labels := map[string]bool{}
	for _, v := range m.VirtualServices {
		if !v.InMesh() {
			continue
		}
		for _, h := range v.Hosts {
			r.virtual.add(h, v)
		}
		for _, http := range v.Spec.GetHttp() {
			for _, match := range http.GetMatch() {
				for k := range match.GetSourceLabels() {
					labels[k] = true
				}
			}
		}
	}
	r.virtual.sort()
	for _, d := range m.DestinationRules {
		b := r.destination[d.Namespace]
		b.add(d.Host, d)
		b.sort()
		r.destination[d.Namespace] = b
		for k := range d.Spec.GetWorkloadSelector().GetMatchLabels() {
			labels[k] = true
		}
	}
	r.labelKeys = slices.Sorted(maps.Keys(labels))
	return r
}

// Index returns the services of the world.
func (w *World) Index() *registry.Index { return w.index }

// Restrict returns the client without the labels that no rule reads.
func (w *World) Restrict(c Client) Client {
	kept := map[string]string{}
	for _, k := range w.rules.labelKeys {
		if v, ok := c.Labels[k]; ok {
			kept[k] = v
		}
	}
	c.Labels = kept
	return c
}

// SameLabels reports whether the rules of two worlds read the same labels of clients: whether Restrict is the same.
func SameLabels(a, b *World) bool {
	return a.rules == b.rules || slices.Equal(a.rules.labelKeys, b.rules.labelKeys)
}

// RulesChanged returns the hosts, exact and wildcard, whose VirtualServices and DestinationRules differ between two
// worlds.
func RulesChanged(a, b *World) (routing, policy []string) {
	if a.rules == b.rules {
		return nil, nil
	}
	return changed(a.rules.model.VirtualServices, b.rules.model.VirtualServices,
			func(v *config.VirtualService) (any, []string) { return v.Spec, v.Hosts }),
		changed(a.rules.model.DestinationRules, b.rules.model.DestinationRules,
			func(d *config.DestinationRule) (any, []string) { return d.Spec, []string{d.Host} })
}

// changed returns the hosts of the rules that are in one list and not in the other. A rule is its content.
func changed[T any](a, b []T, of func(T) (content any, hosts []string)) []string {
	count := map[any]int{}
	for _, r := range a {
		c, _ := of(r)
		count[c]++
	}
	hosts := map[string]bool{}
	for _, r := range b {
		c, hs := of(r)
		if count[c]--; count[c] < 0 {
			for _, h := range hs {
				hosts[h] = true
			}
		}
	}
	for _, r := range a {
		if c, hs := of(r); count[c] > 0 {
			for _, h := range hs {
				hosts[h] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(hosts))
}
