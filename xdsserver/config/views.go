package config

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// view is what was made of an object: one of the types of the Model, with what it was made from.
type view struct {
	object *Object
	digest [sha256.Size]byte // of the object and of every other object that went into it
	made   any
}

// model makes the views of all objects that are in force, or takes them from the previous model.
func (b *builder) model() *Model {
	m := &Model{Domain: b.opts.Domain, files: map[string]*held{}, origin: map[string]string{}, views: map[string]*view{},
		sidecars: map[string][]*Sidecar{}, policies: map[string][]*MeshPolicy{}}
	var all []*Object
	for _, s := range b.sources {
		if s.bad && b.opts.Previous != nil && b.opts.Previous.files[s.Name] != nil {
			m.Kept = append(m.Kept, s.Name)
		}
		if s.taken.data != nil || len(s.taken.objects) > 0 {
			m.files[s.Name] = s.taken
		}
		for _, o := range s.taken.objects {
			m.origin[o.key()] = s.Name
			all = append(all, o)
		}
	}
	slices.SortStableFunc(all, precedence)
	d := b.delegates(all)
	for _, o := range all {
		b.view(m, o, d)
	}
	b.checkTogether(m)
	return m
}

// precedence is Istio's order: the oldest first, then by name, then by namespace.
func precedence(a, b *Object) int {
	return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name), strings.Compare(a.Namespace, b.Namespace),
		strings.Compare(a.Kind, b.Kind))
}

func (b *builder) view(m *Model, o *Object, d *delegation) {
	v := &view{object: o, digest: d.digest(o)}
	var old *view
	if p := b.opts.Previous; p != nil {
		if old = p.views[o.key()]; old != nil && old.digest != v.digest {
			old = nil
		}
	}
	if old != nil && old.object == o {
		v.made = old.made
	} else {
		v.made = b.make(o, old, d)
	}
	m.views[o.key()] = v
	switch made := v.made.(type) {
	case *VirtualService:
		if len(made.Hosts) > 0 {
			m.VirtualServices = append(m.VirtualServices, made)
		}
	case *DestinationRule:
		m.DestinationRules = append(m.DestinationRules, made)
	case *ServiceEntry:
		m.ServiceEntries = append(m.ServiceEntries, made)
	case *WorkloadEntry:
		m.WorkloadEntries = append(m.WorkloadEntries, made)
	case *Service:
		m.Services = append(m.Services, made)
	case *EndpointSlice:
		m.EndpointSlices = append(m.EndpointSlices, made)
	case *Sidecar:
		m.Sidecars = append(m.Sidecars, made)
		m.sidecars[made.Namespace] = append(m.sidecars[made.Namespace], made)
	case *MeshPolicy:
		m.Policies = append(m.Policies, made)
		m.policies[made.Host] = append(m.policies[made.Host], made)
	case *Object:
		m.Other = append(m.Other, made)
	}
}

// make makes the view of an object. old, when there is one, has the same content at another place: its specs are used
// again, since their pointers are the identity of the content.
func (b *builder) make(o *Object, old *view, d *delegation) any {
	domain := b.opts.Domain
	switch spec := o.Spec.(type) {
	case *networking.VirtualService:
		v := reuse(old, func() *VirtualService { return b.virtualService(o, spec, d) })
		v.Meta = &o.Meta
		return v
	case *networking.DestinationRule:
		v := reuse(old, func() *DestinationRule {
			clone := proto.CloneOf(spec)
			clone.Host = ResolveHost(spec.Host, o.Namespace, domain)
			exportTo := spec.ExportTo
			if spec.WorkloadSelector != nil && len(exportTo) == 0 {
				exportTo = []string{"."} // what selects workloads is for those of its own namespace
			}
			return &DestinationRule{Spec: clone, Host: clone.Host, ExportTo: visibility(exportTo, o.Namespace)}
		})
		v.Meta = &o.Meta
		return v
	case *networking.ServiceEntry:
		v := reuse(old, func() *ServiceEntry {
			return &ServiceEntry{Spec: spec, Hosts: resolveAll(spec.Hosts, o.Namespace, domain), ExportTo: visibility(spec.ExportTo, o.Namespace)}
		})
		v.Meta = &o.Meta
		return v
	case *networking.WorkloadEntry:
		v := reuse(old, func() *WorkloadEntry {
			return &WorkloadEntry{Spec: spec, Selectable: joinMaps(o.Labels, spec.Labels)}
		})
		v.Meta = &o.Meta
		return v
	case *networking.Sidecar:
		v := reuse(old, func() *Sidecar { return &Sidecar{Spec: spec, egress: egressListeners(spec)} })
		v.Meta = &o.Meta
		return v
	case *MeshPolicySpec:
		v := reuse(old, func() *MeshPolicy {
			full := spec.complete(o.Namespace, domain)
			return &MeshPolicy{Spec: full, Host: full.Host, ExportTo: visibility(spec.ExportTo, o.Namespace)}
		})
		v.Meta = &o.Meta
		return v
	case *corev1.Service:
		v := reuse(old, func() *Service {
			return &Service{Spec: spec, Host: serviceHost(o.Name, o.Namespace, domain), ExportTo: visibility(exportList(o.Annotations), o.Namespace)}
		})
		v.Meta = &o.Meta
		return v
	case *discoveryv1.EndpointSlice:
		v := reuse(old, func() *EndpointSlice {
			s := &EndpointSlice{Spec: spec}
			if name := o.Labels[discoveryv1.LabelServiceName]; name != "" {
				s.Host = serviceHost(name, o.Namespace, domain)
			}
			return s
		})
		v.Meta = &o.Meta
		return v
	default:
		return o
	}
}

// reuse copies the view that was made before, or makes a new one.
func reuse[T any](old *view, fresh func() *T) *T {
	if old != nil {
		v := *old.made.(*T)
		return &v
	}
	return fresh()
}

func serviceHost(name, namespace, domain string) string {
	return name + "." + namespace + ".svc." + domain
}

func resolveAll(hosts []string, namespace, domain string) []string {
	out := make([]string, len(hosts))
	for i, h := range hosts {
		out[i] = ResolveHost(h, namespace, domain)
	}
	return out
}

func (b *builder) virtualService(o *Object, spec *networking.VirtualService, d *delegation) *VirtualService {
	clone := proto.CloneOf(spec)
	b.resolveRule(clone, o.Namespace)
	d.merge(b, o, clone)
	v := &VirtualService{Spec: clone, Hosts: clone.Hosts, Gateways: clone.Gateways, ExportTo: visibility(spec.ExportTo, o.Namespace)}
	if len(v.Gateways) == 0 {
		v.Gateways = []string{MeshGateway}
	}
	return v
}

// resolveRule makes every host and gateway of a rule fully qualified, and what is written in two ways is written in one.
func (b *builder) resolveRule(v *networking.VirtualService, namespace string) {
	v.Hosts = resolveAll(v.Hosts, namespace, b.opts.Domain)
	v.Gateways = resolveGateways(v.Gateways, namespace)
	for _, d := range ruleDestinations(v) {
		d.to.Host = ResolveHost(d.to.Host, namespace, b.opts.Domain)
	}
	for _, route := range v.Http {
		for _, m := range route.Match {
			m.Gateways = resolveGateways(m.Gateways, namespace)
			for name, value := range m.WithoutHeaders {
				if isAnything(value) {
					m.WithoutHeaders[name] = &networking.StringMatch{}
				}
			}
		}
	}
	for _, route := range v.Tls {
		for _, m := range route.Match {
			m.Gateways = resolveGateways(m.Gateways, namespace)
		}
	}
	for _, route := range v.Tcp {
		for _, m := range route.Match {
			m.Gateways = resolveGateways(m.Gateways, namespace)
		}
	}
}

func resolveGateways(names []string, namespace string) []string {
	out := slices.Clone(names)
	for i, g := range out {
		switch parts := strings.SplitN(g, ".", 3); {
		case g == MeshGateway || strings.Contains(g, "/"):
		case len(parts) > 1: // the old form, name.namespace.svc.domain
			out[i] = parts[1] + "/" + parts[0]
		default:
			out[i] = namespace + "/" + g
		}
	}
	return out
}

// destination is one place in a rule where it sends requests.
type destination struct {
	path string
	to   *networking.Destination
}

// ruleDestinations lists the places in order.
func ruleDestinations(v *networking.VirtualService) []destination {
	var out []destination
	add := func(path string, to *networking.Destination) {
		if to != nil {
			out = append(out, destination{path, to})
		}
	}
	for i, route := range v.Http {
		path := element("spec.http", i)
		for j, d := range route.Route {
			add(field(element(field(path, "route"), j), "destination"), d.Destination)
		}
		add(field(path, "mirror"), route.Mirror)
		for j, m := range route.Mirrors {
			add(field(element(field(path, "mirrors"), j), "destination"), m.Destination)
		}
	}
	for i, route := range v.Tls {
		for j, d := range route.Route {
			add(field(element(field(element("spec.tls", i), "route"), j), "destination"), d.Destination)
		}
	}
	for i, route := range v.Tcp {
		for j, d := range route.Route {
			add(field(element(field(element("spec.tcp", i), "route"), j), "destination"), d.Destination)
		}
	}
	return out
}

// Raw returns the files as they were read whose objects are in force: what to keep for a restart. The bytes must not be
// written to.
func (m *Model) Raw() map[string][]byte {
	out := make(map[string][]byte, len(m.files))
	for name, h := range m.files {
		if h.data != nil {
			out[name] = h.data
		}
	}
	return out
}

// Objects returns every object that is in force, as it was written, in the order of files and lines.
func (m *Model) Objects() []*Object {
	out := make([]*Object, 0, len(m.views))
	for _, v := range m.views {
		out = append(out, v.object)
	}
	slices.SortFunc(out, func(a, b *Object) int {
		if order := cmp.Or(strings.Compare(a.Source.File, b.Source.File), cmp.Compare(a.Source.Line, b.Source.Line)); order != 0 {
			return order
		}
		return strings.Compare(a.key(), b.key())
	})
	return out
}
