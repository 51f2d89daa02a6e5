package snapshot

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/pick"
)

// Upstream is a cluster with its endpoints, as one target sees it. An Upstream
// is immutable but for the live state it points to; a cluster of which nothing
// changed keeps its Upstream from one snapshot to the next.
type Upstream struct {
	Name string
	// Cluster is the configuration in force; nil if there never was a good one.
	// That of an aggregate cluster has the load balancing and outlier detection
	// of its members, unless it has its own.
	Cluster *Cluster
	Hosts   []Host
	State   *ClusterState // never nil
	// Gate is the breaker by error ratio; nil means that there is none.
	Gate *breaker.Gate
	// Err is why calls that draw the cluster fail: it does not exist, or it was
	// refused and has no last good version.
	Err error

	assignment *ClusterLoadAssignment // in force
	picking    []pick.Host            // parallel to Hosts
	owners     []*Upstream            // parallel to Hosts; only for aggregate clusters
	byAddress  func() map[string]int  // index in Hosts, made for the first session
	hashes     bool                   // the policy chooses hosts by hash
	input      upstreamInput
}

// Host is one endpoint of an Upstream.
type Host struct {
	Address        string
	Hostname       string
	HashKey        string // hashed in place of the address; may be empty
	Weight         uint32
	Priority       uint32
	Health         Health
	Locality       Locality
	LocalityWeight uint32 // 0: no calls where localities are weighted
	State          *HostState
}

// upstreamInput is what an Upstream was built from.
type upstreamInput struct {
	cluster    *Cluster
	assignment *ClusterLoadAssignment
	missing    string
	members    []*Upstream // of an aggregate cluster
}

func (in *upstreamInput) equal(o *upstreamInput) bool {
	return in.cluster == o.cluster && in.assignment == o.assignment && in.missing == o.missing &&
		slices.Equal(in.members, o.members)
}

// Selects reports whether every call to the cluster needs more than its draw: a
// hash, or the host that a session of the cluster is bound to.
func (u *Upstream) Selects() bool {
	return u.hashes || u.Cluster != nil && u.Cluster.Session != nil
}

// Hashes reports whether the cluster's policy chooses hosts by hash.
func (u *Upstream) Hashes() bool { return u.hashes }

// Owner returns the cluster that Hosts[host] is of: u itself, or for an
// aggregate cluster the one behind it. Limits of the owner hold for attempts on
// the host too.
func (u *Upstream) Owner(host int) *Upstream {
	if u.owners == nil {
		return u
	}
	return u.owners[host]
}

// IndexOf is the index of a host among Hosts, -1 if it is none of them.
func (u *Upstream) IndexOf(h *pick.HostState) int {
	return slices.IndexFunc(u.picking, func(p pick.Host) bool { return p.State == h })
}

// NewPicker returns a picker over the upstream's hosts; conns[i] is the
// connection state of Hosts[i]. The picker goes on where the cluster's previous
// one stopped.
func (u *Upstream) NewPicker(conns []pick.ConnState) *pick.Picker {
	var config pick.Config
	if u.Cluster != nil {
		config = u.Cluster.LB
	}
	var overprovisioning uint32
	if u.assignment != nil {
		overprovisioning = u.assignment.OverprovisioningFactor
	}
	return pick.New(config, &u.State.rotation, u.picking, conns, overprovisioning)
}

// judges reports whether outlier detection wants to know of Hosts[host].
func (u *Upstream) judges(host int) bool {
	return u.Cluster != nil && u.Cluster.Outlier != nil && host >= 0 && host < len(u.Hosts)
}

// Report tells outlier detection how an attempt on Hosts[host] ended.
func (u *Upstream) Report(host int, a *outcome.Attempt, now time.Time) {
	if u.judges(host) {
		u.Owner(host).State.detector.Report(&u.Hosts[host].State.outlier, a, now)
	}
}

// ReportGood is Report for an attempt that the server answered with OK.
func (u *Upstream) ReportGood(host int) {
	if u.judges(host) {
		u.Owner(host).State.detector.ReportGood(&u.Hosts[host].State.outlier)
	}
}

// upstreamBuilder builds the upstreams of one snapshot, each once.
type upstreamBuilder struct {
	update *Update
	states *States
	last   map[string]*Upstream // of the previous snapshot
	built  map[string]*Upstream // nil while it is being built
	depth  int                  // of aggregate clusters behind each other
}

// build returns the upstream of a cluster, attached to its live state; nil if
// it is being built.
func (b *upstreamBuilder) build(name string) *Upstream {
	if up, ok := b.built[name]; ok {
		return up
	}
	b.built[name] = nil
	up := b.newUpstream(name)
	if up != b.last[name] {
		up.attach(b.states)
	}
	b.built[name] = up
	return up
}

// newUpstream makes the upstream of a cluster, or returns the previous one if
// its inputs are the same. What was refused is replaced by what that has in
// force.
func (b *upstreamBuilder) newUpstream(name string) *Upstream {
	prev, missing := b.last[name], b.update.Missing[name]
	in := upstreamInput{cluster: b.update.Clusters[name], assignment: b.update.Endpoints[name]}
	if missing != nil {
		in.missing = missing.Error()
	}
	up := &Upstream{Name: name}
	up.Cluster, up.Err = chooseCluster(prev, in.cluster, missing)
	members, err := b.members(up.Cluster)
	in.members = members
	if prev != nil && prev.input.equal(&in) {
		return prev
	}
	up.input = in
	switch {
	case up.Err != nil:
	case err != nil:
		up.Err = err
	case up.Cluster.Discovery == Aggregate:
		up.Cluster = up.Cluster.inherit(members)
		up.Err = up.setMembers()
	default:
		if up.assignment, up.Err = chooseAssignment(prev, up.Cluster, in.assignment, missing); up.Err == nil {
			up.setHosts()
		}
	}
	return up
}

func chooseCluster(prev *Upstream, c *Cluster, missing error) (*Cluster, error) {
	switch {
	case c == nil && missing != nil:
		return nil, missing
	case c == nil:
		return nil, errNoCluster
	case c.Refused == nil:
		return c, nil
	case prev != nil && prev.Cluster != nil && !denied(c.Refused):
		return prev.Cluster, nil
	}
	return nil, refusal(c.Refused)
}

func chooseAssignment(prev *Upstream, c *Cluster, a *ClusterLoadAssignment, missing error) (*ClusterLoadAssignment, error) {
	if a == nil && c.Discovery != Static {
		return nil, missing // nil if they have not arrived: no hosts yet
	}
	if a == nil {
		a = c.Assignment
	}
	switch {
	case a == nil || a.Refused == nil:
		return a, nil
	case prev != nil && prev.assignment != nil && !denied(a.Refused):
		return prev.assignment, nil
	}
	return nil, fmt.Errorf("endpoints: %w", refusal(a.Refused))
}

func (u *Upstream) setHosts() {
	if u.assignment == nil {
		return
	}
	for i := range u.assignment.Localities {
		l := &u.assignment.Localities[i]
		for j := range l.Endpoints {
			e := &l.Endpoints[j]
			u.Hosts = append(u.Hosts, Host{
				Address: e.Address, Hostname: e.Hostname, HashKey: e.HashKey,
				Weight: max(e.Weight, 1), Priority: l.Priority, Health: e.Health, Locality: l.Locality, LocalityWeight: l.Weight,
			})
		}
	}
}

// attach connects the upstream to the live state.
func (u *Upstream) attach(states *States) {
	states.retain(u)
	u.picking = make([]pick.Host, len(u.Hosts))
	for i := range u.Hosts {
		h := &u.Hosts[i]
		u.picking[i] = pick.Host{
			Address: h.Address, Hostname: h.Hostname, HashKey: h.HashKey,
			Locality: h.Locality.key(), LocalityWeight: h.LocalityWeight,
			Weight: h.Weight, Priority: h.Priority, Health: h.Health, State: &h.State.HostState,
		}
	}
	u.byAddress = sync.OnceValue(u.index)
	if u.Cluster != nil {
		u.hashes = u.Cluster.LB.Policy == pick.RingHash || u.Cluster.LB.Policy == pick.Maglev
	}
}

// key is the locality as one string; the parts of different ones differ.
func (l *Locality) key() string {
	if *l == (Locality{}) {
		return ""
	}
	return l.Region + "\x00" + l.Zone + "\x00" + l.SubZone
}
