package pick

import (
	"math"
	"testing"
)

// TestActiveRequestBias holds the shares of two hosts, of which the second has
// three attempts in flight, when two are drawn.
func TestActiveRequestBias(t *testing.T) {
	for _, test := range []struct {
		weights []uint32
		bias    float64
		want    float64 // share of the first
	}{
		{[]uint32{1, 1}, 0, 0.5},
		{[]uint32{3, 1}, 0, 0.75},
		{[]uint32{3, 1}, -1, 0.75},
		{[]uint32{3, 1}, math.NaN(), 0.75},
		{[]uint32{1, 1}, 0.5, 0.25 + 0.5*1/(1+0.5)},
		{[]uint32{1, 1}, 2, 0.25 + 0.5*1/(1+1.0/16)},
		{[]uint32{1, 3}, 0.5, 1.0/16 + 6.0/16*1/(1+0.5)},
		{[]uint32{1, 1}, 1, 0.75}, // the default: the less busy of two
	} {
		hosts, conns := hostsOf(test.weights...)
		hosts[1].State.InFlight.Store(3)
		p := New(Config{Policy: LeastRequest, HasActiveRequestBias: true, ActiveRequestBias: test.bias}, &State{}, hosts, conns, 0)
		const n = 60_000
		got := counts(t, p, &Input{Rand: seeded(71).Uint64}, 2, n)
		// Tolerance: five standard deviations of the binomial.
		if math.Abs(float64(got[0])-n*test.want) > 5*math.Sqrt(n*test.want*(1-test.want)) {
			t.Errorf("weights %v, bias %v: picked %v, want a share of %.3f", test.weights, test.bias, got, test.want)
		}
	}
}
