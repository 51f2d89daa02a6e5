package main

import (
	"math"
	"testing"
)

func TestBoundsKeepTheirPromise(t *testing.T) {
	for _, n := range []int{1, 10, 100, 1000} {
		for _, p := range []float64{0.001, 0.1, 0.5, 0.9} {
			for _, risk := range []float64{1e-2, 1e-6, 2.5e-7} {
				low, high := bounds(n, p, risk)
				inside, outside := 0.0, 0.0
				for k := range n + 1 {
					if low <= k && k <= high {
						inside += binomial(n, k, p)
					} else {
						outside += binomial(n, k, p)
					}
				}
				if math.Abs(inside+outside-1) > 1e-9 {
					t.Errorf("n %d, p %v: probabilities add up to %v", n, p, inside+outside)
				}
				if outside >= risk {
					t.Errorf("n %d, p %v, risk %v: %d to %d leaves %v outside", n, p, risk, low, high, outside)
				}
				if narrower := outside + binomial(n, low, p) + binomial(n, high, p); low < high && narrower < risk/2 {
					t.Errorf("n %d, p %v, risk %v: %d to %d could be narrower", n, p, risk, low, high)
				}
			}
		}
	}
}

func TestBoundsOfCertainty(t *testing.T) {
	if low, high := bounds(50, 1, 1e-6); low != 50 || high != 50 {
		t.Errorf("p 1: %d to %d", low, high)
	}
	if low, high := bounds(50, 0, 1e-6); low != 0 || high != 0 {
		t.Errorf("p 0: %d to %d", low, high)
	}
}

// The sample is large enough to tell the steps of the tour from each other.
func TestSampleTellsSplitsApart(t *testing.T) {
	risk := errorBudget / float64(shares(tourSteps()))
	_, tenth := bounds(pagesPerStep, 0.1, risk)
	half, _ := bounds(pagesPerStep, 0.5, risk)
	third, _ := bounds(pagesPerStep, 1.0/3, risk)
	if tenth >= half || tenth >= third {
		t.Errorf("a tenth reaches up to %d, a third down to %d, a half down to %d", tenth, third, half)
	}
}
