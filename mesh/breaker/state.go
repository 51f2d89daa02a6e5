package breaker

import (
	"sync/atomic"
	"time"

	"github.com/meshframe/meshframe/mesh/stripe"
)

// State counts what a cluster has in use. It holds its limits exactly: however
// many goroutines try at once, never more than the limit are admitted, and none
// is refused while there is room. The zero State is empty and ready; it must
// not be copied. All methods are safe for concurrent use and take no lock.
//
// Limits come with each call and not with the State, because the State outlives
// the configuration: a limit that shrinks below what is in use refuses until
// enough has ended.
type State struct {
	requests, pending, retries, connections gauge

	unlimited stripe.Gauge // attempts that no limit was for
	begun     recent       // attempts, where the budget has an interval
}

// TryConnection admits one connection unless Limits.MaxConnections are open. If
// it returns true the caller must call DoneConnection when the connection takes
// no more requests and the last has ended.
func (s *State) TryConnection(l *Limits) bool { return s.connections.try(l.MaxConnections) }

// AddConnection counts a connection that no limit refuses: the first to an
// endpoint. The caller must call DoneConnection as for TryConnection.
func (s *State) AddConnection() { s.connections.try(Unlimited) }

// DoneConnection ends what TryConnection admitted or AddConnection counted.
func (s *State) DoneConnection() { s.connections.done() }

// TryRequest admits one attempt unless Limits.MaxRequests are active; where they are
// Unlimited, it is counted at a place of its own. If it
// returns true the caller must call DoneRequest with the same limits when the
// attempt has ended.
func (s *State) TryRequest(l *Limits, at stripe.Place) bool {
	if l.MaxRequests == Unlimited {
		s.unlimited.Begin(at)
		return true
	}
	return s.requests.tryBeside(&s.unlimited, l.MaxRequests)
}

// Began notes at what time an attempt began that TryRequest admitted. Only
// budgets with an interval ask for it.
func (s *State) Began(l *Limits, now time.Time) {
	if l.BudgetInterval > 0 {
		s.begun.add(l.BudgetInterval, now)
	}
}

// DoneRequest ends what TryRequest admitted.
func (s *State) DoneRequest(l *Limits, at stripe.Place) {
	if l.MaxRequests == Unlimited {
		s.unlimited.End(at)
		return
	}
	s.requests.done()
}

// TryPending admits one attempt to wait for a connection unless
// Limits.MaxPendingRequests wait. If it returns true the caller must call
// DonePending when the attempt has a connection or gives up.
func (s *State) TryPending(l *Limits) bool { return s.pending.try(l.MaxPendingRequests) }

// DonePending ends what TryPending admitted.
func (s *State) DonePending() { s.pending.done() }

// TryRetry admits one retry unless Limits.MaxRetries are active, or as many as
// the budget admits at now. If it returns true the caller must call DoneRetry
// when the retry has ended.
func (s *State) TryRetry(l *Limits, now time.Time) bool {
	if !l.HasBudget {
		return s.retries.try(l.MaxRetries)
	}
	return s.retries.try(s.budget(l, now))
}

// budget is how many retries may be active now.
func (s *State) budget(l *Limits, now time.Time) uint32 {
	attempts := s.Requests() + s.Pending()
	if l.BudgetInterval > 0 {
		attempts = s.begun.count(l.BudgetInterval, now)
	}
	share := l.BudgetPercent / 100 * float64(attempts)
	return uint32(min(max(share, float64(l.MinRetries)), Unlimited-1))
}

// DoneRetry ends what TryRetry admitted.
func (s *State) DoneRetry() { s.retries.done() }

// Requests is the number of active attempts.
func (s *State) Requests() int64 { return s.requests.n.Load() + s.unlimited.Load() }

// Pending is the number of attempts that wait for a connection.
func (s *State) Pending() int64 { return s.pending.n.Load() }

// Retries is the number of active retries.
func (s *State) Retries() int64 { return s.retries.n.Load() }

// Connections is the number of open connections, as far as they are counted.
func (s *State) Connections() int64 { return s.connections.n.Load() }

// gauge is a counter with an upper bound.
type gauge struct{ n atomic.Int64 }

// try adds one unless that would pass the limit. It compares and swaps rather
// than add and take back: a refused addition would refuse others in the moment
// it is counted.
func (g *gauge) try(limit uint32) bool {
	if limit == Unlimited {
		g.n.Add(1)
		return true
	}
	return g.add(int64(limit))
}

// tryBeside is try where what others have begun without a limit counts, too. It
// is what came before there was a limit, and becomes less.
func (g *gauge) tryBeside(others *stripe.Gauge, limit uint32) bool {
	return g.add(int64(limit) - others.Load())
}

func (g *gauge) add(limit int64) bool {
	for {
		n := g.n.Load()
		if n >= limit {
			return false
		}
		if g.n.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (g *gauge) done() { g.n.Add(-1) }
