package snapshot

import (
	"fmt"
	"time"

	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/pick"
)

// Upstream is a cluster with its endpoints, as one target sees it. An Upstream
// is immutable but for the live state it points to; a cluster of which nothing
// changed keeps its Upstream from one snapshot to the next.
type Upstream struct {
	Name string
	// Cluster is the configuration in force; nil if there never was a good one.
	Cluster *Cluster
	Hosts   []Host
	State   *ClusterState // never nil
	// Err is why calls that draw the cluster fail: it does not exist, or it was
	// refused and has no last good version.
	Err error

	assignment *ClusterLoadAssignment // in force
	picking    []pick.Host            // parallel to Hosts
	input      upstreamInput
}

// Host is one endpoint of an Upstream.
type Host struct {
	Address  string
	Hostname string
	Weight   uint32
	Priority uint32
	Health   Health
	Locality Locality
	State    *HostState
}

// upstreamInput is what an Upstream was built from.
type upstreamInput struct {
	cluster    *Cluster
	assignment *ClusterLoadAssignment
	missing    string
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

// Report tells outlier detection how an attempt on Hosts[host] ended.
func (u *Upstream) Report(host int, a *outcome.Attempt, now time.Time) {
	if u.Cluster == nil || u.Cluster.Outlier == nil || host < 0 || host >= len(u.Hosts) {
		return
	}
	u.State.detector.Report(&u.Hosts[host].State.outlier, a, now)
}

// newUpstream builds the upstream of a cluster, or returns prev if its inputs
// are the same. What was refused is replaced by what prev has in force.
func newUpstream(prev *Upstream, name string, u *Update) *Upstream {
	in := upstreamInput{cluster: u.Clusters[name], assignment: u.Endpoints[name]}
	if err := u.Missing[name]; err != nil {
		in.missing = err.Error()
	}
	if prev != nil && prev.input == in {
		return prev
	}
	up := &Upstream{Name: name, input: in}
	up.Cluster, up.Err = chooseCluster(prev, in.cluster, u.Missing[name])
	if up.Err != nil {
		return up
	}
	up.assignment, up.Err = chooseAssignment(prev, up.Cluster, in.assignment, u.Missing[name])
	if up.Err != nil {
		return up
	}
	up.setHosts()
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
				Address: e.Address, Hostname: e.Hostname, Weight: max(e.Weight, 1),
				Priority: l.Priority, Health: e.Health, Locality: l.Locality,
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
		u.picking[i] = pick.Host{Weight: h.Weight, Priority: h.Priority, Health: h.Health, State: &h.State.HostState}
	}
}
