package main

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// ownYAML is the example's own YAML, in files named as Istio's are.
//
//go:embed config/*.yaml
var ownYAML embed.FS

// step is one stop of the tour: YAML to apply, a way to see that it is in
// force, and what calls must then show.
type step struct {
	title string
	why   string // what the step shows, in a sentence or two
	files []source
	// inForce tells from calls that the YAML has reached everybody.
	inForce sign
	visits  []visit
}

// sign is how a step sees that its configuration is in force: run page loads of
// user in succession of which each is as seen says. Under the configuration
// before, that is impossible or less likely than once in 10^14 runs.
type sign struct {
	user string
	run  int
	seen func(*sighting) bool
}

// visit is a number of page loads by one user and what they must show.
type visit struct {
	user  string // "" is nobody
	loads int    // 0 is the tour's sample size
	// share is the part of the loads that each version of reviews must answer.
	// A version that is not named must answer none. Nil: reviews must fail.
	share map[string]float64
	stars string // what the reviews must show: a colour, noStars or ratingsDown
	// atLeast is the least time that each load must take.
	atLeast time.Duration
}

const (
	noStars     = "no stars"
	ratingsDown = "ratings unavailable"

	jason = "jason" // whom Istio's rules know
	// hurried is how long a sign waits for a page that is not held up.
	hurried = time.Second
)

// The sample sizes. pagesPerStep decides how fine the split is measured; where
// a rule leaves no choice, a few loads say as much as many.
const (
	pagesPerStep = 1000
	fewPages     = 50
	slowPages    = 3 // each takes six seconds; they run at the same time
)

// loadSteps reads the YAML of the tour from dir, or the example's own if dir is
// empty. All files that are missing are named at once.
func loadSteps(dir string) ([]step, error) {
	held, err := yamlFiles(dir)
	if err != nil {
		return nil, err
	}
	steps, errs := tourSteps(), []error(nil)
	for i := range steps {
		for j := range steps[i].files {
			f := &steps[i].files[j]
			if f.text, err = fs.ReadFile(held, f.name); err == nil {
				_, err = split(*f)
			}
			if err != nil {
				errs = append(errs, err)
			}
		}
	}
	return steps, errors.Join(errs...)
}

// yamlFiles returns the directory that holds the files of the tour.
func yamlFiles(dir string) (fs.FS, error) {
	if dir == "" {
		return fs.Sub(ownYAML, "config")
	}
	if _, err := os.ReadDir(dir); err != nil {
		return nil, fmt.Errorf("-config: %w", err)
	}
	for _, below := range []string{"", "networking", "bookinfo/networking"} {
		d := os.DirFS(filepath.Join(dir, filepath.FromSlash(below)))
		if found, err := fs.Glob(d, "*.yaml"); err == nil && len(found) > 0 {
			return d, nil
		}
	}
	return nil, fmt.Errorf("-config %s: no *.yaml in it, in its networking or in its bookinfo/networking", dir)
}

func files(names ...string) []source {
	out := make([]source, len(names))
	for i, n := range names {
		out[i].name = n
	}
	return out
}

// only says that one version of reviews answers every load.
func only(version string) map[string]float64 { return map[string]float64{version: 1} }

func tourSteps() []step {
	return []step{
		{
			title:   "all v1",
			why:     "Every service is pinned to v1. reviews v1 shows no stars.",
			files:   files("destination-rule-all.yaml", "virtual-service-all-v1.yaml"),
			inForce: sign{run: 30, seen: reviewsBy("v1")}, // round robin over three versions before
			visits:  []visit{{share: only("v1"), stars: noStars}},
		},
		{
			title:   "reviews: half v1, half v3",
			why:     "Traffic shifts by weight, whoever asks.",
			files:   files("virtual-service-reviews-50-v3.yaml"),
			inForce: sign{run: 1, seen: reviewsBy("v3")},
			visits:  []visit{{share: map[string]float64{"v1": 0.5, "v3": 0.5}}},
		},
		{
			title:   "reviews: 90 % v1, 10 % v2",
			why:     "A canary takes a tenth; v3 gets nothing any more.",
			files:   files("virtual-service-reviews-90-10.yaml"),
			inForce: sign{run: 1, seen: reviewsBy("v2")},
			visits:  []visit{{share: map[string]float64{"v1": 0.9, "v2": 0.1}}},
		},
		{
			title:   "reviews: jason sees v2",
			why:     "A header decides. productpage and reviews pass end-user on, and everybody else stays on v1.",
			files:   files("virtual-service-reviews-test-v2.yaml"),
			inForce: sign{user: jason, run: 30, seen: reviewsBy("v2")}, // one in ten before
			visits: []visit{
				{user: jason, loads: fewPages, share: only("v2"), stars: black},
				{loads: fewPages, share: only("v1"), stars: noStars},
			},
		},
		{
			title: "ratings: 7 s delay for jason",
			why: "A fault finds a bug: reviews v2 would wait 10 s for ratings, but productpage gives reviews only 3 s, twice. " +
				"So jason loses all reviews after 6 s. Nobody else notices.",
			files:   files("virtual-service-ratings-test-delay.yaml"),
			inForce: sign{user: jason, run: 2, seen: heldUp}, // twice: a slow machine may hold one up
			visits: []visit{
				{user: jason, loads: slowPages, atLeast: reviewAttempts * callTimeout},
				{loads: fewPages, share: only("v1"), stars: noStars},
			},
		},
		{
			title:   "ratings: HTTP 500 for jason",
			why:     "An abort in place of the delay: the reviews are there at once, without stars.",
			files:   files("virtual-service-ratings-test-abort.yaml"),
			inForce: sign{user: jason, run: 1, seen: showing(ratingsDown)},
			visits: []visit{
				{user: jason, loads: fewPages, share: only("v2"), stars: ratingsDown},
				{loads: fewPages, share: only("v1"), stars: noStars},
			},
		},
		{
			title:   "reviews: all v3",
			why:     "The new version takes over for everybody, with red stars. The fault for jason on the way to ratings is still in force.",
			files:   files("virtual-service-reviews-v3.yaml"),
			inForce: sign{run: 1, seen: reviewsBy("v3")},
			visits: []visit{
				{share: only("v3"), stars: red},
				{user: jason, loads: fewPages, share: only("v3"), stars: ratingsDown},
			},
		},
	}
}

func reviewsBy(version string) func(*sighting) bool {
	return func(s *sighting) bool { return s.err == nil && s.version() == version }
}

func showing(stars string) func(*sighting) bool {
	return func(s *sighting) bool { return s.err == nil && strings.HasPrefix(s.stars(), stars) }
}

// heldUp reports that a hurried visitor went away without a page.
func heldUp(s *sighting) bool { return s.timedOut }

// shares counts the statements of all steps that are left to chance; each gets
// its part of the error budget.
func shares(steps []step) int {
	n := 0
	for i := range steps {
		for _, v := range steps[i].visits {
			for _, p := range v.share {
				if p < 1 {
					n++
				}
			}
		}
	}
	return n
}
