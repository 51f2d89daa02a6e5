package balancer

import (
	"sync/atomic"
	"time"
)

// tally counts the calls on one connection, exactly: however many goroutines
// take at once, no more than the limits are let in. It must not be copied; its
// methods are safe for concurrent use and take no lock.
type tally struct {
	born time.Time // what last counts from

	// word has the calls under way in its lower half, those there ever were in the
	// 31 bits above, and in the top bit whether it takes no more.
	word atomic.Uint64
	last atomic.Int64 // when the latest call ended, in nanoseconds, if that is kept
}

const (
	oneUnderWay = uint64(1)
	oneInAll    = uint64(1) << 32
	mostInAll   = uint32(1)<<31 - 1
	endedBit    = uint64(1) << 63
)

func underWay(word uint64) uint32 { return uint32(word) }

func inAll(word uint64) uint32 { return uint32(word>>32) & mostInAll }

// take counts a call unless the tally has ended, maxInAll calls were counted, or
// maxUnderWay are under way; 0 is no limit. It returns how many there were in
// all. If ok, done or undo must follow.
func (t *tally) take(maxInAll, maxUnderWay uint32) (total uint32, ok bool) {
	for {
		w := t.word.Load()
		total = inAll(w)
		if w&endedBit != 0 || maxInAll != 0 && total >= maxInAll || maxUnderWay != 0 && underWay(w) >= maxUnderWay {
			return total, false
		}
		next := w + oneUnderWay
		if total < mostInAll {
			next += oneInAll
			total++
		}
		if t.word.CompareAndSwap(w, next) {
			return total, true
		}
	}
}

// done ends a call. It reports whether the tally has ended, and whether no other
// call is under way.
func (t *tally) done() (ended, last bool) {
	w := t.word.Add(^uint64(0)) // less one
	return w&endedBit != 0, underWay(w) == 0
}

// undo takes a call back that was not made, and reports as done does.
func (t *tally) undo() (ended, last bool) {
	for {
		w := t.word.Load()
		next := w - oneUnderWay
		if inAll(w) > 0 && inAll(w) < mostInAll {
			next -= oneInAll
		}
		if t.word.CompareAndSwap(w, next) {
			return next&endedBit != 0, underWay(next) == 0
		}
	}
}

// touch notes that a call ends at now.
func (t *tally) touch(now time.Time) {
	n := int64(now.Sub(t.born))
	for last := t.last.Load(); n > last; last = t.last.Load() {
		if t.last.CompareAndSwap(last, n) {
			return
		}
	}
}

// end lets no more calls in.
func (t *tally) end() { t.word.Or(endedBit) }

// drained reports whether it has ended and no call is under way.
func (t *tally) drained() bool {
	w := t.word.Load()
	return w&endedBit != 0 && underWay(w) == 0
}

// total is how many calls were counted.
func (t *tally) total() uint32 { return inAll(t.word.Load()) }

// endIdle ends the tally if no call is under way, and none was since before,
// which made is too. Otherwise it returns since when there has been none, the
// zero time if there is one.
func (t *tally) endIdle(made, before time.Time) (since time.Time, ok bool) {
	w := t.word.Load()
	if underWay(w) != 0 {
		return time.Time{}, false
	}
	since = made
	if last := t.born.Add(time.Duration(t.last.Load())); last.After(since) {
		since = last
	}
	// A call in the meantime has changed the word, even if it is over.
	return since, !since.After(before) && t.word.CompareAndSwap(w, w|endedBit)
}
