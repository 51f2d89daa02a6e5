package balancer

import (
	"time"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

// fate is what becomes of a connection that is in use.
type fate uint8

const (
	stays fate = iota
	ages       // it soon takes no more calls: its successor should be made
	ends       // it takes no more calls
	rests      // likewise, for there are none
)

// longestLead bounds how long before the end of a connection by its age its
// successor is made.
const longestLead = 5 * time.Second

// early is after how many of a connection's requests its successor is made: a
// quarter before the last, and at least one.
func early(maxRequests uint32) uint32 {
	return max(maxRequests-max(maxRequests/4, 1), 1)
}

// judge decides what becomes of a connection that was made at some time and has
// counted calls. It ends the tally where it says so. The earliest time at which
// time alone changes the fate is next; zero is never.
func judge(p *snapshot.ConnectionPool, t *tally, made, now time.Time) (f fate, next time.Time) {
	if total := t.total(); p.MaxRequests != 0 {
		switch {
		case total >= p.MaxRequests:
			t.end()
			return ends, time.Time{}
		case total >= early(p.MaxRequests):
			f = ages
		}
	}
	if p.MaxDuration != 0 {
		end := made.Add(p.MaxDuration)
		soon := end.Add(-min(p.MaxDuration/10, longestLead))
		switch {
		case !now.Before(end):
			t.end()
			return ends, time.Time{}
		case !now.Before(soon):
			f, next = ages, end
		default:
			next = soon
		}
	}
	if p.IdleTimeout != 0 {
		since, ok := t.endIdle(made, now.Add(-p.IdleTimeout))
		switch {
		case ok:
			return rests, time.Time{}
		case since.IsZero():
			since = now // a call that is under way ends now at the earliest
		}
		next = earlier(next, since.Add(p.IdleTimeout))
	}
	return f, next
}

// earlier returns the earlier of two times, of which the zero time is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
