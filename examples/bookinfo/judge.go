package main

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// result is what the loads of one visit showed.
type result struct {
	user  string
	loads int

	begin time.Time

	mu       sync.Mutex
	statuses map[string]int // of HTTP
	versions map[string]int // of reviews
	stars    map[string]int
	failures map[string]int // pages without reviews, or no page, by reason
	took     []time.Duration
}

func newResult(user string, loads int) *result {
	return &result{
		user: user, loads: loads, begin: time.Now(),
		statuses: map[string]int{}, versions: map[string]int{}, stars: map[string]int{}, failures: map[string]int{},
	}
}

// underWay is what there is so far.
func (r *result) underWay() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := fmt.Sprintf("%s: %d of %d pages in %v", r.who(), len(r.took), r.loads, time.Since(r.begin).Round(time.Second/10))
	if len(r.versions) > 0 {
		text += ", reviews " + counts(r.versions)
	}
	return text
}

func (r *result) who() string {
	if r.user == "" {
		return "anybody"
	}
	return r.user
}

func (r *result) add(s *sighting) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.status != "" {
		r.statuses[s.status]++
	}
	r.took = append(r.took, s.took)
	switch {
	case s.err != nil:
		r.failures["no page: "+s.err.Error()]++
	case s.page.BookError != "":
		r.failures["no details: "+code(s.page.BookError)]++
	case s.page.ReviewsError != "":
		r.failures[noReviews+code(s.page.ReviewsError)]++
	default:
		r.versions[s.version()]++
		r.stars[s.stars()]++
	}
}

// String is what was seen: versions, stars, failures and latency.
func (r *result) String() string {
	parts := []string{"HTTP " + counts(r.statuses)}
	if len(r.versions) > 0 {
		parts = append(parts, "reviews "+counts(r.versions), counts(r.stars))
	}
	for _, reason := range slices.Sorted(maps.Keys(r.failures)) {
		parts = append(parts, fmt.Sprintf("%d × %s", r.failures[reason], reason))
	}
	slices.Sort(r.took)
	at := func(percent int) time.Duration {
		return r.took[min(len(r.took)*percent/100, len(r.took)-1)].Round(time.Millisecond / 10)
	}
	return fmt.Sprintf("%s; p50 %v, p99 %v", strings.Join(parts, "; "), at(50), at(99))
}

// code is the gRPC status of a failure on the page, without its message: that
// depends on who noticed first.
func code(failure string) string {
	status, _, _ := strings.Cut(failure, ":")
	return status
}

// counts renders counters, with percentages where there are several.
func counts(c map[string]int) string {
	total := 0
	for _, n := range c {
		total += n
	}
	parts := make([]string, 0, len(c))
	for _, k := range slices.Sorted(maps.Keys(c)) {
		part := fmt.Sprintf("%s × %d", k, c[k])
		if len(c) > 1 {
			part += fmt.Sprintf(" (%.1f %%)", 100*float64(c[k])/float64(total))
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}

// grouped renders a large number with a comma every three digits.
func grouped(v float64) string {
	digits := strconv.FormatFloat(math.Floor(v), 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// judge returns what the result of a visit shows that it should not.
func (r *result) judge(v visit, risk float64) []string {
	var wrong []string
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if v.share == nil && len(r.versions) > 0 {
		fail("reviews answered %s", counts(r.versions))
	}
	for reason, n := range r.failures {
		if v.share != nil || !strings.HasPrefix(reason, noReviews) {
			fail("%d × %s", n, reason)
		}
	}
	for version := range union(r.versions, v.share) {
		low, high := bounds(r.loads, v.share[version], risk)
		if n := r.versions[version]; v.share != nil && (n < low || n > high) {
			fail("reviews %s answered %d of %d, not %s", version, n, r.loads, between(low, high))
		}
	}
	for s, n := range r.stars {
		if !strings.HasPrefix(s, v.stars) {
			fail("%d × %s, not %s", n, s, v.stars)
		}
	}
	if least := slices.Min(r.took); least < v.atLeast {
		fail("a page came after %v already", least)
	}
	slices.Sort(wrong)
	return wrong
}

// noReviews begins the reason of a failure that a visit may expect.
const noReviews = "no reviews: "

func union(a map[string]int, b map[string]float64) map[string]bool {
	all := map[string]bool{}
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	return all
}

// expected says what a visit of n loads must show, with its bounds.
func (v *visit) expected(n int, risk float64) string {
	var parts []string
	if v.share == nil {
		parts = append(parts, "no reviews at all")
	}
	for _, version := range slices.Sorted(maps.Keys(v.share)) {
		low, high := bounds(n, v.share[version], risk)
		part := "reviews " + version + " × " + between(low, high)
		if low != high {
			part += fmt.Sprintf(" (%.0f %%; outside by chance once in %s runs)", 100*v.share[version], grouped(1/risk))
		}
		parts = append(parts, part)
	}
	if v.stars != "" {
		parts = append(parts, v.stars)
	}
	if v.atLeast > 0 {
		parts = append(parts, fmt.Sprintf("after at least %v", v.atLeast))
	}
	return strings.Join(parts, "; ")
}

func between(low, high int) string {
	if low == high {
		return strconv.Itoa(low)
	}
	return fmt.Sprintf("%d to %d", low, high)
}
