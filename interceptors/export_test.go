package interceptors

import (
	"context"
	"syscall"
)

// Kept is how many bytes a stream keeps to send them again.
func (s *retriedStream) Kept() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, f := range s.sent {
		if f != nil {
			n += len(f.data)
		}
	}
	return n
}

// Control calls f with the context of each connection that is made.
func (c *Client) Control(f func(context.Context)) {
	c.dialer.ControlContext = func(ctx context.Context, _, _ string, _ syscall.RawConn) error {
		f(ctx)
		return nil
	}
}

// Frames is how many messages a stream keeps to send them again.
func (s *retriedStream) Frames() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sent)
}
