package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshframe/meshframe/xdsserver/support"
)

var update = flag.Bool("update", false, "write what is found into the golden files")

// invoke runs the program and returns what it writes.
func invoke(args ...string) (code int, stdout, stderr string) {
	var out, bad bytes.Buffer
	code = run(args, strings.NewReader("kind: VirtualService\nmetadata: {name: piped}\n"), &out, &bad)
	return code, out.String(), bad.String()
}

// TestAnalyze runs the files of testdata: sections that begin with "-- name --", of which "args" are the arguments,
// "result" is what is written, and all others are files.
func TestAnalyze(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) {
			path, err := filepath.Abs(path)
			if err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(data), "-- result --\n")
			code, stdout, stderr := invoke(append([]string{"analyze"}, unpack(t, input)...)...)
			got := fmt.Sprintf("%s%sstatus %d\n", stdout, stderr, code)
			if *update {
				if err := os.WriteFile(path, []byte(input+"-- result --\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// unpack writes files into a new working directory and returns the arguments.
func unpack(t *testing.T, input string) (args []string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for section := range strings.SplitSeq("\n"+input, "\n-- ") {
		name, content, ok := strings.Cut(section, " --\n")
		if !ok {
			continue
		}
		if name == "args" {
			args = strings.Fields(content)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return args
}

// TestIstioSamples analyzes each file of Istio's samples, for every client. None has an error.
func TestIstioSamples(t *testing.T) {
	dir := os.Getenv("ISTIO_SAMPLES")
	if dir == "" {
		t.Skip("ISTIO_SAMPLES is not set: it names a directory of configuration that must load")
	}
	n := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".yaml") {
			return err
		}
		n++
		code, stdout, stderr := invoke("analyze", "--client", "all", path)
		if code != 0 || stderr != "" {
			t.Errorf("%s: status %d\n%s%s", path, code, stdout, stderr)
		}
		return nil
	})
	if err != nil || n == 0 {
		t.Fatal(n, err)
	}
}

// Names in files do not command the terminal.
func TestWhatIsWrittenIsPrintable(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("a.yaml", []byte("apiVersion: v1\nkind: \"\\e[31mred\"\nmetadata: {name: a}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if code, stdout, _ := invoke("analyze", "a.yaml"); code != 0 || strings.Contains(stdout, "\x1b") || !strings.Contains(stdout, "[31mred") {
		t.Errorf("status %d, %q", code, stdout)
	}
}

// A pipe is read, as a shell makes one for <(command).
func TestPipesAreRead(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := w.WriteString("kind: VirtualService\nmetadata: {name: piped}\n"); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	path := fmt.Sprintf("/dev/fd/%d", r.Fd())
	if _, err := os.Stat(path); err != nil {
		t.Skip("there are no files for open files here")
	}
	if code, stdout, _ := invoke("analyze", path); code != exitFailed || !strings.Contains(stdout, "VirtualService default/piped: apiVersion: missing") {
		t.Errorf("status %d, %q", code, stdout)
	}
}

func TestSupport(t *testing.T) {
	code, stdout, stderr := invoke("support", "--client", "grpc-go@1.40,envoy")
	if code != 0 || stderr != "" {
		t.Fatalf("status %d, %s", code, stderr)
	}
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if want := 2 * len(support.Rows()); len(lines) != want {
		t.Errorf("%d lines, want %d", len(lines), want)
	}
	if f := strings.Fields(lines[0]); f[0] != "grpc-go@1.40" || f[1] != "VirtualService" || f[2] != "hosts[]" || f[3] != "supported:" {
		t.Errorf("%q", lines[0])
	}
	if last := lines[len(lines)-1]; !strings.HasPrefix(last, "envoy ") || !strings.Contains(last, "rejected: its streams are refused: Envoy is not served yet: ") {
		t.Errorf("%q", last)
	}
	code, stdout, _ = invoke("support", "--client", "all", "-o", "json")
	var rows []struct{ Client, Kind, Field, Outcome, Reason string }
	if err := json.Unmarshal([]byte(stdout), &rows); err != nil || code != 0 || len(rows) != len(support.Clients())*len(support.Rows()) {
		t.Errorf("status %d, %d rows, %v", code, len(rows), err)
	}
	for _, r := range rows {
		if (r.Client == "envoy" || r.Client == "sidecar") != (strings.Contains(r.Reason, "its streams are refused")) || r.Outcome == "" {
			t.Errorf("%+v", r)
		}
	}
	code, stdout, _ = invoke("support", "--markdown")
	if code != 0 || stdout != support.Markdown() {
		t.Errorf("status %d\n%s", code, stdout)
	}
}

func TestCommandLine(t *testing.T) {
	for _, c := range []struct {
		args           string
		code           int
		stdout, stderr string
	}{
		{"", 0, "Usage:", ""},
		{"--help", 0, "Available Commands:", ""},
		{"version", 0, "meshctl version ", ""},
		{"--version", 0, "meshctl version ", ""},
		{"analyze --help", 0, "status 1 if there are errors", ""},
		{"completion bash", 0, "bash completion", ""},
		{"__complete analyze --client grpc-", 0, "grpc-core\n", ""},
		{"__complete analyze --output ", 0, "json\n", ""},
		{"analyze -", exitFailed, "error: -:1: VirtualService default/piped: apiVersion: missing", ""},
		{"analyze -o json -", exitFailed, `"name": "piped"`, ""},
		{"analyze testdata", 0, "warning: nothing was read", ""}, // its files end in .txt
		{"analyze --strict testdata", exitFailed, "warning: nothing was read", ""},
		{"analyze nothing.yaml", exitFailed, "error: nothing.yaml: cannot be read", ""},
		{"analyze", exitUsage, "", "meshctl: want a PATH to read: a file, a directory, or - for standard input\n"},
		{"analyze ", exitUsage, "", "meshctl: want a PATH to read"},
		{"analyze --domain a_b x.yaml", exitUsage, "", `meshctl: --domain "a_b": want a domain such as cluster.local`},
		{"analyze --client grpc x.yaml", exitUsage, "", `meshctl: --client: unknown client "grpc": want one of meshframe, `},
		{"analyze --output xml x.yaml", exitUsage, "", `meshctl: --output "xml": want text or json`},
		{"analyze --registration some x.yaml", exitUsage, "", `meshctl: --registration "some": want any, declared or off`},
		{"analyze --wrong x.yaml", exitUsage, "", "meshctl: unknown flag: --wrong"},
		{"support --client grpc-go@x", exitUsage, "", `meshctl: --client: client "grpc-go@x": want a release such as 1.50 after the @`},
		{"support --output xml", exitUsage, "", `meshctl: --output "xml": want text or json`},
		{"support --markdown --output json", exitUsage, "", "meshctl: --markdown writes the tables of all clients"},
		{"support x", exitUsage, "", "meshctl: unknown command"},
		{"support --client x", exitUsage, "", "meshctl: --client: unknown client"},
		{"wrong", exitUsage, "", `meshctl: unknown command "wrong" for "meshctl"`},
		{"analyse x.yaml", exitUsage, "", `meshctl: unknown command "analyse" for "meshctl": did you mean analyze?`},
		{"validate x.yaml", exitUsage, "", `meshctl: unknown command "validate" for "meshctl": did you mean analyze?`},
		{"analyze /dev/null", 0, "warning: nothing was found: there is no object that a mesh reads", ""},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, stdout, stderr := invoke(strings.Fields(c.args + " ")...)
			if strings.HasSuffix(c.args, " ") {
				code, stdout, stderr = invoke(append(strings.Fields(c.args), "")...)
			}
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.HasPrefix(stderr, c.stderr) && c.stderr != "" {
				t.Errorf("status %d\n%s\n%s", code, stdout, stderr)
			}
		})
	}
}
