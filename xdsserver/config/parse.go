package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Parse decodes one file: any number of YAML documents, or JSON when the name ends in ".json". It checks every object
// by itself; Build checks them together. An object that has an error is not among the Objects.
func Parse(name string, data []byte) File {
	p := parser{file: File{Name: name, Data: data}}
	docs, bad := readDocuments(name, data)
	for _, b := range bad {
		p.file.Problems = append(p.file.Problems, Problem{File: name, Line: b.line, Message: b.message})
	}
	for _, d := range docs {
		p.over = false
		p.object(d, 0)
	}
	sortProblems(p.file.Problems)
	return p.file
}

type parser struct {
	file File
	over bool // the document is too large: no more of it is read
}

// object reads one object, or every object of a list.
func (p *parser) object(n *yaml.Node, depth int) {
	n = deref(n)
	r := newReader(&Meta{Source: Source{File: p.file.Name, Line: n.Line, node: n}})
	defer func() {
		p.file.Problems = append(p.file.Problems, r.problems...)
		p.over = p.over || r.over
	}()
	if n.Kind != yaml.MappingNode {
		r.at(Error, n.Line, "", "want an object with apiVersion and kind, have %s", describe(n))
		return
	}
	top := r.entries(n, "")
	r.peek(top)
	if !r.identify(top) {
		return
	}
	if items := find(top, "items"); items != nil && strings.HasSuffix(r.meta.Kind, "List") {
		p.list(r, items, depth)
		return
	}
	if r.meta.Kind == "List" {
		r.emptyList(top)
		return
	}
	group, version := splitVersion(r.meta.APIVersion)
	k, ok := kinds[group+"/"+r.meta.Kind]
	switch {
	case !ok && isIstio(group):
		r.unknownKind(group)
	case !ok && misspelt(group, r.meta.Kind) != "":
		r.errorf("apiVersion", "%s is a kind of %s, not of %s", r.meta.Kind, misspelt(group, r.meta.Kind), shorten(r.meta.APIVersion))
	case !ok:
		p.file.passed = append(p.file.passed, passed{r.meta.Kind, r.meta.APIVersion, n.Line})
	case !slices.Contains(k.versions, version):
		r.errorf("apiVersion", "unknown version %q of %s; want %s", version, r.meta.Kind, strings.Join(k.versions, ", "))
	default:
		p.known(r, k, top)
	}
}

func (p *parser) list(r *reader, items *yaml.Node, depth int) {
	if items.Kind != yaml.SequenceNode {
		r.at(Error, items.Line, "items", "want a list, have %s", describe(items))
		return
	}
	if depth >= maxDepth {
		r.at(Error, items.Line, "items", "lists nested deeper than %d", maxDepth)
		return
	}
	for _, item := range items.Content {
		if item = deref(item); !isNull(item) && !p.over {
			p.object(item, depth+1)
		}
	}
}

// emptyList takes a list with nothing in it, which is no mistake where it says so.
func (r *reader) emptyList(top []entry) {
	if !slices.ContainsFunc(top, func(e entry) bool { return e.key == "items" }) {
		r.errorf("items", "missing: a List holds its objects there")
	}
}

// known reads an object of a kind that has a meaning here.
func (p *parser) known(r *reader, k kind, top []entry) {
	r.metadata(find(top, "metadata"))
	o := &Object{}
	switch {
	case k.spec != nil:
		spec := k.spec()
		r.spec(top, func(n *yaml.Node) { r.message(n, spec.ProtoReflect(), "spec", 0) })
		o.Spec = spec
	case k.own != nil:
		o.Spec = k.own()
		r.spec(top, func(n *yaml.Node) { r.goObject(n, o.Spec, "spec") })
	default:
		o.Spec = r.kubernetesObject(k)
	}
	r.check(k, o.Spec)
	if k.unserved != "" {
		r.warnf("", "accepted, but not served yet: %s", k.unserved)
	}
	o.Meta = *r.meta
	if r.failed() {
		if o.Name != "" {
			p.file.broken = append(p.file.broken, o)
		}
		return
	}
	o.digest = digest(o)
	p.file.Objects = append(p.file.Objects, o)
}

// check validates what was read, also where some of it could not be, to show every error at once. What it says about
// fields that hold, or are within, one that could not be read is left out: it is a consequence.
func (r *reader) check(k kind, spec any) {
	read := r.problems
	r.problems = nil
	k.check(r, spec)
	if k.spec != nil {
		checkDryRun(r, spec)
	}
	found := r.problems
	r.problems = read
	for _, p := range found {
		consequence := slices.ContainsFunc(read, func(cause Problem) bool {
			return cause.Severity == Error && (within(cause.Field, p.Field) || within(p.Field, cause.Field))
		})
		if !consequence {
			r.problems = append(r.problems, p)
		}
	}
}

// within reports whether a path is another one or leads to something in it.
func within(path, outer string) bool {
	rest, ok := strings.CutPrefix(path, outer)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// spec finds the spec of an object and reports what else it has.
func (r *reader) spec(top []entry, read func(*yaml.Node)) {
	seen := false
	for _, e := range top {
		switch e.key {
		case "apiVersion", "kind", "metadata", "status":
		case "spec":
			seen = true
			if isNull(e.value) {
				r.at(Error, e.at.Line, "spec", "is empty")
				continue
			}
			read(e.value)
		default:
			r.unknown(e, "", r.meta.Kind, []string{"apiVersion", "kind", "metadata", "spec", "status"})
		}
	}
	if !seen {
		r.errorf("spec", "missing")
	}
}

// identify reads apiVersion and kind.
func (r *reader) identify(top []entry) bool {
	read := func(key string) string {
		v := find(top, key)
		if v == nil {
			r.at(Error, r.meta.Source.Line, key, "missing: every object says its apiVersion and kind")
			return ""
		}
		s, bad := readString(v)
		switch {
		case bad != "":
			r.at(Error, v.Line, key, "%s", bad)
		case s == "":
			r.at(Error, v.Line, key, "is empty")
		}
		return s
	}
	r.meta.APIVersion, r.meta.Kind = read("apiVersion"), read("kind")
	return r.meta.APIVersion != "" && r.meta.Kind != ""
}

// peek takes kind and name of an object, for what is said about it before they are read.
func (r *reader) peek(top []entry) {
	text := func(in []entry, key string) string {
		if v := find(in, key); v != nil {
			if s, bad := readString(v); bad == "" {
				return shorten(s)
			}
		}
		return ""
	}
	r.meta.Kind = text(top, "kind")
	if m := find(top, "metadata"); m != nil && m.Kind == yaml.MappingNode {
		in := entries(m, func(_, _ *yaml.Node) {})
		r.meta.Name, r.meta.Namespace = text(in, "name"), cmp.Or(text(in, "namespace"), DefaultNamespace)
	}
}

func (r *reader) unknownKind(group string) {
	if why, ok := removed[group]; ok {
		r.errorf("apiVersion", "%s", why)
		return
	}
	hint := ""
	if near := nearest(r.meta.Kind, kindsOf(group)); near != "" {
		hint = fmt.Sprintf("; did you mean %s?", near)
	}
	r.errorf("kind", "unknown kind of %s%s", group, hint)
}

// find returns the value of a key, nil when it is absent or null.
func find(top []entry, key string) *yaml.Node {
	for _, e := range top {
		if e.key == key && !isNull(e.value) {
			return e.value
		}
	}
	return nil
}

// passed is an object of a kind that means nothing to the mesh.
type passed struct {
	kind, apiVersion string
	line             int
}

// passedOver says in one line per kind which objects were passed over.
func passedOver(files []File) []Problem {
	type first struct {
		Problem
		count int
	}
	seen := map[[2]string]*first{}
	var order []*first
	for _, f := range files {
		for _, o := range f.passed {
			key := [2]string{o.kind, o.apiVersion}
			if seen[key] == nil {
				seen[key] = &first{Problem: Problem{Severity: Info, File: f.Name, Line: o.line, Kind: o.kind}}
				order = append(order, seen[key])
			}
			seen[key].count++
			seen[key].Message = passedText(o.apiVersion, seen[key].count)
		}
	}
	slices.SortFunc(order, func(a, b *first) int { return cmp.Compare(a.Kind, b.Kind) })
	out := make([]Problem, len(order))
	for i, f := range order {
		out[i] = f.Problem
	}
	return out
}

func passedText(apiVersion string, count int) string {
	if count == 1 {
		return fmt.Sprintf("passed over: the mesh reads nothing of this kind (%s)", apiVersion)
	}
	return fmt.Sprintf("passed over, %d of them: the mesh reads nothing of this kind (%s)", count, apiVersion)
}
