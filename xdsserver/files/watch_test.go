package files

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// watching follows a directory and hands over what it delivers.
type watching struct {
	*testing.T
	dir   string
	got   chan []string
	first []string
}

func watch(t *testing.T, dir string, opts Options) *watching {
	t.Helper()
	w := &watching{T: t, dir: dir, got: make(chan []string, 1024)}
	if opts.Paths == nil {
		opts.Paths = []string{dir}
	}
	watcher, first := Watch(opts, func(files []config.File) { w.got <- contents(dir, files) })
	w.first = contents(dir, first)
	t.Cleanup(func() {
		if err := watcher.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// until waits until exactly these contents are delivered.
func (w *watching) until(want ...string) {
	w.Helper()
	var last []string
	timeout := time.After(10 * time.Second)
	for {
		select {
		case last = <-w.got:
			if cmp.Equal(want, last) {
				return
			}
		case <-timeout:
			w.Fatalf("want %q, last had %q", want, last)
		}
	}
}

func (w *watching) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func TestChangesAreDelivered(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"a.yaml": serviceEntry("a")})
	w := watch(t, dir, Options{})
	if d := cmp.Diff([]string{"a.yaml: a"}, w.first); d != "" {
		t.Fatal(d)
	}
	tree(t, dir, map[string]string{"a.yaml": serviceEntry("a2")})
	w.until("a.yaml: a2")
	tree(t, dir, map[string]string{"new/deep/b.yaml": serviceEntry("b")})
	w.until("a.yaml: a2", "new/deep/b.yaml: b")
	tree(t, dir, map[string]string{"new/deep/b.yaml": serviceEntry("b2")})
	w.until("a.yaml: a2", "new/deep/b.yaml: b2")
	w.must(os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "renamed")))
	w.until("a.yaml: a2", "renamed/deep/b.yaml: b2")
	tree(t, dir, map[string]string{"renamed/deep/b.yaml": serviceEntry("b3")})
	w.until("a.yaml: a2", "renamed/deep/b.yaml: b3")
	w.must(os.RemoveAll(filepath.Join(dir, "renamed")))
	w.until("a.yaml: a2")
	// As editors do it: write beside it, then rename.
	tree(t, dir, map[string]string{".a.yaml.tmp": serviceEntry("a3")})
	w.must(os.Rename(filepath.Join(dir, ".a.yaml.tmp"), filepath.Join(dir, "a.yaml")))
	w.until("a.yaml: a3")
}

func TestAMountedConfigMapIsFollowed(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{
		"..2026_01_01/a.yaml": serviceEntry("a"), "..data": "->..2026_01_01", "a.yaml": "->..data/a.yaml",
	})
	w := watch(t, dir, Options{})
	if d := cmp.Diff([]string{"a.yaml: a"}, w.first); d != "" {
		t.Fatal(d)
	}
	swap := func(version, name string) {
		tree(t, dir, map[string]string{version + "/a.yaml": serviceEntry(name), "..data_tmp": "->" + version})
		w.must(os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")))
	}
	swap("..2026_01_02", "b")
	w.until("a.yaml: b")
	w.must(os.RemoveAll(filepath.Join(dir, "..2026_01_01")))
	swap("..2026_01_03", "c")
	w.until("a.yaml: c")
}

func TestLinksOnTheWayAreFollowed(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{
		"v1/conf/a.yaml": serviceEntry("v1"), "v2/conf/a.yaml": serviceEntry("v2"), "current": "->v1", "etc/conf": "->../current/conf",
	})
	w := watch(t, dir, Options{Paths: []string{filepath.Join(dir, "etc/conf")}})
	tree(t, dir, map[string]string{"next": "->v2"})
	w.must(os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "current")))
	w.until("etc/conf/a.yaml: v2")
	tree(t, dir, map[string]string{"v2/conf/a.yaml": serviceEntry("v3")})
	w.until("etc/conf/a.yaml: v3")
}

func TestAGivenFileMayBeReplaced(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"a.yaml": serviceEntry("a"), "b.yaml": serviceEntry("b")})
	w := watch(t, dir, Options{Paths: []string{filepath.Join(dir, "a.yaml")}})
	tree(t, dir, map[string]string{"tmp": serviceEntry("a2")})
	w.must(os.Rename(filepath.Join(dir, "tmp"), filepath.Join(dir, "a.yaml")))
	w.until("a.yaml: a2")
	w.must(os.Remove(filepath.Join(dir, "a.yaml")))
	w.until("a.yaml: error: cannot be read: no such file or directory")
	tree(t, dir, map[string]string{"a.yaml": serviceEntry("a3")})
	w.until("a.yaml: a3")
}

// Its directory may come later, and be replaced.
func TestTheDirectoryOfAGivenFileMayBeMissing(t *testing.T) {
	dir := t.TempDir()
	w := watch(t, dir, Options{Paths: []string{filepath.Join(dir, "etc/mesh/a.yaml"), filepath.Join(dir, "etc/mesh/sub/b.yaml")}, Rescan: time.Hour})
	tree(t, dir, map[string]string{"etc/mesh/a.yaml": serviceEntry("a"), "etc/mesh/sub/b.yaml": serviceEntry("b")})
	w.until("etc/mesh/a.yaml: a", "etc/mesh/sub/b.yaml: b")
	tree(t, dir, map[string]string{"etc/mesh/sub/b.yaml": serviceEntry("b2")})
	w.until("etc/mesh/a.yaml: a", "etc/mesh/sub/b.yaml: b2")
	const missing = ": error: cannot be read: no such file or directory"
	w.must(os.RemoveAll(filepath.Join(dir, "etc")))
	w.until("etc/mesh/a.yaml"+missing, "etc/mesh/sub/b.yaml"+missing)
	tree(t, dir, map[string]string{"etc/mesh/a.yaml": serviceEntry("a2"), "etc/mesh/sub/b.yaml": serviceEntry("b2")})
	w.until("etc/mesh/a.yaml: a2", "etc/mesh/sub/b.yaml: b2")
}

func TestAFileLeftEmptyGoesInTheEnd(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"a.yaml": serviceEntry("a")})
	w := watch(t, dir, Options{EmptyFor: 50 * time.Millisecond})
	tree(t, dir, map[string]string{"a.yaml": ""})
	w.until("a.yaml: ")
}

func TestABurstIsOneDelivery(t *testing.T) {
	dir := t.TempDir()
	w := watch(t, dir, Options{Settle: 200 * time.Millisecond})
	for range 50 {
		tree(t, dir, map[string]string{"a.yaml": serviceEntry("a"), "b.yaml": serviceEntry("b")})
	}
	w.until("a.yaml: a", "b.yaml: b")
	if extra := len(w.got); extra != 0 {
		t.Errorf("%d deliveries too many", extra)
	}
}

func TestWithoutReportsTheFilesAreLookedAt(t *testing.T) {
	dir := t.TempDir()
	w := &Watcher{scanner: newScanner([]string{dir}, time.Second), rescan: 10 * time.Millisecond, settle: time.Millisecond,
		quit: make(chan struct{}), done: make(chan struct{})}
	got := make(chan []string, 100)
	w.changed = func(files []config.File) { got <- contents(dir, files) }
	w.scanner.watch = w.want
	w.scan()
	go w.run(time.Time{})
	tree(t, dir, map[string]string{"a.yaml": serviceEntry("a")})
	if d := cmp.Diff([]string{"a.yaml: a"}, <-got); d != "" {
		t.Error(d)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
