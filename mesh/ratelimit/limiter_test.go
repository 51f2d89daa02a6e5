package ratelimit

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// headers is a map as Headers.
type headers map[string]string

func (h headers) Header(name string) (string, bool) {
	v, ok := h[name]
	return v, ok
}

var start = time.Unix(1000, 0)

// admitted is how many of n calls at once are admitted.
func admitted(l *Limiter, h Headers, source string, now time.Time, n int) int {
	count := 0
	for range n {
		if l.Allow(h, source, now) {
			count++
		}
	}
	return count
}

// twin is a token bucket that counts its tokens.
type twin struct {
	Bucket
	tokens float64
	last   time.Time
}

func (b *twin) take(now time.Time) bool {
	rate := float64(b.TokensPerFill) / float64(b.FillInterval)
	b.tokens = min(float64(b.MaxTokens), b.tokens+float64(now.Sub(b.last))*rate)
	b.last = now
	if b.tokens < 1-1e-6 {
		return false
	}
	b.tokens--
	return true
}

// TestBucketAgainstTwin gives both the same calls at random times.
func TestBucketAgainstTwin(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		c := Bucket{
			MaxTokens: 1 + rnd.Uint32N(20), TokensPerFill: 1 + rnd.Uint32N(10),
			FillInterval: time.Duration(1+rnd.IntN(1000)) * 5040 * time.Microsecond, // whole nanoseconds for each token
		}
		b, want := newBucket(&c), &twin{Bucket: c, tokens: float64(c.MaxTokens), last: start}
		now := start
		for range 500 {
			now = now.Add(time.Duration(rnd.ExpFloat64() * float64(c.FillInterval) / float64(c.TokensPerFill)))
			if got, want := b.take(now), want.take(now); got != want {
				t.Fatalf("%+v at %v: admitted %v, want %v", c, now.Sub(start), got, want)
			}
		}
	}
}

func TestBuckets(t *testing.T) {
	for _, test := range []struct {
		name   string
		bucket Bucket
		after  time.Duration // of using it up
		want   int
	}{
		{"none", Bucket{}, 0, 1000},
		{"no tokens", Bucket{FillInterval: time.Second}, time.Hour, 0},
		{"one a second", Bucket{MaxTokens: 5, FillInterval: time.Second}, 3 * time.Second, 3},
		{"never above the greatest", Bucket{MaxTokens: 5, TokensPerFill: 5, FillInterval: time.Second}, time.Hour, 5},
		{"continuously", Bucket{MaxTokens: 100, TokensPerFill: 100, FillInterval: time.Second}, 250 * time.Millisecond, 25},
		{"no interval", Bucket{MaxTokens: 10}, time.Microsecond, 10},
		{"time that runs backwards", Bucket{MaxTokens: 5, FillInterval: time.Second}, -time.Hour, 0},
	} {
		l := NewLimiter(&Policy{Bucket: test.bucket})
		admitted(l, nil, "", start, 1000)
		if got := admitted(l, nil, "", start.Add(test.after), 1000); got != test.want {
			t.Errorf("%s: %d admitted, want %d", test.name, got, test.want)
		}
	}
}

// TestBucketIsExactAtOnce lets many goroutines compete for the tokens.
// TestBucketsThatFillForCenturies holds that neither many tokens nor long intervals are
// too much.
func TestBucketsThatFillForCenturies(t *testing.T) {
	for _, b := range []Bucket{
		{MaxTokens: 200_000, FillInterval: 24 * time.Hour},
		{MaxTokens: 200_000, FillInterval: math.MaxInt64},
	} {
		l := NewLimiter(&Policy{Bucket: b})
		if n := admitted(l, nil, "", start, 200_001); n != 200_000 {
			t.Errorf("%v: %d at first, want 200000", b, n)
		}
		if n := admitted(l, nil, "", start.Add(b.FillInterval-b.FillInterval/1000), 2); n != 0 {
			t.Errorf("%v: %d before the first token is filled", b, n)
		}
		if n := admitted(l, nil, "", start.Add(b.FillInterval), 2); n != 1 {
			t.Errorf("%v: %d after the interval, want 1", b, n)
		}
	}
	l := NewLimiter(&Policy{Bucket: Bucket{MaxTokens: math.MaxUint32, FillInterval: time.Hour}})
	if n := admitted(l, nil, "", start, 10); n != 10 {
		t.Errorf("%d of 10 with the greatest bucket", n)
	}
}

func TestBucketIsExactAtOnce(t *testing.T) {
	for name, p := range map[string]*Policy{
		"keyless": {Bucket: Bucket{MaxTokens: 500, TokensPerFill: 1, FillInterval: time.Hour}},
		"keyed": {Keyed: []Keyed{{
			Key:    []KeyPart{{Header: "user"}},
			Bucket: Bucket{MaxTokens: 500, TokensPerFill: 1, FillInterval: time.Hour},
		}}},
	} {
		l := NewLimiter(p)
		var count atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() { count.Add(int64(admitted(l, headers{"user": "jason"}, "", start, 100))) })
		}
		wg.Wait()
		if count.Load() != 500 {
			t.Errorf("%s: %d admitted, want 500", name, count.Load())
		}
	}
}

func TestKeys(t *testing.T) {
	bucket := func(n uint32) Bucket { return Bucket{MaxTokens: n, FillInterval: time.Hour} }
	l := NewLimiter(&Policy{
		Bucket: bucket(1),
		Keyed: []Keyed{
			{Key: []KeyPart{{Header: "user"}}, Bucket: bucket(2)},
			{Key: []KeyPart{{Header: "user", Value: "vip"}}, Bucket: bucket(5)},
			{Key: []KeyPart{{Header: "user"}, {Source: true, Value: "10.0.0.1"}}, Bucket: bucket(3)},
			{Key: []KeyPart{{Header: "free"}}},
		},
	})
	for i, test := range []struct {
		headers headers
		source  string
		want    int
	}{
		{headers{"user": "a"}, "", 2},
		{headers{"user": "b"}, "", 2},
		{headers{"user": "vip"}, "", 5},
		{headers{"user": "c"}, "10.0.0.1", 2}, // both admit
		{headers{"user": "vip"}, "10.0.0.1", 0},
		{headers{"user": "d"}, "10.0.0.9", 2}, // the group with the source has no entry for it
		{headers{}, "10.0.0.1", 1},
		{nil, "", 0},
		{headers{"free": "x"}, "", 100},
	} {
		var h Headers
		if test.headers != nil {
			h = test.headers
		}
		if got := admitted(l, h, test.source, start, 100); got != test.want {
			t.Errorf("%d: %d admitted, want %d", i, got, test.want)
		}
	}
}

// TestKeysDoNotRunTogether holds that different lists of values have different
// buckets.
func TestKeysDoNotRunTogether(t *testing.T) {
	keys := map[string]bool{}
	lists := [][]string{{"a", "b"}, {"ab", ""}, {"", "ab"}, {"a,b"}, {"a", "b", ""}, {"ab"}}
	for _, values := range lists {
		keys[string(appendKey(nil, values))] = true
	}
	if len(keys) != len(lists) {
		t.Errorf("%d lists have %d keys", len(lists), len(keys))
	}
}

func TestLeastRecentlyUsedKeyIsForgotten(t *testing.T) {
	l := NewLimiter(&Policy{MaxKeys: 3, Keyed: []Keyed{{
		Key: []KeyPart{{Header: "user"}}, Bucket: Bucket{MaxTokens: 1, FillInterval: time.Hour},
	}}})
	allow := func(user string) bool { return l.Allow(headers{"user": user}, "", start) }
	for _, step := range []struct {
		user string
		want bool
	}{
		{"a", true},
		{"b", true},
		{"c", true},
		{"a", false},
		{"d", true}, // in place of b
		{"a", false},
		{"c", false},
		{"b", true}, // in place of d
		{"d", true}, // in place of a
		{"c", false},
		{"b", false},
		{"a", true},
	} {
		if got := allow(step.user); got != step.want {
			t.Fatalf("%s admitted: %v, want %v", step.user, got, step.want)
		}
	}
}

func TestKeysAreBounded(t *testing.T) {
	for _, most := range []int{1, 100, 5000} {
		m := newBuckets(Bucket{MaxTokens: 1}, most)
		for i := range 3 * most {
			m.get([]string{fmt.Sprint(i)})
		}
		held := 0
		for i := range m.parts {
			held += len(m.parts[i].keys)
		}
		if held > most || held < most*9/10 {
			t.Errorf("%d keys held, at most %d", held, most)
		}
	}
}

func TestEnforcedShareIsExact(t *testing.T) {
	for _, test := range []struct {
		share       uint32
		calls, want int
	}{{0, 10, 10}, {250_000, 1000, 250}, {1, million, 1}, {million, 10, 10}} {
		l := NewLimiter(&Policy{Bucket: Bucket{FillInterval: time.Hour}, Enforced: test.share})
		if got := test.calls - admitted(l, nil, "", start, test.calls); got != test.want {
			t.Errorf("share %d: %d of %d refused, want %d", test.share, got, test.calls, test.want)
		}
	}
}

func TestAllowAllocatesNothing(t *testing.T) {
	bucket := Bucket{MaxTokens: 10, TokensPerFill: 10, FillInterval: time.Second}
	keyless := NewLimiter(&Policy{Bucket: bucket})
	keyed := NewLimiter(&Policy{Keyed: []Keyed{{Key: []KeyPart{{Header: "user"}, {Source: true}}, Bucket: bucket}}})
	var h Headers = headers{"user": "jason"}
	now := start
	if n := testing.AllocsPerRun(100, func() {
		now = now.Add(time.Millisecond)
		keyless.Allow(nil, "", now)
		keyed.Allow(h, "10.0.0.1", now)
	}); n != 0 {
		t.Errorf("Allow allocates %v times", n)
	}
	if keyless.Keyed() || !keyed.Keyed() {
		t.Error("Keyed tells the wrong one")
	}
}

func BenchmarkAllow(b *testing.B) {
	bucket := Bucket{MaxTokens: 1000, TokensPerFill: 1000, FillInterval: time.Second}
	for _, c := range []struct {
		name   string
		policy *Policy
	}{
		{"keyless", &Policy{Bucket: bucket}},
		{"keyed", &Policy{Keyed: []Keyed{{Key: []KeyPart{{Header: "user"}}, Bucket: bucket}}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			l := NewLimiter(c.policy)
			now := time.Now()
			b.RunParallel(func(pb *testing.PB) {
				var h Headers = headers{"user": "jason"}
				for pb.Next() {
					l.Allow(h, "", now)
				}
			})
		})
	}
}
