package srvframe_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meshframe/meshframe/srvframe/internal/surface"
)

// TestSwapImport takes source that was written for package grpc, generated code
// and programs, swaps the import and builds it.
func TestSwapImport(t *testing.T) {
	dir, err := surface.GRPCDir(t.Context(), ".")
	if err != nil {
		t.Fatal(err)
	}
	sources := map[string]string{
		"generated/test_grpc.pb.go":   filepath.Join(dir, "interop/grpc_testing/test_grpc.pb.go"),
		"generated/test.pb.go":        filepath.Join(dir, "interop/grpc_testing/test.pb.go"),
		"generated/empty.pb.go":       filepath.Join(dir, "interop/grpc_testing/empty.pb.go"),
		"generated/messages.pb.go":    filepath.Join(dir, "interop/grpc_testing/messages.pb.go"),
		"health/health.pb.go":         filepath.Join(dir, "health/grpc_health_v1/health.pb.go"),
		"health/health_grpc.pb.go":    filepath.Join(dir, "health/grpc_health_v1/health_grpc.pb.go"),
		"program/program.go":          "testdata/program.go",
		"interceptors/interceptor.go": "testdata/interceptor.go",
	}
	temp := t.TempDir()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	overlay := map[string]string{}
	for name, source := range sources {
		swapped := filepath.Join(temp, strings.ReplaceAll(name, "/", "_"))
		swapFile(t, source, swapped)
		overlay[filepath.Join(here, "internal/swapped", filepath.FromSlash(name))] = swapped
	}
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(temp, "overlay.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "build", "-overlay", file,
		"./internal/swapped/generated", "./internal/swapped/health", "./internal/swapped/program", "./internal/swapped/interceptors")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
}

// swapFile copies a Go file with the import of grpc replaced by ours.
func swapFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	const ours = `grpc "github.com/meshframe/meshframe/srvframe"`
	swapped := strings.ReplaceAll(string(text), `grpc "google.golang.org/grpc"`, ours)
	if swapped == string(text) {
		swapped = strings.ReplaceAll(string(text), `"google.golang.org/grpc"`, ours)
	}
	if err := os.WriteFile(to, []byte(swapped), 0o600); err != nil {
		t.Fatal(err)
	}
}
