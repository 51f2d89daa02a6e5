package interceptors

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/metadata"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

func TestEdit(t *testing.T) {
	md := metadata.Pairs("keep", "1", "gone", "1", "both", "1", "over", "1", "absent-not", "1")
	edit(md, []*snapshot.HeaderEdits{
		{
			Remove: []string{"gone", "both"},
			Edits: []snapshot.HeaderEdit{
				{Name: "both", Value: "2"}, // removed, then added
				{Name: "keep", Value: "2"},
				{Name: "over", Value: "2", Action: snapshot.OverwriteOrAdd},
				{Name: "new", Value: "2", Action: snapshot.OverwriteOrAdd},
				{Name: "absent", Value: "2", Action: snapshot.AddIfAbsent},
				{Name: "absent-not", Value: "2", Action: snapshot.AddIfAbsent},
				{Name: "never", Value: "2", Action: snapshot.OverwriteIfExists},
				{Name: "over", Value: "3", Action: snapshot.OverwriteIfExists},
			},
		},
		{Remove: []string{"new"}, Edits: []snapshot.HeaderEdit{{Name: "last", Value: "4"}}},
	})
	want := metadata.MD{
		"keep": {"1", "2"}, "both": {"2"}, "over": {"3"}, "absent": {"2"}, "absent-not": {"1"}, "last": {"4"},
	}
	if d := cmp.Diff(want, md); d != "" {
		t.Error(d)
	}
}
