package srvframe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/resolver/bootstrap"
	"github.com/meshframe/meshframe/resolver/watch"
)

var (
	// ErrNoMesh is returned for a mesh:/// target in a process whose
	// environment names no mesh.
	ErrNoMesh = errors.New("the environment names no mesh: set " + envXDS + " or " + bootstrap.EnvFile + ", or use Join")
	// ErrMeshClosed is returned for a target of a mesh that was closed.
	ErrMeshClosed = errors.New("the mesh is closed")
)

// DefaultDrainDelay is how long GracefulStop serves on after it withdrew the
// server. The withdrawal takes a control plane a few milliseconds to spread;
// the rest is for round trips to clients far away. A client that learns of it
// later loses no call: it is told when it next uses the connection.
const DefaultDrainDelay = 200 * time.Millisecond

// Options say how Join joins a mesh. Exactly one of XDS and Bootstrap names the
// control plane, or Dialer alone reaches one in memory.
type Options struct {
	// XDS is the address of the control plane, such as "127.0.0.1:15010"; the
	// connection is not encrypted.
	XDS string
	// Bootstrap is gRPC's xDS bootstrap, JSON. It brings servers, credentials
	// and node; the fields below are added to its node.
	Bootstrap []byte
	// Dialer makes the connections to the control plane. The default dials.
	// That of an embedded xdsserver needs neither XDS nor Bootstrap.
	Dialer func(ctx context.Context, address string) (net.Conn, error)

	// Service is what servers of this mesh stand for: host:port of the service,
	// such as "reviews:9080", where host may be short. Several are separated by
	// commas; "reviews:9080=7000" is the server that listens on port 7000, where
	// a process has more than one. Empty means that servers are not registered
	// under a name of theirs.
	Service string
	// Namespace completes short names; default "default". It is a label of RFC 1123.
	Namespace string
	// Labels are those of the servers, which subsets select by.
	Labels map[string]string
	// Address is the IP address at which others reach this process; it is
	// registered for a server that listens on all addresses. The default is
	// the address from which the control plane sees this process.
	Address string
	// Locality is where this process runs, as region/zone/subzone, of which the
	// later parts may be left out: which endpoints are near, and where its servers
	// are for others. Empty means unknown.
	Locality string

	// Fallbacks are functions that answer unary calls in place of a server, by the
	// name with which a fallback of the configuration asks for one (MeshPolicy's
	// fallback.function). They run when a call finds no endpoint, or the breaker
	// refuses it. nil is none.
	Fallbacks map[string]Fallback
	// StateDir is a directory of this process, or of replicas of it, in which the
	// configuration that was accepted last is kept: it is used when the process
	// starts while no control plane can be reached. It is created if need be.
	// Empty keeps nothing.
	StateDir string

	// DrainDelay is how long GracefulStop serves on between withdrawing a
	// server from the mesh and refusing new calls. Zero means
	// DefaultDrainDelay; a negative value means no delay.
	DrainDelay time.Duration
	// Logger receives what an operator should know. Default slog.Default().
	Logger *slog.Logger
}

// Fallback answers a unary call of the method in place of a server. It gets the
// call as its caller made it, before the route's rewrites and edits. It fills reply,
// of the type that the caller expects, or returns an error, which is the call's. Calls
// run it at the same time as each other.
type Fallback func(ctx context.Context, method string, req, reply any) error

// Mesh is a membership in a mesh: clients and servers made from it share one
// connection to the control plane and one engine. Where the bootstrap names
// several control planes each target has a connection of its own, so that one
// that has to fall back leaves the others where they are (gRFC A71). What the mesh
// keeps for a target goes some seconds after the last client to it was closed. Several
// meshes in a process know nothing of each other. Its methods are safe for
// concurrent use.
type Mesh struct {
	setup // never written after Join

	clients     *clients
	watch       *watch.Manager
	withdrawals *withdrawals
	said        said

	ctx       context.Context // ends with Close
	cancel    context.CancelFunc
	mu        sync.Mutex     // held while followers is added to, and while done is set
	followers sync.WaitGroup // of channels, until they are closed
	done      atomic.Bool
	closeOnce sync.Once
	closeErr  error
}

// Join joins the mesh that the options name. It returns without waiting for the
// control plane, which is connected when the first client or server needs it:
// what calls do until then is written in docs/failures.md. ctx bounds the
// joining, not the life of the mesh, which ends with Close.
func Join(ctx context.Context, o Options) (*Mesh, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("srvframe: join: %w", err)
	}
	m, err := join(o, nil)
	if err != nil {
		return nil, fmt.Errorf("srvframe: join: %w", err)
	}
	return m, nil
}

// join makes a mesh of checked options. given is a bootstrap that was read
// already, or nil.
func join(o Options, given *bootstrap.Config) (*Mesh, error) {
	setup, err := o.setup(given)
	if err != nil {
		return nil, err
	}
	return setup.join()
}

func (s *setup) join() (*Mesh, error) {
	leaving := &withdrawals{}
	ofServers := s.ads
	ofServers.Servers = slices.Clone(s.ads.Servers)
	for i := range ofServers.Servers {
		ofServers.Servers[i].DialOptions = []grpc.DialOption{grpc.WithChainStreamInterceptor(leaving.intercept)}
	}
	clients, err := newClients(ofServers, s.ads, s.stateDir)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Mesh{
		setup:       *s,
		ctx:         ctx,
		cancel:      cancel,
		clients:     clients,
		withdrawals: leaving,
		watch: watch.New(watch.Config{
			Client: clients.first, ClientOf: clients.of, Ended: clients.ended, Engine: mesh.New(mesh.Options{}), Logger: s.logger,
			ReturnLinger: s.returnLinger, ListenerTemplate: s.bootstrap.ClientDefaultListenerResourceNameTemplate,
		}),
	}, nil
}

// Close leaves the mesh: servers that still serve are withdrawn, the connection
// to the control plane ends, and everything that the mesh started has stopped
// when Close returns. Clients and servers are their owners' to close, best
// before; a client's calls keep the configuration that was last known. Close may
// be called more than once, and from several goroutines.
func (m *Mesh) Close() error {
	m.closeOnce.Do(func() {
		m.mu.Lock()
		m.done.Store(true)
		m.mu.Unlock()
		m.cancel()
		m.followers.Wait()
		m.watch.Close()
		m.closeErr = m.clients.close()
	})
	return m.closeErr
}

// closed reports whether Close was called.
func (m *Mesh) closed() bool { return m.done.Load() }

// said remembers what was logged once. The zero value is ready.
type said struct {
	mu   sync.Mutex
	keys map[string]struct{}
}

// maxSaid bounds what is remembered, and with it what is logged.
const maxSaid = 1000

// once runs say unless it ran for the key before.
func (s *said) once(key string, say func()) {
	s.mu.Lock()
	_, again := s.keys[key]
	full := len(s.keys) >= maxSaid
	if s.keys == nil {
		s.keys = map[string]struct{}{}
	}
	if !again && !full {
		s.keys[key] = struct{}{}
	}
	s.mu.Unlock()
	if !again && !full {
		say()
	}
}
