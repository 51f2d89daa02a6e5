package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"google.golang.org/grpc/metadata"

	"github.com/meshframe/meshframe/examples/bookinfo/bookinfopb"
	grpc "github.com/meshframe/meshframe/srvframe"
)

// port is the port of every service of bookinfo, as its callers name it. Where
// a member really listens is for the mesh to know.
const port = "9080"

// endUser is the header that carries who is logged in from service to service;
// Istio's rules match it.
const endUser = "end-user"

// member is one member of the mesh. In a cluster it would be a process of its
// own; here each has its own membership, server and clients, and none knows of
// the others but by name.
type member struct {
	service, version string

	mesh    *grpc.Mesh
	server  *grpc.Server
	clients []*grpc.ClientConn
	address string

	// closing ends what outlives the calls that started it.
	closing context.Context //nolint:containedctx // it stands for the member's life
	end     context.CancelFunc
	served  chan error // the result of Serve; nil if it does not serve
}

// join joins the mesh as version of service.
func join(ctx context.Context, dial dialer, service, version string, logger *slog.Logger) (*member, error) {
	logger = logger.With("member", service+"-"+version)
	mesh, err := grpc.Join(ctx, grpc.Options{
		Dialer:  dial,
		Service: net.JoinHostPort(service, port),
		Labels:  map[string]string{"app": service, "version": version},
		Logger:  logger,
	})
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", service, version, err)
	}
	m := &member{service: service, version: version, mesh: mesh, server: mesh.NewServer()}
	m.closing, m.end = context.WithCancel(context.WithoutCancel(ctx))
	return m, nil
}

// dialer reaches the control plane.
type dialer = func(ctx context.Context, address string) (net.Conn, error)

// client returns a client of another service, by its name alone.
func (m *member) client(service string) (*grpc.ClientConn, error) {
	conn, err := m.mesh.NewClient(net.JoinHostPort(service, port))
	if err != nil {
		return nil, fmt.Errorf("%s %s: client of %s: %w", m.service, m.version, service, err)
	}
	m.clients = append(m.clients, conn)
	return conn, nil
}

// serve serves on a port of its own, which registers the member in the mesh.
func (m *member) serve(ctx context.Context) error {
	var lc net.ListenConfig
	lis, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("%s %s: %w", m.service, m.version, err)
	}
	m.address = lis.Addr().String()
	m.served = make(chan error, 1)
	go func() { m.served <- m.server.Serve(lis) }()
	return nil
}

// close leaves the mesh first, then waits for calls under way until ctx ends.
func (m *member) close(ctx context.Context) error {
	m.end()
	stop := context.AfterFunc(ctx, m.server.Stop)
	defer stop()
	m.server.GracefulStop()
	var errs []error
	if m.served != nil {
		errs = append(errs, <-m.served)
	}
	for _, conn := range m.clients {
		errs = append(errs, conn.Close())
	}
	errs = append(errs, m.mesh.Close())
	return errors.Join(errs...)
}

// identity tells callers who answered.
func (m *member) identity() *bookinfopb.Server {
	return &bookinfopb.Server{Service: m.service, Version: m.version, Address: m.address}
}

// as returns a context whose calls are made for user; "" is nobody.
func as(ctx context.Context, user string) context.Context {
	if user == "" {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, endUser, user)
}

// user returns for whom an incoming call is made.
func user(ctx context.Context) string {
	if v := metadata.ValueFromIncomingContext(ctx, endUser); len(v) > 0 {
		return v[0]
	}
	return ""
}
