package mesh_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshframe/meshframe/mesh/internal/enginetest"
)

var rewrite = flag.Bool("rewrite", false, "write what the engine answers into the transcripts")

// TestTranscripts plays testdata/*.txt; internal/enginetest explains the
// commands.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := enginetest.Play(string(want))
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if strings.Contains(got, "= cannot run:") {
				t.Errorf("a line cannot be run:\n%s", got)
			}
			if diff := cmp.Diff(string(want), got); diff != "" && !*rewrite {
				t.Errorf("the engine answers differently (-transcript +engine):\n%s", diff)
			}
		})
	}
}
