package ratelimit

import (
	"math"
	"sync/atomic"
	"time"
)

// bucket is a token bucket that fills continuously. It keeps one number: the
// time at which it will be full again (the generic cell rate algorithm). A token
// moves that time by the time it takes to fill one. A nil bucket admits
// everything.
type bucket struct {
	token  int64 // time to fill one token
	burst  int64 // time to fill all but one
	coarse uint8 // times are in nanoseconds times 2 to the power of this
	start  atomic.Pointer[time.Time]
	full   atomic.Int64 // since start
}

// longestFill bounds the time to fill a bucket, in its units: with it and the time
// since the start there is no overflow.
const longestFill = math.MaxInt64 / 4

// newBucket returns a full bucket.
func newBucket(b *Bucket) *bucket {
	if *b == (Bucket{}) {
		return nil
	}
	token, coarse := max(int64(b.FillInterval)/int64(max(b.TokensPerFill, 1)), 1), uint8(0)
	for token > longestFill/max(int64(b.MaxTokens), 1) { // it takes centuries to fill all
		token >>= 1
		coarse++
	}
	return &bucket{token: token, burst: token * (int64(b.MaxTokens) - 1), coarse: coarse}
}

// take takes one token, if there is one.
func (b *bucket) take(now time.Time) bool {
	if b == nil {
		return true
	}
	at := b.since(now)
	for {
		full := b.full.Load()
		next := max(full, at)
		if next-at > b.burst {
			return false
		}
		if b.full.CompareAndSwap(full, next+b.token) {
			return true
		}
	}
}

// since is the time since the bucket was first used, in the bucket's units.
func (b *bucket) since(now time.Time) int64 {
	start := b.start.Load()
	if start == nil {
		start = b.begin(now)
	}
	return int64(now.Sub(*start)) >> b.coarse
}

// begin is apart from since because here now moves to the heap.
func (b *bucket) begin(now time.Time) *time.Time {
	b.start.CompareAndSwap(nil, &now)
	return b.start.Load()
}
