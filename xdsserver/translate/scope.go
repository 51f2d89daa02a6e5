package translate

import (
	"iter"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
)

// scope is what the Sidecar for the client leaves of the services.
func (t *translation) scope() *config.Scope {
	if t.scoped == nil {
		t.dep(Scope, t.client.Namespace)
		t.scoped = t.index.Model.Scope(t.client.Namespace, t.opts.RootNamespace, t.client.Labels)
		if t.scoped.Sidecar != nil {
			t.uses(t.scoped.Sidecar.Meta)
		}
	}
	return t.scoped
}

// sees reports whether the client may call a service by a host, which is the service's or one that its wildcard covers.
// As in Istio, that is also so for services that a rule which the client follows sends calls to.
func (t *translation) sees(s *registry.Service, host string, port uint32) bool {
	scope := t.scope()
	if scope.Sidecar == nil || s.Namespace != "" && s.Namespace == t.opts.SystemNamespace {
		return true
	}
	for _, h := range []string{s.Host, host} {
		if port == 0 && scope.Allows(h, s.Namespace) || port != 0 && scope.AllowsPort(h, s.Namespace, port) {
			return true
		}
	}
	t.dep(Imports, t.client.Namespace)
	ports := t.rules.imports(scope, t.client.Namespace)[s.Host]
	return ports[0] || ports[port] || port == 0 && len(ports) > 0
}

// registryOnly says that hosts which are no service do not exist for the client.
func (t *translation) registryOnly() bool {
	switch t.scope().Outbound() {
	case config.OutboundAllowAny:
		return false
	case config.OutboundRegistryOnly:
		return true
	default:
		return t.opts.RegistryOnly
	}
}

// follows reports whether the client's scope has a rule.
func follows(scope *config.Scope, v *config.VirtualService) bool {
	if scope.Sidecar == nil {
		return true
	}
	for _, h := range v.Hosts {
		if scope.Allows(h, v.Namespace) {
			return true
		}
	}
	return false
}

// imported is the ports of hosts that rules send calls to; port 0 is any.
type imported map[string]map[uint32]bool

func (i imported) add(host string, port uint32) {
	if i[host] == nil {
		i[host] = map[uint32]bool{}
	}
	i[host][port] = true
}

// scopeKey is what the hosts that rules send calls to depend on.
type scopeKey struct {
	sidecar   *config.Sidecar
	namespace string
}

// imports returns where the rules of a scope send calls to.
func (r *rules) imports(scope *config.Scope, namespace string) imported {
	key := scopeKey{scope.Sidecar, namespace}
	if known, ok := r.imported.Load(key); ok {
		return known.(imported)
	}
	hosts := imported{}
	for _, v := range r.model.VirtualServices {
		if !v.InMesh() || !v.ExportTo.In(namespace) || !follows(scope, v) {
			continue
		}
		for d := range destinations(v.Spec) {
			hosts.add(d.GetHost(), d.GetPort().GetNumber())
		}
	}
	for _, p := range r.model.Policies {
		if f := p.Spec.Fallback; f != nil && f.Destination != nil && p.ExportTo.In(namespace) {
			hosts.add(f.Destination.Host, f.Destination.Port)
		}
	}
	known, _ := r.imported.LoadOrStore(key, hosts)
	return known.(imported)
}

// destinations lists where a rule sends calls and copies of calls.
func destinations(v *networking.VirtualService) iter.Seq[*networking.Destination] {
	return func(yield func(*networking.Destination) bool) {
		for _, h := range v.GetHttp() {
			all := []*networking.Destination{h.GetMirror()}
			for _, m := range h.GetMirrors() {
				all = append(all, m.GetDestination())
			}
			for _, d := range h.GetRoute() {
				all = append(all, d.GetDestination())
			}
			for _, d := range all {
				if d != nil && !yield(d) {
					return
				}
			}
		}
	}
}
