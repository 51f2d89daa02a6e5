package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	orcav3 "github.com/cncf/xds/go/xds/data/orca/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/srvframe"
	"github.com/meshframe/meshframe/srvframe/meshtest"
)

// The roads of gRPC calls through the library.
var (
	Unary  Road = grpcRoad{name: "unary"}
	Stream Road = grpcRoad{name: "stream", stream: true}
)

// grpcRoad is the library on both sides, in a mesh in memory.
type grpcRoad struct {
	name   string
	stream bool
}

// Name implements Road.
func (r grpcRoad) Name() string { return r.name }

// Open implements Road.
func (r grpcRoad) Open(t testing.TB, client Client) World {
	t.Helper()
	mesh := meshtest.New(t, "", meshtest.InMemory())
	fallbacks := map[string]srvframe.Fallback{}
	for _, name := range client.Functions {
		fallbacks[name] = func(_ context.Context, _ string, _, reply any) error {
			out, ok := reply.(*wrapperspb.StringValue)
			if !ok {
				return fmt.Errorf("reply of type %T", reply)
			}
			out.Value = "function " + name
			return nil
		}
	}
	return &grpcWorld{
		road: r, mesh: mesh, connecting: client.Connecting, asking: client.EnvoyHeaders, conns: map[string]*grpc.ClientConn{},
		client: mesh.Member(srvframe.Options{
			Namespace: client.Namespace, Labels: client.Labels, Locality: client.Locality, Fallbacks: fallbacks,
		}),
	}
}

type grpcWorld struct {
	road   grpcRoad
	mesh   *meshtest.Mesh
	client *meshtest.Member

	connecting time.Duration
	asking     bool

	mu    sync.Mutex
	conns map[string]*grpc.ClientConn // by target
}

// Apply implements World.
func (w *grpcWorld) Apply(yaml string) { w.mesh.Apply(yaml) }

// Batch implements World.
func (w *grpcWorld) Batch(f func()) { w.mesh.Batch(f) }

// Sync implements World.
func (w *grpcWorld) Sync() { w.mesh.Sync() }

// methods are those that servers have as the road's kind of method. Other paths
// are answered too, by what gRPC does with methods that it does not know.
var methods = []string{"Get", "List"}

// Start implements World.
func (w *grpcWorld) Start(server Server, answer Answerer) Running {
	member := w.mesh.Member(srvframe.Options{Service: server.Service, Labels: server.Labels, Locality: server.Locality})
	desc := grpc.ServiceDesc{ServiceName: "shop.Reviews", HandlerType: (*any)(nil)}
	for _, name := range methods {
		if w.road.stream {
			desc.Streams = append(desc.Streams, grpc.StreamDesc{
				StreamName: name, ClientStreams: true, ServerStreams: true, Handler: answer.stream,
			})
			continue
		}
		desc.Methods = append(desc.Methods, grpc.MethodDesc{MethodName: name, Handler: answer.unary(name)})
	}
	opts := []grpc.ServerOption{grpc.UnknownServiceHandler(answer.stream), grpc.StatsHandler(tagger{})}
	if server.Streams > 0 {
		opts = append(opts, grpc.MaxConcurrentStreams(server.Streams))
	}
	if server.ProxyProtocol > 0 {
		opts = append(opts, grpc.Creds(introducedBy(server.ProxyProtocol)))
	}
	started := member.Server(func(r grpc.ServiceRegistrar) { r.RegisterService(&desc, struct{}{}) }, opts...)
	return grpcServer{started}
}

// tagger puts into the context of a call on which connection it came.
type tagger struct{}

type connectionKey struct{}

// TagConn implements stats.Handler.
func (tagger) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return context.WithValue(ctx, connectionKey{}, new(int))
}

// HandleConn implements stats.Handler.
func (tagger) HandleConn(context.Context, stats.ConnStats) {}

// TagRPC implements stats.Handler.
func (tagger) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (tagger) HandleRPC(context.Context, stats.RPCStats) {}

type grpcServer struct{ *meshtest.Server }

// IP implements Running.
func (s grpcServer) IP() string {
	host, _, _ := net.SplitHostPort(s.Addr())
	return host
}

// unary is the handler of a unary method.
func (a Answerer) unary(method string) grpc.MethodHandler {
	return func(_ any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		var request wrapperspb.StringValue
		if err := decode(&request); err != nil {
			return nil, err
		}
		handle := func(ctx context.Context, _ any) (any, error) {
			path, _ := grpc.Method(ctx)
			answer := a(arrival(ctx, path))
			err := errors.Join(grpc.SetHeader(ctx, metadata.New(answer.Headers)), grpc.SetTrailer(ctx, trailers(answer)))
			if err != nil {
				return nil, err
			}
			return wrapperspb.String(answer.Body), status.Error(answer.Status, statusText(answer))
		}
		return interceptor(ctx, &request, &grpc.UnaryServerInfo{FullMethod: "/shop.Reviews/" + method}, handle)
	}
}

// stream is the handler of a stream: it decides when it has the first message and
// answers each.
func (a Answerer) stream(_ any, stream grpc.ServerStream) error {
	path, _ := grpc.MethodFromServerStream(stream)
	var answer *Answer
	for {
		var request wrapperspb.StringValue
		err := stream.RecvMsg(&request)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if answer == nil {
			made := a(arrival(stream.Context(), path))
			answer = &made
			stream.SetTrailer(trailers(made))
			if err := stream.SetHeader(metadata.New(answer.Headers)); err != nil {
				return err
			}
			if answer.Status != 0 {
				return status.Error(answer.Status, statusText(made))
			}
		}
		if err := stream.SendMsg(wrapperspb.String(answer.Body)); err != nil {
			return err
		}
	}
}

// trailers are those of an answer, with what the server says of its load as gRPC's
// servers do (gRFC A51).
func trailers(a Answer) metadata.MD {
	md := metadata.New(a.Trailers)
	if l := a.Load; l != nil {
		report, err := proto.Marshal(&orcav3.OrcaLoadReport{CpuUtilization: l.CPU, RpsFractional: l.QPS, Eps: l.EPS, NamedMetrics: l.Named})
		if err != nil {
			panic(err) // it is made of numbers
		}
		md.Set("endpoint-load-metrics-bin", string(report))
	}
	return md
}

func statusText(a Answer) string { return "said by " + a.Body }

func arrival(ctx context.Context, path string) Arrival {
	md, _ := metadata.FromIncomingContext(ctx)
	seen := Arrival{Path: path, Headers: md, Connection: ctx.Value(connectionKey{})}
	if authority := md.Get(":authority"); len(authority) > 0 {
		seen.Authority = authority[0]
	}
	return seen
}

// Call implements World.
func (w *grpcWorld) Call(ctx context.Context, request Request) Response {
	cc := w.conn(request.Target)
	ctx = metadata.NewOutgoingContext(ctx, metadata.New(request.Headers))
	var header, trailer metadata.MD
	opts := []grpc.CallOption{grpc.Header(&header), grpc.Trailer(&trailer)}
	var body string
	var err error
	if w.road.stream {
		body, err = pingPong(ctx, cc, request.Path, opts)
	} else {
		var reply wrapperspb.StringValue
		err = cc.Invoke(ctx, request.Path, wrapperspb.String("?"), &reply, opts...)
		body = reply.GetValue()
	}
	return Response{
		Body: body, Status: status.Code(err), Message: status.Convert(err).Message(), Headers: header, Trailers: trailer,
	}
}

// conn returns the client of a target.
func (w *grpcWorld) conn(target string) *grpc.ClientConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.conns[target] == nil {
		opts := []srvframe.DialOption{srvframe.WithContextDialer(w.dial)}
		if w.asking {
			opts = append(opts, srvframe.WithEnvoyRequestHeaders())
		}
		w.conns[target] = w.client.Client(target, opts...)
	}
	return w.conns[target]
}

// dial connects to a server in the time that this takes.
func (w *grpcWorld) dial(ctx context.Context, address string) (net.Conn, error) {
	if w.connecting > 0 { // Go 1.26's race detector crashes where two timers of a bubble are due as they are made
		timer := time.NewTimer(w.connecting)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	conn, err := w.mesh.Dial(ctx, address)
	if err != nil {
		return nil, err
	}
	return &unlimited{Conn: conn}, nil
}

// pings is how many messages a stream has in either direction.
const pings = 3

// pingPong makes a stream on which each message waits for the answer to the one
// before.
func pingPong(ctx context.Context, cc *grpc.ClientConn, path string, opts []grpc.CallOption) (body string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, path, opts...)
	if err != nil {
		return "", err
	}
	var reply wrapperspb.StringValue
	for i := range pings {
		// What is wrong with sending is said where messages are received.
		_ = stream.SendMsg(wrapperspb.String("?"))
		if err := stream.RecvMsg(&reply); err != nil {
			return "", unexpected(err)
		}
		if i > 0 && reply.GetValue() != body {
			return "", fmt.Errorf("answers of %s and %s on one stream", body, reply.GetValue())
		}
		body = reply.GetValue()
	}
	if err := stream.CloseSend(); err != nil {
		return "", err
	}
	if err := stream.RecvMsg(&reply); !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("after the last message: %w", err)
	}
	return body, nil
}

// unexpected makes an error of the end of a stream that came too early.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the stream ended without an answer")
	}
	return err
}
