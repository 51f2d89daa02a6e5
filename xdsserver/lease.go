package xdsserver

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/meshframe/meshframe/xdsserver/registry"
)

// leases turns the subscriptions to inbound listeners into registrations. A server subscribes to its inbound listener
// while it serves; that is its lease. When it gives the subscription up its endpoints go at once; when the stream ends
// otherwise they stay for a grace period, in which the server may come back on another stream.
type leases struct {
	registry *registry.Registry
	log      *slog.Logger
	metrics  *metrics
	grace    time.Duration
	flaps    flaps

	mu     sync.Mutex
	held   map[leaseKey][]*registry.Lease
	timers map[*time.Timer]struct{} // of lost leases
	closed bool
}

// leaseKey is one inbound listener of one stream.
type leaseKey struct {
	client  *client
	address string
}

func newLeases(r *registry.Registry, log *slog.Logger, m *metrics, grace time.Duration) *leases {
	return &leases{registry: r, log: log, metrics: m, grace: grace, held: map[leaseKey][]*registry.Lease{}, timers: map[*time.Timer]struct{}{}}
}

// acquire registers what the node's metadata says that the listener stands for.
func (l *leases) acquire(c *client, address string) {
	instances, err := c.instances(address)
	if err != nil {
		l.log.Warn("a server cannot be registered", "node", c.node.id, "remote", c.remote, "listener", address, "error", err)
	}
	var held []*registry.Lease
	for _, i := range instances {
		lease, err := l.registry.Register(i)
		if err != nil {
			l.log.Warn("a server cannot be registered", "node", c.node.id, "remote", c.remote, "listener", address,
				"service", i.Host, "port", i.Port, "error", err)
			continue
		}
		held = append(held, lease)
		if lease.Pending() == "" { // else the registry has said why
			l.say("server registered", lease.Host(), i)
		}
	}
	l.mu.Lock()
	l.held[leaseKey{c, address}] = held
	l.mu.Unlock()
	l.metrics.leases.Add(float64(len(held)))
}

// release ends the registrations of a listener, at once or, when the stream was lost, after the grace period.
func (l *leases) release(c *client, address string, lost bool) {
	l.mu.Lock()
	key := leaseKey{c, address}
	held := l.held[key]
	delete(l.held, key)
	if l.closed { // they are kept for the restart
		l.mu.Unlock()
		return
	}
	if lost && len(held) > 0 {
		l.later(held, l.grace)
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.end(held, "given up")
}

// later releases leases after a time; mu is held.
func (l *leases) later(held []*registry.Lease, after time.Duration) {
	var t *time.Timer
	t = time.AfterFunc(after, func() {
		l.mu.Lock()
		_, running := l.timers[t]
		delete(l.timers, t)
		l.mu.Unlock()
		if running {
			l.end(held, "lost")
		}
	})
	l.timers[t] = struct{}{}
}

func (l *leases) end(held []*registry.Lease, why string) {
	for _, lease := range held {
		service, i := lease.Host(), lease.Instance()
		if !lease.Release() {
			continue // its server came back on another stream, or another listens there now
		}
		l.say("server deregistered", service, i, "why", why)
	}
	l.metrics.leases.Sub(float64(len(held)))
}

// say logs that a server has come or gone, but not of one that does so all the time.
func (l *leases) say(what, service string, i registry.Instance, more ...any) {
	say, last := l.flaps.note(service + " " + strconv.Itoa(int(i.Port)) + " " + i.Address)
	if !say {
		return
	}
	more = append([]any{"service", service, "port", i.Port, "address", i.Address, "node", i.NodeID}, more...)
	if last {
		more = append(more, "note", "it comes and goes too often for the log: more of it is not logged for up to "+flapWindow.String())
	}
	l.log.Info(what, more...)
}

// restore holds the registrations of the time before a restart until their servers have had time to come back.
func (l *leases) restore(held []*registry.Lease, wait time.Duration) {
	if len(held) == 0 {
		return
	}
	l.metrics.leases.Add(float64(len(held)))
	l.mu.Lock()
	l.later(held, wait)
	l.mu.Unlock()
}

// close stops all timers. Registrations are not released: they are to survive a restart.
func (l *leases) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for t := range l.timers {
		t.Stop()
	}
	clear(l.timers)
}

// instances says what a listener of the node stands for: each of MESH_SERVICES, "host:port" or "host:port=listenPort".
func (c *client) instances(address string) ([]registry.Instance, error) {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return nil, fmt.Errorf("%q is not an address and port", address)
	}
	at, err := c.reachable(ap)
	if err != nil {
		return nil, err
	}
	var list []registry.Instance
	for _, s := range c.node.services {
		host, port, listen, err := parseService(s)
		if err != nil {
			return list, err
		}
		if listen != 0 && listen != ap.Port() {
			continue
		}
		list = append(list, registry.Instance{
			Host: host, Port: uint32(port), Address: at,
			Namespace: c.kind.Namespace, NodeID: c.node.id, Workload: c.node.workload, ServiceAccount: c.node.account,
			Labels: c.kind.Labels, Locality: c.kind.Locality,
		})
	}
	return list, nil
}

// reachable is where others reach a server that listens on an address: for a wildcard the node's own address, else
// that of the stream's peer. A node that knows only its loopback address says less than a peer that is elsewhere.
func (c *client) reachable(ap netip.AddrPort) (string, error) {
	if !ap.Addr().IsUnspecified() {
		return ap.String(), nil
	}
	at := ""
	for _, a := range append(slices.Clone(c.node.addresses), c.peerIP) {
		if at == "" || loopbackIP(at) && a != "" && !loopbackIP(a) {
			at = a
		}
	}
	if at == "" && c.remote == pipeName { // in this process
		at = "127.0.0.1"
	}
	if at == "" {
		return "", fmt.Errorf("it listens on %s and says in no INSTANCE_IPS which address that is for others", ap)
	}
	return net.JoinHostPort(at, strconv.Itoa(int(ap.Port()))), nil
}

func loopbackIP(s string) bool {
	a, err := netip.ParseAddr(s)
	return err == nil && a.Unmap().IsLoopback()
}

// parseService reads one of MESH_SERVICES.
func parseService(s string) (host string, port, listen uint16, err error) {
	service, own, hasOwn := strings.Cut(s, "=")
	host, number, err := net.SplitHostPort(service)
	if err == nil && host == "" {
		err = fmt.Errorf("no host")
	}
	if err == nil {
		port, err = parsePort(number)
	}
	if err == nil && hasOwn {
		listen, err = parsePort(own)
	}
	if err != nil {
		return "", 0, 0, fmt.Errorf("MESH_SERVICES: %q is neither host:port nor host:port=listenPort: %w", s, err)
	}
	return host, port, listen, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port", s)
	}
	return uint16(n), nil
}
