package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// screen writes the tour: lines that stay, and on a terminal one line that
// moves while something is under way. It is safe for concurrent use.
type screen struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	moving   bool // the last line is the moving one
}

func newScreen(out io.Writer) *screen {
	s := &screen{out: out}
	if f, ok := out.(*os.File); ok {
		info, err := f.Stat()
		s.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
	}
	return s
}

// clearLine returns to the start of the line and empties it.
const clearLine = "\r\x1b[K"

// printf writes lines that stay. What cannot be written is lost: there is
// nobody left to read it.
func (s *screen) printf(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clear()
	fmt.Fprintf(s.out, format, args...)
}

// progress shows what is under way until the function that it returns is
// called, which waits. text is called now and then, from another goroutine. On a
// terminal it is one line that moves; elsewhere it is a line of its own, and only
// of what takes long.
func (s *screen) progress(text func() string) (stop func()) {
	pace := plainPace
	if s.terminal {
		pace = terminalPace
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(pace)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				s.move(text())
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// How often progress is shown.
const (
	terminalPace = 50 * time.Millisecond
	plainPace    = 2 * time.Second
)

func (s *screen) move(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.terminal {
		fmt.Fprintf(s.out, "     …         %s\n", text)
		return
	}
	s.clear()
	fmt.Fprintf(s.out, "     …         %s", text)
	s.moving = true
}

func (s *screen) clear() {
	if s.moving {
		fmt.Fprint(s.out, clearLine)
		s.moving = false
	}
}

// shared is a writer for several loggers.
type shared struct {
	mu  sync.Mutex
	out io.Writer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.Write(p)
}
