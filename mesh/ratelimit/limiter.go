package ratelimit

import (
	"sync/atomic"
	"time"
)

// Headers looks up the request headers that keys are made of. Names are lower
// case; :path, :method and :authority are among them.
type Headers interface {
	Header(name string) (value string, ok bool)
}

// million is the denominator of Policy.Enforced.
const million = 1_000_000

// Limiter admits calls by a policy. It is safe for concurrent use; without keys
// it takes no lock and allocates nothing.
type Limiter struct {
	policy  *Policy
	bucket  *bucket
	groups  []group
	refused atomic.Uint64 // calls that found their bucket empty
}

// NewLimiter returns a limiter with full buckets.
func NewLimiter(p *Policy) *Limiter {
	return &Limiter{policy: p, bucket: newBucket(&p.Bucket), groups: newGroups(p)}
}

// Policy is what the limiter goes by.
func (l *Limiter) Policy() *Policy { return l.policy }

// Keyed reports whether the limiter looks at headers or the source of calls.
func (l *Limiter) Keyed() bool { return len(l.groups) > 0 }

// Allow takes a token for a call from each bucket that is for it, and reports
// whether there was one. h may be nil; source is the caller's address, "" if it
// is not known.
func (l *Limiter) Allow(h Headers, source string, now time.Time) bool {
	ok, found := true, false
	for i := range l.groups {
		if b, matched := l.groups[i].find(h, source); matched {
			found = true
			ok = b.take(now) && ok
		}
	}
	if !found {
		ok = l.bucket.take(now)
	}
	return ok || !l.enforced()
}

// enforced reports whether a call without a token is refused. It spreads the
// calls that are let through evenly: of a million exactly as many are refused as
// the policy says.
func (l *Limiter) enforced() bool {
	share := uint64(l.policy.Enforced)
	if share == 0 || share >= million {
		return true
	}
	n := l.refused.Add(1)
	return n*share/million != (n-1)*share/million
}
