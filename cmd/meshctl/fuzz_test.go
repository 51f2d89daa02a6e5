package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzAnalyze holds that no input makes analyze panic, whatever it goes through: parsing, lints, what clients make of it,
// the routes that rules come together in.
func FuzzAnalyze(f *testing.F) {
	for _, pattern := range []string{"testdata/*.txt", "../../xdsserver/translate/testdata/*.yaml", "../../xdsserver/translate/testdata/leaves/*.yaml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			f.Fatal(pattern, err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(data))
		}
	}
	f.Fuzz(func(t *testing.T, input string) {
		code := run([]string{"analyze", "--client", "all,grpc-go@1.40", "--allow-unenforced", "-"}, strings.NewReader(input), io.Discard, io.Discard)
		if code != 0 && code != exitFailed {
			t.Errorf("status %d", code)
		}
	})
}
