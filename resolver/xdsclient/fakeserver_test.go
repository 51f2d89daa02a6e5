package xdsclient_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/meshframe/meshframe/resolver/xdsclient"
)

// fakeServer is an ADS server that writes down what it is sent, and answers
// only what a test tells it to.
type fakeServer struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	log    func(line string)
	uri    string
	closes bool // write down when a connection is closed
	greets bool // send headers at once
	grpc   *grpc.Server
	lis    *bufconn.Listener
	noSotW bool
	onNode func(*corev3.Node) // if set

	mu      sync.Mutex
	noDelta bool
	down    string // why no connection can be made; "" if it can
	conn    *mutableConn
	stream  *fakeStream // the latest
}

// fakeStream is the server's end of a stream.
type fakeStream struct {
	delta discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	sotw  discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer
	end   chan error
}

func newFakeServer(log func(string), opts ...grpc.ServerOption) *fakeServer {
	f := &fakeServer{log: log, uri: "fake:1", lis: bufconn.Listen(1 << 20), grpc: grpc.NewServer(opts...)}
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(f.grpc, f)
	go func() { _ = f.grpc.Serve(f.lis) }()
	return f
}

func (f *fakeServer) stop() { f.grpc.Stop() }

// server is what a client needs to reach f.
func (f *fakeServer) server() xdsclient.Server {
	return xdsclient.Server{URI: f.uri, Credentials: insecure.NewCredentials(), Dialer: f.dial}
}

func (f *fakeServer) dial(ctx context.Context, address string) (net.Conn, error) {
	f.mu.Lock()
	down := f.down
	f.mu.Unlock()
	if down != "" {
		f.log("refused a connection to " + address)
		return nil, errors.New(down)
	}
	conn, err := f.lis.DialContext(ctx)
	if err != nil {
		return nil, err
	}
	if f.closes {
		conn = &closingConn{Conn: conn, log: func() { f.log("connection closed") }}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn = &mutableConn{Conn: conn}
	return f.conn, nil
}

// mute breaks the latest connection without a word to either side.
func (f *fakeServer) mute() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conn.mute.Store(true)
}

// mutableConn is a connection that can be made to lose everything.
type mutableConn struct {
	net.Conn
	mute atomic.Bool
}

func (c *mutableConn) Write(p []byte) (int, error) {
	if c.mute.Load() {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *mutableConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.mute.Load() {
			return n, err
		}
	}
}

// closingConn says when it is closed.
type closingConn struct {
	net.Conn
	once sync.Once
	log  func()
}

func (c *closingConn) Close() error {
	c.once.Do(c.log)
	return c.Conn.Close()
}

func (f *fakeServer) setDown(cause string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = cause
}

func (f *fakeServer) setNoDelta(no bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noDelta = no
}

func (f *fakeServer) hasDelta() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.noDelta
}

func (f *fakeServer) current() *fakeStream {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stream
}

func (f *fakeServer) open(s *fakeStream, name string) *fakeStream {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.end = make(chan error, 1)
	f.stream = s
	f.log("stream " + name)
	return s
}

func (f *fakeServer) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	if !f.hasDelta() {
		f.log("stream delta, unimplemented")
		return status.Error(codes.Unimplemented, "no delta here")
	}
	s := f.open(&fakeStream{delta: g}, "delta")
	go func() {
		for {
			m, err := g.Recv()
			if err != nil {
				return
			}
			if f.onNode != nil && m.GetNode() != nil {
				f.onNode(m.GetNode())
			}
			f.log(deltaLine(m))
		}
	}()
	if f.greets {
		_ = g.SendHeader(nil) // the client may have gone
	}
	return s.wait(g.Context())
}

func (f *fakeServer) StreamAggregatedResources(g discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	if f.noSotW {
		return status.Error(codes.Unimplemented, "no state-of-the-world here")
	}
	s := f.open(&fakeStream{sotw: g}, "sotw")
	go func() {
		for {
			m, err := g.Recv()
			if err != nil {
				return
			}
			f.log(sotwLine(m))
		}
	}()
	if f.greets {
		_ = g.SendHeader(nil) // the client may have gone
	}
	return s.wait(g.Context())
}

func (s *fakeStream) wait(ctx context.Context) error {
	select {
	case err := <-s.end:
		return err
	case <-ctx.Done():
		return nil
	}
}

// deltaLine and sotwLine write a request as one line, without what is empty.

func deltaLine(m *discoveryv3.DeltaDiscoveryRequest) string {
	l := newLine(m.GetTypeUrl(), m.GetNode().GetId(), m.GetResponseNonce(), m.GetErrorDetail().GetMessage())
	l.list("subscribe", m.GetResourceNamesSubscribe())
	l.list("unsubscribe", m.GetResourceNamesUnsubscribe())
	var have []string
	for _, n := range slices.Sorted(maps.Keys(m.GetInitialResourceVersions())) {
		have = append(have, n+"@"+m.GetInitialResourceVersions()[n])
	}
	l.list("have", have)
	return l.String()
}

func sotwLine(m *discoveryv3.DiscoveryRequest) string {
	l := newLine(m.GetTypeUrl(), m.GetNode().GetId(), m.GetResponseNonce(), m.GetErrorDetail().GetMessage())
	if m.GetVersionInfo() != "" {
		fmt.Fprintf(l, " version=%s", m.GetVersionInfo())
	}
	l.list("names", m.GetResourceNames())
	return l.String()
}

type line struct{ strings.Builder }

func newLine(typeURL, node, nonce, nack string) *line {
	l := &line{}
	l.WriteString(typeURL[strings.LastIndex(typeURL, ".")+1:])
	for _, f := range []struct{ key, value string }{{"node", node}, {"nonce", nonce}} {
		if f.value != "" {
			fmt.Fprintf(l, " %s=%s", f.key, f.value)
		}
	}
	if nack != "" {
		fmt.Fprintf(l, " NACK{%s}", nack)
	}
	return l
}

func (l *line) list(key string, names []string) {
	if len(names) > 0 {
		fmt.Fprintf(l, " %s=%s", key, strings.Join(names, ","))
	}
}
