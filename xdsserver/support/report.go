package support

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// Report returns, for every field that the configuration sets and that a client does not support, what becomes of it, in
// the order of files and lines.
func Report(m *config.Model, c Client) []Entry {
	var out []Entry
	for _, o := range m.Objects() {
		out = append(out, Object(o, c)...)
	}
	return out
}

// Object is Report for one object.
func Object(o *config.Object, c Client) []Entry {
	var out []Entry
	for e := range Fields(o, c) {
		if e.Outcome != Supported {
			out = append(out, e)
		}
	}
	slices.SortStableFunc(out, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), strings.Compare(a.Field, b.Field))
	})
	return out
}

// Fields says what becomes of every field that an object sets, in no order. A message that the tables treat as one is one
// field.
func Fields(o *config.Object, c Client) iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		t := tableOf(o.Kind)
		if t == nil {
			return
		}
		stopped := false
		w := walker{table: t, found: func(r *row, path string, value any) {
			if stopped {
				return
			}
			stopped = !yield(Entry{Client: c, Object: &o.Meta, Field: path, Line: o.LineOf(path), Verdict: r.about(c, value)})
		}}
		w.object(o.Spec)
	}
}
