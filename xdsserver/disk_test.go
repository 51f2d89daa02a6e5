package xdsserver_test

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/meshframe/meshframe/xdsserver"
	"github.com/meshframe/meshframe/xdsserver/config"
)

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
}

// quiet are options without noise.
func quiet(dir, state string) xdsserver.Options {
	return xdsserver.Options{Config: []string{dir}, StateDir: state, Logger: slog.New(slog.DiscardHandler)}
}

// At the start every problem is listed.
func TestNewListsAllErrors(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", strings.Replace(reviews("10.0.1.1", ""), "STATIC", "STATIK", 1))
	write(t, dir, "b.yaml", strings.Replace(routed("v1 100"), "http:", "htttp:", 1))
	_, err := xdsserver.New(t.Context(), quiet(dir, ""))
	var bad *config.Errors
	if !errors.As(err, &bad) {
		t.Fatalf("got %v", err)
	}
	for _, name := range []string{"a.yaml", "b.yaml"} {
		if !slices.ContainsFunc(bad.Problems, func(p config.Problem) bool { return filepath.Base(p.File) == name && p.Line > 0 }) {
			t.Errorf("no error in %s with its line: %v", name, err)
		}
	}
	if _, err := xdsserver.New(t.Context(), quiet(filepath.Join(dir, "none"), "")); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("a path that is missing: %v", err)
	}
}

// A change on disk reaches the clients; a file that has become bad leaves what it held in force.
func TestReloadFromDisk(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "reviews.yaml", reviews("10.0.1.1", ""))
	write(t, dir, "routes.yaml", subsets("v1", "v2")+"---"+routed("v1 100"))
	s, err := xdsserver.New(t.Context(), quiet(dir, ""))
	must(t, err)
	defer func() { must(t, s.Close()) }()
	c := connect(t, dial(t, s.Dialer()), "delta", grpcNode())
	c.settle = func() {} // files are not watched in a bubble
	next := func() message {
		t.Helper()
		select {
		case m := <-c.in:
			c.ack(m)
			return m
		case <-time.After(10 * time.Second):
			t.Fatal("nothing came")
			panic("unreachable")
		}
	}
	c.subscribe(eds, rcName)
	next()
	write(t, dir, "reviews.yaml", reviews("10.0.1.1 10.0.1.2", ""))
	if got := addresses(next().resources[rcName]); !slices.Equal(got, []string{"10.0.1.1:9080", "10.0.1.2:9080"}) {
		t.Errorf("got %v", got)
	}
	write(t, dir, "routes.yaml", "nonsense: [")
	write(t, dir, "new.yaml", "nonsense: [")
	write(t, dir, "reviews.yaml", reviews("10.0.1.3", ""))
	if got := addresses(next().resources[rcName]); !slices.Equal(got, []string{"10.0.1.3:9080"}) {
		t.Errorf("got %v", got)
	}
	c.subscribe(rds, rcName)
	if got := fmt.Sprint(next().resources[rcName]); !strings.Contains(got, "|v1|") {
		t.Errorf("the routes of the bad file are gone: %s", got)
	}
	var dump struct{ Refused []string }
	get(t, s, "/debug/config", &dump)
	if !slices.Equal(dump.Refused, []string{filepath.Join(dir, "new.yaml"), filepath.Join(dir, "routes.yaml")}) {
		t.Errorf("got %v", dump.Refused)
	}
}

// A restart on a bad file serves what was good before, and says so.
func TestRestartOnBadFile(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	write(t, dir, "reviews.yaml", reviews("10.0.1.1", ""))
	write(t, dir, "ratings.yaml", strings.ReplaceAll(reviews("10.0.3.1", ""), "reviews", "ratings"))
	s, err := xdsserver.New(t.Context(), quiet(dir, state))
	must(t, err)
	must(t, s.Close())

	write(t, dir, "reviews.yaml", "nonsense: [")
	write(t, dir, "ratings.yaml", strings.ReplaceAll(reviews("10.0.3.2", ""), "reviews", "ratings"))
	if _, err := xdsserver.New(t.Context(), quiet(dir, "")); err == nil {
		t.Fatal("it starts without a last good configuration")
	}
	var log strings.Builder
	opts := quiet(dir, state)
	opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s, err = xdsserver.New(t.Context(), opts)
	must(t, err)
	endpoints := func(s *xdsserver.Server) []string {
		var dump struct {
			Restored bool
			Problems []any
			Services []struct {
				Host      string
				Endpoints []struct{ Address string }
			}
		}
		get(t, s, "/debug/config", &dump)
		if !dump.Restored || len(dump.Problems) == 0 {
			t.Errorf("got %+v", dump)
		}
		var list []string
		for _, s := range dump.Services {
			for _, e := range s.Endpoints {
				list = append(list, s.Host+" "+e.Address)
			}
		}
		return list
	}
	want := []string{"ratings.default.svc.cluster.local 10.0.3.2", "reviews.default.svc.cluster.local 10.0.1.1"}
	if got := endpoints(s); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	must(t, s.Close())
	if !strings.Contains(log.String(), "what was good before the restart is served") {
		t.Error(log.String())
	}

	// Nor does it matter that everything is gone: the state is still the last good one.
	must(t, os.RemoveAll(dir))
	s, err = xdsserver.New(t.Context(), quiet(dir, state))
	must(t, err)
	if got := endpoints(s); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	must(t, s.Close())
}

// What is kept is found again by where it is, not by how its path was written.
func TestRestartWithOtherPaths(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "mesh"), 0o700))
	write(t, dir, "mesh/reviews.yaml", reviews("10.0.1.1", ""))
	write(t, dir, "routes.yaml", subsets("v1", "v2")+"---"+routed("v1 100"))
	t.Chdir(dir)
	opts := quiet("mesh", state)
	opts.Config = append(opts.Config, "./routes.yaml")
	s, err := xdsserver.New(t.Context(), opts)
	must(t, err)
	must(t, s.Close())

	write(t, dir, "mesh/reviews.yaml", "nonsense: [")
	write(t, dir, "routes.yaml", "nonsense: [")
	t.Chdir(filepath.Join(dir, "mesh"))
	for _, paths := range [][]string{{"../routes.yaml", "."}, {dir}, {"reviews.yaml", filepath.Join(dir, "routes.yaml")}} {
		opts.Config = paths
		s, err := xdsserver.New(t.Context(), opts)
		must(t, err)
		var dump struct {
			Refused  []string
			Services []struct{ Host string }
		}
		get(t, s, "/debug/config", &dump)
		if len(dump.Refused) != 2 || len(dump.Services) != 1 {
			t.Errorf("--config %v: got %+v", paths, dump)
		}
		must(t, s.Close())
	}
}

// So it is with a directory that is not there.
func TestRestartWithoutTheDirectory(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "mesh"), 0o700))
	write(t, dir, "mesh/reviews.yaml", reviews("10.0.1.1", ""))
	t.Chdir(dir)
	s, err := xdsserver.New(t.Context(), quiet("./mesh", state))
	must(t, err)
	must(t, s.Close())
	must(t, os.Rename("mesh", "away"))
	s, err = xdsserver.New(t.Context(), quiet("./mesh", state))
	must(t, err)
	must(t, s.Close())
}

// A start at which everything is bad, and nothing that was kept takes its place, fails as it does without state.
func TestRestartOnNothing(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	write(t, dir, "reviews.yaml", reviews("10.0.1.1", ""))
	s, err := xdsserver.New(t.Context(), quiet(dir, state))
	must(t, err)
	must(t, s.Close())

	must(t, os.Rename(filepath.Join(dir, "reviews.yaml"), filepath.Join(dir, "renamed.yaml")))
	write(t, dir, "renamed.yaml", "nonsense: [")
	_, err = xdsserver.New(t.Context(), quiet(dir, state))
	if _, ok := errors.AsType[*config.Errors](err); !ok {
		t.Errorf("got %v", err)
	}
	write(t, dir, "renamed.yaml", reviews("10.0.1.1", ""))
	s, err = xdsserver.New(t.Context(), quiet(dir, state))
	must(t, err) // the failed start has let go of the state
	must(t, s.Close())
}

// A state directory belongs to one server at a time, and must be one.
func TestStateDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "reviews.yaml", reviews("10.0.1.1", ""))
	state := filepath.Join(t.TempDir(), "is", "made")
	s, err := xdsserver.New(t.Context(), quiet(dir, state))
	must(t, err)
	_, err = xdsserver.New(t.Context(), quiet(dir, state))
	if want := "the state directory " + state + ": it is in use by another process"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	must(t, s.Close())
	s, err = xdsserver.New(t.Context(), quiet(dir, state))
	must(t, err)
	must(t, s.Close())

	below := filepath.Join(dir, "reviews.yaml", "state")
	_, err = xdsserver.New(t.Context(), quiet(dir, below))
	if want := "the state directory " + below + " cannot be made: not a directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
