package xdsserver

import (
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
	"github.com/meshframe/meshframe/xdsserver/support"
	"github.com/meshframe/meshframe/xdsserver/translate"
)

// builder keeps in the cache what somebody subscribes to: it translates a resource when the first subscriber of a view
// comes, and again when something changes that the translation looked at.
type builder struct {
	cache   *Cache
	log     *slog.Logger
	metrics *metrics
	report  *reporter
	retain  time.Duration // how long what is still subscribed to outlives its configuration

	mu       sync.Mutex
	world    *translate.World
	views    map[string]*view
	clients  map[*client]struct{}
	deps     map[translate.Dep]map[*unit]struct{}
	settling bool // registrations may be missing, see settle
	waiting  bool // most registrations may be missing, see answer
	closed   bool
}

// view is what clients that are equal to translation have in common.
type view struct {
	client translate.Client
	key    string
	users  int // clients
	units  map[unitKey]*unit
}

type unitKey struct{ typeURL, name string }

// unit is one resource in one view that somebody subscribes to.
type unit struct {
	unitKey
	view    *view
	users   int // subscriptions
	deps    []translate.Dep
	objects []*config.Meta  // that it was made of
	notes   []support.Entry // on how they come together
	served  bool            // the cache has a resource
	refused bool            // it was taken away on purpose
	held    bool            // clients that have it from another stream are not told of this one
	retire  *time.Timer     // running while the resource outlives its configuration
	until   time.Time       // when that ends
}

func newBuilder(w *translate.World, c *Cache, log *slog.Logger, m *metrics, retain time.Duration) *builder {
	b := &builder{
		cache: c, log: log, metrics: m, retain: retain, world: w, report: newReporter(log),
		views: map[string]*view{}, clients: map[*client]struct{}{}, deps: map[translate.Dep]map[*unit]struct{}{},
	}
	b.report.configured(w.Index().Model)
	return b
}

// join finds the view of a client that has come.
func (b *builder) join(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.clients[c] = struct{}{}
	c.view = b.view(c.kind)
	c.view.users++
	c.session.view = c.view.key
	b.report.connected(c.kind.Kind())
}

// leave forgets a client. It has given up its names before.
func (b *builder) leave(c *client) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.clients, c)
	b.release(c.view)
}

func (b *builder) release(v *view) {
	if v.users--; v.users == 0 {
		delete(b.views, v.key)
		b.cache.drop(v.key)
	}
}

// view returns the view of clients of a kind, made if need be.
func (b *builder) view(kind translate.Client) *view {
	kind = b.world.Restrict(kind)
	key := kind.Key()
	v := b.views[key]
	if v == nil {
		v = &view{client: kind, key: key, units: map[unitKey]*unit{}}
		b.views[key] = v
	}
	return v
}

// want puts the names that a client subscribes to into the cache.
func (b *builder) want(c *client, typeURL string, names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.names[typeURL] == nil {
		c.names[typeURL] = map[string]struct{}{}
	}
	for _, n := range names {
		c.names[typeURL][n] = struct{}{}
	}
	b.acquire(c.view, typeURL, names)
}

func (b *builder) acquire(v *view, typeURL string, names []string) {
	var changes []change
	for _, name := range names {
		key := unitKey{typeURL, name}
		u := v.units[key]
		if u == nil {
			u = &unit{unitKey: key, view: v}
			v.units[key] = u
			ch := b.translate(u)
			u.served = ch.res != nil
			changes = append(changes, ch)
		}
		u.users++
	}
	if len(changes) > 0 {
		b.cache.apply(changes)
	}
}

// unwant takes out of the cache what nobody subscribes to any more.
func (b *builder) unwant(c *client, typeURL string, names []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range names {
		delete(c.names[typeURL], n)
	}
	b.abandon(c.view, typeURL, names)
}

func (b *builder) abandon(v *view, typeURL string, names []string) {
	var changes []change
	for _, name := range names {
		key := unitKey{typeURL, name}
		u := v.units[key]
		if u == nil {
			continue
		}
		if u.users--; u.users > 0 {
			continue
		}
		delete(v.units, key)
		b.forget(u)
		u.stopRetiring()
		changes = append(changes, change{key: tableKey{v.key, typeURL}, name: name})
	}
	if len(changes) > 0 {
		b.cache.apply(changes)
	}
}

func (b *builder) forget(u *unit) {
	for _, d := range u.deps {
		if delete(b.deps[d], u); len(b.deps[d]) == 0 {
			delete(b.deps, d)
		}
	}
	u.deps = nil
}

func (u *unit) stopRetiring() {
	if u.retire != nil {
		u.retire.Stop()
		u.retire = nil
	}
}

// translate translates a unit and returns the change to the cache.
func (b *builder) translate(u *unit) change {
	start := time.Now()
	var r translate.Result
	switch u.typeURL {
	case resource.ListenerType:
		r = b.world.Listener(u.view.client, u.name)
	case resource.RouteType:
		r = b.world.Route(u.view.client, u.name)
	case resource.ClusterType:
		r = b.world.Cluster(u.view.client, u.name)
	case resource.EndpointType:
		r = b.world.Endpoints(u.view.client, u.name)
	}
	b.metrics.byType[u.typeURL].translate.Observe(time.Since(start).Seconds())
	b.forget(u)
	u.deps, u.objects, u.notes = r.Deps, r.Objects, r.Notes
	b.report.log(r.Notes)
	for _, d := range r.Deps {
		if b.deps[d] == nil {
			b.deps[d] = map[*unit]struct{}{}
		}
		b.deps[d][u] = struct{}{}
	}
	u.refused, u.held = r.Refused, b.settling && r.Unsettled
	ch := change{key: tableKey{u.view.key, u.typeURL}, name: u.name, held: u.held, vacant: b.waiting && u.held && vacant(r.Message)}
	ch.res, ch.instead = b.encode(u, r.Message), b.encode(u, r.Instead)
	return ch
}

// vacant reports whether an unsettled resource has nothing of a registration yet.
func vacant(m proto.Message) bool {
	a, ok := m.(*endpointv3.ClusterLoadAssignment)
	return !ok || len(a.GetEndpoints()) == 0
}

func (b *builder) encode(u *unit, m proto.Message) *encoded {
	if m == nil {
		return nil
	}
	enc, err := encode(u.typeURL, u.name, m)
	if err != nil {
		b.log.Error("a resource cannot be encoded", "type", shortType(u.typeURL), "name", u.name, "error", err)
		return nil
	}
	return enc
}

// update takes a new world and brings everything up to date that depends on what changed: the services of the hosts
// and the rules that differ between the worlds.
func (b *builder) update(w *translate.World, hosts []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	old := b.world
	b.world = w
	b.report.configured(w.Index().Model)
	if !translate.SameViews(old, w) {
		b.rebase()
	}
	var changes []change
	for _, u := range b.affected(old, hosts) {
		if ch, ok := b.renew(u, old); ok {
			changes = append(changes, ch)
		}
	}
	if len(changes) > 0 {
		b.cache.apply(changes)
	}
}

// rebase moves clients to other views when rules read other properties of them than before.
func (b *builder) rebase() {
	for c := range b.clients {
		v := b.view(c.kind)
		if v == c.view {
			continue
		}
		old := c.view
		v.users++
		c.view = v
		for typeURL, names := range c.names {
			all := slices.Collect(maps.Keys(names))
			b.acquire(v, typeURL, all)
			b.inherit(old, v, typeURL, all)
		}
		c.session.rebase(v.key)
		for typeURL, names := range c.names {
			b.abandon(old, typeURL, slices.Collect(maps.Keys(names)))
		}
		b.release(old)
	}
}

// inherit keeps for a client that moves to another view what it would lose by that: what is gone stays as it does for
// those who do not move.
func (b *builder) inherit(from, to *view, typeURL string, names []string) {
	var changes []change
	for _, name := range names {
		key := unitKey{typeURL, name}
		before, u := from.units[key], to.units[key]
		if !before.served || u.served && u.retire == nil || u.refused || !retained(typeURL) {
			continue
		}
		until := time.Now().Add(b.retain)
		if before.retire != nil {
			until = before.until // its time goes on
		}
		if u.retire == nil || until.After(u.until) { // or others brought it, who may keep it for longer
			u.stopRetiring()
			b.retireAt(u, until)
		}
		if u.served {
			continue
		}
		u.served = true
		ch := change{key: tableKey{to.key, typeURL}, name: name}
		ch.res, _ = b.cache.get(tableKey{from.key, typeURL}, name)
		_, ch.instead = b.cache.get(ch.key, name)
		changes = append(changes, ch)
	}
	if len(changes) > 0 {
		b.cache.apply(changes)
	}
}

// retained reports whether resources of a type outlive their configuration.
func retained(typeURL string) bool {
	return typeURL == resource.ClusterType || typeURL == resource.EndpointType
}

// affected finds the units that depend on what changed.
func (b *builder) affected(old *translate.World, hosts []string) []*unit {
	found := map[*unit]struct{}{}
	add := func(d translate.Dep, when func(*unit) bool) {
		for u := range b.deps[d] {
			if when == nil || when(u) {
				found[u] = struct{}{}
			}
		}
	}
	reach := func(a translate.Aspect, host string, when func(*unit) bool) {
		add(translate.Dep{Aspect: a, Host: host}, when)
		if !strings.HasPrefix(host, "*") {
			return
		}
		for d := range b.deps {
			if d.Aspect == a && translate.Matches(host, d.Host) {
				add(d, when)
			}
		}
	}
	for _, h := range hosts {
		reach(translate.Endpoints, h, nil)
		reach(translate.Definition, h, func(u *unit) bool {
			return strings.HasPrefix(h, "*") || !sameDefinition(old.Index().Find(h, u.view.client.Namespace), b.world.Index().Find(h, u.view.client.Namespace))
		})
	}
	if len(hosts) > 0 {
		add(translate.Dep{Aspect: translate.Everything}, nil)
	}
	for _, d := range translate.RulesChanged(old, b.world) {
		reach(d.Aspect, d.Host, nil)
	}
	return slices.Collect(maps.Keys(found))
}

// sameDefinition reports whether two services differ in nothing but their endpoints.
func sameDefinition(a, b *registry.Service) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a == b || a.Host == b.Host && a.Namespace == b.Namespace && slices.Equal(a.Ports, b.Ports) && a.Resolution == b.Resolution &&
		slices.Equal(a.Addresses, b.Addresses) && a.Distribution == b.Distribution && a.NodeLocal == b.NodeLocal && (a.Source == nil) == (b.Source == nil)
}

// renew translates a unit again. A cluster or assignment that is gone stays for those who still subscribe to it until
// they have given it up, which they do when they have the routes that left it, or a time limit.
func (b *builder) renew(u *unit, old *translate.World) (change, bool) {
	ch := b.translate(u)
	gone := ch.res == nil && u.served && !u.refused && retained(u.typeURL)
	if !gone {
		u.stopRetiring()
		u.served = ch.res != nil
		return ch, true
	}
	b.retireLater(u)
	if u.typeURL == resource.EndpointType && b.unregistered(old, u) {
		ch.res = ch.instead // those endpoints are known to be gone
		return ch, true
	}
	return change{}, false
}

// retireLater begins the time that a resource may outlive its configuration.
func (b *builder) retireLater(u *unit) {
	if u.retire == nil {
		b.retireAt(u, time.Now().Add(b.retain))
	}
}

// retireAt has a resource outlive its configuration until then.
func (b *builder) retireAt(u *unit, until time.Time) {
	var t *time.Timer
	t = time.AfterFunc(time.Until(until), func() { b.retired(u, &t) })
	u.retire, u.until = t, until
}

// unregistered reports whether the service of an assignment, or its port, existed only because servers had registered
// for it, and none has any more. While some have it may be the subset that is gone, which clients use until they have
// the routes that left it.
func (b *builder) unregistered(old *translate.World, u *unit) bool {
	n, ok := translate.ParseClusterName(u.name)
	if !ok {
		return false
	}
	before, now := old.Index().Find(n.Host, u.view.client.Namespace), b.world.Index().Find(n.Host, u.view.client.Namespace)
	if before == nil || before.Source != nil {
		return false
	}
	return now == nil || now.Port(n.Port) == nil
}

// retired ends the time that a resource may outlive its configuration.
func (b *builder) retired(u *unit, t **time.Timer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || u.retire == nil || u.retire != *t { // it was stopped too late, and may have begun again
		return
	}
	u.retire = nil
	ch := b.translate(u)
	u.served = ch.res != nil
	b.cache.apply([]change{ch})
}

// answer ends the time in which a server that has just started lets new subscribers, too, wait for the first registration
// of what they ask for.
func (b *builder) answer() { b.over(&b.waiting) }

// settle ends the time in which a server that has just started may not know of all registrations, and tells clients
// what was kept back until now.
func (b *builder) settle() { b.over(&b.settling) }

func (b *builder) over(reason *bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !*reason || b.closed {
		return
	}
	*reason = false
	var changes []change
	for _, v := range b.views {
		for _, u := range v.units {
			if u.held && u.retire == nil {
				changes = append(changes, b.translate(u))
			}
		}
	}
	b.cache.apply(changes)
}

// close stops all timers. What is in the cache stays there.
func (b *builder) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for _, v := range b.views {
		for _, u := range v.units {
			u.stopRetiring()
		}
	}
}

// current returns the world that is served.
func (b *builder) current() *translate.World {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.world
}
