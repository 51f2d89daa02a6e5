package translate

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"

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
	// SystemNamespace holds services that every client sees, whatever Sidecars say; "" is none.
	SystemNamespace string
	// Declared says that servers register for services of the configuration only.
	Declared bool
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
	reads       reads
	imported    sync.Map // scopeKey to imported, filled when it is asked for
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
	r := &rules{model: m, destination: map[string]byHost[*config.DestinationRule]{}, reads: newReads(m)}
	for _, v := range m.VirtualServices {
		if !v.InMesh() {
			continue
		}
		for _, h := range v.Hosts {
			r.virtual.add(h, v)
		}
	}
	r.virtual.sort()
	for _, d := range m.DestinationRules {
		b := r.destination[d.Namespace]
		b.add(d.Host, d)
		r.destination[d.Namespace] = b
	}
	for ns, b := range r.destination {
		b.sort()
		r.destination[ns] = b
	}
	return r
}

// Index returns the services of the world.
func (w *World) Index() *registry.Index { return w.index }

// RulesChanged returns what depends on the rules that differ between two worlds: VirtualServices, DestinationRules,
// MeshPolicies and Sidecars. A host may be a wildcard, which stands for all that it covers.
func RulesChanged(a, b *World) []Dep {
	if a.rules == b.rules {
		return nil
	}
	before, now := a.rules.model, b.rules.model
	var out []Dep
	add := func(aspect Aspect, hosts []string) {
		for _, h := range hosts {
			out = append(out, Dep{aspect, h})
		}
	}
	routing := changed(before.VirtualServices, now.VirtualServices, func(v *config.VirtualService) (any, []string) { return v.Spec, v.Hosts })
	add(Routing, routing)
	add(Policy, changed(before.DestinationRules, now.DestinationRules, func(d *config.DestinationRule) (any, []string) { return d.Spec, []string{d.Host} }))
	policies := changed(before.Policies, now.Policies, func(p *config.MeshPolicy) (any, []string) { return p.Spec, []string{p.Host} })
	add(Policy, policies)
	add(Scope, changed(before.Sidecars, now.Sidecars, func(s *config.Sidecar) (any, []string) {
		if s.Namespace == b.opts.RootNamespace {
			return s.Spec, []string{"*"}
		}
		return s.Spec, []string{s.Namespace}
	}))
	if len(before.Sidecars)+len(now.Sidecars) > 0 && len(routing)+len(policies) > 0 {
		add(Imports, []string{"*"})
	}
	return out
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
