package registry

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	refreshAfter = 30 * time.Second // between two successful look-ups of a name
	retryAfter   = 5 * time.Second  // after one that failed
	lookupLimit  = 5 * time.Second  // for one look-up
)

// Resolver looks a host name up. *net.Resolver is one.
type Resolver interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
}

// names keeps the addresses of the names that services are made of. Each name has a goroutine that looks it up again and
// again, from its first use until nobody uses it. The fields are under the registry's lock, which the caller of every
// method but follow holds.
type names struct {
	resolver Resolver
	logger   *slog.Logger
	changed  func(name string, addresses []string) // called without the lock

	ctx   context.Context
	wait  sync.WaitGroup
	known map[string]*name
	used  map[string][]string // names by the host of the service that uses them
}

type name struct {
	addresses []string        // last good answer, sorted
	users     map[string]bool // hosts of services
	stop      context.CancelFunc
}

func newNames(ctx context.Context, r Resolver, l *slog.Logger, changed func(string, []string)) *names {
	return &names{resolver: r, logger: l, changed: changed, ctx: ctx, known: map[string]*name{}, used: map[string][]string{}}
}

// lookup returns the addresses of a name as far as they are known, and keeps looking while the user is not forgotten.
// Without names nothing is known and nothing looked up.
func (d *names) lookup(host, user string) []string {
	if d == nil {
		return nil
	}
	n := d.known[host]
	if n == nil {
		ctx, stop := context.WithCancel(d.ctx)
		n = &name{users: map[string]bool{}, stop: stop}
		d.known[host] = n
		d.wait.Go(func() { d.follow(ctx, host) })
	}
	n.users[user] = true
	d.used[user] = append(d.used[user], host)
	return n.addresses
}

// forget takes a user from all its names and returns a function that ends the look-ups that nobody wants any more; in
// between the user may look names up again.
func (d *names) forget(user string) (settle func()) {
	used := d.used[user]
	delete(d.used, user)
	for _, host := range used {
		delete(d.known[host].users, user)
	}
	return func() {
		for _, host := range used {
			if n := d.known[host]; n != nil && len(n.users) == 0 {
				n.stop()
				delete(d.known, host)
			}
		}
	}
}

// set takes an answer and returns the services to make again.
func (d *names) set(host string, addresses []string) []string {
	n := d.known[host]
	if n == nil || slices.Equal(n.addresses, addresses) {
		return nil
	}
	n.addresses = addresses
	return slices.Sorted(maps.Keys(n.users))
}

// follow looks one name up until it is stopped. A look-up that fails changes nothing: old addresses are better than none.
func (d *names) follow(ctx context.Context, host string) {
	failing := false
	for {
		addresses, err := d.ask(ctx, host)
		pause := refreshAfter
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			pause = retryAfter
			if !failing {
				d.logger.Warn("cannot look a name up; its last addresses stay in use", "name", host, "error", err)
			}
		default:
			d.changed(host, addresses)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause + rand.N(pause/10)):
		}
	}
}

func (d *names) ask(ctx context.Context, host string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	addresses, err := d.resolver.LookupHost(ctx, host)
	slices.Sort(addresses)
	return slices.Compact(addresses), err
}

// isName reports whether an address must be looked up.
func isName(address string) bool {
	_, err := netip.ParseAddr(address)
	return err != nil && !isUnix(address)
}
