package meshtest

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/srvframe"
	"github.com/meshframe/meshframe/xdsserver"
)

// yamlFile is the name under which messages speak of the test's YAML.
const yamlFile = "meshtest.yaml"

// Option changes how a Mesh is set up.
type Option func(*options)

type options struct {
	server xdsserver.Options
	logger *slog.Logger
	memory *memory
}

// WithServerOptions changes the options of the embedded control plane. By
// default it lets any server register, reads and writes no files, and knows only
// the hosts of the YAML and of servers: a test should not reach for the network.
// Where the mesh under test lets unknown hosts pass, set OutboundPolicy to
// xdsserver.AllowAny.
func WithServerOptions(change func(*xdsserver.Options)) Option {
	return func(o *options) { change(&o.server) }
}

// WithLogger sets where the control plane and the members log. The default is
// the log of the test, from level Warn on.
func WithLogger(logger *slog.Logger) Option {
	return func(o *options) { o.logger = logger }
}

// InMemory lets servers listen, and clients dial them, in the memory of the
// process instead of on loopback. Nothing then waits for the operating system, so
// that the test may run in a bubble of testing/synctest: timeouts, ejections and
// whatever else takes its time pass at once, and last to the nanosecond.
//
// Targets that stay outside the mesh are dialled as ever.
func InMemory() Option {
	return func(o *options) { o.memory = newMemory() }
}

// Mesh is a mesh that lasts as long as its test. Its methods fail the test
// where they cannot do what they say, and must be called from its goroutine.
type Mesh struct {
	t       testing.TB
	logger  *slog.Logger
	control *xdsserver.Server
	memory  *memory // nil: servers listen on loopback
	fence   *fence

	// Only used by the test's goroutine.
	client   *Member // of Mesh.Client; nil until it is called
	batching bool    // Batch waits for what is done meanwhile

	mu      sync.Mutex
	yaml    string
	members []*Member
	servers []*Server
}

// New starts a mesh with Istio and Kubernetes YAML, which may be empty or hold
// several documents. YAML with errors fails the test, which then lists them all
// with their lines.
func New(t testing.TB, yaml string, opts ...Option) *Mesh {
	t.Helper()
	o := options{logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))}
	o.server = xdsserver.Options{
		OutboundPolicy:  xdsserver.RegistryOnly,
		SystemNamespace: fenceNamespace, // Sidecars do not hide the fence
		RestartGrace:    1,              // nothing was registered before the test
	}
	for _, opt := range opts {
		opt(&o)
	}
	if o.server.Logger == nil {
		o.server.Logger = o.logger
	}
	control, err := xdsserver.New(t.Context(), o.server)
	if err != nil {
		t.Fatalf("meshtest: start the control plane: %v", err)
	}
	m := &Mesh{t: t, logger: o.logger, control: control, memory: o.memory}
	t.Cleanup(m.close)
	if m.fence, err = newFence(m.memory); err != nil {
		t.Fatalf("meshtest: %v", err)
	}
	m.Apply(yaml)
	return m
}

// Apply replaces the mesh's YAML and returns when every member goes by it. YAML
// with errors fails the test.
func (m *Mesh) Apply(yaml string) {
	m.t.Helper()
	if err := m.apply(yaml); err != nil {
		m.t.Fatalf("meshtest: %v", err)
	}
}

// Sync returns when every member of the mesh knows of everything that happened
// before: servers that registered or stopped, changes made through ControlPlane.
func (m *Mesh) Sync() {
	m.t.Helper()
	m.Apply(m.yaml)
}

// Batch runs f, in which Apply, Sync and Server do not wait until every member
// knows what they did, and then waits for all of it: for tests that start many
// servers, which is much faster so.
func (m *Mesh) Batch(f func()) {
	m.t.Helper()
	m.batching = true
	f()
	m.batching = false
	m.Sync()
}

// ControlPlane returns the embedded control plane.
func (m *Mesh) ControlPlane() *xdsserver.Server { return m.control }

// Dial connects to the address of a server, in the network that the mesh has: for
// clients with a dialer of their own, and those outside the mesh.
func (m *Mesh) Dial(ctx context.Context, address string) (net.Conn, error) {
	if m.memory != nil {
		return m.memory.dial(ctx, address)
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", address)
}

// Client returns a client for the target, such as "reviews:9080", that is a
// member of the mesh without labels. It is closed with the test.
func (m *Mesh) Client(target string, opts ...grpc.DialOption) *grpc.ClientConn {
	m.t.Helper()
	if m.client == nil {
		m.client = m.Member(srvframe.Options{})
	}
	return m.client.Client(target, opts...)
}

// Member returns a further member of the mesh, as a process of its own that joins
// it with the options: its namespace, labels and locality, the fallbacks that it
// has, the service that its servers stand for. How the control plane is reached,
// DrainDelay and, unless there is one, Logger are the Mesh's. It leaves with the
// test.
func (m *Mesh) Member(o srvframe.Options) *Member {
	m.t.Helper()
	o.Dialer, o.DrainDelay = m.control.Dialer(), -1
	if o.Logger == nil {
		o.Logger = m.logger
	}
	joined, err := srvframe.Join(m.t.Context(), o)
	if err != nil {
		m.t.Fatalf("meshtest: %v", err)
	}
	p := &Member{of: m, service: o.Service, mesh: joined}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.members = append(m.members, p)
	return p
}

// Server starts a server that stands for the service, such as "reviews:9080",
// with the labels that subsets select by. register puts the implementations into
// it. Server returns when the mesh sends calls to it. It stops with the test.
func (m *Mesh) Server(service string, labels map[string]string, register func(grpc.ServiceRegistrar), opts ...grpc.ServerOption) *Server {
	m.t.Helper()
	return m.Member(srvframe.Options{Service: service, Labels: labels}).Server(register, opts...)
}

// registered waits until the control plane and all members know of a server that
// has asked to be registered.
func (m *Mesh) registered(s *Server) error {
	// What the server's own member asks for next comes after that on its stream.
	if err := m.fence.pass(m.t.Context(), s.member); err != nil {
		return err
	}
	if m.batching {
		return nil
	}
	return m.apply(m.yaml)
}

// acceptance tells when its listener is first asked for a connection.
type acceptance struct {
	net.Listener

	begun chan struct{}
	once  sync.Once
}

// Accept waits for a connection.
func (a *acceptance) Accept() (net.Conn, error) {
	a.once.Do(func() { close(a.begun) })
	return a.Listener.Accept()
}

// apply hands the YAML to the control plane, together with that of the fence,
// and waits until every member is past it.
func (m *Mesh) apply(yaml string) error {
	m.mu.Lock()
	m.yaml = yaml
	members := slices.DeleteFunc(slices.Clone(m.members), func(p *Member) bool { return p.dead })
	m.mu.Unlock()
	rounds := 2 // the second is for what arrived in one message with the first
	if m.batching {
		rounds, members = 1, nil
	}
	for range rounds {
		files := map[string][]byte{yamlFile: []byte(yaml), fenceFile: m.fence.next()}
		if _, err := m.control.Apply(files); err != nil {
			return err
		}
		for _, member := range members {
			if err := m.fence.pass(m.t.Context(), member); err != nil {
				return err
			}
		}
	}
	return nil
}

// close ends everything, users of a thing before the thing.
func (m *Mesh) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, member := range m.members {
		errs = append(errs, member.closeClients())
	}
	for _, server := range m.servers {
		server.Stop()
	}
	for _, member := range m.members {
		errs = append(errs, member.mesh.Close())
	}
	errs = append(errs, m.control.Close())
	m.fence.close()
	if err := errors.Join(errs...); err != nil {
		m.t.Errorf("meshtest: %v", err)
	}
}

// Server is a server of a Mesh.
type Server struct {
	mesh   *Mesh
	member *Member
	server *srvframe.Server
	addr   string
	done   sync.WaitGroup // the goroutine in Serve
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() string { return s.addr }

// Client returns a client for the target that is the same member of the mesh as
// the server, with its labels: what the server's implementation calls others
// with. It is closed with the test.
func (s *Server) Client(target string, opts ...grpc.DialOption) *grpc.ClientConn {
	s.mesh.t.Helper()
	return s.member.Client(target, opts...)
}

// Stop withdraws the server from the mesh and stops it at once. Mesh.Sync
// returns when all members know of it. It may be called more than once.
func (s *Server) Stop() {
	s.server.Stop()
	s.done.Wait()
}

// Kill stops the server as a crash of its process would: its calls break off and
// so does its stream to the control plane, which gives a lost server some time
// to come back (xdsserver.Options.LeaseGrace). Until then members learn of it
// from their calls.
func (s *Server) Kill() {
	s.mesh.t.Helper()
	s.mesh.mu.Lock()
	s.member.dead = true
	s.mesh.mu.Unlock()
	if err := s.member.mesh.Close(); err != nil {
		s.mesh.t.Errorf("meshtest: %v", err)
	}
	s.Stop()
}

// Member is one membership in a Mesh, with the clients and servers made from it.
// Its methods fail the test where they cannot do what they say, and must be called
// from its goroutine.
type Member struct {
	of      *Mesh
	service string // that its servers stand for
	mesh    *srvframe.Mesh
	dead    bool // guarded by the Mesh: it left

	mu      sync.Mutex
	clients []*grpc.ClientConn
}

// Client returns a client for the target that is this member of the mesh. It is
// closed with the test.
func (p *Member) Client(target string, opts ...grpc.DialOption) *grpc.ClientConn {
	p.of.t.Helper()
	cc, err := p.newClient(target, opts...)
	if err != nil {
		p.of.t.Fatalf("meshtest: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients = append(p.clients, cc)
	return cc
}

// newClient makes a client that dials in the Mesh's network. In memory a target
// without a scheme is the mesh's too: nobody else knows it.
func (p *Member) newClient(target string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	if p.of.memory == nil {
		return p.mesh.NewClient(target, opts...)
	}
	scheme, _, found := strings.Cut(target, ":///")
	if !found {
		scheme, target = "mesh", "mesh:///"+target
	}
	if scheme == "mesh" || scheme == "xds" {
		opts = append([]grpc.DialOption{srvframe.WithContextDialer(p.of.memory.dial)}, opts...)
	}
	return p.mesh.NewClient(target, opts...)
}

// Server starts a server of this member, which stands for the service that the
// member joined with. It is as Mesh.Server is.
func (p *Member) Server(register func(grpc.ServiceRegistrar), opts ...grpc.ServerOption) *Server {
	m := p.of
	m.t.Helper()
	lis, err := listen(m.memory)
	if err != nil {
		m.t.Fatalf("meshtest: %v", err)
	}
	s := &Server{mesh: m, member: p, server: p.mesh.NewServer(opts...), addr: lis.Addr().String()}
	accepting := &acceptance{Listener: lis, begun: make(chan struct{})}
	register(s.server)
	m.mu.Lock()
	m.servers = append(m.servers, s)
	m.mu.Unlock()
	s.done.Go(func() {
		// That it was stopped before it began is no failure.
		if err := s.server.Serve(accepting); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			m.logger.Error("meshtest: server", "service", p.service, "error", err)
		}
	})
	<-accepting.begun // it has asked to be registered
	if err := m.registered(s); err != nil {
		m.t.Fatalf("meshtest: server of %s: %v", p.service, err)
	}
	return s
}

func (p *Member) closeClients() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, cc := range p.clients {
		// A test may have closed its client itself.
		if err := cc.Close(); err != nil && status.Code(err) != codes.Canceled {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
