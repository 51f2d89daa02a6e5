package srvframe

import (
	"cmp"
	"slices"

	"github.com/meshframe/meshframe/resolver/xdsclient"
)

// Default returns the mesh that the environment names, which NewClient and
// NewServer of this package use, and joins it if nothing has yet. It returns
// ErrNoMesh where the environment names none. It is safe for concurrent use, and
// nobody's to close.
func Default() (*Mesh, error) {
	m, ok, err := environment.join()
	switch {
	case err != nil:
		return nil, err
	case !ok:
		return nil, ErrNoMesh
	}
	return m, nil
}

// Status is a copy of the state of a mesh, for debug pages, metrics and tests.
type Status struct {
	// Clients are the clients of the control planes: what they are connected to,
	// since when, and what each resource is worth, such as whether it is a saved
	// copy. The first is that of the process, and of all targets where there is one
	// control plane; with several each target that is in use has its own.
	Clients []ClientStatus
	// Clusters are those that some target in use may send calls to, by name.
	Clusters []ClusterStatus
}

// ClientStatus is the state of one client of the control planes.
type ClientStatus struct {
	// Target is the target that the client is for; "" for the first.
	Target string
	xdsclient.Status
}

// ClusterStatus is the live state of one cluster, over all clients of the mesh.
// The names in brackets are those of Envoy's statistics.
type ClusterStatus struct {
	// Name is the cluster's, such as "outbound|9080|v1|reviews.default.svc.cluster.local".
	Name string
	// ActiveRequests are the attempts under way (upstream_rq_active), PendingRequests
	// the calls that wait for a connection (upstream_rq_pending_active), and
	// ActiveRetries the retries under way or in their backoff.
	ActiveRequests, PendingRequests, ActiveRetries int64
	// Endpoints is the number of endpoints, EjectedEndpoints how many of them
	// outlier detection keeps out (outlier_detection.ejections_active).
	Endpoints, EjectedEndpoints int
	// BreakerOpen reports that the half-open breaker of a MeshPolicy refuses calls,
	// or lets only some through to probe.
	BreakerOpen bool
	// Mirrored counts the copies of calls that were sent to the cluster since the
	// process knows it.
	Mirrored MirrorCounts
}

// MirrorCounts compare copies of calls with the calls that they are copies of.
type MirrorCounts struct {
	// Sent is the number of copies, Dropped that of those that were not made, or
	// given up, to bound what mirrors cost.
	Sent, Dropped uint64
	// Equal and Different are the copies that ended with the status of the call
	// itself, and those that did not.
	Equal, Different uint64
	// Classes[o][c] is the number of pairs of which the call ended with a status of
	// class o and the copy of class c: the hundreds of the HTTP status that the gRPC
	// status stands for, 0 for no answer.
	Classes [6][6]uint64
}

// Status returns a copy of the state of the mesh. It does not wait for the
// network, holds up no call, and works after Close.
func (m *Mesh) Status() Status {
	out := Status{Clients: m.clients.status()}
	for _, c := range m.watch.Engine().Status() {
		out.Clusters = append(out.Clusters, ClusterStatus{
			Name:           c.Name,
			ActiveRequests: c.Requests, PendingRequests: c.Pending, ActiveRetries: c.Retries,
			Endpoints: c.Hosts, EjectedEndpoints: c.Ejected, BreakerOpen: c.Open,
			Mirrored: MirrorCounts{
				Sent: c.Mirrored.Sent, Dropped: c.Mirrored.Dropped,
				Equal: c.Mirrored.Equal, Different: c.Mirrored.Different, Classes: c.Mirrored.ByClass,
			},
		})
	}
	return out
}

// status is that of all clients.
func (c *clients) status() []ClientStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []ClientStatus
	for target, client := range c.byTarget {
		if client != c.first {
			out = append(out, ClientStatus{Target: target, Status: client.Status()})
		}
	}
	slices.SortFunc(out, func(a, b ClientStatus) int { return cmp.Compare(a.Target, b.Target) })
	return slices.Insert(out, 0, ClientStatus{Status: c.first.Status()})
}
