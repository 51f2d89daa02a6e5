package breaker

import (
	"cmp"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// ErrOpen is why a Gate refuses a call.
var ErrOpen = errors.New("the circuit breaker is open")

// Gate is the breaker that a HalfOpen configures. It is safe for concurrent use;
// it reads the clock, that of the library that it is built on, and takes a lock for
// each call, so only clusters that ask for one have it.
type Gate struct {
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	phase   atomic.Pointer[phase]
	openFor time.Duration
	long    time.Duration // the breaker does not hear of calls that took longer

	mu     sync.Mutex
	probes []*probe // under way
}

// phase is the time from one change of a gate's state to the next.
type phase struct{ closed bool }

// probe is a call that a gate has let through in order to learn from it.
type probe struct {
	began time.Time
	done  func(error)
}

// windowParts is how many parts the window of a gate slides by.
const windowParts = 10

// NewGate returns a closed gate.
func NewGate(c *HalfOpen) *Gate {
	volume := cmp.Or(c.MinVolume, 10)
	percent := cmp.Or(c.ErrorPercent, 10)
	window := cmp.Or(c.Window, 10*time.Second)
	part := max(window/windowParts, 1)
	g := &Gate{openFor: cmp.Or(c.OpenFor, 10*time.Second), long: window - part}
	g.phase.Store(&phase{closed: true})
	g.breaker = gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests: cmp.Or(c.Probes, 3), Interval: window, BucketPeriod: part, Timeout: g.openFor,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			ended := n.TotalSuccesses + n.TotalFailures
			return ended >= volume && float64(n.TotalFailures)*100 >= percent*float64(ended)
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errAbandoned) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			g.phase.Store(&phase{closed: to == gobreaker.StateClosed})
		},
	})
	return g
}

var (
	errFailed    = errors.New("failed")
	errAbandoned = errors.New("abandoned")
)

// Allow admits a call, or fails with ErrOpen. A permit must be given back by
// Done or Abandon when the call has ended.
func (g *Gate) Allow(now time.Time) (Permit, error) {
	done, err := g.breaker.Allow()
	if errors.Is(err, gobreaker.ErrTooManyRequests) && g.giveUp(now.Add(-g.openFor)) {
		done, err = g.breaker.Allow()
	}
	if err != nil {
		return Permit{}, ErrOpen
	}
	p := Permit{gate: g, phase: g.phase.Load(), began: now, done: done}
	if !p.phase.closed {
		p.probe = &probe{now, done}
		g.mu.Lock()
		g.probes = append(g.probes, p.probe)
		g.mu.Unlock()
	}
	return p, nil
}

// giveUp takes their places from the probes that began before a time and have not
// ended, and reports whether there were any. How they end is of no interest then.
func (g *Gate) giveUp(before time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := len(g.probes)
	g.probes = slices.DeleteFunc(g.probes, func(p *probe) bool {
		late := p.began.Before(before)
		if late {
			p.done(errAbandoned)
		}
		return late
	})
	return len(g.probes) < n
}

// probed tells how a probe ended, once.
func (g *Gate) probed(p *probe, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.probes, p); i >= 0 {
		g.probes = slices.Delete(g.probes, i, i+1)
		p.done(err)
	}
}

// count counts a call that began in a phase and ends now.
func (g *Gate) count(began *phase, err error) {
	if g.phase.Load() != began {
		return
	}
	if done, refused := g.breaker.Allow(); refused == nil {
		done(err)
	}
}

// Open reports whether the gate refuses calls, or admits probes only.
func (g *Gate) Open() bool { return g.breaker.State() != gobreaker.StateClosed }

// Permit is what a Gate admitted a call with. The zero Permit is that of a
// cluster without a gate.
type Permit struct {
	gate  *Gate
	phase *phase // in which the call began
	began time.Time
	done  func(error)
	probe *probe // nil: the gate was closed
}

// Done tells how the call ended, at now.
func (p Permit) Done(success bool, now time.Time) {
	var err error
	if !success {
		err = errFailed
	}
	switch {
	case p.gate == nil:
	case p.probe != nil:
		p.gate.probed(p.probe, err)
	case now.Sub(p.began) > p.gate.long:
		p.gate.count(p.phase, err)
	default:
		p.done(err)
	}
}

// Probe reports whether the gate waits to hear of the call, to decide by it.
func (p Permit) Probe() bool { return p.probe != nil }

// Answered tells that a server has answered a call which may go on for long. As a
// probe that has succeeded; else how it ends counts.
func (p Permit) Answered() {
	if p.probe != nil {
		p.gate.probed(p.probe, nil)
	}
}

// Abandon is Done for a call that its caller gave up: it says nothing about the
// cluster.
func (p Permit) Abandon() {
	switch {
	case p.gate == nil:
	case p.probe != nil:
		p.gate.probed(p.probe, errAbandoned)
	default:
		p.done(errAbandoned)
	}
}
