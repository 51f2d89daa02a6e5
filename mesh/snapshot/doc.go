// Package snapshot joins listener, routes, clusters and endpoints of one
// target into an immutable Snapshot from which calls are decided. Updates come
// in, a Snapshot goes out; nothing here is written after it was built. Live
// state (counters, ejections) is keyed by identity in States and handed from
// one snapshot to the next.
//
// This package makes no promise of a stable API.
package snapshot
