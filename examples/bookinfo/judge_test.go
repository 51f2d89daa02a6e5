package main

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// saw is a page with reviews.
func saw(version, color, ratingsError string) *sighting {
	return &sighting{status: "200 OK", took: time.Millisecond, page: page{
		ReviewsServer: &server{Version: version}, StarColor: color, RatingsError: ratingsError,
	}}
}

func TestJudge(t *testing.T) {
	unavailable := &sighting{status: "200 OK", took: 6 * time.Second, page: page{ReviewsError: "DeadlineExceeded: too late"}}
	lost := &sighting{err: errors.New("connection refused")}
	for name, tt := range map[string]struct {
		visit visit
		seen  []*sighting
		want  []string
	}{
		"as it should":  {visit{share: only("v2"), stars: black}, []*sighting{saw("v2", black, ""), saw("v2", black, "")}, nil},
		"wrong version": {visit{share: only("v2")}, []*sighting{saw("v2", black, ""), saw("v1", "", "")}, []string{"reviews v1 answered 1 of 2, not 0", "reviews v2 answered 1 of 2, not 2"}},
		"wrong stars":   {visit{share: only("v2"), stars: black}, []*sighting{saw("v2", black, "Unknown")}, []string{"1 × ratings unavailable (Unknown), not black"}},
		"ratings down":  {visit{share: only("v2"), stars: ratingsDown}, []*sighting{saw("v2", black, "Unknown")}, nil},
		"no page":       {visit{share: only("v2")}, []*sighting{saw("v2", black, ""), lost}, []string{"1 × no page: connection refused", "reviews v2 answered 1 of 2, not 2"}},
		"no reviews":    {visit{share: only("v2")}, []*sighting{unavailable}, []string{"1 × no reviews: DeadlineExceeded", "reviews v2 answered 0 of 1, not 1"}},
		"reviews fail":  {visit{atLeast: 6 * time.Second}, []*sighting{unavailable}, nil},
		"too early":     {visit{atLeast: 7 * time.Second}, []*sighting{unavailable}, []string{"a page came after 6s already"}},
		"no failure":    {visit{}, []*sighting{saw("v1", "", "")}, []string{"reviews answered v1 × 1"}},
		"other failure": {visit{}, []*sighting{lost}, []string{"1 × no page: connection refused"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newResult(tt.visit.user, len(tt.seen))
			for _, s := range tt.seen {
				r.add(s)
			}
			if diff := cmp.Diff(tt.want, r.judge(tt.visit, errorBudget)); diff != "" {
				t.Errorf("judgement (-want +got):\n%s", diff)
			}
		})
	}
}

func TestResultText(t *testing.T) {
	r := newResult("", 4)
	for _, s := range []*sighting{
		saw("v1", "", ""), saw("v1", "", ""), saw("v3", red, ""),
		{status: "200 OK", took: 6 * time.Second, page: page{ReviewsError: "DeadlineExceeded: too late"}},
	} {
		r.add(s)
	}
	want := "HTTP 200 OK × 4; reviews v1 × 2 (66.7 %), v3 × 1 (33.3 %); no stars × 2 (66.7 %), red × 1 (33.3 %); 1 × no reviews: DeadlineExceeded; p50 1ms, p99 6s"
	if got := r.String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestExpectedText(t *testing.T) {
	v := visit{share: map[string]float64{"v1": 0.9, "v2": 0.1}, stars: noStars}
	want := "reviews v1 × 848 to 945 (90 %; outside by chance once in 4,000,000 runs); reviews v2 × 55 to 152 (10 %; outside by chance once in 4,000,000 runs); no stars"
	if got := v.expected(1000, 2.5e-7); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
