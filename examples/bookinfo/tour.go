package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	visitors     = 8 // page loads at the same time
	pagePatience = 30 * time.Second
	maxPage      = 1 << 20
	// settleTime is how long a step waits for its YAML to be in force.
	settleTime = 15 * time.Second
)

// tour plays steps against an app.
type tour struct {
	app    *app
	out    *screen
	pages  int // the sample size
	client *http.Client
}

func newTour(a *app, out *screen, pages int) *tour {
	return &tour{app: a, out: out, pages: pages, client: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: visitors},
	}}
}

// play plays the steps and reports whether every one showed what it should. The
// error says that the tour could not go on.
func (t *tour) play(ctx context.Context, steps []step) (passed bool, err error) {
	defer t.client.CloseIdleConnections()
	begin := time.Now()
	if err := t.gather(ctx); err != nil {
		return false, err
	}
	risk := errorBudget / float64(max(1, shares(steps)))
	t.out.printf("A correct mesh fails this tour by chance less than once in %s runs.\n", grouped(1/errorBudget))
	good := 0
	for i := range steps {
		t.out.printf("\n%d/%d  %s\n", i+1, len(steps), steps[i].title)
		t.paragraph(steps[i].why)
		ok, err := t.step(ctx, &steps[i], risk)
		if err != nil {
			return false, fmt.Errorf("step %d, %s: %w", i+1, steps[i].title, err)
		}
		if ok {
			good++
		}
	}
	t.out.printf("\n%d of %d steps showed what they should, in %v.\n", good, len(steps), time.Since(begin).Round(time.Second/10))
	return good == len(steps), nil
}

func (t *tour) paragraph(text string) {
	const width = 96
	line := "    "
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word) > width {
			t.out.printf("%s\n", line)
			line = "    "
		}
		line += " " + word
	}
	t.out.printf("%s\n", line)
}

// step plays one step. Its verdict is PASS only if the YAML came into force and
// every visit saw what it should.
func (t *tour) step(ctx context.Context, s *step, risk float64) (ok bool, err error) {
	for _, f := range s.files {
		objects, err := t.app.config.apply(f)
		if err != nil {
			return false, err
		}
		t.out.printf("     applied   %s: %s\n", f.name, strings.Join(objects, ", "))
	}
	took, givenUp, err := t.settle(ctx, s.inForce)
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case err != nil:
		t.out.printf("     FAIL      %v\n", err)
		return false, nil
	}
	of := ""
	if givenUp > 0 {
		of = fmt.Sprintf(", with %d × %v for pages that were held up", givenUp, hurried)
	}
	t.out.printf("     in force  after %v%s\n", took.Round(time.Millisecond), of)
	ok = true
	for _, v := range s.visits {
		r, err := t.visit(ctx, v)
		if err != nil {
			return false, err
		}
		wrong := r.judge(v, risk)
		t.out.printf("     seen      %s: %s\n     expected  %s\n", r.who(), r, v.expected(r.loads, risk))
		for _, w := range wrong {
			ok = false
			t.out.printf("     FAIL      %s\n", w)
		}
	}
	if ok {
		t.out.printf("     PASS\n")
	}
	return ok, nil
}

// gather waits until every version of reviews is known to the mesh: without a
// rule they answer in turn.
func (t *tour) gather(ctx context.Context) error {
	begin := time.Now()
	bounded, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	stop := t.out.progress(func() string {
		return fmt.Sprintf("waiting for the members to find each other, %v", time.Since(begin).Round(time.Second/10))
	})
	defer stop()
	missing := map[string]bool{"v1": true, "v2": true, "v3": true}
	for {
		last := t.load(bounded, "", hurried)
		delete(missing, last.version())
		switch {
		case len(missing) == 0:
			t.out.printf("\nWithout a rule, reviews v1, v2 and v3 answer in turn (after %v).\n", time.Since(begin).Round(time.Millisecond))
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case bounded.Err() != nil:
			return fmt.Errorf("reviews %s did not answer in %v; the last page: %s",
				strings.Join(slices.Sorted(maps.Keys(missing)), ", "), settleTime, last)
		}
	}
}

// settle loads pages until the sign is there. It returns how long that took,
// and how many of the pages it gave up, which takes longer than the change does.
func (t *tour) settle(ctx context.Context, s sign) (took time.Duration, givenUp int, err error) {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	loads, run := 0, 0
	var last *sighting
	stop := t.out.progress(func() string {
		return fmt.Sprintf("waiting for the change to be in force, %v", time.Since(begin).Round(time.Second/10))
	})
	defer stop()
	for ctx.Err() == nil {
		loads++
		last = t.load(ctx, s.user, hurried)
		if last.timedOut {
			givenUp++
		}
		if run++; !s.seen(last) {
			run = 0
		}
		if run == s.run {
			return time.Since(begin), givenUp, nil
		}
	}
	return 0, givenUp, fmt.Errorf("not in force after %v and %d pages; the last one: %s", settleTime, loads, last)
}

// visit loads the pages of a visit, several at the same time.
func (t *tour) visit(ctx context.Context, v visit) (*result, error) {
	r := newResult(v.user, v.loads)
	if r.loads == 0 {
		r.loads = t.pages
	}
	tickets := make(chan struct{}, r.loads)
	for range r.loads {
		tickets <- struct{}{}
	}
	close(tickets)
	var wg sync.WaitGroup
	for range min(visitors, r.loads) {
		wg.Go(func() {
			for range tickets {
				if ctx.Err() != nil {
					return
				}
				r.add(t.load(ctx, v.user, pagePatience))
			}
		})
	}
	stop := t.out.progress(r.underWay)
	wg.Wait()
	stop()
	return r, ctx.Err()
}

// sighting is one page load.
type sighting struct {
	page     page
	took     time.Duration
	status   string // of HTTP
	err      error  // no page came
	timedOut bool   // because patience ended
}

// version is the version of reviews that answered.
func (s *sighting) version() string {
	if s.page.ReviewsServer == nil {
		return ""
	}
	return s.page.ReviewsServer.Version
}

// stars is what the reviews show: a colour, noStars, or ratingsDown and why.
func (s *sighting) stars() string {
	switch {
	case s.page.RatingsError != "":
		return ratingsDown + " (" + s.page.RatingsError + ")"
	case s.page.StarColor == "":
		return noStars
	}
	return s.page.StarColor
}

func (s *sighting) String() string {
	switch {
	case s.err != nil:
		return s.err.Error()
	case s.page.ReviewsError != "":
		return "reviews unavailable (" + s.page.ReviewsError + ")"
	}
	return "reviews " + s.version() + ", " + s.stars()
}

// load loads the page once as user.
func (t *tour) load(ctx context.Context, user string, patience time.Duration) *sighting {
	begin := time.Now()
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s := &sighting{}
	s.err = t.get(bounded, user, s)
	s.took = time.Since(begin)
	var timeout net.Error
	s.timedOut = s.err != nil && ctx.Err() == nil && (errors.Is(s.err, context.DeadlineExceeded) || errors.As(s.err, &timeout) && timeout.Timeout())
	return s
}

func (t *tour) get(ctx context.Context, user string, into *sighting) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.app.pageURL, http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	if user != "" {
		req.AddCookie(cookie(user, 0))
	}
	resp, err := t.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	into.status = resp.Status
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxPage))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP status %s", resp.Status)
	}
	return json.Unmarshal(body, &into.page)
}
