package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// asProgram has the test binary be the program.
const asProgram = "BOOKINFO_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// samplesEnv names Istio's own samples.
const samplesEnv = "ISTIO_SAMPLES"

// sampleSize keeps the tests short; the bounds follow it.
const sampleSize = 300

func TestTour(t *testing.T) { playTour(t, "") }

// The tour plays with Istio's own files exactly as they are.
func TestTourWithIstiosFiles(t *testing.T) {
	dir := os.Getenv(samplesEnv)
	if dir == "" {
		t.Skipf("%s does not name a directory with Istio's samples", samplesEnv)
	}
	playTour(t, dir)
}

func playTour(t *testing.T, config string) {
	t.Helper()
	if testing.Short() {
		t.Skip("the tour takes ten seconds")
	}
	steps, err := loadSteps(config)
	if err != nil {
		t.Fatal(err)
	}
	a := startApp(t)
	var out bytes.Buffer
	passed, err := newTour(a, newScreen(&out), sampleSize).play(t.Context(), steps)
	if err != nil || !passed {
		t.Errorf("passed %v, error %v\n%s", passed, err, &out)
	}
	t.Log(out.String())
}

func startApp(t *testing.T) *app {
	t.Helper()
	a, err := start(t.Context(), "127.0.0.1:0", newLoggers(t.Output(), true))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := a.close(context.Background(), true); err != nil {
			t.Errorf("close: %v", err)
		}
		if _, err := os.Stat(a.config.dir); !os.IsNotExist(err) {
			t.Errorf("the YAML directory is left: %v", err)
		}
	})
	return a
}

// A tour whose configuration does something else fails, and says what it saw.
func TestTourNoticesWrongConfiguration(t *testing.T) {
	steps, err := loadSteps("")
	if err != nil {
		t.Fatal(err)
	}
	steps = steps[:2]
	half := &steps[1].files[0]
	half.text = bytes.Replace(half.text, []byte("weight: 50"), []byte("weight: 90"), 1)
	half.text = bytes.Replace(half.text, []byte("weight: 50"), []byte("weight: 10"), 1)
	var out bytes.Buffer
	passed, err := newTour(startApp(t), newScreen(&out), sampleSize).play(t.Context(), steps)
	if err != nil || passed {
		t.Errorf("passed %v, error %v", passed, err)
	}
	if text := out.String(); !strings.Contains(text, "FAIL      reviews v1 answered") || !strings.Contains(text, "1 of 2 steps") {
		t.Errorf("output:\n%s", text)
	}
}

func TestPage(t *testing.T) {
	steps, err := loadSteps("")
	if err != nil {
		t.Fatal(err)
	}
	a := startApp(t)
	// All services at v1, then reviews v3: after the last step's YAML there are
	// red stars.
	last := steps[len(steps)-1]
	last.files = append(steps[0].files[:1:1], last.files...)
	last.inForce.run, last.visits = 30, nil
	tour := newTour(a, newScreen(io.Discard), 1)
	if _, err := tour.play(t.Context(), []step{last}); err != nil {
		t.Fatal(err)
	}
	jar := &cookieJar{}
	client := &http.Client{Jar: jar}
	defer client.CloseIdleConnections()
	resp, err := client.PostForm(strings.Replace(a.pageURL, "/productpage", "/login", 1), url.Values{"username": {"<jason>"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a name that is no name: %s", resp.Status)
	}
	resp, err = client.PostForm(strings.Replace(a.pageURL, "/productpage", "/login", 1), url.Values{"username": {"jason"}})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"The Comedy of Errors", "jason <button>Sign out", "reviews v3 at 127.0.0.1:", "ratings v1 at 127.0.0.1:", "details v1 at 127.0.0.1:",
		`<span class="red">★★★★★</span>`, `<span class="red">★★★★☆</span>`,
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page has no %q:\n%s", want, text)
		}
	}
}

// cookieJar keeps one site's cookies.
type cookieJar struct{ cookies []*http.Cookie }

func (j *cookieJar) SetCookies(_ *url.URL, c []*http.Cookie) { j.cookies = c }
func (j *cookieJar) Cookies(*url.URL) []*http.Cookie         { return j.cookies }

func TestLoadSteps(t *testing.T) {
	if _, err := loadSteps(t.TempDir()); err == nil {
		t.Error("an empty directory is accepted")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "destination-rule-all.yaml"), []byte("kind: K\nmetadata: {name: a}"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := loadSteps(dir)
	if err == nil || strings.Count(err.Error(), "no such file") != len(tourSteps()) {
		t.Errorf("not every missing file is named: %v", err)
	}
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{"-h"}, statusOK, "Usage: bookinfo"},
		{[]string{"-bogus"}, statusUsage, "flag provided but not defined: -bogus"},
		{[]string{"extra"}, statusUsage, `unexpected argument "extra"`},
		{[]string{"-config", "does-not-exist"}, statusFailed, "-config: open does-not-exist: no such file"},
	} {
		var stderr bytes.Buffer
		if status := run(t.Context(), tt.args, io.Discard, &stderr); status != tt.status || !strings.Contains(stderr.String(), tt.stderr) {
			t.Errorf("%v: status %d, output %s", tt.args, status, &stderr)
		}
	}
}

func TestPortInUse(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	var stderr bytes.Buffer
	status := run(t.Context(), []string{"-exit", "-listen", lis.Addr().String()}, io.Discard, &stderr)
	if status != statusFailed || !strings.Contains(stderr.String(), "cannot listen on "+lis.Addr().String()) {
		t.Errorf("status %d, output %s", status, &stderr)
	}
}

func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	out := writerFunc(func(p []byte) (int, error) {
		if bytes.Contains(p, []byte("2/7")) {
			cancel()
		}
		return len(p), nil
	})
	var stderr bytes.Buffer
	if status := run(ctx, []string{"-listen", "127.0.0.1:0"}, out, &stderr); status != statusOK || stderr.Len() > 0 {
		t.Errorf("status %d, output %s", status, &stderr)
	}
}

// TestReaderLeaves cuts the output off, as head does, and looks for what is left behind.
func TestReaderLeaves(t *testing.T) {
	dir := t.TempDir()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-exit", "-listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), asProgram+"=1", "TMPDIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); !strings.HasPrefix(line, "The page") {
		t.Errorf("got %q, %v", line, err)
	}
	out.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("the tour passed that nobody saw")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
