package watch

import (
	"context"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

// defaultRefreshRate is Envoy's.
const defaultRefreshRate = 5 * time.Second

// lookup resolves the names of one version of a DNS cluster, again and again. Each has a
// goroutine, which the Manager waits for: one that is slow or cannot be resolved holds up
// no other, as in Envoy.
type lookup struct {
	of     *snapshot.Cluster
	cancel context.CancelFunc

	// guarded by the target's mutex
	known   addresses // the last good answers; not written again
	waiting int       // names without an answer yet, good or bad
	failing map[string]error
	result  *snapshot.ClusterLoadAssignment // of the last good answers; nil until no name waits
	err     error                           // why there is none
}

// addresses are those that names were resolved to: sorted, or for LOGICAL_DNS in the
// order in which they are used.
type addresses map[string][]string

// newLookup resolves the names of a version; known are the answers that the one
// before had. The caller holds the target's mutex.
func newLookup(t *Target, of *snapshot.Cluster, known addresses) *lookup {
	l := &lookup{of: of, known: addresses{}, failing: map[string]error{}}
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(t.m.ctx)
	names := namesOf(of.Assignment)
	if l.waiting = len(names); l.waiting == 0 {
		l.result = resolved(of, nil)
	}
	for _, name := range names {
		l.known[name] = known[name]
		t.m.wg.Go(func() { l.run(ctx, t, name) })
	}
	return l
}

func (l *lookup) close() {
	if l != nil {
		l.cancel()
	}
}

// run resolves a name until ctx ends.
func (l *lookup) run(ctx context.Context, t *Target, name string) {
	rate := l.of.DNSRefreshRate
	if rate <= 0 {
		rate = defaultRefreshRate
	}
	for first := true; ; first = false {
		found, err := t.m.cfg.LookupHost(ctx, name)
		if ctx.Err() != nil {
			return
		}
		l.deliver(ctx, t, name, first, found, err)
		timer := time.NewTimer(rate)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// deliver notes an answer. A name that cannot be resolved keeps the addresses that it
// had, if any.
func (l *lookup) deliver(ctx context.Context, t *Target, name string, first bool, found []string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ctx.Err() != nil || t.join == nil {
		return
	}
	if first {
		l.waiting--
	}
	if l.failing[name] = err; err == nil {
		delete(l.failing, name)
		l.known = maps.Clone(l.known)
		l.known[name] = ordered(l.of, found, l.known[name])
	}
	if l.waiting == 0 && l.answer() {
		t.join.evaluate()
	}
}

// answer puts together what is known of all names, and reports whether that is news.
func (l *lookup) answer() bool {
	result := resolved(l.of, l.known)
	if empty(result) && len(l.failing) > 0 { // of several failures any says enough, and a result from before stays
		first := slices.Min(slices.Collect(maps.Keys(l.failing)))
		news := l.err == nil && l.result == nil
		l.err = l.failing[first]
		return news
	}
	if l.result != nil && slices.EqualFunc(l.result.Localities, result.Localities, sameEndpoints) {
		return false
	}
	l.result, l.err = result, nil
	return true
}

// namesOf returns the names among the addresses of an assignment, each once.
func namesOf(in *snapshot.ClusterLoadAssignment) (names []string) {
	for _, l := range in.Localities {
		for _, e := range l.Endpoints {
			if host, _, isName := nameOf(e.Address); isName && !slices.Contains(names, host) {
				names = append(names, host)
			}
		}
	}
	return names
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
func nameOf(address string) (host, port string, isName bool) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", "", false // of no endpoint that was decoded
	}
	_, err = netip.ParseAddr(host)
	return host, port, err != nil
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
			host, port, isName := nameOf(e.Address)
			if !isName {
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
