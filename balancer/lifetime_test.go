package balancer

import (
	"testing"
	"time"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

func TestSuccessorsAreMadeEarly(t *testing.T) {
	t.Parallel()
	for maxRequests, want := range map[uint32]uint32{1: 1, 2: 1, 3: 2, 4: 3, 10: 8, 1000: 750} {
		if got := early(maxRequests); got != want {
			t.Errorf("of %d requests after %d, want %d", maxRequests, got, want)
		}
	}
}

func TestFates(t *testing.T) {
	t.Parallel()
	const never = -1
	for _, tt := range []struct {
		name                       string
		pool                       snapshot.ConnectionPool
		made, calls, underWay, now int // seconds, numbers
		lastEnded                  int // seconds
		want                       fate
		next                       int // seconds
	}{
		{name: "nothing is asked", now: 1000, calls: 1000, want: stays, next: never},
		{name: "few requests", pool: snapshot.ConnectionPool{MaxRequests: 10}, calls: 7, want: stays, next: never},
		{name: "most requests", pool: snapshot.ConnectionPool{MaxRequests: 10}, calls: 8, want: ages, next: never},
		{name: "all requests", pool: snapshot.ConnectionPool{MaxRequests: 10}, calls: 10, underWay: 3, want: ends, next: never},
		{name: "more requests than there may be now", pool: snapshot.ConnectionPool{MaxRequests: 10}, calls: 20, want: ends, next: never},
		{name: "young", pool: snapshot.ConnectionPool{MaxDuration: 30 * time.Second}, made: 100, now: 126, want: stays, next: 127},
		{name: "a tenth before the end", pool: snapshot.ConnectionPool{MaxDuration: 30 * time.Second}, made: 100, now: 127, want: ages, next: 130},
		{name: "five seconds before the end", pool: snapshot.ConnectionPool{MaxDuration: time.Hour}, made: 100, now: 3695, want: ages, next: 3700},
		{name: "old", pool: snapshot.ConnectionPool{MaxDuration: 30 * time.Second}, made: 100, now: 130, underWay: 1, want: ends, next: never},
		{name: "a duration that is shorter now", pool: snapshot.ConnectionPool{MaxDuration: time.Second}, made: 100, now: 130, want: ends, next: never},
		{name: "new and unused", pool: snapshot.ConnectionPool{IdleTimeout: 10 * time.Second}, made: 100, now: 109, want: stays, next: 110},
		{name: "unused", pool: snapshot.ConnectionPool{IdleTimeout: 10 * time.Second}, made: 100, now: 110, want: rests, next: never},
		{name: "used lately", pool: snapshot.ConnectionPool{IdleTimeout: 10 * time.Second}, made: 100, calls: 1, lastEnded: 105, now: 110, want: stays, next: 115},
		{name: "in use", pool: snapshot.ConnectionPool{IdleTimeout: 10 * time.Second}, made: 100, calls: 1, underWay: 1, now: 200, want: stays, next: 210},
		{name: "the first of both", pool: snapshot.ConnectionPool{IdleTimeout: 10 * time.Second, MaxDuration: 30 * time.Second}, made: 100, calls: 1, lastEnded: 120, now: 127, want: ages, next: 130},
		{name: "both the other way", pool: snapshot.ConnectionPool{IdleTimeout: 2 * time.Second, MaxDuration: 30 * time.Second}, made: 100, calls: 1, lastEnded: 126, now: 127, want: ages, next: 128},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			at := func(s int) time.Time { return time.Unix(1_000_000+int64(s), 0) }
			counts := &tally{born: at(0)}
			for i := range max(tt.calls, tt.underWay) {
				counts.take(0, 0)
				if i >= tt.underWay {
					counts.touch(at(tt.lastEnded))
					counts.done()
				}
			}
			got, next := judge(&tt.pool, counts, at(tt.made), at(tt.now))
			want := time.Time{}
			if tt.next != never {
				want = at(tt.next)
			}
			if got != tt.want || !next.Equal(want) {
				t.Errorf("fate %d, next %v; want %d, %v", got, next, tt.want, want)
			}
			if _, ok := counts.take(0, 0); ok != (got < ends) {
				t.Errorf("fate %d, and another call: %v", got, ok)
			}
		})
	}
}
