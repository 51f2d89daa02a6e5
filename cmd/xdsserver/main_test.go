package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		_ = os.RemoveAll(buildDir) // a temporary directory
		os.Exit(code)
	}))
}

var buildDir string

// buildBinary builds the program as a user would, once.
var buildBinary = sync.OnceValues(func() (path string, err error) {
	if buildDir, err = os.MkdirTemp("", "xdsserver-test-"); err != nil {
		return "", err
	}
	path = filepath.Join(buildDir, "xdsserver")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

func program(t *testing.T) string {
	t.Helper()
	path, err := buildBinary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func TestProgram(t *testing.T) {
	binary := program(t)
	dir := t.TempDir()
	good := filepath.Join(dir, "good.yaml")
	if err := os.WriteFile(good, []byte(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: 10.0.1.1}]
`), 0o600); err != nil {
		t.Fatal(err)
	}

	t.Run("serves until SIGTERM", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, binary, "--config", good, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--state", filepath.Join(dir, "state"))
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stderr)
		addresses := map[string]string{}
		for len(addresses) < 2 && lines.Scan() {
			if _, rest, ok := strings.Cut(lines.Text(), "address="); ok {
				address, _, _ := strings.Cut(rest, " ")
				switch {
				case strings.Contains(lines.Text(), "ready: serving xDS"):
					addresses["xds"] = address
				case strings.Contains(lines.Text(), "health"):
					addresses["admin"] = address
				}
			}
		}
		for _, path := range []string{"/healthz", "/readyz", "/metrics", "/debug/config", "/debug/clients", "/debug/support"} {
			resp, err := http.Get("http://" + addresses["admin"] + path)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK || len(body) == 0 {
				t.Errorf("%s: %s %s", path, resp.Status, body)
			}
		}
		http.DefaultClient.CloseIdleConnections()
		conn, err := net.Dial("tcp", addresses["xds"])
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if err := cmd.Process.Signal(syscall.SIGHUP); err != nil { // is nothing to it
			t.Fatal(err)
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		rest := ""
		for lines.Scan() {
			rest += lines.Text() + "\n"
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("SIGTERM: %v\n%s", err, rest)
		}
		if !strings.Contains(rest, "shutting down") {
			t.Errorf("got %s", rest)
		}
	})

	bad := filepath.Join(dir, "bad.yaml")
	if err := os.WriteFile(bad, []byte(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], htttp: []}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	ephemeral := []string{"--listen", "127.0.0.1:0", "--admin", ""}
	for name, c := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"bad configuration": {append(ephemeral, "--config", bad), exitFailed, []string{"bad.yaml:5: VirtualService default/reviews: ", "htttp", "bad.yaml:", "DestinationRule default/reviews: spec.host"}},
		"no config":         {[]string{"--config", ""}, exitUsage, []string{`--config "": want a file or a directory`}},
		"one error":         {append(ephemeral, "--config", bad+".not"), exitFailed, []string{"has 1 error:\n"}},
		"no such file":      {append(ephemeral, "--config", bad+".not"), exitFailed, []string{"bad.yaml.not: cannot be read"}},
		"port in use":       {[]string{"--listen", taken.Addr().String(), "--admin", ""}, exitFailed, []string{"--listen " + taken.Addr().String(), "in use"}},
		"admin port in use": {[]string{"--listen", "127.0.0.1:0", "--admin", taken.Addr().String()}, exitFailed, []string{"--admin " + taken.Addr().String(), "in use"}},
		"unknown flag":      {[]string{"--nope"}, exitUsage, []string{"unknown flag: --nope"}},
		"argument":          {[]string{"mesh.yaml"}, exitUsage, []string{"mesh.yaml"}},
		"bad policy":        {[]string{"--outbound-policy", "none"}, exitUsage, []string{`--outbound-policy "none": want allow-any or registry-only`}},
		"bad registration":  {[]string{"--registration", "x"}, exitUsage, []string{`--registration "x": want any, declared or off`}},
		"bad level":         {[]string{"--log-level", "loud"}, exitUsage, []string{`--log-level "loud"`}},
		"bad format":        {[]string{"--log-format", "xml"}, exitUsage, []string{`--log-format "xml": want text or json`}},
		"bad address":       {[]string{"--listen", "15010"}, exitUsage, []string{`--listen "15010": want host:port`}},
		"no such port":      {[]string{"--admin", ":99999"}, exitUsage, []string{`--admin ":99999": want host:port`}},
		"version of what":   {[]string{"version", "x"}, exitUsage, []string{`unexpected argument "x"`}},
		"no domain":         {[]string{"--domain", ""}, exitUsage, []string{`--domain ""`}},
		"bad domain":        {[]string{"--domain", "a b"}, exitUsage, []string{`--domain "a b": want a domain such as cluster.local`}},
		"dotted domain":     {[]string{"--domain", ".local"}, exitUsage, []string{`--domain ".local"`}},
		"help":              {[]string{"--help"}, 0, []string{"--config", "127.0.0.1:15010", "127.0.0.1:15014", "--allow-unenforced", "cluster.local"}},
		"version":           {[]string{"version"}, 0, []string{"xdsserver version"}},
		"completion":        {[]string{"completion", "bash"}, 0, []string{"complete"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := exec.CommandContext(t.Context(), binary, c.args...).CombinedOutput()
			code := 0
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				code = exit.ExitCode()
			}
			if code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, out)
			}
			for _, want := range c.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if c.code == exitUsage && strings.Count(string(out), "\n") != 1 {
				t.Errorf("more than a line: %s", out)
			}
		})
	}
}
