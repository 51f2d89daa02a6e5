package snapshot

import (
	"cmp"
	"slices"

	"github.com/meshframe/meshframe/mesh/mirror"
)

// ClusterStatus is a copy of the live state of a cluster.
type ClusterStatus struct {
	Name string
	// Requests, Pending, Retries and Connections are what counts against the
	// cluster's limits now; connections only where they are limited.
	Requests, Pending, Retries, Connections int64
	// Hosts is the number of its hosts, Ejected how many of them outlier detection
	// keeps out now.
	Hosts, Ejected int
	// Open reports that the half-open breaker refuses calls, or lets only some
	// through.
	Open bool
	// Mirrored counts the copies of calls that were sent to the cluster.
	Mirrored mirror.Counts
}

// Status returns the state of all clusters that a snapshot names, by name.
func (s *States) Status() []ClusterStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]ClusterStatus, 0, len(s.clusters))
	for _, c := range s.clusters {
		out = append(out, ClusterStatus{
			Name:     c.Name,
			Requests: c.Breaker.Requests(), Pending: c.Breaker.Pending(), Retries: c.Breaker.Retries(), Connections: c.Breaker.Connections(),
			Hosts: len(c.hosts), Ejected: c.Ejected(),
			Open:     c.gate != nil && c.gate.Open(),
			Mirrored: c.Mirrored.Snapshot(),
		})
	}
	slices.SortFunc(out, func(a, b ClusterStatus) int { return cmp.Compare(a.Name, b.Name) })
	return out
}
