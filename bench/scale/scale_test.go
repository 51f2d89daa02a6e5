package main

import (
	"strings"
	"testing"
	"time"
)

// TestScale runs every phase with a small mesh.
func TestScale(t *testing.T) {
	*services, *clients, *changes, *follows, *flapFor = 50, 8, 3, 5, 100*time.Millisecond
	t.Chdir("..")
	var out strings.Builder
	if err := run(t.TempDir(), &out); err != nil {
		t.Fatalf("%v, after\n%s", err, &out)
	}
	if n := strings.Count(out.String(), " MiB |\n"); n != 11 {
		t.Errorf("%d phases:\n%s", n, &out)
	}
}
