package files

import (
	"cmp"
	"errors"
	"io/fs"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// Options configure Watch.
type Options struct {
	Paths  []string     // files and directories; see Read
	Logger *slog.Logger // default slog.Default()

	// EmptyFor is how long a file that held objects must have been found empty before they go. Default 1s.
	EmptyFor time.Duration
	// Settle is how long nothing must have happened after a change before the files are read again. Default 20ms. They are
	// read after ten times that even if changes go on.
	Settle time.Duration
	// Rescan is how often the files are looked at even if nothing is reported: there are file systems that report nothing.
	// Default 30s.
	Rescan time.Duration
}

// unwatched is the time between two looks when the system cannot report changes.
const unwatched = time.Second

// Watcher follows files on disk.
type Watcher struct {
	scanner *scanner
	logger  *slog.Logger
	settle  time.Duration
	rescan  time.Duration
	changed func([]config.File)

	notify *fsnotify.Watcher          // nil when the system has no more to give
	dirs   map[string]map[string]bool // what is watched: the names that matter, "" for all
	wanted map[string]map[string]bool // the same, as the scan under way finds it

	quit chan struct{}
	done chan struct{}
	once sync.Once
}

// Watch reads the files and then follows them. It returns what it read first; changed is called with all files after each
// change, one call at a time, where files that did not change are the same as before, down to the pointers of their
// objects. A given path that goes missing keeps what it held, with a Problem.
func Watch(opts Options, changed func([]config.File)) (*Watcher, []config.File) {
	w := &Watcher{
		scanner: newScanner(opts.Paths, cmp.Or(opts.EmptyFor, time.Second)),
		logger:  opts.Logger, settle: cmp.Or(opts.Settle, 20*time.Millisecond), rescan: cmp.Or(opts.Rescan, 30*time.Second),
		changed: changed, quit: make(chan struct{}), done: make(chan struct{}),
	}
	if w.logger == nil {
		w.logger = slog.Default()
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.poll(err)
	} else {
		w.notify = notify
	}
	w.scanner.watch = w.want
	first, _, again := w.scan()
	go w.run(again)
	return w, first
}

// Close stops following and waits until changed is not being called any more. It may be called more than once.
func (w *Watcher) Close() error {
	w.once.Do(func() { close(w.quit) })
	<-w.done
	return nil
}

// poll falls back to looking often.
func (w *Watcher) poll(err error) {
	if w.rescan > unwatched {
		w.logger.Warn("changes of files are not reported by the system; looking for them every second instead", "error", err)
		w.rescan = unwatched
	}
}

// want is told by the scan about directories that matter.
func (w *Watcher) want(dir, name string) {
	names := w.wanted[dir]
	if names == nil {
		names = map[string]bool{}
		w.wanted[dir] = names
		if above := filepath.Dir(dir); !w.add(dir) && above != dir {
			w.want(above, filepath.Base(dir)) // until it is there
			w.add(dir)                        // which it may be now
		}
	}
	names[name] = true
}

// add watches a directory, also when it is watched already: another one may have its name now. It reports whether the
// directory is there.
func (w *Watcher) add(dir string) bool {
	if w.notify == nil {
		return true
	}
	err := w.notify.Add(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err != nil {
		w.poll(err)
	}
	return true
}

func (w *Watcher) scan() (files []config.File, changed bool, again time.Time) {
	w.wanted = map[string]map[string]bool{}
	files, changed, again = w.scanner.scan(time.Now())
	gone := false
	for dir := range w.dirs {
		if w.wanted[dir] == nil && w.notify != nil {
			_ = w.notify.Remove(dir) // it is gone already when the directory is
			gone = true
		}
	}
	w.dirs = w.wanted
	if gone {
		// A directory that was renamed has one watch under both names, and it went with the old one.
		for dir := range w.dirs {
			w.add(dir)
		}
		again = time.Now()
	}
	return files, changed, again
}

func (w *Watcher) run(again time.Time) {
	defer close(w.done)
	var events chan fsnotify.Event
	var failures chan error
	if w.notify != nil {
		defer func() { _ = w.notify.Close() }() // there is nobody left to tell
		events, failures = w.notify.Events, w.notify.Errors
	}
	next := time.NewTimer(0)
	defer next.Stop()
	var pending time.Time // of the first change that has not been read yet
	arm := func() { next.Reset(w.delay(pending, again)) }
	arm()
	for {
		select {
		case <-w.quit:
			return
		case e := <-events:
			if !w.matters(e) {
				continue
			}
			if pending.IsZero() {
				pending = time.Now()
			}
			arm()
		case err := <-failures:
			w.logger.Warn("changes of files may have been missed; reading all of them again", "error", err)
			pending = time.Now()
			arm()
		case <-next.C:
			pending = time.Time{}
			files, changed, at := w.scan()
			again = at
			if changed {
				w.changed(files)
			}
			arm()
		}
	}
}

// delay is the time until the next scan.
func (w *Watcher) delay(pending, again time.Time) time.Duration {
	d := w.rescan
	if !pending.IsZero() {
		d = min(d, w.settle, time.Until(pending.Add(10*w.settle)))
	}
	if !again.IsZero() {
		d = min(d, time.Until(again))
	}
	return max(d, 0)
}

// matters reports whether an event is about something that is read.
func (w *Watcher) matters(e fsnotify.Event) bool {
	names := w.dirs[filepath.Dir(e.Name)]
	return names[""] || names[filepath.Base(e.Name)] || w.dirs[e.Name] != nil
}
