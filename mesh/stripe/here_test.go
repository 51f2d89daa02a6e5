//go:build !race

package stripe

import (
	"runtime"
	"testing"
)

// TestHere holds that a processor stays where it is, at no cost. (With the race
// detector, a sync.Pool loses some of what it is given.)
func TestHere(t *testing.T) {
	var g Gauge
	g.meet()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if a, b := Here(), Here(); a != b {
		t.Errorf("one processor is at %d, then at %d", a, b)
	}
	if n := testing.AllocsPerRun(100, func() { g.Begin(Here()) }); n != 0 {
		t.Errorf("counting allocates %v times", n)
	}
}
