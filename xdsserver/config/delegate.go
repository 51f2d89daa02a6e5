package config

import (
	"cmp"
	"crypto/sha256"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"
)

// delegation knows the rules that others delegate to: those without hosts.
type delegation struct {
	rules map[string]*Object // by namespace/name
	used  map[string]bool
	hosts map[string]bool // the rules that have hosts
}

func (b *builder) delegates(all []*Object) *delegation {
	d := &delegation{rules: map[string]*Object{}, used: map[string]bool{}, hosts: map[string]bool{}}
	for _, o := range all {
		v, ok := o.Spec.(*networking.VirtualService)
		switch name := o.Namespace + "/" + o.Name; {
		case !ok:
		case len(v.Hosts) == 0:
			d.rules[name] = o
		default:
			d.hosts[name] = true
		}
	}
	for _, o := range all {
		if v, ok := o.Spec.(*networking.VirtualService); ok {
			for i, route := range v.Http {
				b.checkDelegate(o, d, element("spec.http", i), route)
			}
		}
	}
	for _, o := range all {
		if name := o.Namespace + "/" + o.Name; d.rules[name] == o && !d.used[name] {
			b.warn(o, "spec", "has no hosts and no rule delegates to it, so it does nothing")
		}
	}
	return d
}

// checkDelegate warns about delegations that lead nowhere.
func (b *builder) checkDelegate(o *Object, d *delegation, path string, route *networking.HTTPRoute) {
	if route.Delegate == nil {
		return
	}
	name, target := d.find(route.Delegate, o.Namespace)
	d.used[name] = true
	if target == nil {
		b.warn(o, field(path, "delegate"), "%s: requests that match fail", d.missing(name))
		return
	}
	root := &networking.VirtualService{Http: []*networking.HTTPRoute{proto.CloneOf(route)}}
	b.resolveRule(root, o.Namespace)
	for i, sub := range b.delegated(target) {
		if mergeRoute(root.Http[0], sub) == nil {
			b.warn(target, element("spec.http", i), "never used by %s: it matches nothing of what is delegated to it", o.ID())
		}
	}
}

// missing says why there is no rule of a name for one to delegate to.
func (d *delegation) missing(name string) string {
	switch {
	case d.hosts[name]:
		return "the rule " + name + " has hosts, and others delegate only to rules without"
	case d.rules[name] != nil:
		return "the rule " + name + " is not exported to this namespace"
	default:
		return "there is no rule " + name + " to delegate to"
	}
}

// delegated returns the routes of a rule that others delegate to, names resolved.
func (b *builder) delegated(target *Object) []*networking.HTTPRoute {
	v := proto.CloneOf(target.Spec.(*networking.VirtualService))
	b.resolveRule(v, target.Namespace)
	return v.Http
}

// find returns the rule that a delegation names, nil when there is none that a namespace may see.
func (d *delegation) find(to *networking.Delegate, from string) (string, *Object) {
	name := cmp.Or(to.Namespace, from) + "/" + to.Name
	target := d.rules[name]
	if target != nil && !visibility(target.Spec.(*networking.VirtualService).ExportTo, target.Namespace).In(from) {
		return name, nil
	}
	return name, target
}

// digest is that of an object and of all that it delegates to.
func (d *delegation) digest(o *Object) [sha256.Size]byte {
	v, ok := o.Spec.(*networking.VirtualService)
	if !ok || !slices.ContainsFunc(v.Http, func(r *networking.HTTPRoute) bool { return r.Delegate != nil }) {
		return o.digest
	}
	h := sha256.New()
	h.Write(o.digest[:])
	for _, route := range v.Http {
		if route.Delegate == nil {
			continue
		}
		name, target := d.find(route.Delegate, o.Namespace)
		h.Write([]byte(name))
		if target != nil {
			h.Write(target.digest[:])
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// merge puts the routes that a rule delegates to in the place of the delegation. v is the rule's own copy, with names
// resolved.
func (d *delegation) merge(b *builder, o *Object, v *networking.VirtualService) {
	var out []*networking.HTTPRoute
	for _, route := range v.Http {
		if route.Delegate == nil {
			out = append(out, route)
			continue
		}
		name, target := d.find(route.Delegate, o.Namespace)
		route.Delegate = nil
		if target == nil {
			// Without an action of its own the route would let its requests fall through to a broader one.
			route.DirectResponse = &networking.HTTPDirectResponse{Status: 503, Body: &networking.HTTPBody{
				Specifier: &networking.HTTPBody_String_{String_: "no rule " + name + " to delegate to"}}}
			out = append(out, route)
			continue
		}
		for _, sub := range b.delegated(target) {
			if merged := mergeRoute(route, sub); merged != nil {
				out = append(out, merged)
			}
		}
	}
	v.Http = out
}

// mergeRoute adds to a delegated route what the delegating one says; nil when no request can match both.
func mergeRoute(root, sub *networking.HTTPRoute) *networking.HTTPRoute {
	match, ok := mergeMatches(root.Match, sub.Match)
	if !ok {
		return nil
	}
	own := proto.CloneOf(sub)
	out := proto.CloneOf(root)
	out.Match, own.Match = nil, nil
	out.Name, own.Name = joinNames(root.Name, sub.Name), ""
	// What the delegated route sets wins as a whole; merging would mix the two.
	own.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		out.ProtoReflect().Set(f, v)
		return true
	})
	out.Match = match
	return out
}

func joinNames(root, sub string) string {
	if root == "" || sub == "" {
		return root + sub
	}
	return root + "-" + sub
}

// mergeMatches combines every match of one list with every match of the other; an empty list matches everything.
func mergeMatches(root, sub []*networking.HTTPMatchRequest) ([]*networking.HTTPMatchRequest, bool) {
	if len(root) == 0 {
		return sub, true
	}
	if len(sub) == 0 {
		return root, true
	}
	var out []*networking.HTTPMatchRequest
	for _, s := range sub {
		found := false
		for _, r := range root {
			if !matchesExclude(r, s) {
				out = append(out, mergeMatch(r, s))
				found = true
			}
		}
		if !found {
			return nil, false
		}
	}
	return out, true
}

func mergeMatch(root, sub *networking.HTTPMatchRequest) *networking.HTTPMatchRequest {
	out := proto.CloneOf(root)
	own := proto.CloneOf(sub)
	out.Name, own.Name = joinNames(root.Name, sub.Name), ""
	own.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if f.IsMap() {
			return true
		}
		out.ProtoReflect().Set(f, v)
		return true
	})
	out.Headers = joinMaps(root.Headers, sub.Headers)
	out.WithoutHeaders = joinMaps(root.WithoutHeaders, sub.WithoutHeaders)
	out.QueryParams = joinMaps(root.QueryParams, sub.QueryParams)
	out.SourceLabels = joinMaps(root.SourceLabels, sub.SourceLabels)
	return out
}

func joinMaps[V any](a, b map[string]V) map[string]V {
	if len(a)+len(b) == 0 {
		return nil
	}
	out := make(map[string]V, len(a)+len(b))
	maps.Copy(out, a)
	maps.Copy(out, b)
	return out
}

// matchesExclude reports whether Istio takes a delegated match for one that cannot be a part of the delegating one.
func matchesExclude(root, sub *networking.HTTPMatchRequest) bool {
	if stringsExclude(root.Uri, sub.Uri) || stringsExclude(root.Scheme, sub.Scheme) || stringsExclude(root.Method, sub.Method) ||
		stringsExclude(root.Authority, sub.Authority) {
		return true
	}
	for _, pair := range [][2]map[string]*networking.StringMatch{{root.Headers, sub.Headers}, {root.WithoutHeaders, sub.WithoutHeaders}, {root.QueryParams, sub.QueryParams}} {
		for name, s := range pair[1] {
			if stringsExclude(pair[0][name], s) {
				return true
			}
		}
	}
	for name, v := range sub.SourceLabels {
		if r, ok := root.SourceLabels[name]; ok && r != v {
			return true
		}
	}
	outside := func(g string) bool { return !slices.Contains(root.Gateways, g) }
	return root.IgnoreUriCase != sub.IgnoreUriCase ||
		root.Port != 0 && sub.Port != 0 && root.Port != sub.Port ||
		root.SourceNamespace != "" && root.SourceNamespace != sub.SourceNamespace ||
		len(root.Gateways) > 0 && slices.ContainsFunc(sub.Gateways, outside)
}

// stringsExclude reports whether what sub matches is not, or cannot be seen to be, a part of what root matches.
func stringsExclude(root, sub *networking.StringMatch) bool {
	switch {
	case root == nil || sub == nil:
		return false
	case root.GetExact() != "":
		return root.GetExact() != sub.GetExact()
	case root.GetPrefix() != "" && sub.GetRegex() == "":
		inner := sub.GetExact() + sub.GetPrefix()
		return inner == "" || !strings.HasPrefix(inner, root.GetPrefix())
	default:
		return true
	}
}
