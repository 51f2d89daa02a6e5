// Package stripe counts what many processors count at once. A number that all of
// them write moves from cache to cache with each call; so as soon as two get in
// each other's way, each writes to a place of its own. Until then a count is a
// plain one, and takes no more memory.
//
// In the flow it is below what is counted for every call and has no limit: which
// clusters are in use, the attempts under way, the rotation.
//
// This package makes no promise of a stable API.
package stripe

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// lineSize keeps what different processors write apart: two cache lines, because
// processors fetch them in pairs.
const lineSize = 128

// most bounds the places of one counter.
const most = 64

// Place is where a processor writes. A call asks for it once, with Here, and keeps
// it: calls on any processor may use any place, only that then they may meet.
type Place uint32

var (
	// met is set once processors have got in each other's way anywhere.
	met atomic.Bool
	// tokens holds a place for each processor, as a sync.Pool does.
	tokens    sync.Pool
	lastPlace atomic.Uint32
)

// Here is the place of the processor that the caller runs on.
func Here() Place {
	if !met.Load() {
		return 0
	}
	t, _ := tokens.Get().(*Place)
	if t == nil {
		t = new(Place)
		*t = Place(lastPlace.Add(1))
	}
	p := *t
	tokens.Put(t)
	return p
}

// part makes a place for each processor, of as many as are a power of two.
func part[T any](to *atomic.Pointer[[]T]) *[]T {
	met.Store(true)
	n := 1
	for n < min(runtime.GOMAXPROCS(0), most) {
		n *= 2
	}
	places := make([]T, n)
	to.CompareAndSwap(nil, &places)
	return to.Load()
}

// of returns the element that is at p.
func of[T any](places *[]T, p Place) *T {
	return &(*places)[int(p)&(len(*places)-1)]
}
