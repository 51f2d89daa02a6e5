package interceptors

import (
	"context"
	"time"

	"github.com/meshframe/meshframe/mesh"
)

// steady is the context of a call as it is now. That of the call changes when the call
// falls back, at which the timer of an attempt that has ended may still look.
type steady struct {
	call *call
	now  context.Context // the call's own, if it has no limit
}

// steadily returns the context for an attempt that has a timer.
func (c *call) steadily() context.Context {
	if c.diverted || c.Decision.Fallback() == nil {
		return c // it stays as it is
	}
	return &steady{call: c, now: c.Context}
}

// Value answers the engine's question for the call, as long as it is under way.
func (s *steady) Value(key any) any {
	if mesh.IsCallKey(key) {
		return s.call.Value(key)
	}
	return s.now.Value(key)
}

// Deadline is that of the call.
func (s *steady) Deadline() (time.Time, bool) {
	if s.call.limit == nil {
		return s.now.Deadline()
	}
	return s.call.Deadline()
}

// Done is that of the call.
func (s *steady) Done() <-chan struct{} {
	if s.call.limit == nil {
		return s.now.Done()
	}
	return s.call.Done()
}

// Err is that of the call.
func (s *steady) Err() error {
	if s.call.limit == nil {
		return s.now.Err()
	}
	return s.call.Err()
}

// AfterFunc is that of the call.
func (s *steady) AfterFunc(f func()) (stop func() bool) {
	if s.call.limit == nil {
		return context.AfterFunc(s.now, f)
	}
	return s.call.AfterFunc(f)
}
