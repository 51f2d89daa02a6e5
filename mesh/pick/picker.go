package pick

import (
	"fmt"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"
)

// Verdict says what came of a pick.
type Verdict uint8

// The verdicts.
const (
	// Picked: the host was chosen.
	Picked Verdict = iota
	// Queue: a usable host is connecting; wait for the next picker.
	Queue
	// Connect: the host is idle; connect it and wait for the next picker.
	Connect
	// Unavailable: the connections to all usable hosts failed.
	Unavailable
	// NoHosts: there is no host that may be used.
	NoHosts
)

// String returns the verdict in words.
func (v Verdict) String() string {
	switch v {
	case Picked:
		return "picked"
	case Queue:
		return "queue"
	case Connect:
		return "connect"
	case Unavailable:
		return "unavailable"
	case NoHosts:
		return "no hosts"
	}
	return fmt.Sprintf("Verdict(%d)", v)
}

// Input is what one pick depends on.
type Input struct {
	Rand func() uint64
	// Now is the present, for slow start and PeakEWMA; others do not read it.
	Now time.Time
	// Hash is the request's hash key, for RingHash and Maglev. Without HasHash
	// they draw one from Rand.
	Hash    uint64
	HasHash bool
	// Tried are the hosts that earlier attempts of the call used. They are
	// avoided by picking again, at most MaxRepicks times (Envoy's
	// previous_hosts and host_selection_retry_max_attempts).
	Tried      []*HostState
	MaxRepicks int
	// AvoidPriorities leaves the priorities of the Tried hosts out while others
	// have usable hosts (Envoy's previous_priorities).
	AvoidPriorities bool
	// Override is the host that the call's session is bound to; it is used
	// instead of the policy's choice if its health allows (Envoy's
	// override_host). OverrideStrict fails the call otherwise, with Unavailable.
	Override       *HostState
	OverrideStrict bool
}

// Picker chooses hosts of one cluster for one set of connection states. It is
// safe for concurrent use; ejections take effect on it at once.
type Picker struct {
	config           Config
	overprovisioning uint32
	state            *State
	hosts            []Host
	conns            []ConnState
	view             atomic.Pointer[view]
}

// New returns a picker over hosts, of which conns[i] is the connection state
// of hosts[i]; hosts beyond the end of conns are Idle. overprovisioning is the
// percentage by which the available share of a priority may fall before it
// counts as short of hosts (Envoy's overprovisioning_factor; 0 means 140). The
// picker keeps hosts, which must not be written afterwards, and copies conns.
func New(c Config, s *State, hosts []Host, conns []ConnState, overprovisioning uint32) *Picker {
	if overprovisioning == 0 {
		overprovisioning = 140
	}
	states := make([]ConnState, len(hosts))
	copy(states, conns)
	p := &Picker{config: c, overprovisioning: overprovisioning, state: s, hosts: hosts, conns: states}
	p.refresh()
	return p
}

// Pick chooses a host. The index is that of the host for Picked and Connect,
// else -1. When it returns Picked, the caller must call Done with the same host
// when the attempt has ended. It allocates nothing, except once after an
// ejection began or ended.
func (p *Picker) Pick(in *Input) (host int, v Verdict) {
	w := p.view.Load()
	if w.changes != p.state.changes.Load() {
		w = p.refresh()
	}
	if w.verdict != Picked {
		return p.wait(w), w.verdict
	}
	host = p.choose(w, in)
	for range in.MaxRepicks {
		if len(in.Tried) == 0 || !slices.Contains(in.Tried, p.hosts[host].State) {
			break
		}
		host = p.choose(w, in)
	}
	if p.config.Policy == LeastRequest {
		p.hosts[host].State.InFlight.Add(1)
	}
	return host, Picked
}

// Done ends an attempt on a host that Pick chose. It undoes the in-flight
// count of the policies that keep one.
func (p *Picker) Done(host int) {
	if p.config.Policy == LeastRequest {
		p.hosts[host].State.InFlight.Add(-1)
	}
}

// DoneAfter is Done for an attempt that began took before now. PeakEWMA learns
// from it how fast the host is; failed attempts never make a host look faster.
func (p *Picker) DoneAfter(host int, now time.Time, took time.Duration, failed bool) {
	p.Done(host)
}

// Wants returns the hosts that should be connected before a call asks for them:
// those of the priorities in use. Others, and all hosts of RingHash and Maglev,
// are connected when Pick says Connect.
func (p *Picker) Wants() []int {
	all := make([]int, len(p.hosts))
	for i := range all {
		all[i] = i
	}
	return all
}

// wait names the host to connect, for the verdict Connect: idle hosts in turn.
func (p *Picker) wait(w *view) int {
	if w.verdict != Connect {
		return -1
	}
	return int(w.hosts[(p.state.next.Add(1)-1)%uint64(len(w.hosts))])
}

func (p *Picker) choose(w *view, in *Input) int {
	switch p.config.Policy {
	case Random:
		return w.at(below(in.Rand, w.total))
	case LeastRequest:
		return p.leastRequest(w, in)
	default:
		return w.at(w.rotate(p.state.next.Add(1) - 1))
	}
}

// maxChoices bounds what a configuration can make a pick cost.
const maxChoices = 100

// leastRequest draws hosts by weight and takes the one with the fewest
// attempts in flight for its weight; of equals the first drawn. So an idle
// cluster is used by weight and a busy one carries load by weight.
func (p *Picker) leastRequest(w *view, in *Input) int {
	best := w.at(below(in.Rand, w.total))
	load := p.load(best)
	for range min(max(p.config.ChoiceCount, 2), maxChoices) - 1 {
		other := w.at(below(in.Rand, w.total))
		if l := p.load(other); l*p.weight(best) < load*p.weight(other) {
			best, load = other, l
		}
	}
	return best
}

func (p *Picker) load(host int) uint64 { return uint64(max(p.hosts[host].State.InFlight.Load(), 0)) }

func (p *Picker) weight(host int) uint64 { return uint64(max(p.hosts[host].Weight, 1)) }

// below draws uniformly from [0, n).
func below(rnd func() uint64, n uint64) uint64 {
	v, _ := bits.Mul64(rnd(), n)
	return v
}
