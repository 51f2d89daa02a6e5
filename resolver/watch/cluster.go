package watch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
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

// lookup resolves the addresses of one version of a DNS cluster, again and
// again. It owns a goroutine, which the Manager waits for.
type lookup struct {
	of     *snapshot.Cluster
	cancel context.CancelFunc

	// guarded by the target's mutex
	result *snapshot.ClusterLoadAssignment // of the last good answers
	known  addresses                       // the last good answers; not written again
	err    error
}

// addresses are those that names were resolved to: sorted, or for LOGICAL_DNS in the
// order in which they are used.
type addresses map[string][]string

// newLookup resolves the names of a version; known are the answers that the one
// before had.
func newLookup(t *Target, of *snapshot.Cluster, known addresses) *lookup {
	l := &lookup{of: of, known: known}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(t.m.ctx)
	t.m.wg.Go(func() { l.run(ctx, t, known) })
	return l
}

func (l *lookup) close() {
	if l != nil {
		l.cancel()
	}
}

func (l *lookup) run(ctx context.Context, t *Target, known addresses) {
	rate := l.of.DNSRefreshRate
	if rate <= 0 {
		rate = 5 * time.Second
	}
	for {
		now, err := lookUp(ctx, t.m.cfg.LookupHost, l.of, known)
		if ctx.Err() != nil {
			return
		}
		known = now
		result := resolved(l.of, known)
		if !empty(result) {
			err = nil
		}
		l.deliver(ctx, t, result, known, err)
		if len(known) == 0 && err == nil { // there is no name, whose addresses may change
			return
		}
		timer := time.NewTimer(rate)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// deliver notes an answer that differs from the last; a failure keeps the last
// good answer.
func (l *lookup) deliver(ctx context.Context, t *Target, result *snapshot.ClusterLoadAssignment, known addresses, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l.known = known
	if ctx.Err() != nil || t.join == nil || (err == nil && l.result != nil && slices.EqualFunc(l.result.Localities, result.Localities, sameEndpoints)) {
		return
	}
	if err != nil && l.err != nil {
		return
	}
	if l.err = err; err == nil {
		l.result = result
	}
	t.join.evaluate()
}

func sameEndpoints(a, b snapshot.LocalityEndpoints) bool {
	return a.Priority == b.Priority && slices.Equal(a.Endpoints, b.Endpoints)
}

// lookupHost asks the system. Unlike the resolver's LookupHost, its LookupNetIP
// returns at once when ctx ends.
func lookupHost(ctx context.Context, host string) ([]string, error) {
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	addrs := make([]string, 0, len(ips))
	for _, ip := range ips {
		addrs = append(addrs, ip.Unmap().String())
	}
	return addrs, nil
}

// lookUp resolves each name once. One that cannot be resolved keeps the addresses
// that it had, if any, and holds up no other, as in Envoy; the error is that of the
// first such.
func lookUp(ctx context.Context, lookupHost func(context.Context, string) ([]string, error), of *snapshot.Cluster, before addresses) (addresses, error) {
	in, now := of.Assignment, addresses{}
	var first error
	for i := range in.Localities {
		for j := range in.Localities[i].Endpoints {
			name, _, isName, err := nameOf(in.Localities[i].Endpoints[j].Address)
			if _, done := now[name]; err == nil && (!isName || done) {
				continue
			}
			var found []string
			if err == nil {
				found, err = lookupHost(ctx, name)
			}
			if err == nil {
				now[name] = ordered(of, found, before[name])
				continue
			}
			if now[name] = before[name]; first == nil {
				first = err
			}
		}
	}
	return now, first
}

// ordered returns the addresses that were found for a name of a cluster. In a LOGICAL_DNS
// cluster the first is used, and stays so while it is found: servers of names change the
// order with each answer.
func ordered(of *snapshot.Cluster, found, before []string) []string {
	sorted := slices.Clone(found)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	if of.Discovery != snapshot.LogicalDNS {
		return sorted
	}
	out := make([]string, 0, len(sorted))
	for _, a := range slices.Concat(before, found) {
		if i, is := slices.BinarySearch(sorted, a); is {
			out, sorted = append(out, a), slices.Delete(sorted, i, i+1)
		}
	}
	return out
}

// nameOf divides an address into host and port, and reports whether the host is a
// name.
func nameOf(address string) (host, port string, isName bool, _ error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address, "", false, fmt.Errorf("address %q: %w", address, err)
	}
	_, err = netip.ParseAddr(host)
	return host, port, err != nil, nil
}

// resolved is the assignment of a cluster with addresses in place of names. That of a
// LOGICAL_DNS cluster has one endpoint in Envoy, which connects to one address; here the
// others stand behind that one, to be used while it cannot be connected to.
func resolved(of *snapshot.Cluster, known addresses) *snapshot.ClusterLoadAssignment {
	c := *of.Assignment
	c.Localities = slices.Clone(c.Localities)
	for i := range c.Localities {
		var eps []snapshot.Endpoint
		for _, e := range c.Localities[i].Endpoints {
			host, port, isName, err := nameOf(e.Address)
			switch {
			case err != nil:
				continue
			case !isName:
				eps = append(eps, e)
				continue
			}
			for _, a := range known[host] {
				r := e
				r.Address = net.JoinHostPort(a, port)
				if r.Hostname == "" {
					r.Hostname = host
				}
				eps = append(eps, r)
			}
		}
		c.Localities[i].Endpoints = eps
	}
	if of.Discovery == snapshot.LogicalDNS {
		c.Localities = oneByOne(c.Localities)
	}
	return &c
}

// oneByOne gives each endpoint a priority of its own.
func oneByOne(in []snapshot.LocalityEndpoints) []snapshot.LocalityEndpoints {
	var out []snapshot.LocalityEndpoints
	for _, l := range in {
		for _, e := range l.Endpoints {
			one := l
			one.Priority, one.Endpoints = uint32(len(out)), []snapshot.Endpoint{e}
			out = append(out, one)
		}
	}
	return out
}

// empty reports whether an assignment has no endpoint.
func empty(a *snapshot.ClusterLoadAssignment) bool {
	return !slices.ContainsFunc(a.Localities, func(l snapshot.LocalityEndpoints) bool { return len(l.Endpoints) > 0 })
}
