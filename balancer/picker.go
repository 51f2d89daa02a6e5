package balancer

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	grpcbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/mesh/stripe"
)

// picker is what gRPC asks for a connection. It is immutable; the counters it
// touches belong to the engine.
type picker struct {
	balancer *meshBalancer
	engine   *mesh.Engine
	snap     *snapshot.Snapshot
	clusters map[*snapshot.ClusterState]*clusterPicker
	few      []named // clusters as a list, if they are few
}

// named is the picker of a cluster.
type named struct {
	cluster *snapshot.ClusterState
	picker  *clusterPicker
}

// mostNamed is how many clusters are found by looking at one after the other.
const mostNamed = 8

func newPicker(b *meshBalancer) *picker {
	p := &picker{balancer: b, engine: b.engine, snap: b.snap, clusters: b.pickers}
	if len(b.pickers) <= mostNamed {
		for c, cp := range b.pickers {
			p.few = append(p.few, named{c, cp})
		}
	}
	return p
}

// of returns the picker of a cluster, or nil.
func (p *picker) of(c *snapshot.ClusterState) *clusterPicker {
	for i := range p.few {
		if p.few[i].cluster == c {
			return p.few[i].picker
		}
	}
	return p.clusters[c]
}

// Pick follows the decision that the call carries. A call without one (made
// around the interceptor) is decided here.
func (p *picker) Pick(info grpcbalancer.PickInfo) (grpcbalancer.PickResult, error) {
	call := mesh.CallFrom(info.Ctx)
	if call == nil {
		return p.pickUndecided(info)
	}
	cp := p.of(call.Decision.Upstream.State)
	if cp == nil {
		// The decision was made on a newer snapshot than this picker's, or on one
		// that this channel never had.
		go p.balancer.adopt(call.Decision.Upstream)
		return grpcbalancer.PickResult{}, grpcbalancer.ErrNoSubConnAvailable
	}
	return cp.pick(call)
}

var errUndecided = errors.New("the call cannot be sent anywhere")

func (p *picker) pickUndecided(info grpcbalancer.PickInfo) (grpcbalancer.PickResult, error) {
	var call mesh.Call
	p.engine.Decide(p.snap, &mesh.Request{Authority: p.snap.Authority, Path: info.FullMethodName, Method: "POST", Scheme: "http", IsGRPC: true}, &call.Decision)
	if call.Decision.Err != nil || call.Decision.Upstream == nil {
		return grpcbalancer.PickResult{}, plain(errors.Join(errUndecided, call.Decision.Err))
	}
	cp := p.of(call.Decision.Upstream.State)
	if cp == nil {
		return grpcbalancer.PickResult{}, grpcbalancer.ErrNoSubConnAvailable
	}
	r, err := cp.pick(&call)
	if call.Pending { // nobody would give the place back
		cp.up.State.Breaker.DonePending()
	}
	return r, err
}

// host is a host of an upstream as seen from one channel.
type host struct {
	sub   grpcbalancer.SubConn        // nil with conn
	conn  *conn                       // of an address with limits; else nil
	done  func(grpcbalancer.DoneInfo) // made once, so that a pick allocates nothing
	owner *snapshot.Upstream          // of an aggregate cluster: the one that the host is of; else nil
}

// connect asks for a connection, which a call waits for or will need.
func (h *host) connect() {
	switch {
	case h.conn != nil:
		h.conn.connect()
	case h.sub != nil:
		h.sub.Connect()
	}
}

// resting are hosts that calls connect again, one each.
type resting struct {
	hosts []int
	next  atomic.Uint32
}

func (r *resting) turn() int { return r.hosts[int(r.next.Add(1)-1)%len(r.hosts)] }

// rest notes a host whose connection rests.
func (p *clusterPicker) rest(i int) {
	if p.resting == nil {
		p.resting = &resting{}
	}
	p.resting.hosts = append(p.resting.hosts, i)
}

// clusterPicker picks among the hosts of one upstream.
type clusterPicker struct {
	engine *mesh.Engine
	up     *snapshot.Upstream
	picker *pick.Picker
	hosts  []host
	timed  bool // picks need the time

	observers *sync.Pool // of the channel
	resting   *resting   // hosts whose connections rest; nil if there are none
	// measures says that the end of each attempt needs its beginning.
	measures bool
	// weighs says that the policy wants to hear what hosts report of their load.
	weighs bool

	errUnavailable, errNoHealthy, errNoHosts error
}

func (p *clusterPicker) setErrors(last error) {
	p.errNoHosts = fmt.Errorf("cluster %q has no endpoints", p.up.Name)
	if p.up.Err != nil {
		p.errNoHosts = plain(fmt.Errorf("cluster %q: %w", p.up.Name, p.up.Err))
	}
	p.errNoHealthy = fmt.Errorf("cluster %q: no healthy endpoint: all %d are unhealthy or ejected, and there is no panic threshold below which they would be used",
		p.up.Name, len(p.up.Hosts))
	p.errUnavailable = fmt.Errorf("cluster %q: no endpoint can be reached", p.up.Name)
	if last != nil {
		p.errUnavailable = plain(fmt.Errorf("cluster %q: no endpoint can be reached; last error: %w", p.up.Name, last))
	}
}

// plain is the text of err. To gRPC an error that wraps a status ends a call, even
// one that would wait for ready.
func plain(err error) error { return errors.New(err.Error()) }

func (p *clusterPicker) pick(call *mesh.Call) (grpcbalancer.PickResult, error) {
	reachedNobody(call) // an attempt before has reached nobody: gRPC makes it once more
	d := &call.Decision
	in := pick.Input{Rand: rand.Uint64, Place: call.Place, Hash: d.Hash, HasHash: d.HasHash}
	if p.timed {
		in.Now = time.Now()
	}
	if len(call.Tried) > 0 || d.Selection != nil {
		p.tie(call, &in)
	}
	i, verdict := p.picker.Pick(&in)
	if in.Warm > 0 {
		p.hosts[in.Warm-1].connect()
	}
	switch {
	case verdict != pick.Picked:
		return p.unpicked(call, i, verdict, in.OverrideStrict)
	case p.resting != nil:
		p.hosts[p.resting.turn()].connect()
	}
	if p.hosts[i].conn != nil {
		return p.pickedLimited(call, i, in.Now)
	}
	return p.picked(call, i, in.Now)
}

// tie tells the pick of the hosts that the call has tried and is bound to.
func (p *clusterPicker) tie(call *mesh.Call, in *pick.Input) {
	d := &call.Decision
	if len(call.Tried) > 0 {
		in.Tried, in.AvoidPriorities = call.Tried, d.Retry.Left(len(call.Tried))
		if d.Retry.AvoidPreviousHosts {
			in.MaxRepicks = int(d.Retry.HostSelectionAttempts)
		}
	}
	if d.Selection != nil && d.Selection.SessionHost != "" {
		in.Override = p.up.Override(d.Selection.SessionHost)
		in.OverrideStrict = d.Session().Strict
	}
}

// unpicked is what becomes of a call that no host was picked for; i is one to
// connect, if the verdict says so.
func (p *clusterPicker) unpicked(call *mesh.Call, i int, verdict pick.Verdict, strict bool) (grpcbalancer.PickResult, error) {
	switch verdict {
	case pick.Connect:
		p.hosts[i].connect()
		return p.queue(call)
	case pick.Queue:
		return p.queue(call)
	case pick.NoHosts:
		return grpcbalancer.PickResult{}, noHost(call, p.errNoHosts)
	case pick.NoHealthy:
		return grpcbalancer.PickResult{}, noHost(call, p.errNoHealthy)
	default:
		call.Last = outcome.OfGRPC(int32(codes.Unavailable))
		call.Last.Conditions |= outcome.ConnectFailure
		if strict {
			return grpcbalancer.PickResult{}, fmt.Errorf("cluster %q: the endpoint of the session, %s, cannot be used, and the session is strict", p.up.Name, call.Decision.Selection.SessionHost)
		}
		return grpcbalancer.PickResult{}, p.errUnavailable
	}
}

// pickedLimited is picked for a host whose connections are limited.
func (p *clusterPicker) pickedLimited(call *mesh.Call, i int, now time.Time) (grpcbalancer.PickResult, error) {
	c := p.hosts[i].conn
	l := c.take()
	if l == nil {
		p.picker.Done(i)
		return p.queue(call)
	}
	r, err := p.picked(call, i, now)
	if err != nil {
		c.undo(l)
		return r, err
	}
	return c.bind(l, r), nil
}

// noHost notes that there is no host to try, which err says.
func noHost(call *mesh.Call, err error) error {
	call.Last = outcome.OfGRPC(int32(codes.Unavailable))
	call.Last.Conditions |= outcome.NoHost
	return err
}

// queue makes the call wait for the next picker, within the cluster's limit of
// pending requests.
func (p *clusterPicker) queue(call *mesh.Call) (grpcbalancer.PickResult, error) {
	if !call.Pending {
		if !p.up.State.Breaker.TryPending(&p.up.Cluster.Limits) {
			return grpcbalancer.PickResult{}, p.overflow(call, "pending requests")
		}
		call.Pending = true
	}
	return grpcbalancer.PickResult{}, grpcbalancer.ErrNoSubConnAvailable
}

func (p *clusterPicker) picked(call *mesh.Call, i int, now time.Time) (grpcbalancer.PickResult, error) {
	if call.Pending {
		call.Pending = false
		p.up.State.Breaker.DonePending()
	}
	if !p.admit(call.Place, i, now) {
		p.picker.Done(i)
		return grpcbalancer.PickResult{}, p.overflow(call, "requests")
	}
	call.Picked, call.PickedHost = p.up, int32(i)
	if call.Attempting != nil {
		call.Attempting.Host.Store(call.Host())
	}
	r := grpcbalancer.PickResult{SubConn: p.hosts[i].sub, Done: p.hosts[i].done}
	switch {
	case p.measures:
		r.Done = p.measurer(call, i, now)
	case call.Observe:
		call.Watch()
		r.Done = p.observer(call, i)
	}
	return r, nil
}

// measurer is the end of an attempt that began at a time that the policy wants to know.
func (p *clusterPicker) measurer(call *mesh.Call, i int, began time.Time) func(grpcbalancer.DoneInfo) {
	call.Watch()
	return func(info grpcbalancer.DoneInfo) {
		p.measure(call, i, began, &info)
		p.observe(call, i, &info)
		call.Unwatch()
	}
}

// admit counts an attempt on host i against the limits of the cluster, and of
// the one that the host is of.
func (p *clusterPicker) admit(at stripe.Place, i int, now time.Time) bool {
	if !p.up.State.Breaker.TryRequest(&p.up.Cluster.Limits, at) {
		return false
	}
	owner := p.hosts[i].owner
	if owner == nil || owner.State.Breaker.TryRequest(&owner.Cluster.Limits, at) {
		p.up.State.Breaker.Began(&p.up.Cluster.Limits, now)
		return true
	}
	p.up.State.Breaker.DoneRequest(&p.up.Cluster.Limits, at)
	return false
}

// observer is the end of one attempt that its call wants to hear of. Observers
// are used again, with the record of the call or by any other: gRPC calls Done once.
type observer struct {
	p    *clusterPicker
	call *mesh.Call // nil while there is no attempt
	i    int
	done func(grpcbalancer.DoneInfo) // of this observer, made once
	kept bool                        // with the record of calls
}

func (p *clusterPicker) observer(call *mesh.Call, i int) func(grpcbalancer.DoneInfo) {
	o, _ := call.Kept.(*observer)
	if o == nil || o.call != nil {
		o = p.newObserver()
		if call.Reused && call.Kept == nil {
			o.kept, call.Kept = true, o
		}
	}
	o.p, o.call, o.i = p, call, i
	return o.done
}

func (p *clusterPicker) newObserver() *observer {
	if o, _ := p.observers.Get().(*observer); o != nil {
		return o
	}
	o := &observer{}
	o.done = func(info grpcbalancer.DoneInfo) {
		p, call, i := o.p, o.call, o.i
		o.p, o.call = nil, nil
		if !o.kept {
			p.observers.Put(o)
		}
		p.picker.Done(i)
		p.observe(call, i, &info)
		call.Unwatch()
	}
	return o
}

// overflow is the error of a call that a circuit breaker refuses. It is a
// status, so that it ends the call even if that would wait for ready.
func (p *clusterPicker) overflow(call *mesh.Call, what string) error {
	call.Last = outcome.Attempt{GRPCStatus: int32(codes.Unavailable), HTTPStatus: 503, LocalOrigin: true, Conditions: outcome.Overflow}
	return status.Errorf(codes.Unavailable, "cluster %q: circuit breaker open: too many %s", p.up.Name, what)
}

// doneFunc is the end of an attempt at host i that no call looks at.
func (p *clusterPicker) doneFunc(i int) func(grpcbalancer.DoneInfo) {
	return func(info grpcbalancer.DoneInfo) {
		p.picker.Done(i)
		p.release(stripe.Here(), i)
		if len(info.Trailer) > 0 {
			p.readReport(i, info.Trailer)
		}
		if p.up.Cluster.Outlier != nil && started(&info) {
			a := attemptOf(&info)
			p.report(i, &a)
		}
	}
}

// observe is the end of an attempt whose call wants to know how it ended.
func (p *clusterPicker) observe(call *mesh.Call, i int, info *grpcbalancer.DoneInfo) {
	p.release(call.Place, i)
	if !started(info) {
		reachedNobody(call)
		return
	}
	call.Pushback = 0
	// To gRPC an attempt was good if the server ended the stream before the
	// request was sent in full. Only the caller gets to see the status.
	if call.Unsettled = info.Err == nil; call.Unsettled {
		call.Last = succeeded
	} else {
		call.Last = attemptOf(info)
	}
	if len(info.Trailer) > 0 {
		p.readReport(i, info.Trailer)
		readTrailer(call, info.Trailer)
	}
	if !call.Unsettled && !reported(call) {
		p.report(i, &call.Last)
	}
}

// reachedNobody notes that an attempt has reached nobody so far: what gRPC said of one
// before, which no server has looked at, is not to be settled by how the call ends.
func reachedNobody(call *mesh.Call) {
	call.Picked, call.Unsettled = nil, false
	if call.Attempting != nil {
		call.Attempting.Host.Store(nil)
	}
}

// measure tells the policy how long an attempt took: a stream until it was answered,
// as far as that is known. One that was given up would have taken longer.
func (p *clusterPicker) measure(call *mesh.Call, i int, began time.Time, info *grpcbalancer.DoneInfo) {
	if !started(info) {
		p.picker.Done(i)
		return
	}
	a, now := attemptOf(info), time.Now()
	if a.Unsent() {
		p.picker.Done(i)
		return
	}
	took, answered := call.Answered(began)
	if !answered {
		took = now.Sub(began)
	}
	p.picker.DoneAfter(i, now, took, a.Failed() || a.LocalOrigin && !answered)
}

// release gives back the attempt's places among the limits.
func (p *clusterPicker) release(at stripe.Place, i int) {
	p.up.State.Breaker.DoneRequest(&p.up.Cluster.Limits, at)
	if owner := p.hosts[i].owner; owner != nil {
		owner.State.Breaker.DoneRequest(&owner.Cluster.Limits, at)
	}
}
