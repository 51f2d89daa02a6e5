package config

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what is found into the golden files")

// marker divides a golden file into configuration and what is said about it.
const marker = "=== problems\n"

// TestProblems reads each file of testdata/problems: configuration, a marker, and the problems that it has. A first line
// such as "# as: test.json, allow-unenforced" says under which name and with which options it is read.
func TestProblems(t *testing.T) {
	paths, err := filepath.Glob("testdata/problems/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := bytes.Cut(data, []byte(marker))
			got := problemsOf(input)
			if *update {
				out := append(bytes.Clone(input), (marker + got)...)
				if err := os.WriteFile(path, out, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(string(want), got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

func problemsOf(input []byte) string {
	name, opts := "test.yaml", Options{}
	first, rest, _ := bytes.Cut(input, []byte("\n"))
	if as, ok := strings.CutPrefix(string(first), "# as: "); ok {
		for o := range strings.SplitSeq(as, ", ") {
			switch o {
			case "allow-unenforced":
				opts.AllowUnenforced = true
			case "open-registration":
				opts.OpenRegistration = true
			default:
				name = o
			}
		}
		if strings.HasSuffix(name, ".json") {
			input = append([]byte("\n"), rest...) // JSON has no comments
		}
	}
	_, problems := Build([]File{Parse(name, input)}, opts)
	var b strings.Builder
	for _, p := range problems {
		fmt.Fprintf(&b, "%s %s\n", p.Severity, p)
	}
	return b.String()
}
