package breaker

import (
	"cmp"
	"errors"
	"time"

	"github.com/sony/gobreaker/v2"
)

// ErrOpen is why a Gate refuses a call.
var ErrOpen = errors.New("the circuit breaker is open")

// Gate is the breaker that a HalfOpen configures. It is safe for concurrent use;
// it reads the clock and takes a lock for each call, so only clusters that ask
// for one have it.
type Gate struct {
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
}

// windowParts is how many parts the window of a gate slides by.
const windowParts = 10

// NewGate returns a closed gate.
func NewGate(c *HalfOpen) *Gate {
	volume := cmp.Or(c.MinVolume, 10)
	percent := cmp.Or(c.ErrorPercent, 10)
	window := cmp.Or(c.Window, 10*time.Second)
	return &Gate{gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: cmp.Or(c.Probes, 3), Interval: window, BucketPeriod: max(window/windowParts, 1),
		Timeout: cmp.Or(c.OpenFor, 10*time.Second),
		ReadyToTrip: func(n gobreaker.Counts) bool {
			ended := n.TotalSuccesses + n.TotalFailures
			return ended >= volume && float64(n.TotalFailures)*100 >= percent*float64(ended)
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errAbandoned) },
	})}
}

var (
	errFailed    = errors.New("failed")
	errAbandoned = errors.New("abandoned")
)

// Allow admits a call, or fails with ErrOpen. A permit must be given back by
// Done or Abandon when the call has ended.
func (g *Gate) Allow() (Permit, error) {
	done, err := g.breaker.Allow()
	if err != nil {
		return Permit{}, ErrOpen
	}
	return Permit{done}, nil
}

// Open reports whether the gate refuses calls, or admits probes only.
func (g *Gate) Open() bool { return g.breaker.State() != gobreaker.StateClosed }

// Permit is what a Gate admitted a call with. The zero Permit is that of a
// cluster without a gate.
type Permit struct{ done func(error) }

// Done tells how the call ended.
func (p Permit) Done(success bool) {
	switch {
	case p.done == nil:
	case success:
		p.done(nil)
	default:
		p.done(errFailed)
	}
}

// Abandon is Done for a call that its caller gave up: it says nothing about the
// cluster.
func (p Permit) Abandon() {
	if p.done != nil {
		p.done(errAbandoned)
	}
}
