package srvframe

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// Server is a [grpc.Server] that registers itself in the mesh while it serves.
// It has all methods of grpc.Server and can be used wherever an interface asks
// for some of them, such as ServiceRegistrar. Its methods are safe for
// concurrent use as those of grpc.Server are.
type Server struct {
	server  *grpc.Server
	mesh    *Mesh    // nil: plain gRPC
	inbound *inbound // nil without a mesh
	err     error    // why the mesh of the environment could not be joined

	stopped  chan struct{} // closed by Stop
	stopOnce sync.Once

	mu       sync.Mutex
	stopping bool
	told     <-chan struct{} // see deregister; nil until then
	leases   map[*lease]struct{}
}

// NewServer makes a server, as [grpc.NewServer] does. It belongs to the mesh
// that the environment names, if there is one; an environment that names a mesh
// but cannot be read is returned by Serve. The mesh's interceptors run before
// all others.
func NewServer(opts ...ServerOption) *Server {
	passTracing()
	mesh, ok, err := environment.join()
	switch {
	case err != nil:
		server := newServer(opts)
		server.err = err
		return server
	case ok:
		return mesh.NewServer(opts...)
	}
	return newServer(opts)
}

// NewServer makes a server that belongs to this mesh.
func (m *Mesh) NewServer(opts ...ServerOption) *Server {
	passTracing()
	in := newInbound(m.logger)
	server := newServer(serverOptions(opts, in.calls.Unary, in.calls.Stream))
	server.mesh, server.inbound = m, in
	return server
}

// newServer makes a server without a mesh.
func newServer(opts []grpc.ServerOption) *Server {
	return &Server{
		server: grpc.NewServer(opts...), stopped: make(chan struct{}), leases: map[*lease]struct{}{},
	}
}

// GRPC returns the server inside, for code that insists on the type. What is
// served or stopped through it is neither registered nor deregistered.
func (s *Server) GRPC() *grpc.Server { return s.server }

// RegisterService registers a service and its implementation, as
// [grpc.Server.RegisterService] does. It must be called before Serve.
func (s *Server) RegisterService(desc *ServiceDesc, impl any) { s.server.RegisterService(desc, impl) }

// GetServiceInfo returns the registered services by name.
func (s *Server) GetServiceInfo() map[string]ServiceInfo { return s.server.GetServiceInfo() }

// ServeHTTP serves one request, as [grpc.Server.ServeHTTP] does. The listener
// belongs to somebody else then: nothing is registered in the mesh.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.server.ServeHTTP(w, r) }

// Serve accepts connections on lis until Stop or GracefulStop, as
// [grpc.Server.Serve] does. While it runs, the address of lis is registered in
// the mesh under the services that the mesh was joined with; a listener that
// has no IP address is served without. Serve does not wait for the
// registration: a server works while the control plane is away.
func (s *Server) Serve(lis net.Listener) error {
	if s.err != nil {
		_ = lis.Close() // as gRPC does when it cannot serve
		return s.err
	}
	end, ok := s.register(lis.Addr())
	if !ok {
		_ = lis.Close() // as gRPC does when it cannot serve
		return grpc.ErrServerStopped
	}
	defer end()
	return s.server.Serve(lis)
}

// lease is the subscription to one inbound listener, which is what registers a
// server.
type lease struct {
	name   string
	cancel func() // may be called again
}

// register registers the address; ok is false when the server is stopping.
func (s *Server) register(addr net.Addr) (end func(), ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, false
	}
	if s.mesh == nil {
		return func() {}, true
	}
	address, err := s.mesh.inboundAddress(addr)
	if err != nil {
		s.mesh.logger.Warn("srvframe: server is not registered in the mesh", "address", addr.String(), "error", err)
		return func() {}, true
	}
	name := s.mesh.bootstrap.ServerListenerName(address)
	l := &lease{name: name, cancel: s.mesh.watch.WatchListener(name, s.inbound.watcher(address))}
	s.leases[l] = struct{}{}
	return func() {
		l.cancel()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.leases, l)
	}, true
}

// deregister withdraws every registration and lets none follow. The channel is
// closed when the control plane was told; nil means that there was none.
func (s *Server) deregister() (told <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopping = true
	if len(s.leases) == 0 {
		return nil
	}
	if s.told != nil { // nothing is withdrawn twice, nor sent again
		return s.told
	}
	names := make([]string, 0, len(s.leases))
	for l := range s.leases {
		names = append(names, l.name)
	}
	s.told = s.mesh.withdrawals.expect(names)
	for l := range s.leases {
		l.cancel()
	}
	return s.told
}

// GracefulStop withdraws the server from the mesh, serves on for the mesh's
// DrainDelay so that clients can learn of it, and then stops as
// [grpc.Server.GracefulStop] does: no new connections or calls, and a return
// when all calls under way are finished. Stop ends the wait.
func (s *Server) GracefulStop() {
	if s.deregister() != nil && s.mesh.drainDelay > 0 {
		timer := time.NewTimer(s.mesh.drainDelay)
		select {
		case <-timer.C:
		case <-s.stopped:
			timer.Stop()
		}
	}
	s.server.GracefulStop()
}

// Stop withdraws the server from the mesh and stops as [grpc.Server.Stop] does:
// at once, with all calls under way cancelled. It returns some milliseconds later,
// when the withdrawal is on its way, so that a program may end after it; a
// connection to the control plane that takes nothing does not hold it up.
func (s *Server) Stop() {
	told := s.deregister()
	s.stopOnce.Do(func() { close(s.stopped) })
	s.server.Stop()
	if told != nil {
		await(told)
	}
}

// inboundAddress returns the address that others reach a listener at. A
// wildcard becomes the mesh's own address; without one it stays, and the control
// plane takes the address that this process has for it.
func (m *Mesh) inboundAddress(addr net.Addr) (string, error) {
	if m.bootstrap.ServerListenerResourceNameTemplate == "" {
		return "", errors.New("the bootstrap has no server_listener_resource_name_template")
	}
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return "", fmt.Errorf("a %s listener has no IP address", addr.Network())
	}
	if tcp.IP.IsUnspecified() && m.address.IsValid() {
		return netip.AddrPortFrom(m.address, uint16(tcp.Port)).String(), nil
	}
	return tcp.String(), nil
}
