package ratelimit

import (
	"sync/atomic"
	"time"
)

// bucket is a token bucket that fills continuously. It keeps one number: the
// time at which it will be full again (the generic cell rate algorithm). A token
// moves that time by the time it takes to fill one. A nil bucket admits
// everything.
type bucket struct {
	token int64 // time to fill one token, in nanoseconds
	burst int64 // time to fill all but one
	start atomic.Pointer[time.Time]
	full  atomic.Int64 // since start
}

// newBucket returns a full bucket.
func newBucket(b *Bucket) *bucket {
	if *b == (Bucket{}) {
		return nil
	}
	token := max(int64(b.FillInterval)/int64(max(b.TokensPerFill, 1)), 1)
	return &bucket{token: token, burst: token * (int64(b.MaxTokens) - 1)}
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

// since is the time since the bucket was first used.
func (b *bucket) since(now time.Time) int64 {
	start := b.start.Load()
	if start == nil {
		start = b.begin(now)
	}
	return int64(now.Sub(*start))
}

// begin is apart from since because here now moves to the heap.
func (b *bucket) begin(now time.Time) *time.Time {
	b.start.CompareAndSwap(nil, &now)
	return b.start.Load()
}
