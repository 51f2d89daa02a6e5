package watch

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/decode"
	"github.com/meshframe/meshframe/resolver/xdsclient"
)

// The type URLs of the resources that a target is joined from.
const (
	listenerURL = "type.googleapis.com/envoy.config.listener.v3.Listener"
	routeURL    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	clusterURL  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	endpointURL = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
)

// ErrClosed is what calls get from a mesh that was closed.
var ErrClosed = errors.New("mesh is closed")

// Config is what a Manager works with.
type Config struct {
	// Client delivers the resources. It is not closed by the Manager.
	Client *xdsclient.Client
	// ClientOf, if set, returns the client that delivers the resources of a target,
	// in place of Client; that of inbound listeners is Client in any case. It is
	// asked whenever a target is subscribed to, and returns the same client for the
	// same target until that was given back.
	ClientOf func(target string) *xdsclient.Client
	// Ended, if set, is told of a target that was given back, when nothing watches
	// for it any more. It must not block, nor call the Manager.
	Ended func(target string)
	// Engine builds the snapshots.
	Engine *mesh.Engine
	// Logger; default slog.Default().
	Logger *slog.Logger
	// ListenerTemplate turns a target into the name of its listener: %s stands
	// for the target. Default "%s". See client_default_listener_resource_name_template
	// in gRPC's bootstrap.
	ListenerTemplate string
	// Linger is how long a subscription outlives its last borrower; default
	// one hour, so that a channel that was idle wakes with its configuration.
	Linger time.Duration
	// ReturnLinger is how long a target that everybody has given back is kept;
	// default 10 s, for programs that make a channel for each few calls.
	ReturnLinger time.Duration
	// WarmTimeout is how long new routes wait for their clusters, and how long
	// a target may be without any configuration before fail-fast calls fail;
	// default 15 s.
	WarmTimeout time.Duration
	// LookupHost resolves the hosts of DNS clusters to addresses; default
	// net.DefaultResolver. It must return when ctx ends.
	LookupHost func(ctx context.Context, host string) ([]string, error)
}

// Manager owns the subscriptions of one mesh. Its methods are safe for
// concurrent use.
type Manager struct {
	cfg       Config
	listeners *xdsclient.ResourceType[*snapshot.Listener]
	routes    *xdsclient.ResourceType[*snapshot.RouteConfiguration]
	clusters  *xdsclient.ResourceType[*snapshot.Cluster]
	endpoints *xdsclient.ResourceType[*snapshot.ClusterLoadAssignment]

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	applied chan struct{} // one slot: the ticker looks again

	mu      sync.Mutex
	targets map[string]*Target
}

// New returns a Manager that is ready to hand out targets.
func New(cfg Config) *Manager {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.ListenerTemplate == "" {
		cfg.ListenerTemplate = "%s"
	}
	if cfg.Linger == 0 {
		cfg.Linger = time.Hour
	}
	if cfg.ReturnLinger == 0 {
		cfg.ReturnLinger = 10 * time.Second
	}
	if cfg.WarmTimeout == 0 {
		cfg.WarmTimeout = 15 * time.Second
	}
	if cfg.LookupHost == nil {
		cfg.LookupHost = lookupHost
	}
	m := &Manager{cfg: cfg, targets: map[string]*Target{}, applied: make(chan struct{}, 1)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	notes := &notes{log: cfg.Logger, said: map[string]string{}}
	m.listeners = resourceType("Listener", listenerURL, true, notes, decode.Listener)
	m.routes = resourceType("RouteConfiguration", routeURL, false, notes, decode.RouteConfiguration)
	m.clusters = resourceType("Cluster", clusterURL, true, notes, decode.Cluster)
	m.endpoints = resourceType("ClusterLoadAssignment", endpointURL, false, notes, decode.ClusterLoadAssignment)
	m.wg.Go(m.tick)
	return m
}

func resourceType[T any](name, url string, fullState bool, n *notes, dec func(string, []byte) decode.Result[T]) *xdsclient.ResourceType[T] {
	return &xdsclient.ResourceType[T]{TypeURL: url, Name: name, FullState: fullState, Decode: func(resource string, body []byte) xdsclient.Decoded[T] {
		r := dec(resource, body)
		n.say(name, r.Name, r.Notes)
		return xdsclient.Decoded[T]{Name: r.Name, Value: r.Value, Usable: r.Usable, Err: r.Err}
	}}
}

// notes logs what a resource asks for and the engine does not do, once for
// each resource and change of the list.
type notes struct {
	log  *slog.Logger
	mu   sync.Mutex
	said map[string]string
}

func (n *notes) say(kind, name string, notes []string) {
	text := strings.Join(notes, "; ")
	key := kind + " " + name
	n.mu.Lock()
	before := n.said[key]
	if text == "" {
		delete(n.said, key)
	} else {
		n.said[key] = text
	}
	n.mu.Unlock()
	if text != "" && text != before {
		n.log.Warn("configuration is not honoured in full", "type", kind, "name", name, "notes", text)
	}
}

// Target returns the handle of the target called name, such as "reviews:9080".
// It subscribes to nothing until it is acquired. It is kept until Return was called
// as often as Target, or until Close.
func (m *Manager) Target(name string) *Target {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := m.targets[name]
	if t != nil && t.parting != nil {
		t.parting.Stop()
		t.parting = nil
	}
	if t == nil {
		t = &Target{m: m, name: name, changed: make(chan struct{})}
		if m.ctx.Err() != nil {
			t.err = ErrClosed
		}
		m.targets[name] = t
	}
	t.users++
	return t
}

// part forgets a target that nobody uses.
func (m *Manager) part(t *Target) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if t.users > 0 || m.targets[t.name] != t || m.ctx.Err() != nil {
		return
	}
	delete(m.targets, t.name)
	t.end()
	if m.cfg.Ended != nil {
		m.cfg.Ended(t.name)
	}
}

// WatchListener subscribes to an inbound listener for as long as the server
// serves; the subscription is what registers the server. f is told of every
// version, one call at a time: a nil listener with an error says that there is
// none. cancel ends the subscription.
func (m *Manager) WatchListener(name string, f func(*snapshot.Listener, error)) (cancel func()) {
	return xdsclient.Watch(m.cfg.Client, m.listeners, name, listenerWatcher(f))
}

type listenerWatcher func(*snapshot.Listener, error)

func (f listenerWatcher) Update(u xdsclient.Update[*snapshot.Listener], done func()) {
	f(u.Value, u.Err)
	done()
}

func (f listenerWatcher) Missing(_ string, err error, done func()) { f(nil, err); done() }
func (f listenerWatcher) Error(_ string, err error, done func())   { f(nil, err); done() }

// Engine returns the engine that decides for the Manager's targets.
func (m *Manager) Engine() *mesh.Engine { return m.cfg.Engine }

// Close ends every subscription and waits for the Manager's goroutines. What
// was published stays published. It may be called twice.
func (m *Manager) Close() {
	m.cancel()
	m.mu.Lock()
	targets := make([]*Target, 0, len(m.targets))
	for _, t := range m.targets {
		targets = append(targets, t)
		if t.parting != nil {
			t.parting.Stop()
		}
	}
	m.mu.Unlock()
	for _, t := range targets {
		t.close()
	}
	m.wg.Wait()
}

// tick drives what the engine does as time passes.
func (m *Manager) tick() {
	timer := time.NewTimer(math.MaxInt64)
	defer timer.Stop()
	for {
		now := time.Now()
		next, changed := m.cfg.Engine.Tick(now)
		if changed {
			m.turn()
		}
		if !next.IsZero() {
			timer.Reset(next.Sub(now))
		}
		select {
		case <-m.ctx.Done():
			return
		case <-m.applied:
		case <-timer.C:
		}
	}
}

// turn tells all targets that hosts were ejected or came back.
func (m *Manager) turn() {
	m.mu.Lock()
	targets := slices.Collect(maps.Values(m.targets))
	m.mu.Unlock()
	for _, t := range targets {
		t.turn()
	}
}

// noteApplied makes the ticker look at clusters that were added.
func (m *Manager) noteApplied() {
	select {
	case m.applied <- struct{}{}:
	default:
	}
}
