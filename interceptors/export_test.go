package interceptors

// Kept is how many bytes a stream keeps to send them again.
func (s *retriedStream) Kept() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, f := range s.sent {
		n += len(f.data)
	}
	return n
}
