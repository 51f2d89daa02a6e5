package registry

import (
	"context"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// Options configure a Registry. The zero value works.
type Options struct {
	Policy Policy
	// StateDir is where registrations are kept across a restart; "" keeps them in memory only.
	StateDir string
	Resolver Resolver     // default net.DefaultResolver
	Logger   *slog.Logger // default slog.Default()
}

// Registry owns the sources of services and publishes the Index. It is safe for concurrent use.
type Registry struct {
	policy Policy
	logger *slog.Logger
	stop   context.CancelFunc
	state  *state // nil without StateDir

	index atomic.Pointer[Index]

	mu            sync.Mutex
	closed        bool
	model         *config.Model
	declared      map[string]*declaredHost
	registrations map[place]*registration
	homes         map[string]map[place]*registration // by the host that the registration belongs to
	restored      []*Lease
	names         *names
	subscribers   map[*func([]string, *Index)]bool
}

// declaredHost is what the configuration says about a host, and the services that it makes.
type declaredHost struct {
	declaration *declaration
	services    []*Service
}

// New returns a registry over an empty configuration, with the registrations of StateDir already restored.
func New(opts Options) (*Registry, error) {
	empty, _ := config.Build(nil, config.Options{})
	r := &Registry{
		policy: opts.Policy, logger: opts.Logger, model: empty,
		declared: map[string]*declaredHost{}, registrations: map[place]*registration{},
		homes: map[string]map[place]*registration{}, subscribers: map[*func([]string, *Index)]bool{},
	}
	if r.logger == nil {
		r.logger = slog.Default()
	}
	if opts.Resolver == nil {
		opts.Resolver = net.DefaultResolver
	}
	r.index.Store(NewIndex(empty))
	if opts.StateDir != "" {
		if err := r.restore(opts.StateDir); err != nil {
			return nil, err
		}
		r.state = newState(opts.StateDir, r.logger, r.instances)
	}
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.names = newNames(ctx, opts.Resolver, r.logger, r.resolved)
	return r, nil
}

func (r *Registry) restore(dir string) error {
	all, err := restore(dir, r.logger)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	touched := map[string]bool{}
	for _, i := range all {
		if err := i.check(); err != nil {
			r.logger.Error("a kept registration is not usable", "error", err)
			continue
		}
		if r.policy != Off {
			r.restored = append(r.restored, r.hold(i, touched))
		}
	}
	r.publish(touched)
	return nil
}

// Close stops resolving names, waits until no subscriber is being called, and keeps what is registered in StateDir:
// leases that are released later change nothing. It may be called more than once.
func (r *Registry) Close() error {
	r.mu.Lock()
	closed := r.closed
	r.closed = true
	clear(r.subscribers)
	r.mu.Unlock()
	if closed {
		return nil
	}
	r.stop()
	r.names.wait.Wait()
	if r.state != nil {
		r.state.close()
	}
	return nil
}

// Index returns the present index.
func (r *Registry) Index() *Index { return r.index.Load() }

// SetModel replaces the configuration and returns the index that has it. The subscribers have been told when it returns.
func (r *Registry) SetModel(m *config.Model) *Index {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return r.index.Load()
	}
	r.model = m
	touched := map[string]bool{}
	r.declare(declarations(m), touched)
	for _, g := range r.registrations {
		r.settle(g, touched)
	}
	return r.publish(touched)
}

// declare takes what the configuration declares now, and makes the services again whose declaration is not the same.
func (r *Registry) declare(now map[string]*declaration, touched map[string]bool) {
	for host := range r.declared {
		if now[host] == nil {
			r.names.forget(host)()
			delete(r.declared, host)
			touched[host] = true
		}
	}
	for host, d := range now {
		if old := r.declared[host]; old != nil && slices.Equal(old.declaration.inputs, d.inputs) {
			continue
		}
		r.make(host, d, touched)
	}
}

func (r *Registry) make(host string, d *declaration, touched map[string]bool) {
	settle := r.names.forget(host)
	r.declared[host] = &declaredHost{declaration: d, services: d.make(host, r.names)}
	settle()
	touched[host] = true
}

// resolved takes the answer for a name.
func (r *Registry) resolved(name string, addresses []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	touched := map[string]bool{}
	for _, host := range r.names.set(name, addresses) {
		r.make(host, r.declared[host].declaration, touched)
	}
	r.publish(touched)
}

// publish makes the services of the touched hosts as clients see them and tells the subscribers, also when only the
// model is new.
func (r *Registry) publish(touched map[string]bool) *Index {
	old := r.index.Load()
	changes := map[string][]*Service{}
	for host := range touched {
		services := admit(host, r.services(host), r.admitted(host), r.model.Domain)
		if !slices.Equal(services, old.declared(host)) {
			changes[host] = services
		}
	}
	if len(changes) == 0 && old.Model == r.model {
		return old
	}
	x := old.with(r.model, changes)
	r.index.Store(x)
	changed := slices.Sorted(maps.Keys(changes))
	for fn := range r.subscribers {
		(*fn)(changed, x)
	}
	return x
}

// services returns what the configuration declares for a host.
func (r *Registry) services(host string) []*Service {
	if d := r.declared[host]; d != nil {
		return d.services
	}
	return nil
}

// admitted returns the registrations for a host that are not kept back.
func (r *Registry) admitted(host string) []*registration {
	var out []*registration
	for _, g := range r.homes[host] {
		if g.kept == "" {
			out = append(out, g)
		}
	}
	return out
}

// Register adds a server until the lease is released. Registering the same host, port and address again is fine: the
// endpoint stays until every lease for it is released, and has the labels of the lease that is newest. The error says
// what is wrong with the instance, or is ErrOff.
func (r *Registry) Register(i Instance) (*Lease, error) {
	if r.policy == Off {
		return nil, ErrOff
	}
	if err := i.check(); err != nil {
		return nil, err
	}
	i.Labels = maps.Clone(i.Labels)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return &Lease{registry: r, instance: i}, nil
	}
	touched := map[string]bool{}
	l := r.hold(i, touched)
	r.publish(touched)
	r.saveLater()
	return l, nil
}

// hold adds a lease.
func (r *Registry) hold(i Instance, touched map[string]bool) *Lease {
	l := &Lease{registry: r, instance: i}
	at := i.place()
	g := r.registrations[at]
	if g == nil {
		g = &registration{}
		r.registrations[at] = g
	}
	same := len(g.leases) > 0 && sameEndpoint(g.instance(), &i)
	g.leases = append(g.leases, l)
	r.settle(g, touched)
	if !same {
		touched[g.home] = true
	}
	return l
}

func sameEndpoint(a, b *Instance) bool {
	return a.Protocol == b.Protocol && a.NodeID == b.NodeID && a.Workload == b.Workload && a.ServiceAccount == b.ServiceAccount &&
		maps.Equal(a.Labels, b.Labels) && a.Locality == b.Locality && a.Network == b.Network && a.Weight == b.Weight
}

// settle puts a registration with the service that it belongs to now.
func (r *Registry) settle(g *registration, touched map[string]bool) {
	home, kept := g.home, g.kept
	g.settle(r.services, r.model.Domain, r.policy)
	at := g.instance().place()
	if g.home == home && g.kept == kept && r.homes[home][at] == g {
		return
	}
	if r.homes[home][at] == g {
		r.leave(home, at, touched)
	}
	if r.homes[g.home] == nil {
		r.homes[g.home] = map[place]*registration{}
	}
	r.homes[g.home][at] = g
	touched[g.home] = true
	i := g.instance()
	log := r.logger.With("service", g.home, "port", i.Port, "address", i.Address, "node", i.NodeID)
	switch {
	case g.kept != "":
		log.Warn("registration kept back", "reason", g.kept)
	case kept != "":
		log.Info("registration not kept back any more")
	}
}

func (r *Registry) leave(home string, at place, touched map[string]bool) {
	delete(r.homes[home], at)
	if len(r.homes[home]) == 0 {
		delete(r.homes, home)
	}
	touched[home] = true
}

// held returns the registration that a lease holds, nil when it does not any more.
func (r *Registry) held(l *Lease) *registration {
	if g := r.registrations[l.instance.place()]; g != nil && slices.Contains(g.leases, l) {
		return g
	}
	return nil
}

func (r *Registry) release(l *Lease) (removed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g := r.held(l)
	if g == nil || r.closed {
		return false
	}
	r.restored = slices.DeleteFunc(r.restored, func(o *Lease) bool { return o == l })
	touched := map[string]bool{}
	before := g.instance()
	at := before.place()
	g.leases = slices.DeleteFunc(g.leases, func(o *Lease) bool { return o == l })
	switch {
	case len(g.leases) == 0:
		delete(r.registrations, at)
		r.leave(g.home, at, touched)
	case !sameEndpoint(before, g.instance()):
		touched[g.home] = true
	}
	r.publish(touched)
	r.saveLater()
	return len(g.leases) == 0
}

func (r *Registry) saveLater() {
	if r.state != nil {
		r.state.dirty()
	}
}

// instances returns what is registered.
func (r *Registry) instances() []Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Instance, 0, len(r.registrations))
	for _, g := range r.registrations {
		out = append(out, *g.instance())
	}
	return out
}

// Registration is what is registered, and what became of it.
type Registration struct {
	Instance
	Service  string `json:"service"`            // fully qualified host of the service that it belongs to
	KeptBack string `json:"keptBack,omitempty"` // why nobody is told of it; see Lease.Pending
}

// Registrations returns what is registered at present, also what is kept back, in no order.
func (r *Registry) Registrations() []Registration {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Registration, 0, len(r.registrations))
	for _, g := range r.registrations {
		out = append(out, Registration{Instance: *g.instance(), Service: g.home, KeptBack: g.kept})
	}
	return out
}

// Restored returns the leases for the registrations that New read from StateDir and that have not been released. The
// caller releases them once it has waited long enough for their servers to come back.
func (r *Registry) Restored() []*Lease {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.restored)
}

// Subscribe calls fn for each index published after the one that it returns, in order, one call at a time. changed are
// the hosts, sorted, whose service was added, removed or changed in any way; it may be empty when only the Model is
// new. fn must not call the registry, except Index, and should return soon. After cancel has returned fn is not called
// any more.
func (r *Registry) Subscribe(fn func(changed []string, x *Index)) (x *Index, cancel func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := &fn
	if !r.closed {
		r.subscribers[key] = true
	}
	return r.index.Load(), func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.subscribers, key)
	}
}
