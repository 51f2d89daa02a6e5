package watch

import (
	"errors"
	"time"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

// cluster is the subscription to a cluster and to its endpoints. Its fields
// are guarded by the target's mutex.
type cluster struct {
	t         *Target
	resource  *sub[*snapshot.Cluster]
	endpoints *sub[*snapshot.ClusterLoadAssignment] // of the newest version; nil unless EDS
	dns       *lookup                               // of the newest version; nil unless DNS

	// used is the newest version that has been answered in full: a cluster that
	// changes where its endpoints come from keeps the old ones until the new
	// are known.
	used struct {
		cluster   *snapshot.Cluster
		endpoints *snapshot.ClusterLoadAssignment
	}
	// leading bounds how long a newer version waits for the clusters that it leads
	// to; nil while none does. It has run out when overdue is set.
	leading *time.Timer
	overdue bool
}

var errWaiting = errors.New("no answer from the control plane yet")

func newCluster(t *Target, name string) *cluster {
	return &cluster{t: t, resource: subscribe(t, t.m.clusters, name)}
}

func (c *cluster) close() {
	c.resource.close()
	c.endpoints.close()
	c.dns.close()
	c.arrived()
}

// advance follows the newest version of the cluster to its endpoints. A version
// that leads to clusters which have not been answered waits for them, if there is
// one before it to go by. It reports whether clusters that the one before led to are
// no longer needed.
func (c *cluster) advance(j *join) (fewer bool) {
	if !c.resource.known {
		if c.resource.missing != nil {
			c.used.cluster, c.used.endpoints = nil, nil
			c.endpoints.close()
			c.dns.close()
			c.endpoints, c.dns = nil, nil
			c.arrived()
		}
		return false
	}
	v := c.resource.value
	if v.Refused == nil {
		c.follow(v)
	}
	switch old := c.used.cluster; {
	case !c.settled():
	case old == nil, old == v, v.Refused != nil, c.overdue, j.led(c):
		fewer = old != v && len(snapshot.Behind(nil, c.resource.name, old)) > 0
		c.used.cluster, c.used.endpoints = v, c.assignment(v)
		c.arrived()
	default:
		c.await()
		if old.Refused == nil && old.Discovery == snapshot.EDS && c.endpoints != nil && c.endpoints.name == serviceName(old) {
			c.used.endpoints = c.endpoints.value
		}
	}
	return fewer
}

// await bounds the wait for the clusters that the newest version leads to.
func (c *cluster) await() {
	if c.leading != nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(c.t.m.cfg.WarmTimeout, func() {
		c.t.mu.Lock()
		defer c.t.mu.Unlock()
		if j := c.t.join; j != nil && j.clusters[c.resource.name] == c && c.leading == timer {
			c.overdue = true
			j.evaluate()
		}
	})
	c.leading = timer
}

// arrived ends the wait.
func (c *cluster) arrived() {
	if c.leading != nil {
		c.leading.Stop()
	}
	c.leading, c.overdue = nil, false
}

// follow subscribes to where the endpoints of v come from.
func (c *cluster) follow(v *snapshot.Cluster) {
	if v.Discovery != snapshot.EDS {
		c.endpoints.close()
		c.endpoints = nil
	} else if name := serviceName(v); c.endpoints == nil || c.endpoints.name != name {
		c.endpoints.close()
		c.endpoints = subscribe(c.t, c.t.m.endpoints, name)
	}
	isDNS := v.Discovery == snapshot.StrictDNS || v.Discovery == snapshot.LogicalDNS
	var known addresses
	if c.dns != nil && (!isDNS || c.dns.of != v) {
		known = c.dns.known
		c.dns.close()
		c.dns = nil
	}
	if isDNS && c.dns == nil {
		c.dns = newLookup(c.t, v, known)
	}
}

func serviceName(v *snapshot.Cluster) string {
	if v.ServiceName != "" {
		return v.ServiceName
	}
	return v.Name
}

// settled reports whether the newest version has been answered in full.
func (c *cluster) settled() bool {
	if !c.resource.known {
		return c.resource.settled()
	}
	switch v := c.resource.value; {
	case v.Refused != nil || v.Discovery == snapshot.Static || v.Discovery == snapshot.Aggregate:
		return true
	case v.Discovery == snapshot.EDS:
		return c.endpoints != nil && c.endpoints.settled()
	default:
		return c.dns != nil && c.dns.of == v && (c.dns.result != nil || c.dns.err != nil)
	}
}

func (c *cluster) assignment(v *snapshot.Cluster) *snapshot.ClusterLoadAssignment {
	switch {
	case v.Refused != nil && c.endpoints != nil:
		return c.endpoints.value // of the last good version, which the engine keeps
	case v.Refused != nil:
		return c.used.endpoints
	case v.Discovery == snapshot.Static:
		return v.Assignment
	case v.Discovery == snapshot.Aggregate:
		return nil
	case v.Discovery == snapshot.EDS:
		return c.endpoints.value
	default:
		return c.dns.result
	}
}

// err says why calls that draw the cluster fail, or nil.
func (c *cluster) err() error {
	switch {
	case c.resource.missing != nil:
		return c.resource.missing
	case c.used.cluster != nil:
		switch v := c.used.cluster; {
		case v.Refused == nil && v.Discovery == snapshot.EDS && c.endpoints != nil && !c.endpoints.known:
			return errors.Join(c.endpoints.missing, c.endpoints.refused)
		case c.dns != nil && c.dns.result == nil:
			return c.dns.err
		}
		return nil
	case c.resource.refused != nil:
		return c.resource.refused
	default:
		return errWaiting
	}
}
