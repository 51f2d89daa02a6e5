package srvframe_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// maxGrowth is how much srvframe may add to a stripped program. It adds 12.0 MiB, of
// which 6 are Envoy's messages; grpc-go's own xDS, with half of the features, added
// 15.8.
const maxGrowth = 12<<20 + 1<<19

// TestBinarySize holds what a program pays that swaps the import.
func TestBinarySize(t *testing.T) {
	if testing.Short() {
		t.Skip("links two programs")
	}
	plain, swapped := programSize(t, false), programSize(t, true)
	growth := swapped - plain
	t.Logf("plain gRPC %.1f MiB, with srvframe %.1f MiB, growth %.1f MiB", mib(plain), mib(swapped), mib(growth))
	if growth > maxGrowth {
		t.Errorf("srvframe adds %.1f MiB to a program, want at most %.1f", mib(growth), mib(maxGrowth))
	}
}

func mib(size int64) float64 { return float64(size) / (1 << 20) }

// programSize builds testdata/client.go, stripped, and returns its size.
func programSize(t *testing.T, swap bool) int64 {
	t.Helper()
	temp := t.TempDir()
	source, err := filepath.Abs("testdata/client.go")
	if err != nil {
		t.Fatal(err)
	}
	if swap {
		swapFile(t, source, filepath.Join(temp, "client.go"))
		source = filepath.Join(temp, "client.go")
	}
	program, err := filepath.Abs("internal/sized/client.go") // in this module, for its requirements
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{program: source}})
	if err != nil {
		t.Fatal(err)
	}
	file, binary := filepath.Join(temp, "overlay.json"), filepath.Join(temp, "client")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", file, "-ldflags=-s -w", "-o", binary, "./internal/sized")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	info, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}
