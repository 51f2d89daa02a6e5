package pick

import (
	"fmt"
	"math/bits"
	"slices"
	"sync/atomic"
	"time"

	"github.com/meshframe/meshframe/mesh/stripe"
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
	// NoHealthy: all hosts are unhealthy or ejected, and there is no panic in which
	// they would be used anyway.
	NoHealthy
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
	case NoHealthy:
		return "no healthy host"
	case NoHosts:
		return "no hosts"
	}
	return fmt.Sprintf("Verdict(%d)", v)
}

// Input is what one pick depends on.
type Input struct {
	Rand func() uint64
	// Place is where the call is counted.
	Place stripe.Place
	// Now is the present, for slow start, PeakEWMA and ClientSideWeightedRoundRobin;
	// others do not read it. Without it there is no slow start, averages do not
	// decay and weights do not change.
	Now time.Time
	// Hash is the request's hash key, for RingHash and Maglev. Without HasHash
	// they draw one from Rand.
	Hash    uint64
	HasHash bool
	// Tried are the hosts that earlier attempts of the call used. They are
	// avoided by picking again, at most MaxRepicks times (Envoy's
	// previous_hosts and host_selection_retry_max_attempts); 0 is not at all.
	Tried      []*HostState
	MaxRepicks int
	// AvoidPriorities is of how many of the Tried hosts, the first ones, the
	// priorities are left out while others have usable hosts (Envoy's
	// previous_priorities).
	AvoidPriorities int
	// Override is the host that the call's session is bound to; it is used
	// instead of the policy's choice if its health allows (Envoy's
	// override_host). OverrideStrict fails the call otherwise, with Unavailable,
	// also if Override is nil because the host is gone.
	Override       *HostState
	OverrideStrict bool

	// Warm is set by Pick, and never cleared, to the number from 1 of a host that
	// should be connected though this call does not wait for it.
	Warm int32
}

// Picker chooses hosts of one cluster for one set of connection states. It is
// safe for concurrent use; ejections take effect on it at once.
type Picker struct {
	config           Config
	overprovisioning uint32
	state            *State
	set              *hostSet
	hosts            []Host
	conns            []ConnState
	counts           bool    // attempts in flight are counted
	meanWeight       float64 // of all hosts, for PeakEWMA
	view             atomic.Pointer[view]
	weighing         atomic.Bool // the weights of ClientSideWeightedRoundRobin are being computed
}

// New returns a picker over hosts, of which conns[i] is the connection state
// of hosts[i]; hosts beyond the end of conns are Idle. overprovisioning is the
// percentage by which the available share of a priority or locality may fall
// before it counts as short of hosts (Envoy's overprovisioning_factor; 0 means
// 140). The picker keeps hosts, which must not be written afterwards, and copies
// conns. What depends on hosts alone, such as rings, is computed once for all
// pickers over the same slice.
func New(c Config, s *State, hosts []Host, conns []ConnState, overprovisioning uint32) *Picker {
	if overprovisioning == 0 {
		overprovisioning = 140
	}
	states := make([]ConnState, len(hosts))
	copy(states, conns)
	p := &Picker{
		config: c, overprovisioning: overprovisioning, state: s, set: s.setOf(&c, hosts), hosts: hosts, conns: states,
		counts: c.Policy == LeastRequest || c.Policy == PeakEWMA,
	}
	for i := range hosts {
		p.meanWeight += float64(weightOf(&hosts[i])) / float64(len(hosts))
	}
	p.refresh()
	return p
}

// hashes reports whether the policy follows the hash of a request.
func (p *Picker) hashes() bool { return p.config.Policy == RingHash || p.config.Policy == Maglev }

// Pick chooses a host. The index is that of the host for Picked and Connect,
// else -1. When it returns Picked, the caller must call Done or DoneAfter with
// the same host when the attempt has ended. It allocates nothing, except once
// for each picker when first needed: after an ejection began or ended, for the
// first session or retry that avoids priorities, where nearly all hosts of a ring
// cannot be used, and whenever Utilization.Update has passed.
func (p *Picker) Pick(in *Input) (host int, v Verdict) {
	w := p.view.Load()
	if w.changes != p.state.changes.Load() {
		w = p.refresh()
	}
	if !w.plain || in.Override != nil || in.OverrideStrict || in.AvoidPriorities > 0 {
		if w, host, v = p.special(w, in); w == nil {
			return host, v
		}
	}
	host = p.choose(w, in)
	for repick := 0; repick < in.MaxRepicks && p.tried(host, in); repick++ {
		host = p.choose(w, in)
	}
	return p.begin(host, Picked)
}

// special is for calls and views with more to them than the policy. It returns
// the view to choose from, or nil and what became of the pick.
func (p *Picker) special(w *view, in *Input) (choose *view, host int, v Verdict) {
	if in.Override != nil || in.OverrideStrict {
		if host, v, ok := p.session(in); ok {
			host, v = p.begin(host, v)
			return nil, host, v
		}
	}
	if p.config.Utilization != nil {
		w = p.weighed(w, in.Now)
	}
	if in.AvoidPriorities > 0 {
		w = p.avoiding(w, in.Tried[:in.AvoidPriorities])
	}
	switch {
	case w.verdict != Picked:
		return nil, p.wait(w, in), w.verdict
	case w.buckets != nil:
		host, v = p.hashed(w, in)
		return nil, host, v
	case w.warm != nil:
		in.Warm = w.nextWarm()
	}
	return w, 0, Picked
}

// tried reports whether the call has tried a host already.
func (p *Picker) tried(host int, in *Input) bool {
	return len(in.Tried) > 0 && slices.Contains(in.Tried, p.hosts[host].State)
}

// begin counts an attempt, if it is one and the policy needs to know.
func (p *Picker) begin(host int, v Verdict) (int, Verdict) {
	if p.counts && v == Picked {
		p.hosts[host].State.InFlight.Add(1)
	}
	return host, v
}

// Done ends an attempt on a host that Pick chose. It undoes the in-flight
// count of the policies that keep one.
func (p *Picker) Done(host int) {
	if p.counts {
		p.hosts[host].State.InFlight.Add(-1)
	}
}

// DoneAfter is Done for an attempt that ended at now and took some time.
// PeakEWMA learns from it how fast the host is; failed attempts never make a
// host look faster.
func (p *Picker) DoneAfter(host int, now time.Time, took time.Duration, failed bool) {
	p.Done(host)
	if p.config.Times() {
		p.hosts[host].State.latency.observe(now.UnixNano(), took, p.config.decay(), failed)
	}
}

// Wants returns the hosts that should be connected before a call asks for them:
// those of the priorities in use and of the ones before them, for RingHash and
// Maglev only those that failed and may come back. Others are connected when
// Pick says Connect or sets Input.Warm. A connection that is up and not wanted
// may stay. It is meant for each new picker; what ejections make necessary later
// comes up in picks.
func (p *Picker) Wants() []int {
	w := p.view.Load()
	if w.changes != p.state.changes.Load() {
		w = p.refresh()
	}
	var wanted []int
	for i := range w.levels {
		for _, host := range p.set.levels[i].hosts {
			switch {
			case p.hashes() && p.conns[host] != Failed:
			case p.hosts[host].Health == Unhealthy && !w.rescue:
			default:
				wanted = append(wanted, int(host))
			}
		}
	}
	return wanted
}

// wait names the host to connect, for the verdict Connect: idle hosts in turn.
func (p *Picker) wait(w *view, in *Input) int {
	if w.verdict != Connect {
		return -1
	}
	return int(p.turn(w.hosts, in))
}

// turn returns the hosts of a list one after the other.
func (p *Picker) turn(hosts []int32, in *Input) int32 {
	return hosts[p.state.next.Next(in.Place)%uint64(len(hosts))]
}

func (p *Picker) choose(w *view, in *Input) int {
	var share uint64
	switch p.config.Policy {
	case LeastRequest:
		return p.leastRequest(w, in)
	case PeakEWMA:
		return p.peak(w, in)
	case Random:
		share = below(in.Rand, w.total)
	default:
		share = w.rotate(p.state.next.Next(in.Place))
	}
	if p.config.SlowStart != nil {
		return p.settle(w, in, share)
	}
	return w.at(share)
}

// below draws uniformly from [0, n).
func below(rnd func() uint64, n uint64) uint64 {
	v, _ := bits.Mul64(rnd(), n)
	return v
}
