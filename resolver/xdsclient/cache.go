package xdsclient

import "time"

// Store keeps the resources that were accepted last, so that a process that
// starts while no server can be reached has something to work with. It is used
// by one client, one call at a time and never on the way of a response; it may be
// slow. NewFileStore makes the usual one.
type Store interface {
	// Load returns everything there is, in any order. What cannot be read is left
	// out and reported by err: both results may be set.
	Load() (saved []Saved, err error)

	// Save adds or replaces the resources in put and deletes those in remove. The
	// bodies must not be changed. After an error the same is tried again, with
	// what has changed since.
	Save(put []Saved, remove []Key) error
}

// Key names a resource in a Store.
type Key struct{ TypeURL, Name string }

// Saved is one resource in a Store.
type Saved struct {
	Key
	// Version and Server say which version it is and whose.
	Version, Server string
	// Accepted is when the client accepted it.
	Accepted time.Time
	// Body is the serialized resource.
	Body []byte
}

// size is what a resource counts for in Config.CacheBytes: about what a
// FileStore needs for it.
func (s *Saved) size() int64 {
	return int64(len(s.TypeURL) + len(s.Name) + len(s.Version) + len(s.Server) + len(s.Body) + fileOverhead)
}

// CacheStatus is the state of Config.Cache.
type CacheStatus struct {
	// Resources and Bytes are what it holds.
	Resources int
	Bytes     int64
	// Pending is how many changes are yet to be saved.
	Pending int
	// LastSave is when changes were last saved; zero: not since the client began.
	LastSave time.Time
	// LastError is why something could not be read or saved; nil once all was.
	LastError error
}
