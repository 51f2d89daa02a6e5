package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestApply(t *testing.T) {
	d := &directory{dir: t.TempDir()}
	apply := func(text string, want ...string) {
		t.Helper()
		got, err := d.apply(source{name: "f.yaml", text: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("applied (-want +got):\n%s", diff)
		}
	}
	const (
		a1 = "# about a\nkind: K\nmetadata:\n  name: a\nspec: 1\n"
		a2 = "kind: K\nmetadata: {name: a, labels: {x: y}}\nspec: 2\n"
		b  = "kind: K\nmetadata: {name: b, namespace: ns}\n"
	)
	apply("# licence\n\n---\n"+a1+"--- # next\n"+b+"---\n", "K/a", "K/b")
	apply(a2, "K/a")
	want := map[string]string{"k-a.yaml": a2, "k-b-ns.yaml": b}
	if diff := cmp.Diff(want, contents(t, d.dir)); diff != "" {
		t.Errorf("directory (-want +got):\n%s", diff)
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		out[e.Name()] = string(text)
	}
	return out
}

func TestApplyRefuses(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"not yaml":  {"kind: [", "f.yaml: document 1: error converting YAML to JSON: yaml: line 1: did not find expected node content"},
		"no name":   {"kind: K\n---\nkind: K\nmetadata: {name: a}", "f.yaml: document 1: it needs a kind and a metadata.name"},
		"a path":    {"kind: K\nmetadata: {name: ../x}", "f.yaml: document 1: it needs a kind and a metadata.name"},
		"nothing":   {"# a comment\n---\n", "f.yaml: holds no object"},
		"no object": {"a: b", "f.yaml: document 1: it needs a kind and a metadata.name"},
	} {
		t.Run(name, func(t *testing.T) {
			d := &directory{dir: t.TempDir()}
			_, err := d.apply(source{name: "f.yaml", text: []byte(tt.text)})
			if err == nil || err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
			if left := contents(t, d.dir); len(left) > 0 {
				t.Errorf("wrote %v", left)
			}
		})
	}
}
