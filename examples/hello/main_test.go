package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/meshframe/meshframe/xdsserver"
)

// events passes the messages of a log on.
type events chan string

func (e events) Enabled(context.Context, slog.Level) bool { return true }
func (e events) WithAttrs([]slog.Attr) slog.Handler       { return e }
func (e events) WithGroup(string) slog.Handler            { return e }

func (e events) Handle(_ context.Context, r slog.Record) error {
	e <- r.Message
	return nil
}

// want waits for a message.
func (e events) want(t *testing.T, message string) {
	t.Helper()
	late := time.After(20 * time.Second)
	for {
		select {
		case got := <-e:
			if got == message {
				return
			}
		case <-late:
			t.Fatalf("the control plane did not say %q", message)
		}
	}
}

// TestHello runs the program as the README does: two servers and a client, each
// a process, with nothing but the environment.
func TestHello(t *testing.T) {
	program := filepath.Join(t.TempDir(), "hello")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	log := make(events, 1000)
	control, err := xdsserver.New(t.Context(), xdsserver.Options{Config: []string{"hello.yaml"}, Logger: slog.New(log)})
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = control.Serve(lis) }()

	start := func(args ...string) (*exec.Cmd, *bytes.Buffer) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), program, args...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.Env = append(os.Environ(), "MESH_XDS="+lis.Addr().String(), "GRPC_XDS_BOOTSTRAP=", "GRPC_XDS_BOOTSTRAP_CONFIG=")
		if args[0] == "serve" {
			cmd.Env = append(cmd.Env, "MESH_SERVICE=hello:9080", "MESH_LABELS=version="+args[1])
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, &out
	}
	v1, v1Out := start("serve", "v1")
	log.want(t, "server registered")
	v2, v2Out := start("serve", "v2")
	log.want(t, "server registered")

	client, out := start("call")
	if err := client.Wait(); err != nil {
		t.Fatalf("call: %v\n%s", err, out)
	}
	// A thousand calls at one in ten: fewer than 40 or more than 180 to v2
	// happens less than once in a thousand million runs.
	var answers string
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "map[") {
			answers = line
		}
	}
	var first, second int
	if _, err := fmt.Sscanf(answers, "map[v1:%d v2:%d]", &first, &second); err != nil || first+second != 1000 || second < 40 || second > 180 {
		t.Errorf("1000 calls were answered %q, want nine in ten by v1; output:\n%s", answers, out)
	}

	for server, out := range map[*exec.Cmd]*bytes.Buffer{v1: v1Out, v2: v2Out} {
		if err := server.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		log.want(t, "server deregistered")
		if err := server.Wait(); err != nil {
			t.Errorf("server: %v\n%s", err, out)
		}
	}
}

// TestUsage shows what a wrong command line gets.
func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"serve"}, {"call", "x"}, {"dance"}} {
		if err := run(t.Context(), args, io.Discard); !errors.Is(err, errUsage) {
			t.Errorf("hello %v: %v, want the usage", args, err)
		}
	}
}

// TestReadme holds that the README shows this program and its YAML as they are.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	yaml, err := os.ReadFile("hello.yaml")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(readme, yaml) {
		t.Error("the README does not show hello.yaml as it is")
	}
	_, rest, _ := strings.Cut(string(readme), "```go\n")
	shown, _, _ := strings.Cut(rest, "```")
	if len(strings.Fields(shown)) == 0 {
		t.Error("the README shows no Go")
	}
	for line := range strings.Lines(shown) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(string(source), line) {
			t.Errorf("the README shows a line that is not in main.go: %s", line)
		}
	}
}
