package xdsserver_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// Short names of the types, as transcripts write them.
const (
	lds = resource.ListenerType
	rds = resource.RouteType
	cds = resource.ClusterType
	eds = resource.EndpointType
)

var short = map[string]string{lds: "LDS", rds: "RDS", cds: "CDS", eds: "EDS"}

// message is one response, in either protocol.
type message struct {
	typeURL   string
	version   string
	nonce     string
	resources map[string]proto.Message
	removed   []string
}

// String is how transcripts write a response: type, +names and -removed names.
func (m message) String() string {
	parts := []string{short[m.typeURL]}
	names := []string{}
	for n := range m.resources {
		names = append(names, "+"+n)
	}
	slices.Sort(names)
	parts = append(parts, names...)
	for _, n := range m.removed {
		parts = append(parts, "-"+n)
	}
	return strings.Join(parts, " ")
}

// ads is a test's own client: it does nothing by itself.
type ads struct {
	*testing.T
	node   *corev3.Node
	cancel context.CancelFunc
	sotw   discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	delta  discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	in     chan message // unbounded enough: what was received and not yet looked at
	ended  chan error
	settle func() // waits until nothing moves: synctest.Wait, for a test in a bubble

	first bool
	names map[string][]string // of the state-of-the-world protocol
	last  map[string]message
}

func (c *ads) isDelta() bool { return c.delta != nil }

// hasHeader reports, once there were headers or the stream has ended, whether there were any.
func (c *ads) hasHeader() bool {
	c.Helper()
	var st grpc.ClientStream = c.sotw
	if c.isDelta() {
		st = c.delta
	}
	md, err := st.Header()
	must(c.T, err)
	return md != nil
}

type dialer = func(context.Context, string) (net.Conn, error)

// dial opens a connection within the process.
func dial(t *testing.T, d dialer, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	opts = append(opts, grpc.WithContextDialer(d), grpc.WithTransportCredentials(insecure.NewCredentials()))
	cc, err := grpc.NewClient("passthrough:///xds", opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// connect opens a stream; protocol is "delta" or "sotw".
func connect(t *testing.T, cc *grpc.ClientConn, protocol string, node *corev3.Node) *ads {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	c := &ads{
		T: t, node: node, cancel: cancel, in: make(chan message, 1000), ended: make(chan error, 1),
		settle: synctest.Wait, first: true, names: map[string][]string{}, last: map[string]message{},
	}
	t.Cleanup(cancel)
	client := discoveryv3.NewAggregatedDiscoveryServiceClient(cc)
	var err error
	if protocol == "delta" {
		c.delta, err = client.DeltaAggregatedResources(ctx)
	} else {
		c.sotw, err = client.StreamAggregatedResources(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	go c.receive()
	return c
}

func (c *ads) receive() {
	for {
		m, err := c.recv()
		if err != nil {
			c.ended <- err
			close(c.in)
			return
		}
		c.in <- m
	}
}

func (c *ads) recv() (message, error) {
	if c.isDelta() {
		r, err := c.delta.Recv()
		if err != nil {
			return message{}, err
		}
		m := message{typeURL: r.GetTypeUrl(), version: r.GetSystemVersionInfo(), nonce: r.GetNonce(), removed: r.GetRemovedResources(), resources: map[string]proto.Message{}}
		for _, res := range r.GetResources() {
			m.resources[res.GetName()] = unpack(res.GetResource())
		}
		return m, nil
	}
	r, err := c.sotw.Recv()
	if err != nil {
		return message{}, err
	}
	m := message{typeURL: r.GetTypeUrl(), version: r.GetVersionInfo(), nonce: r.GetNonce(), resources: map[string]proto.Message{}}
	for _, res := range r.GetResources() {
		u := unpack(res)
		m.resources[nameOf(u)] = u
	}
	return m, nil
}

func unpack(a interface{ UnmarshalNew() (proto.Message, error) }) proto.Message {
	m, err := a.UnmarshalNew()
	if err != nil {
		panic(err)
	}
	return m
}

func nameOf(m proto.Message) string {
	switch m := m.(type) {
	case *listenerv3.Listener:
		return m.GetName()
	case *routev3.RouteConfiguration:
		return m.GetName()
	case *clusterv3.Cluster:
		return m.GetName()
	case *endpointv3.ClusterLoadAssignment:
		return m.GetClusterName()
	default:
		return fmt.Sprintf("%T", m)
	}
}

// request sends a request and returns when the server has dealt with it, so that two requests have one order of answers:
// with both at hand, the server would answer clusters before listeners.
func (c *ads) request(typeURL, nonce, version string, refusal *status.Status, add, remove []string, initial map[string]string) {
	c.Helper()
	defer c.settle()
	var node *corev3.Node
	if c.first {
		node, c.first = c.node, false
	}
	if c.isDelta() {
		must(c.T, c.delta.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: node, TypeUrl: typeURL, ResponseNonce: nonce, ErrorDetail: refusal,
			ResourceNamesSubscribe: add, ResourceNamesUnsubscribe: remove, InitialResourceVersions: initial,
		}))
		return
	}
	names := slices.DeleteFunc(slices.Clone(c.names[typeURL]), func(n string) bool { return slices.Contains(remove, n) })
	c.names[typeURL] = append(names, add...)
	must(c.T, c.sotw.Send(&discoveryv3.DiscoveryRequest{
		Node: node, TypeUrl: typeURL, ResponseNonce: nonce, VersionInfo: version, ErrorDetail: refusal, ResourceNames: c.names[typeURL],
	}))
}

// subscribe adds names.
func (c *ads) subscribe(typeURL string, names ...string) {
	c.Helper()
	l := c.last[typeURL]
	c.request(typeURL, l.nonce, l.version, nil, names, nil, nil)
}

// unsubscribe takes names away.
func (c *ads) unsubscribe(typeURL string, names ...string) {
	c.Helper()
	l := c.last[typeURL]
	c.request(typeURL, l.nonce, l.version, nil, nil, names, nil)
}

// ack accepts a response.
func (c *ads) ack(m message) {
	c.Helper()
	c.last[m.typeURL] = m
	c.request(m.typeURL, m.nonce, m.version, nil, nil, nil, nil)
}

// nack refuses a response.
func (c *ads) nack(m message, why string) {
	c.Helper()
	before := c.last[m.typeURL].version
	c.last[m.typeURL] = message{typeURL: m.typeURL, nonce: m.nonce, version: before}
	c.request(m.typeURL, m.nonce, before, &status.Status{Code: 3, Message: why}, nil, nil, nil)
}

// got returns what has arrived when nothing moves any more. It must be called in a synctest bubble.
func (c *ads) got() []message {
	c.Helper()
	synctest.Wait()
	var list []message
	for {
		select {
		case m, ok := <-c.in:
			if !ok {
				return list
			}
			list = append(list, m)
		default:
			return list
		}
	}
}

// expect compares what has arrived with a transcript, and accepts it.
func (c *ads) expect(want ...string) []message {
	c.Helper()
	list := c.got()
	var got []string
	for _, m := range list {
		got = append(got, m.String())
	}
	if !slices.Equal(got, want) {
		c.Fatalf("got\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
	for _, m := range list {
		c.ack(m)
	}
	return list
}

// drain accepts everything until nothing more comes, and returns all of it.
func (c *ads) drain() (all []message) {
	c.Helper()
	for list := c.got(); len(list) > 0; list = c.got() {
		for _, m := range list {
			c.ack(m)
		}
		all = append(all, list...)
	}
	return all
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// node makes a node as gRPC's clients describe themselves.
func node(id string, metadata map[string]any) *corev3.Node {
	m, err := structpb.NewStruct(metadata)
	if err != nil {
		panic(err)
	}
	return &corev3.Node{Id: id, Metadata: m, UserAgentName: "gRPC Go"}
}
