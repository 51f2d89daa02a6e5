package xdsclient_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/meshframe/meshframe/resolver/xdsclient"
)

func newFileStore(t *testing.T, dir string) *xdsclient.FileStore {
	t.Helper()
	f, err := xdsclient.NewFileStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestColdStart: the control plane is gone and the process starts again. Each
// life of the client has a store of its own in the same directory.
func TestColdStart(t *testing.T) {
	for _, protocol := range []xdsclient.Protocol{xdsclient.Auto, xdsclient.StateOfTheWorld} {
		t.Run(protocol.String(), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state", "mesh")
			synctest.Test(t, func(t *testing.T) {
				cp := &controlPlane{t: t, store: newLinear()}
				cp.start()
				defer func() { cp.stop() }()
				cp.store.set(texts{"a": "1", "b": "1"}, texts{"a": "1"})
				var ev events
				start := func() *xdsclient.Client {
					c := newClient(t, xdsclient.Config{
						Servers: []xdsclient.Server{cp.server("cp")}, Protocol: protocol, Cache: newFileStore(t, dir),
					})
					ct, et := clusterType(), endpointType()
					xdsclient.Watch(c, ct, "a", &recorder{name: "ca", log: ev.full})
					xdsclient.Watch(c, ct, "b", &recorder{name: "cb", log: ev.full})
					xdsclient.Watch(c, et, "a", &recorder{name: "ea", log: ev.full})
					return c
				}
				c := start()
				ev.want(t, "first life", "ca update a 1", "cb update b 1", "ea update a 1")
				c.Close() // saves

				cp.stop()
				down := ` error: xds server "cp": cannot connect: Unavailable: connection error: desc = "transport: Error while dialing: closed"`
				c = start()
				ev.want(t, "second life", "ca update a 1 stale", "cb update b 1 stale", "ea update a 1 stale", "ca"+down, "cb"+down, "ea"+down)
				st := c.Status()
				for _, r := range st.Resources {
					if !r.Stale || r.State != xdsclient.Requested || !r.Accepted.Equal(time.Now()) {
						t.Errorf("status does not say how stale it is: %+v", r)
					}
				}

				cp.start()
				cp.store.set(texts{"a": "2"}, texts{"a": "1"})
				elapse(time.Minute)
				gone := `cb missing: Cluster "b" does not exist on xds server "cp"`
				if protocol == xdsclient.Auto { // LinearCache does not say that it has none
					gone = `cb missing: Cluster "b" does not exist: no answer from xds server "cp"`
				}
				ev.want(t, "control plane is back", "ca update a 2", gone, "ea update a 1")
				c.Close()
			})
			var got []string
			saved, err := newFileStore(t, dir).Load()
			for _, s := range saved {
				got = append(got, s.TypeURL[strings.LastIndex(s.TypeURL, ".")+1:]+" "+s.Name)
			}
			slices.Sort(got)
			want := []string{"Cluster a", "ClusterLoadAssignment a"}
			if protocol == xdsclient.Auto { // silence is not enough to delete it
				want = []string{"Cluster a", "Cluster b", "ClusterLoadAssignment a"}
			}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("in the store: %v, -want +got:\n%s", err, diff)
			}
		})
	}
}

// full keeps what log keeps, and whether it is stale.
func (e *events) full(line string) {
	stale := strings.HasSuffix(line, " stale")
	line, _, _ = strings.Cut(line, " version=")
	if stale {
		line += " stale"
	}
	e.log(line)
}

func TestFileStore(t *testing.T) {
	dir := t.TempDir()
	f := newFileStore(t, dir)
	put := []xdsclient.Saved{
		{Key: xdsclient.Key{TypeURL: "type.example/t", Name: "a"}, Version: "1", Server: "cp", Accepted: time.Unix(1, 2), Body: []byte("one")},
		{Key: xdsclient.Key{TypeURL: "type.example/t", Name: "b/../ü"}, Accepted: time.Unix(-62135596800, 0), Body: []byte{}},
	}
	check := func(what string, want ...xdsclient.Saved) {
		t.Helper()
		got, err := f.Load()
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
		slices.SortFunc(got, func(a, b xdsclient.Saved) int { return strings.Compare(a.Name, b.Name) })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", what, diff)
		}
	}
	save := func(put []xdsclient.Saved, remove ...xdsclient.Key) {
		t.Helper()
		if err := f.Save(put, remove); err != nil {
			t.Fatal(err)
		}
	}
	check("empty")
	save(put)
	check("saved", put...)
	put[0].Body, put[0].Version = []byte("two"), "2"
	save(put[:1], put[1].Key, xdsclient.Key{Name: "never saved"})
	check("replaced and removed", put[0])
	if info, err := os.Stat(filepath.Join(dir, files(t, dir)[0])); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v, want one that only the owner reads", info.Mode(), err)
	}
}

func files(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// TestDamagedFiles: they are named, and the others are not affected.
func TestDamagedFiles(t *testing.T) {
	good := xdsclient.Saved{Key: xdsclient.Key{TypeURL: "t", Name: "good"}, Accepted: time.Unix(1, 0), Body: []byte("body")}
	victim := xdsclient.Saved{Key: xdsclient.Key{TypeURL: "t", Name: "victim"}, Accepted: time.Unix(1, 0), Body: []byte("body")}
	tests := map[string]struct {
		harm func(t *testing.T, path string)
		want string
	}{
		"flipped bit": {func(t *testing.T, path string) {
			rewriteFile(t, path, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
		}, "damaged"},
		"cut short": {func(t *testing.T, path string) { rewriteFile(t, path, func(b []byte) []byte { return b[:len(b)-5] }) }, "damaged"},
		"empty":     {func(t *testing.T, path string) { rewriteFile(t, path, func([]byte) []byte { return nil }) }, "not a saved resource, or of another version"},
		"other format": {
			func(t *testing.T, path string) { rewriteFile(t, path, func([]byte) []byte { return []byte("{}") }) },
			"not a saved resource, or of another version",
		},
		"renamed": {func(t *testing.T, path string) {
			if err := os.Rename(path, filepath.Join(filepath.Dir(path), "x.xds")); err != nil {
				t.Fatal(err)
			}
		}, `it holds "victim", which belongs elsewhere`},
		"a directory": {func(t *testing.T, path string) {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is a directory"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			f := newFileStore(t, dir)
			if err := f.Save([]xdsclient.Saved{victim}, nil); err != nil {
				t.Fatal(err)
			}
			tt.harm(t, filepath.Join(dir, files(t, dir)[0]))
			if err := f.Save([]xdsclient.Saved{good}, nil); err != nil {
				t.Fatal(err)
			}
			got, err := f.Load()
			if diff := cmp.Diff([]xdsclient.Saved{good}, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if err == nil || !strings.HasPrefix(err.Error(), "xdsclient: store: "+dir) || !strings.HasSuffix(err.Error(), tt.want) {
				t.Errorf("error %v, want one that names the file and ends in %q", err, tt.want)
			}
		})
	}
}

func rewriteFile(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, change(data), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestLeftovers of processes that died are removed, those of living ones are
// not, and files of others are left alone.
func TestLeftovers(t *testing.T) {
	dir := t.TempDir()
	for name, age := range map[string]time.Duration{"new-1.tmp": 2 * time.Hour, "new-2.tmp": time.Minute, "README": 2 * time.Hour} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Time{}, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := newFileStore(t, dir).Load(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"README", "new-2.tmp"}, files(t, dir)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestUnusableDirectory: what an operator is told.
func TestUnusableDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := xdsclient.NewFileStore(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("NewFileStore on a file: %v, want an error that names it", err)
	}
	dir := filepath.Join(t.TempDir(), "gone")
	f := newFileStore(t, dir)
	saved := xdsclient.Saved{Key: xdsclient.Key{TypeURL: "t", Name: "a"}}
	if err := f.Save([]xdsclient.Saved{saved}, nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, files(t, dir)[0])
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "not empty"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Save([]xdsclient.Saved{saved}, []xdsclient.Key{saved.Key}); err == nil || strings.Count(err.Error(), "xdsclient: store: ") != 2 {
		t.Errorf("Save where a directory is in the way: %v, want an error each for writing and removing", err)
	}
	if names := files(t, dir); len(names) != 1 {
		t.Errorf("in the directory: %v, want no unfinished file", names)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := f.Save([]xdsclient.Saved{saved}, nil); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("Save without the directory: %v", err)
	}
	if _, err := f.Load(); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("Load without the directory: %v", err)
	}
}

// TestSharedDirectory: several processes write the same resources at once, and
// none reads half of one.
func TestSharedDirectory(t *testing.T) {
	dir := t.TempDir()
	errs := make(chan error, 4)
	for i := range 4 {
		f := newFileStore(t, dir)
		go func() {
			for j := range 50 {
				body := []byte(strings.Repeat(fmt.Sprint(i), 1000+j))
				err := f.Save([]xdsclient.Saved{{Key: xdsclient.Key{TypeURL: "t", Name: "a"}, Body: body}}, nil)
				if err == nil {
					_, err = f.Load()
				}
				if err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
