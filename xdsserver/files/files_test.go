package files

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/meshframe/meshframe/xdsserver/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// entry writes a ServiceEntry, the smallest object there is.
func serviceEntry(name string) string {
	return fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: %s}\nspec: {hosts: [%s.example.com]}\n", name, name)
}

// tree writes files; a value that starts with "->" is the target of a symbolic link.
func tree(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if target, ok := strings.CutPrefix(content, "->"); ok {
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// contents lists what was read: "path: object, object" or "path: problem", with paths relative to dir.
func contents(dir string, files []config.File) []string {
	var out []string
	for _, f := range files {
		var what []string
		for _, o := range f.Objects {
			what = append(what, o.Name)
		}
		for _, p := range f.Problems {
			if p.Severity == config.Error {
				what = append(what, "error: "+p.Message)
			}
		}
		name, err := filepath.Rel(dir, f.Name)
		if err != nil {
			name = f.Name
		}
		out = append(out, name+": "+strings.Join(what, ", "))
	}
	return out
}

func TestReadsATree(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{
		"conf/b.yaml":           serviceEntry("b"),
		"conf/a.yml":            serviceEntry("a") + "---\n" + serviceEntry("a2"),
		"conf/sub/deep/c.json":  `{"apiVersion":"networking.istio.io/v1","kind":"ServiceEntry","metadata":{"name":"c"},"spec":{"hosts":["c.example.com"]}}`,
		"conf/.hidden.yaml":     serviceEntry("hidden"),
		"conf/.git/x.yaml":      serviceEntry("git"),
		"conf/README.md":        "no configuration",
		"conf/link.yaml":        "->../elsewhere/linked.yaml",
		"conf/linkdir":          "->../elsewhere/dir",
		"conf/loop":             "->.",
		"conf/lost":             "->nowhere",
		"elsewhere/linked.yaml": serviceEntry("linked"),
		"elsewhere/dir/d.yaml":  serviceEntry("d"),
		"one.txt":               serviceEntry("one"),
	})
	got := contents(dir, Read(filepath.Join(dir, "conf"), filepath.Join(dir, "one.txt"), filepath.Join(dir, "conf/b.yaml")))
	want := []string{
		"conf/a.yml: a, a2", "conf/b.yaml: b", "conf/link.yaml: linked", "conf/linkdir/d.yaml: d",
		"conf/sub/deep/c.json: c", "one.txt: one",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestWhatCannotBeReadIsAProblem(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"lost.yaml": "->nowhere.yaml", "self.yaml": "->self.yaml"})
	got := contents(dir, Read(dir, filepath.Join(dir, "missing")))
	want := []string{
		"lost.yaml: error: cannot be read: no such file or directory",
		"missing: error: cannot be read: no such file or directory",
		"self.yaml: error: cannot be read: too many levels of symbolic links",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// clock steps a scanner through time.
type clock struct {
	*scanner
	now time.Time
}

func newClock(paths ...string) *clock { return &clock{newScanner(paths, time.Second), time.Now()} }

func (c *clock) after(d time.Duration) (files []config.File, changed bool, again time.Duration) {
	c.now = c.now.Add(d)
	files, changed, at := c.scan(c.now)
	if !at.IsZero() {
		again = at.Sub(c.now)
	}
	return files, changed, again
}

func TestUnchangedFilesKeepTheirObjects(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"a.yaml": serviceEntry("a"), "b.yaml": serviceEntry("b")})
	c := newClock(dir)
	first, changed, _ := c.after(0)
	if !changed {
		t.Error("the first scan is no change")
	}
	if _, changed, _ = c.after(time.Minute); changed {
		t.Error("nothing happened, and yet there is a change")
	}
	tree(t, dir, map[string]string{"b.yaml": serviceEntry("b2")})
	second, changed, _ := c.after(time.Second)
	if !changed {
		t.Error("no change")
	}
	if first[0].Objects[0] != second[0].Objects[0] {
		t.Error("the object of the file that did not change is another one")
	}
	if got := second[1].Objects[0].Name; got != "b2" {
		t.Errorf("read %q", got)
	}
	// The same content, written again, is no change.
	tree(t, dir, map[string]string{"b.yaml": serviceEntry("b2")})
	if _, changed, _ = c.after(time.Second); changed {
		t.Error("the same content is taken for a change")
	}
}

func TestAChangeThatLeavesSizeAndTimeIsSeen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.yaml")
	tree(t, dir, map[string]string{"a.yaml": serviceEntry("a")})
	c := newClock(dir)
	c.after(0)
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	tree(t, dir, map[string]string{"a.yaml": serviceEntry("b")})
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil {
		t.Fatal(err)
	}
	if _, changed, _ := c.after(time.Millisecond); !changed {
		t.Error("a second write within the grain of the clock was missed")
	}
}

func TestAnEmptyFileIsNotBelievedAtOnce(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"a.yaml": serviceEntry("a")})
	c := newClock(dir)
	c.after(0)
	tree(t, dir, map[string]string{"a.yaml": "\n"})
	for _, step := range []struct {
		after, again time.Duration
		objects      int
		changed      bool
	}{
		{after: 100 * time.Millisecond, again: time.Second, objects: 1},
		{after: 600 * time.Millisecond, again: 400 * time.Millisecond, objects: 1},
		{after: 400 * time.Millisecond, objects: 0, changed: true},
		{after: time.Second, objects: 0},
	} {
		files, changed, again := c.after(step.after)
		if len(files[0].Objects) != step.objects || changed != step.changed || again != step.again {
			t.Errorf("%+v: %d objects, changed %v, again in %v", step, len(files[0].Objects), changed, again)
		}
	}
}

func TestAnEditorThatEmptiesAFileFirstChangesItOnce(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"a.yaml": serviceEntry("a")})
	c := newClock(dir)
	c.after(0)
	tree(t, dir, map[string]string{"a.yaml": ""})
	c.after(10 * time.Millisecond)
	tree(t, dir, map[string]string{"a.yaml": serviceEntry("b")})
	files, changed, again := c.after(900 * time.Millisecond)
	if files[0].Objects[0].Name != "b" || !changed || again != 0 {
		t.Errorf("%v, changed %v, again %v", contents(dir, files), changed, again)
	}
	// The next time it is empty counts from its own beginning.
	tree(t, dir, map[string]string{"a.yaml": ""})
	if files, _, again = c.after(900 * time.Millisecond); len(files[0].Objects) != 1 || again != time.Second {
		t.Errorf("%v, again %v", contents(dir, files), again)
	}
}

func TestAGivenPathThatGoesMissingKeepsWhatItHeld(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, map[string]string{"conf/a.yaml": serviceEntry("a"), "conf/b.yaml": serviceEntry("b"), "one.yaml": serviceEntry("one")})
	c := newClock(filepath.Join(dir, "conf"), filepath.Join(dir, "one.yaml"))
	c.after(0)
	for _, p := range []string{"conf", "one.yaml"} {
		if err := os.Rename(filepath.Join(dir, p), filepath.Join(dir, p+".away")); err != nil {
			t.Fatal(err)
		}
	}
	files, changed, _ := c.after(time.Second)
	want := []string{"conf: error: cannot be read: no such file or directory", "conf/a.yaml: a", "conf/b.yaml: b", "one.yaml: error: cannot be read: no such file or directory"}
	if d := cmp.Diff(want, contents(dir, files)); d != "" || !changed {
		t.Error(changed, d)
	}
	if _, changed, _ = c.after(time.Second); changed {
		t.Error("still missing is a change")
	}
	for _, p := range []string{"conf", "one.yaml"} {
		if err := os.Rename(filepath.Join(dir, p+".away"), filepath.Join(dir, p)); err != nil {
			t.Fatal(err)
		}
	}
	// Below a directory a file that is removed is gone.
	if err := os.Remove(filepath.Join(dir, "conf/b.yaml")); err != nil {
		t.Fatal(err)
	}
	files, changed, _ = c.after(time.Second)
	if d := cmp.Diff([]string{"conf/a.yaml: a", "one.yaml: one"}, contents(dir, files)); d != "" || !changed {
		t.Error(changed, d)
	}
}

// However the path is written.
func TestADirectoryThatGoesMissingKeepsWhatItHeld(t *testing.T) {
	t.Chdir(t.TempDir())
	tree(t, "", map[string]string{"conf/a.yaml": serviceEntry("a")})
	for _, path := range []string{"./conf", "conf/", "../" + filepath.Base(must(os.Getwd())) + "/conf/."} {
		c := newClock(path)
		c.after(0)
		if err := os.Rename("conf", "away"); err != nil {
			t.Fatal(err)
		}
		files, _, _ := c.after(time.Second)
		if !slices.ContainsFunc(files, func(f config.File) bool { return len(f.Objects) == 1 }) {
			t.Errorf("%s: %v", path, contents("", files))
		}
		if err := os.Rename("away", "conf"); err != nil {
			t.Fatal(err)
		}
	}
}

func must(dir string, err error) string {
	if err != nil {
		panic(err)
	}
	return dir
}

// A file that is replaced by removing it is missing first, then empty.
func TestAFileThatComesBackEmptyIsNotBelievedAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	tree(t, filepath.Dir(path), map[string]string{"a.yaml": serviceEntry("a")})
	c := newClock(path)
	c.after(0)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	c.after(time.Second)
	tree(t, filepath.Dir(path), map[string]string{"a.yaml": ""})
	if files, changed, again := c.after(time.Second); changed || again != time.Second || len(files[0].Problems) != 1 {
		t.Errorf("%v, changed %v, again in %v", contents("", files), changed, again)
	}
	if files, changed, _ := c.after(time.Second); !changed || len(files[0].Problems) != 0 {
		t.Errorf("%v: an empty file is believed in the end", contents("", files))
	}
}

func TestWriteReplacesAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new/dir/file")
	for _, content := range []string{"one", "two"} {
		if err := Write(path, []byte(content)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Errorf("%q, %v", got, err)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	if err := Write(filepath.Dir(path), nil); err == nil {
		t.Error("a directory was replaced by a file")
	}
	left, err = os.ReadDir(filepath.Dir(filepath.Dir(path)))
	if err != nil || len(left) != 1 {
		t.Errorf("a failed write leaves %v, %v", left, err)
	}
}

func TestASetSurvives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "set.json")
	if got, err := LoadSet(path); got != nil || err != nil {
		t.Errorf("%v, %v", got, err)
	}
	want := map[string][]byte{"a.yaml": []byte("a: \xff"), "b.yaml": {}}
	if err := SaveSet(path, want); err != nil {
		t.Fatal(err)
	}
	got, err := LoadSet(path)
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadSet(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("the error of a broken set is %v", err)
	}
}

func TestTrailNamesEveryLink(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	tree(t, dir, map[string]string{
		"v1/conf/a.yaml": serviceEntry("a"), "current": "->v1", "etc/conf": "->../current/conf", "etc/loop": "->loop",
	})
	told := func(path string) []string {
		var out []string
		trail(path, func(d, name string) {
			rel, _ := filepath.Rel(dir, filepath.Join(d, name))
			out = append(out, rel)
		})
		return out
	}
	if d := cmp.Diff([]string{"etc/conf", "current", "v1/conf/a.yaml"}, told(filepath.Join(dir, "etc/conf/a.yaml"))); d != "" {
		t.Error(d)
	}
	if got := told(filepath.Join(dir, "etc/loop")); len(got) == 0 || !slices.Contains(got, "etc/loop") {
		t.Errorf("a circle of links gives %v", got)
	}
}

// What is neither a file nor a directory is said to be so when it is asked for.
func TestWhatIsNoFileIsNotPassedOver(t *testing.T) {
	got := Read(os.DevNull)
	if len(got) != 1 || len(got[0].Problems) != 1 || !strings.Contains(got[0].Problems[0].Message, "is neither a file nor a directory") {
		t.Errorf("%+v", got)
	}
}
