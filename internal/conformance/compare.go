package conformance

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
)

// compare says what is not as the step wants it. The player is locked.
func (p *player) compare(s *Step, responses []Response) []string {
	c := &comparison{want: &s.Want, responses: responses, visits: p.seen, answers: map[string]int{}, statuses: map[string]int{}}
	for _, r := range responses {
		c.statuses[nameOf(r.Status)]++
		if r.Status == 0 {
			c.answers[r.Body]++
		}
	}
	c.status()
	c.servers()
	c.attempts()
	c.connections()
	c.each()
	c.requests()
	if s.Want.Sticky || s.Want.Moved != nil {
		c.affinity(p.stuck, s.Call.Cycle)
	}
	return c.wrong
}

// comparison compares the calls of one step.
type comparison struct {
	want      *Want
	responses []Response
	visits    []visit
	answers   map[string]int // OK, by server
	statuses  map[string]int

	wrong []string
}

func (c *comparison) errorf(format string, args ...any) {
	// One example of many alike is enough.
	if text := fmt.Sprintf(format, args...); len(c.wrong) < 10 && !slices.Contains(c.wrong, text) {
		c.wrong = append(c.wrong, text)
	}
}

// example is the message of some call that failed.
func (c *comparison) example() string {
	for _, r := range c.responses {
		if r.Status != 0 {
			return r.Message
		}
	}
	return ""
}

func (c *comparison) status() {
	w := c.want
	statuses := w.Statuses
	if w.Status != "" && w.Status != anyStatus {
		statuses = map[string]int{w.Status: len(c.responses)}
	}
	if statuses != nil && !alike(statuses, c.statuses) {
		c.errorf("statuses %v (%s), want %v", c.statuses, c.example(), statuses)
	}
	if w.Rates != nil {
		c.shares("statuses", c.statuses, w.Rates, len(c.responses), true)
	}
	for _, r := range c.responses {
		if r.Status != 0 && !strings.Contains(r.Message, w.Message) {
			c.errorf("message %q, want %q in it", r.Message, w.Message)
		}
	}
}

// alike compares counts, of which those that are missing are 0.
func alike(want, got map[string]int) bool {
	for name := range got {
		if got[name] != want[name] {
			return false
		}
	}
	for name := range want {
		if got[name] != want[name] {
			return false
		}
	}
	return true
}

// deviations is by how much a share of random draws may be off. Once in 1.7
// million draws it is by more.
const deviations = 5

// shares compares counts of n random draws with percentages. closed means that
// nothing else may occur.
func (c *comparison) shares(what string, got map[string]int, want map[string]float64, n int, closed bool) {
	for name, percent := range want {
		share := percent / 100
		mean := share * float64(n)
		if off := math.Abs(float64(got[name]) - mean); off > deviations*math.Sqrt(mean*(1-share)) {
			c.errorf("%s %v of %d, want %v %%", what, got, n, want)
			return
		}
	}
	for name := range got {
		if _, ok := want[name]; closed && !ok {
			c.errorf("%s %v of %d, want %v %%", what, got, n, want)
			return
		}
	}
}

func (c *comparison) servers() {
	w := c.want
	if w.From != nil {
		c.shares("answers", c.answers, w.From, c.statuses["OK"], true)
	}
	if w.Answers != nil && !alike(w.Answers, c.answers) {
		c.errorf("answers %v, want %v", c.answers, w.Answers)
	}
	for name, n := range w.AtMost {
		if c.answers[name] > n {
			c.errorf("answers %v, want at most %d of %s", c.answers, n, name)
		}
	}
	for name, n := range w.AtLeast {
		if c.answers[name] < n {
			c.errorf("answers %v, want at least %d of %s", c.answers, n, name)
		}
	}
	if w.Most > 0 && len(c.answers) > w.Most {
		c.errorf("answers %v, want at most %d servers", c.answers, w.Most)
	}
	if len(c.answers) < w.Servers {
		c.errorf("answers %v, want at least %d servers", c.answers, w.Servers)
	}
}

func (c *comparison) attempts() {
	w := c.want
	seen := map[string]int{}
	for _, v := range c.visits {
		seen[v.server]++
	}
	if w.Attempts != nil && !alike(w.Attempts, seen) {
		c.errorf("servers saw %v requests, want %v", seen, w.Attempts)
	}
	if w.Total != nil && len(c.visits) != *w.Total {
		c.errorf("servers saw %v requests, want %d together", seen, *w.Total)
	}
	if w.Reached != nil {
		c.shares("servers saw", seen, w.Reached, len(c.responses), false)
	}
}

// connections compares on what connections requests came.
func (c *comparison) connections() {
	w := c.want
	requests, connections := map[any]int{}, map[string]int{}
	for _, v := range c.visits {
		if requests[v.Connection] == 0 {
			connections[v.server]++
		}
		requests[v.Connection]++
	}
	if w.Connections != nil && !alike(w.Connections, connections) {
		c.errorf("requests came on %v connections, want %v", connections, w.Connections)
	}
	for _, n := range requests {
		if w.PerConnection > 0 && n > w.PerConnection {
			c.errorf("%d requests came on one connection, want at most %d", n, w.PerConnection)
		}
	}
}

// each compares what must be true of every response.
func (c *comparison) each() {
	from, to, _ := span(c.want.Took) // Rows has checked it
	for _, r := range c.responses {
		if c.want.Took != "" && (r.Took < from || r.Took > to) {
			c.errorf("a call took %v, want %s", r.Took, c.want.Took)
		}
		c.fields("response header", r.Headers, c.want.Headers)
		c.fields("response trailer", r.Trailers, c.want.Trailers)
	}
}

// fields compares headers.
func (c *comparison) fields(what string, got map[string][]string, want map[string]string) {
	for name, text := range want {
		value := strings.Join(got[name], ",")
		pattern, isPattern := strings.CutPrefix(text, "~")
		if isPattern && !regexp.MustCompile(pattern).MatchString(value) || !isPattern && value != text {
			c.errorf("%s %s: %q, want %q", what, name, value, text)
		}
	}
}

// requests compares what servers saw.
func (c *comparison) requests() {
	for _, want := range c.want.Seen {
		found := false
		for _, v := range c.visits {
			if want.Server != "" && want.Server != v.server {
				continue
			}
			found = true
			if want.Path != "" && v.Path != want.Path {
				c.errorf("%s saw path %s, want %s", v.server, v.Path, want.Path)
			}
			if want.Authority != "" && v.Authority != want.Authority {
				c.errorf("%s saw authority %s, want %s", v.server, v.Authority, want.Authority)
			}
			c.fields(v.server+" saw header", v.Headers, want.Headers)
		}
		if !found {
			c.errorf("%s saw no request", or(want.Server, "no server"))
		}
	}
}

// affinity compares who answered each number of the cycle with who did before.
func (c *comparison) affinity(stuck map[int]string, cycle int) {
	moved := 0
	for i, r := range c.responses {
		if r.Status != 0 {
			continue
		}
		before, ok := stuck[i%cycle]
		if ok && before != r.Body {
			moved++
			if c.want.Sticky {
				c.errorf("number %d got %s and %s", i%cycle, before, r.Body)
			}
		}
		stuck[i%cycle] = r.Body
	}
	if c.want.Moved != nil && float64(moved) > *c.want.Moved/100*float64(len(c.responses)) {
		c.errorf("%d of %d numbers moved, want at most %v %%", moved, len(c.responses), *c.want.Moved)
	}
}
