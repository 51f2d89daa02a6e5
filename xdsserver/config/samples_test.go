package config

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// yamlFiles lists the YAML files below a directory that an environment variable names; without it the test is skipped.
func yamlFiles(t *testing.T, variable string) []string {
	t.Helper()
	dir := os.Getenv(variable)
	if dir == "" {
		t.Skipf("%s is not set: it names a directory of configuration that must load", variable)
	}
	var out []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.HasSuffix(path, ".yaml") || strings.HasSuffix(path, ".yml")) {
			out = append(out, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) == 0 {
		t.Fatalf("%s=%s holds no YAML", variable, dir)
	}
	return out
}

func TestIstioSamplesLoad(t *testing.T) {
	for _, path := range yamlFiles(t, "ISTIO_SAMPLES") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f := Parse(filepath.Base(path), data)
			_, problems := Build([]File{f}, Options{})
			for _, p := range problems {
				t.Log(p.Severity, p)
			}
			if err := AsError(problems); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestConfigurationOfServersLoads takes directories of configuration, each a whole of its own, that a server has taken.
func TestConfigurationOfServersLoads(t *testing.T) {
	byDir := map[string][]File{}
	for _, path := range yamlFiles(t, "XDS_CAPTURES") {
		if filepath.Base(path) == "mesh.yaml" {
			continue // settings of the server, not configuration
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		byDir[filepath.Dir(path)] = append(byDir[filepath.Dir(path)], Parse(filepath.Base(path), data))
	}
	for dir, files := range byDir {
		_, problems := Build(files, Options{})
		for _, p := range problems {
			t.Log(p.Severity, p)
		}
		if err := AsError(problems); err != nil {
			t.Errorf("%s: %v", dir, err)
		}
	}
}
