package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/meshframe/meshframe/xdsserver/files"
)

// stateFile is the name, in the state directory, of the file that keeps registrations.
const stateFile = "registrations.json"

// state keeps registrations on disk. One goroutine writes: while it writes, changes gather, and the next write has them all.
type state struct {
	path   string
	logger *slog.Logger
	read   func() []Instance // the present registrations
	wake   chan struct{}
	quit   chan struct{}
	done   chan struct{}
}

func newState(dir string, l *slog.Logger, read func() []Instance) *state {
	s := &state{path: filepath.Join(dir, stateFile), logger: l, read: read,
		wake: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	go s.run()
	return s
}

// dirty says that the registrations changed. It does not wait.
func (s *state) dirty() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// close writes what is not written yet and waits for it.
func (s *state) close() {
	close(s.quit)
	<-s.done
}

// writeAgain is the time between two tries to write what could not be written.
const writeAgain = time.Second

func (s *state) run() {
	defer close(s.done)
	again := time.NewTimer(0)
	again.Stop()
	defer again.Stop()
	failed := false
	for {
		select {
		case <-s.wake:
		case <-again.C:
		case <-s.quit:
			select {
			case <-s.wake:
				s.write(failed)
			default:
				if failed {
					s.write(failed)
				}
			}
			return
		}
		if failed = !s.write(failed); failed {
			again.Reset(writeAgain)
		}
	}
}

// write reports whether all is on disk. That it is not is logged once.
func (s *state) write(failing bool) bool {
	all := s.read()
	slices.SortFunc(all, func(a, b Instance) int {
		return strings.Compare(fmt.Sprint(a.place()), fmt.Sprint(b.place()))
	})
	data, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = files.Write(s.path, data)
	}
	if err != nil && !failing {
		s.logger.Error("cannot keep registrations for a restart", "error", err)
	}
	return err == nil
}

// restore reads the registrations of a state directory. A file that cannot be read is put aside: servers that are still
// there will register again, while a control plane that does not start would help nobody.
func restore(dir string, l *slog.Logger) ([]Instance, error) {
	path := filepath.Join(dir, stateFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read kept registrations: %w", err)
	}
	var all []Instance
	if err := json.Unmarshal(data, &all); err != nil {
		l.Error("kept registrations cannot be read and are put aside", "file", path, "error", err)
		if err := os.Rename(path, path+".bad"); err != nil {
			return nil, fmt.Errorf("put unreadable registrations aside: %w", err)
		}
	}
	return all, nil
}
