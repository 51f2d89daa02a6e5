package xdsserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/files"
	"github.com/meshframe/meshframe/xdsserver/registry"
	"github.com/meshframe/meshframe/xdsserver/translate"
)

// Server is a control plane. New starts it, Serve and Dialer let clients in, Close stops it. All methods are safe for
// concurrent use.
type Server struct {
	opts     Options
	log      *slog.Logger
	metrics  *metrics
	cache    *Cache
	builder  *builder
	registry *registry.Registry
	state    *files.Lock // of StateDir; nil without one
	leases   *leases
	grpc     *grpc.Server
	pipe     *pipeListener
	ctx      context.Context // ends when the server closes
	cancel   context.CancelFunc
	work     sync.WaitGroup // the goroutines of the server
	changes  *changes
	loader   *loader
	settling []*time.Timer // none when nothing has to settle

	closeOnce sync.Once
	closeErr  error
}

// New starts a control plane: the configuration is read and valid, or the error lists every problem that it has (as
// *config.Errors). With a StateDir that has a last good configuration, files that are bad are served as they were then;
// the problems are logged and shown by Admin. A StateDir that cannot be written to, or that another server uses, is an
// error. The context bounds the start only.
func New(ctx context.Context, opts Options) (*Server, error) {
	opts = opts.withDefaults()
	s := &Server{opts: opts, log: opts.Logger, metrics: newMetrics(), cache: NewCache(), pipe: newPipeListener(), changes: newChanges()}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.start(ctx); err != nil {
		s.cancel()
		return nil, errors.Join(err, s.unlock())
	}
	s.serveRegistry()
	s.grpc = grpc.NewServer(
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 20 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.grpc, service{server: s})
	s.goServe(s.pipe)
	return s, nil
}

// start takes the state directory and reads what is in it, and the configuration.
func (s *Server) start(ctx context.Context) (err error) {
	if s.opts.StateDir != "" {
		if s.state, err = files.NewLock(s.opts.StateDir); err != nil {
			return fmt.Errorf("the state directory %w", err)
		}
	}
	s.registry, err = registry.New(registry.Options{Policy: s.opts.Registration, StateDir: s.opts.StateDir, Logger: s.opts.Logger})
	if err != nil {
		return err
	}
	s.loader = newLoader(s.opts, s.metrics, s.configured)
	if err := s.loader.start(ctx); err != nil {
		return errors.Join(err, s.registry.Close())
	}
	return nil
}

// unlock lets another server have the state directory.
func (s *Server) unlock() error {
	if s.state == nil {
		return nil
	}
	return s.state.Release()
}

// serveRegistry begins to follow the registry.
func (s *Server) serveRegistry() {
	s.changes.serving.Lock() // the configuration may change already
	defer s.changes.serving.Unlock()
	x, cancel := s.registry.Subscribe(s.changes.add)
	context.AfterFunc(s.ctx, cancel)
	world := translate.NewWorld(x, s.opts.world(), nil)
	s.builder = newBuilder(world, s.cache, s.log, s.metrics, s.opts.Retention)
	s.leases = newLeases(s.registry, s.log, s.metrics, s.opts.LeaseGrace)
	s.leases.restore(s.registry.Restored(), s.opts.RestartGrace)
	if s.opts.StateDir == "" && s.opts.Registration != RegistrationOff {
		s.builder.settling, s.builder.waiting = true, true
		s.settling = []*time.Timer{
			time.AfterFunc(min(newcomerGrace, s.opts.RestartGrace), s.builder.answer),
			time.AfterFunc(s.opts.RestartGrace, s.builder.settle),
		}
	}
	s.work.Go(func() { s.changes.run(s.ctx, s.flush) })
}

// configured is called with each model that is to be served.
func (s *Server) configured(m *config.Model) {
	s.registry.SetModel(m)
	s.flush()
}

// flush serves what has changed in the registry so far.
func (s *Server) flush() {
	s.changes.take(func(hosts []string, x *registry.Index) {
		s.builder.update(translate.NewWorld(x, s.opts.world(), s.builder.current()), hosts)
	})
}

// Serve lets clients in that connect to a listener, until it fails or the server closes; it then returns nil. It may be
// called for several listeners.
func (s *Server) Serve(lis net.Listener) error {
	if s.opts.Registration == RegistrationAny && !loopback(lis.Addr()) {
		s.log.Warn("anybody who can connect can register an endpoint for any service: use registration declared or off, or listen on a loopback address", "address", lis.Addr())
	}
	err := s.grpc.Serve(lis)
	if s.ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("serving xDS on %s: %w", lis.Addr(), err)
	}
	return nil
}

// loopback reports whether only this machine can connect to an address.
func loopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

func (s *Server) goServe(lis net.Listener) {
	s.work.Go(func() {
		if err := s.grpc.Serve(lis); err != nil && s.ctx.Err() == nil {
			s.log.Error("serving xDS within the process", "error", err)
		}
	})
}

// Dialer returns a function that connects to the server within the process, whatever address it is given. It is what
// grpc.WithContextDialer takes.
func (s *Server) Dialer() func(ctx context.Context, addr string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) { return s.pipe.dial(ctx) }
}

// Apply replaces the configuration that is given in memory, by file name; what Options.Config names stays beside it. A
// file with an error is refused: what it held before stays in force, and the others apply. The problems are all that
// were found, of any severity; the error (*config.Errors) holds those because of which something was refused. When
// Apply returns, what changed is on its way to the clients.
func (s *Server) Apply(files map[string][]byte) ([]config.Problem, error) {
	return s.loader.apply(files)
}

// Close ends all streams and stops the server. Clients keep what they have; registrations stay in StateDir. It may be
// called more than once.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		s.leases.close()
		s.loader.close()
		for _, t := range s.settling {
			t.Stop()
		}
		s.builder.close()
		s.cancel() // ends the streams
		drained := time.AfterFunc(drainTime, s.grpc.Stop)
		s.grpc.GracefulStop()
		drained.Stop()
		s.work.Wait()
		s.closeErr = errors.Join(s.registry.Close(), s.unlock())
	})
	return s.closeErr
}

// newcomerGrace is how long after the start clients that have nothing yet wait for registrations that may be missing.
const newcomerGrace = 5 * time.Second

// drainTime is how long streams may take to end when the server closes.
const drainTime = 3 * time.Second

// service is the aggregated discovery service of a Server: go-control-plane's server, one for each stream, which asks the
// stream's client for watches and tells it what was sent and received.
type service struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	server *Server
}

// StreamAggregatedResources serves one stream of the state-of-the-world protocol.
func (v service) StreamAggregatedResources(st discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	c := newClient(st, v.server, "sotw")
	defer c.end()
	err := sotw.NewServer(v.server.ctx, c, c, sotw.WithOrderedADS(), sotw.DeactivateLegacyWildcard()).StreamHandler(st, resource.AnyType)
	return v.server.ended(err)
}

// DeltaAggregatedResources serves one stream of the incremental protocol.
func (v service) DeltaAggregatedResources(st discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	c := newClient(st, v.server, "delta")
	defer c.end()
	err := delta.NewServer(v.server.ctx, c, c, delta.DeactivateLegacyWildcard()).DeltaStreamHandler(st, resource.AnyType)
	return v.server.ended(err)
}

// ended is the status that a stream ends with.
func (s *Server) ended(err error) error {
	if s.ctx.Err() != nil {
		return status.Error(codes.Unavailable, "the control plane is shutting down")
	}
	return err
}

// CreateWatch implements cache.ConfigWatcher for the types that are served. The others are never answered.
func (c *client) CreateWatch(req *cache.Request, sub cache.Subscription, out chan cache.Response) (func(), error) {
	if !supported(req.GetTypeUrl()) {
		return nil, nil
	}
	return c.session.CreateWatch(req, sub, out)
}

// CreateDeltaWatch implements cache.ConfigWatcher for the types that are served. The others are never answered.
func (c *client) CreateDeltaWatch(req *cache.DeltaRequest, sub cache.Subscription, out chan cache.DeltaResponse) (func(), error) {
	if !supported(req.GetTypeUrl()) {
		return nil, nil
	}
	return c.session.CreateDeltaWatch(req, sub, out)
}
