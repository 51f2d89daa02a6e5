package config

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// reader reads one object: it walks the tree and collects what is wrong with it.
type reader struct {
	meta     *Meta
	problems []Problem
	budget   int                 // nodes that may still be visited, so that aliases cannot make a small file large
	over     bool                // it is spent, or the object too deep: whatever else seems wrong is a consequence
	doubled  map[*yaml.Node]bool // keys that were reported to be written twice
}

const nodeBudget = 1 << 18

func newReader(m *Meta) *reader {
	return &reader{meta: m, budget: nodeBudget, doubled: map[*yaml.Node]bool{}}
}

// at reports a problem at a line.
func (r *reader) at(s Severity, line int, path, format string, args ...any) {
	if r.over {
		return
	}
	r.problems = append(r.problems, Problem{
		Severity: s, File: r.meta.Source.File, Line: line,
		Kind: r.meta.Kind, Namespace: r.meta.Namespace, Name: r.meta.Name,
		Field: path, Message: fmt.Sprintf(format, args...),
	})
}

// errorf reports an error about a field of the object; the line is found by the path.
func (r *reader) errorf(path, format string, args ...any) {
	r.at(Error, r.meta.LineOf(path), path, format, args...)
}

// warnf reports a warning about a field of the object.
func (r *reader) warnf(path, format string, args ...any) {
	r.at(Warning, r.meta.LineOf(path), path, format, args...)
}

// failed reports whether an error was found.
func (r *reader) failed() bool { return HasErrors(r.problems) }

// visit counts a node against the budget; false ends the walk.
func (r *reader) visit(n *yaml.Node, path string, depth int) bool {
	r.budget--
	switch {
	case r.over:
	case r.budget < 0:
		r.at(Error, n.Line, shorten(path), "too large: aliases make it more than %d values", nodeBudget)
		r.over = true
	case depth > maxDepth:
		r.at(Error, n.Line, shorten(path), "nested deeper than %d, perhaps an alias that contains itself", maxDepth)
		r.over = true
	}
	return !r.over
}

// entries lists a mapping and reports keys that it has twice.
func (r *reader) entries(n *yaml.Node, path string) []entry {
	return entries(n, func(first, second *yaml.Node) {
		if !r.doubled[second] {
			r.doubled[second] = true
			r.at(Error, second.Line, field(path, second.Value), "written twice, first on line %d", first.Line)
		}
	})
}

// unknown reports a field that does not exist, with the likeliest meant one.
func (r *reader) unknown(e entry, path, owner string, names []string) {
	message := "unknown field"
	if owner != "" {
		message += " of " + owner
	}
	if near := nearest(e.key, names); near != "" {
		message += fmt.Sprintf("; did you mean %q?", near)
	} else if len(names) > 0 && len(names) <= 12 {
		message += "; it has " + strings.Join(names, ", ")
	}
	r.at(Error, e.at.Line, field(path, e.key), "%s", message)
}
