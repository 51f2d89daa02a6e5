package files

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// Read reads and parses files and directories once. Directories are read recursively: files that end in .yaml, .yml or
// .json, names that start with "." left out, symbolic links followed. Whatever cannot be read is a Problem of the File
// with its path. The files are sorted by name, and no file is read twice, by whichever paths it is reached.
func Read(paths ...string) []config.File {
	out, _, _ := newScanner(paths, time.Second).scan(time.Now())
	return out
}

// scanner reads the tree again and again, and parses only what changed since the last time.
type scanner struct {
	paths    []string
	emptyFor time.Duration // how long a file must have been empty before that is believed
	known    map[string]*entry

	// watch is told, before anything is read from it, about each directory whose changes matter: those of one name, or
	// any when the name is "".
	watch func(dir, name string)
}

func newScanner(paths []string, emptyFor time.Duration) *scanner {
	return &scanner{paths: paths, emptyFor: emptyFor, known: map[string]*entry{}, watch: func(string, string) {}}
}

// entry is what is known of one file.
type entry struct {
	info   fs.FileInfo // of the content in file, nil when it could not be read
	read   time.Time
	sum    [sha256.Size]byte
	file   config.File
	parsed *config.File // the last content that could be read
	empty  time.Time    // since when the file has been found empty while file is not; zero: it has not
}

// scan reads the tree. changed says whether the files are others than those of the scan before; again is the time for
// the next scan even if nothing happens, zero when there is none.
func (s *scanner) scan(now time.Time) (out []config.File, changed bool, again time.Time) {
	w := &walk{scanner: s, now: now, found: map[string]*entry{}, seen: map[string]bool{}}
	for _, p := range s.paths {
		w.root(p)
	}
	changed = w.changed || len(w.found) != len(s.known)
	s.known = w.found
	for _, e := range w.found {
		out = append(out, e.file)
	}
	slices.SortFunc(out, func(a, b config.File) int { return cmp.Compare(a.Name, b.Name) })
	return out, changed, w.again
}

// walk is one scan.
type walk struct {
	*scanner
	now     time.Time
	found   map[string]*entry
	seen    map[string]bool // real paths, so that nothing is read twice and no circle of links is followed
	changed bool
	again   time.Time
}

// root reads a path that was given. It must be there: one that is missing is no reason to forget what it held.
func (w *walk) root(path string) {
	trail(path, w.watch)
	info, err := os.Stat(path)
	if err != nil {
		w.fail(path, err)
		return
	}
	real, err := filepath.EvalSymlinks(path)
	switch {
	case err != nil:
		w.fail(path, err)
	case info.IsDir():
		w.dir(path, real)
	case !info.Mode().IsRegular():
		w.fail(path, errors.New("is neither a file nor a directory"))
	default:
		w.file(path, real, info)
	}
}

func (w *walk) dir(path, real string) {
	if w.seen[real] {
		return
	}
	w.seen[real] = true
	w.watch(real, "")
	list, err := os.ReadDir(path)
	if err != nil {
		w.fail(path, err)
		return
	}
	for _, d := range list {
		if !strings.HasPrefix(d.Name(), ".") {
			w.child(filepath.Join(path, d.Name()), filepath.Join(real, d.Name()), d)
		}
	}
}

func (w *walk) child(path, real string, d fs.DirEntry) {
	link := d.Type()&fs.ModeSymlink != 0
	if !link && !d.IsDir() && !isConfig(path) {
		return
	}
	info, err := os.Stat(path)
	if err == nil && link {
		trail(real, w.watch)
		real, err = filepath.EvalSymlinks(path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && !link:
		// It went away since the directory was read.
	case err != nil && !isConfig(path):
		// A link that leads nowhere, and perhaps never to configuration.
	case err != nil:
		w.fail(path, err)
	case info.IsDir():
		w.dir(path, real)
	case isConfig(path):
		w.file(path, real, info)
	}
}

func isConfig(path string) bool {
	switch strings.ToLower(filepath.Ext(path)) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

func (w *walk) file(path, real string, info fs.FileInfo) {
	if !info.Mode().IsRegular() || w.seen[real] {
		return
	}
	w.seen[real] = true
	old := w.known[path]
	if old != nil && old.fresh(info) && old.empty.IsZero() {
		w.found[path] = old
		return
	}
	data, err := os.ReadFile(path)
	if err != nil {
		w.fail(path, err)
		return
	}
	w.content(path, info, data)
}

// clockGrain is how far apart two changes may be that leave the same time of modification.
const clockGrain = 2 * time.Second

// fresh reports whether a file is sure to hold what was read last.
func (e *entry) fresh(info fs.FileInfo) bool {
	return e.info != nil && os.SameFile(e.info, info) && e.info.Size() == info.Size() && e.info.ModTime().Equal(info.ModTime()) &&
		info.ModTime().Before(e.read.Add(-clockGrain))
}

// content takes the bytes of a file.
func (w *walk) content(path string, info fs.FileInfo, data []byte) {
	old := w.known[path]
	if w.doubt(path, data) {
		return
	}
	e := &entry{info: info, read: w.now, sum: sha256.Sum256(data)}
	w.found[path] = e
	if old != nil && old.parsed != nil && old.sum == e.sum {
		e.file, e.parsed = *old.parsed, old.parsed
		w.changed = w.changed || old.info == nil
		return
	}
	e.file = config.Parse(path, data)
	e.parsed = &e.file
	w.changed = true
}

// doubt reports whether a file that has become empty is still taken for what it was: editors empty a file before they
// write it.
func (w *walk) doubt(path string, data []byte) bool {
	old := w.known[path]
	if old == nil || len(bytes.TrimSpace(data)) > 0 || old.parsed == nil || len(bytes.TrimSpace(old.parsed.Data)) == 0 {
		if old != nil {
			old.empty = time.Time{}
		}
		return false
	}
	if old.empty.IsZero() {
		old.empty = w.now
	}
	believed := old.empty.Add(w.emptyFor)
	if !w.now.Before(believed) {
		return false
	}
	w.found[path] = old
	if w.again.IsZero() || believed.Before(w.again) {
		w.again = believed
	}
	return true
}

// fail takes a path that cannot be read: what was below it is taken for what it was.
func (w *walk) fail(path string, err error) {
	for name, e := range w.known {
		if Below(path, name) && w.found[name] == nil {
			w.found[name] = e
		}
	}
	message := "cannot be read: " + reason(err)
	e := &entry{file: config.File{Name: path, Problems: []config.Problem{{File: path, Message: message}}}}
	if old := w.known[path]; old != nil {
		e.parsed, e.sum = old.parsed, old.sum
		w.changed = w.changed || len(old.file.Problems) != 1 || old.file.Problems[0].Message != message
	} else {
		w.changed = true
	}
	w.found[path] = e
}

// Below reports whether a file that was read has its name from a directory, however the path of that is written.
func Below(path, name string) bool {
	rel, err := filepath.Rel(path, name)
	return err == nil && rel != "." && filepath.IsLocal(rel)
}

// reason is the part of an error that does not repeat the path.
func reason(err error) string {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err.Error()
	}
	return err.Error()
}

// maxLinks bounds the links of one path, as the kernel does.
const maxLinks = 40

// trail tells about each directory in which a change may give a path another meaning: that of its last element, and that
// of every symbolic link on the way.
func trail(path string, tell func(dir, name string)) {
	path, err := filepath.Abs(path)
	if err != nil {
		return
	}
	done, rest := string(filepath.Separator), strings.Split(path, string(filepath.Separator))
	for links := 0; len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		next := filepath.Join(done, name)
		target, err := os.Readlink(next)
		if err != nil || links >= maxLinks {
			if len(rest) == 0 {
				tell(done, name)
			}
			done = next
			continue
		}
		links++
		tell(done, name)
		rest = append(strings.Split(target, string(filepath.Separator)), rest...)
		if filepath.IsAbs(target) {
			done = string(filepath.Separator)
		}
	}
}
