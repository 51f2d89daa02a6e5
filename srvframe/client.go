package srvframe

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/meshframe/meshframe/interceptors"
	"github.com/meshframe/meshframe/resolver"
	"github.com/meshframe/meshframe/resolver/watch"
)

// NewClient makes a client for the target, as [grpc.NewClient] does; nothing is
// connected before it is needed. A target of the mesh that the environment
// names goes through that mesh: host:port without a scheme (the port defaults
// to 443, as in gRPC), mesh:///host:port and xds:///host:port. Other schemes,
// localhost, IP addresses and bare targets with a custom dialer are left to
// gRPC, which is logged once for each target. Without a mesh in the
// environment every target is left to gRPC; a mesh:/// target is then an error.
//
// Credentials need not be given for a target of the mesh. The caller's client
// interceptors run once for each call, around the mesh's own.
//
// An environment that names a mesh but cannot be read is an error here, for
// every target that would go through it.
func NewClient(target string, opts ...DialOption) (*ClientConn, error) {
	return dialEnvironment(target, opts, grpc.NewClient)
}

// Dial calls DialContext with the background context.
//
// Deprecated: as [grpc.Dial] is, whose comment names the replacement.
func Dial(target string, opts ...DialOption) (*ClientConn, error) {
	return DialContext(context.Background(), target, opts...)
}

// DialContext is [grpc.DialContext] with NewClient's rules for targets of the
// mesh. With WithBlock it returns once some endpoint of the target is
// connected.
//
// Deprecated: as [grpc.DialContext] is, whose comment names the replacement.
func DialContext(ctx context.Context, target string, opts ...DialOption) (*ClientConn, error) {
	return dialEnvironment(target, opts, func(target string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
		return grpc.DialContext(ctx, target, opts...)
	})
}

// dialer is the function of gRPC that makes a client.
type dialer func(target string, opts ...grpc.DialOption) (*grpc.ClientConn, error)

// dialEnvironment makes a client in the mesh of the environment if there is
// one, and with plain gRPC otherwise.
func dialEnvironment(target string, opts []grpc.DialOption, dial dialer) (*grpc.ClientConn, error) {
	passTracing()
	mesh, ok, err := environment.join()
	if ok && err == nil {
		return mesh.dial(target, opts, dial)
	}
	if err == nil && !isMeshTarget(target) {
		return dial(target, opts...)
	}
	to, bad := resolve(target, readDialOptions(opts))
	switch {
	case bad != nil:
		return nil, bad
	case to.outside != "":
		return dial(target, opts...)
	case err != nil:
		return nil, err
	}
	return nil, fmt.Errorf("srvframe: target %q: %w", target, ErrNoMesh)
}

// NewClient makes a client for the target in this mesh, by the rules of the
// package's NewClient.
func (m *Mesh) NewClient(target string, opts ...DialOption) (*ClientConn, error) {
	passTracing()
	return m.dial(target, opts, grpc.NewClient)
}

// dial makes a client through the mesh, or outside it where the target says so.
func (m *Mesh) dial(target string, opts []grpc.DialOption, dial dialer) (*grpc.ClientConn, error) {
	options := readDialOptions(opts)
	to, err := resolve(target, options)
	if err != nil {
		return nil, err
	}
	if to.outside != "" {
		m.said.once("outside "+target, func() {
			m.logger.Info("srvframe: target stays outside the mesh", "target", target, "reason", to.outside)
		})
		return dial(target, opts...)
	}
	if m.closed() {
		return nil, fmt.Errorf("srvframe: target %q: %w", target, ErrMeshClosed)
	}
	config, err := m.serviceConfig(to.host, options)
	if err != nil {
		return nil, fmt.Errorf("srvframe: target %q: %w", target, err)
	}
	t := m.watch.Target(to.host)
	calls := m.interceptors(t, options, config)
	cc, err := m.dialTarget(resolver.Scheme+":///"+to.host, options, dialOptions(t, calls, config, opts), dial)
	if err != nil {
		t.Return()
		return nil, err
	}
	m.follow(cc, t, calls)
	return cc, nil
}

// follow gives the target back when cc is closed, which gRPC tells nobody but
// those who watch its state.
func (m *Mesh) follow(cc *grpc.ClientConn, t *watch.Target, calls *interceptors.Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed() {
		return
	}
	m.followers.Go(func() {
		for state := cc.GetState(); state != connectivity.Shutdown; state = cc.GetState() {
			if !cc.WaitForStateChange(m.ctx, state) {
				return
			}
		}
		calls.Close()
		t.Return()
	})
}

// clientConfig is the service config of a client, for gRPC and for the interceptors.
type clientConfig struct {
	json    string
	methods func(method string) interceptors.MethodConfig
}

// serviceConfig puts the mesh into the caller's service config.
func (m *Mesh) serviceConfig(host string, options dialRecord) (clientConfig, error) {
	config, dropped, err := meshServiceConfig(options.serviceConfig)
	if err != nil {
		return clientConfig{}, err
	}
	if len(dropped) > 0 {
		m.said.once("config "+host, func() {
			m.logger.Warn("srvframe: the mesh takes the place of part of the default service config", "target", host, "ignored", dropped)
		})
	}
	methods, err := methodConfigs(options.serviceConfig)
	return clientConfig{config, methods}, err
}

// interceptors are those of a client.
func (m *Mesh) interceptors(t *watch.Target, options dialRecord, config clientConfig) *interceptors.Client {
	seen := options.clientOptions()
	seen.MethodConfig = config.methods
	seen.Fallbacks = m.fallbacks
	if m.address.IsValid() {
		seen.Source = m.address.String()
	}
	return interceptors.NewClient(t, seen)
}

// dialOptions puts the mesh among the caller's options. Its resolver comes
// first, so that no other serves its scheme; its interceptors come last, so that
// the caller's run around them; its service config replaces the caller's, which
// it contains.
func dialOptions(t *watch.Target, calls *interceptors.Client, config clientConfig, callers []grpc.DialOption) []grpc.DialOption {
	return slices.Concat(
		// A dialer of the caller comes later and takes the place of ours.
		[]grpc.DialOption{grpc.WithResolvers(resolver.NewBuilder(t)), grpc.WithContextDialer(calls.Dial)},
		within(calls, callers),
		[]grpc.DialOption{
			grpc.WithDefaultServiceConfig(config.json),
			grpc.WithChainUnaryInterceptor(calls.Unary()),
			grpc.WithChainStreamInterceptor(calls.Stream),
		},
	)
}

// clientOptions says what header matchers see of a client's calls.
func (r dialRecord) clientOptions() interceptors.ClientOptions {
	options := interceptors.ClientOptions{Scheme: "http", UserAgent: grpcUserAgent, EnvoyRequestHeaders: r.envoyHeaders}
	if r.secure {
		options.Scheme = "https"
	}
	if r.userAgent != "" {
		options.UserAgent = r.userAgent + " " + grpcUserAgent
	}
	return options
}

// grpcUserAgent is the user agent of gRPC, which a caller's own precedes.
const grpcUserAgent = "grpc-go/" + grpc.Version

// dialTarget makes the client, with the mesh's credentials where the caller
// gives none. An option made by package grpc does not say what it sets; gRPC is
// asked, which refuses to make a client without credentials.
func (m *Mesh) dialTarget(target string, options dialRecord, opts []grpc.DialOption, dial dialer) (*grpc.ClientConn, error) {
	if options.credentials {
		return dial(target, opts...)
	}
	if probe, err := grpc.NewClient(target, opts...); err == nil {
		_ = probe.Close() // it never connected
		return dial(target, opts...)
	}
	cc, err := dial(target, append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, opts...)...)
	if err == nil {
		m.said.once("insecure", func() {
			m.logger.Info("srvframe: calls in the mesh are not encrypted: it has no identity yet", "target", target)
		})
	}
	return cc, err
}
