package main

import "math"

// errorBudget is the probability with which a mesh that splits traffic exactly
// as asked may fail a whole run of the tour by bad luck.
const errorBudget = 1e-6

// bounds returns the counts that are accepted of n independent draws of
// probability p: the narrowest range that leaves less than risk/2 on either
// side.
func bounds(n int, p, risk float64) (low, high int) {
	low, high = 0, n
	for tail := 0.0; low < n; low++ {
		if tail += binomial(n, low, p); tail >= risk/2 {
			break
		}
	}
	for tail := 0.0; high > 0; high-- {
		if tail += binomial(n, high, p); tail >= risk/2 {
			break
		}
	}
	return low, high
}

// binomial is the probability of k successes in n draws.
func binomial(n, k int, p float64) float64 {
	switch {
	case p <= 0:
		return oneIf(k == 0)
	case p >= 1:
		return oneIf(k == n)
	}
	return math.Exp(logFactorial(n) - logFactorial(k) - logFactorial(n-k) + float64(k)*math.Log(p) + float64(n-k)*math.Log1p(-p))
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func logFactorial(n int) float64 {
	l, _ := math.Lgamma(float64(n) + 1)
	return l
}
