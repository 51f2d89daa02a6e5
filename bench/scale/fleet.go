package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/structpb"
)

// patience bounds every wait.
const patience = 30 * time.Second

// arrivals are how long after a change clients had it.
type arrivals []time.Duration

// arrival is a change that is on its way.
type arrival struct {
	typeURL, name string
	begin         time.Time
	done          chan struct{}

	mu   sync.Mutex
	seen map[int]bool // by client
	left int
	list arrivals
}

func (a *arrival) note(client int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen[client] {
		return
	}
	a.seen[client] = true
	a.list = append(a.list, time.Since(a.begin))
	if a.left--; a.left == 0 {
		close(a.done)
	}
}

func (a *arrival) wait() error {
	select {
	case <-a.done:
		return nil
	case <-time.After(patience):
		a.mu.Lock()
		defer a.mu.Unlock()
		return fmt.Errorf("a change did not reach %d clients", a.left)
	}
}

// fleet is the clients.
type fleet struct {
	list     []*client
	messages atomic.Int64
	awaited  atomic.Pointer[arrival]
}

// client follows some services, on one stream at a time.
type client struct {
	fleet   *fleet
	id      int
	delta   bool
	names   map[string][]string // by type
	address string
	halted  atomic.Bool
	events  chan event
	cancel  context.CancelFunc
	cc      *grpc.ClientConn
	have    map[string]map[string]string // of the stream's goroutine: versions by type and name
	version map[string]string            // likewise: by type
}

// event is what happens to a client's stream.
type event int

const (
	complete event = iota // the server has taken it, and it has everything
	ended
)

func newFleet(address string, clients, follows, services int) *fleet {
	f := &fleet{}
	for id := range clients {
		c := &client{
			fleet: f, id: id, delta: id%2 == 0, address: address, names: map[string][]string{},
			events: make(chan event, 100), have: map[string]map[string]string{}, version: map[string]string{},
		}
		for j := range follows {
			s := 0
			if j > 0 {
				s = 1 + (id*(follows-1)+j-1)%(services-1)
			}
			c.names[resource.ListenerType] = append(c.names[resource.ListenerType], hostName(s)+":9080")
			c.names[resource.RouteType] = append(c.names[resource.RouteType], clusterName(s))
			for _, subset := range []string{"v1", "v2"} {
				name := "outbound|9080|" + subset + "|" + hostName(s)
				c.names[resource.ClusterType] = append(c.names[resource.ClusterType], name)
				c.names[resource.EndpointType] = append(c.names[resource.EndpointType], name)
			}
		}
		c.names[resource.EndpointType] = append(c.names[resource.EndpointType], clusterName(0))
		f.list = append(f.list, c)
	}
	return f
}

func (f *fleet) each(do func(*client) error) error {
	for _, c := range f.list {
		if err := do(c); err != nil {
			return fmt.Errorf("client %d: %w", c.id, err)
		}
	}
	return nil
}

// begin connects all clients and waits until each has everything.
func (f *fleet) begin() error {
	if err := f.each((*client).connect); err != nil {
		return err
	}
	return f.each(func(c *client) error { return c.await(complete) })
}

// drop ends all streams at once.
func (f *fleet) drop() {
	for _, c := range f.list {
		c.cancel()
	}
	f.gone()
}

// gone waits until all streams have ended.
func (f *fleet) gone() { _ = f.each(func(c *client) error { return c.await(ended) }) }

// back connects all clients again.
func (f *fleet) back() error {
	for _, c := range f.list {
		c.cc.Close()
	}
	return f.begin()
}

// halt makes the clients take nothing any more.
func (f *fleet) halt() {
	for _, c := range f.list {
		c.halted.Store(true)
	}
}

func (f *fleet) close() {
	for _, c := range f.list {
		if c.cc != nil {
			c.cancel()
			c.cc.Close()
		}
	}
}

// expect makes the next news of a resource an arrival, at those who follow it.
func (f *fleet) expect(typeURL, name string) *arrival {
	a := &arrival{typeURL: typeURL, name: name, begin: time.Now(), done: make(chan struct{}), seen: map[int]bool{}}
	for _, c := range f.list {
		if slices.Contains(c.names[typeURL], name) {
			a.left++
		}
	}
	f.awaited.Store(a)
	return a
}

// settle waits until nothing arrives any more.
func (f *fleet) settle() {
	for n := int64(-1); n != f.messages.Load(); time.Sleep(200 * time.Millisecond) {
		n = f.messages.Load()
	}
}

func (c *client) await(want event) error {
	for end := time.After(patience); ; {
		select {
		case got := <-c.events:
			if got == want {
				return nil
			}
		case <-end:
			return fmt.Errorf("nothing for %v", patience)
		}
	}
}

func nodeOf(id, agent string, metadata map[string]any) *corev3.Node {
	metadata["GENERATOR"], metadata["NAMESPACE"] = "grpc", "default"
	m, _ := structpb.NewStruct(metadata) // strings only
	return &corev3.Node{Id: "sidecar~10.9.9.9~" + id + ".default~default.svc.cluster.local", UserAgentName: agent, Metadata: m}
}

var types = []string{resource.ListenerType, resource.RouteType, resource.ClusterType, resource.EndpointType}

// stream is one stream of either protocol.
type stream interface {
	open(c *client, node *corev3.Node) error
	receive(c *client) error
}

func (c *client) connect() error {
	cc, err := grpc.NewClient("passthrough:///"+c.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(context.Background())
	c.cc = cc
	api := discoveryv3.NewAggregatedDiscoveryServiceClient(cc)
	go func() {
		_ = c.run(ctx, api) // the stream ends when the server or the test ends it
		c.events <- ended
	}()
	return nil
}

func (c *client) run(ctx context.Context, api discoveryv3.AggregatedDiscoveryServiceClient) error {
	var s stream
	agent := "gRPC Go"
	if c.delta {
		st, err := api.DeltaAggregatedResources(ctx, grpc.WaitForReady(true))
		if err != nil {
			return err
		}
		agent, s = "meshframe", deltaStream{st}
	} else {
		st, err := api.StreamAggregatedResources(ctx, grpc.WaitForReady(true))
		if err != nil {
			return err
		}
		s = sotwStream{st}
	}
	if err := s.open(c, nodeOf(fmt.Sprintf("client-%d", c.id), agent, map[string]any{})); err != nil {
		return err
	}
	for told := false; ; {
		if !told && c.complete() {
			told = true
			c.events <- complete
		}
		if c.halted.Load() {
			<-ctx.Done()
		}
		if err := s.receive(c); err != nil {
			return err
		}
		c.fleet.messages.Add(1)
	}
}

func (c *client) complete() bool {
	for _, t := range types {
		if len(c.have[t]) < len(c.names[t]) {
			return false
		}
	}
	return true
}

// got notes a resource.
func (c *client) got(typeURL, name, version string) {
	if c.have[typeURL] == nil {
		c.have[typeURL] = map[string]string{}
	}
	c.have[typeURL][name] = version
	if a := c.fleet.awaited.Load(); a != nil && a.typeURL == typeURL && a.name == name {
		a.note(c.id)
	}
}

type deltaStream struct {
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
}

func (s deltaStream) open(c *client, node *corev3.Node) error {
	for _, t := range types {
		err := s.Send(&discoveryv3.DeltaDiscoveryRequest{
			Node: node, TypeUrl: t, ResourceNamesSubscribe: c.names[t], InitialResourceVersions: maps.Clone(c.have[t]),
		})
		if err != nil {
			return err
		}
		node = nil
	}
	_, err := s.Header()
	return err
}

func (s deltaStream) receive(c *client) error {
	m, err := s.Recv()
	if err != nil {
		return err
	}
	for _, r := range m.GetResources() {
		c.got(m.GetTypeUrl(), r.GetName(), r.GetVersion())
	}
	return s.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: m.GetTypeUrl(), ResponseNonce: m.GetNonce()})
}

type sotwStream struct {
	discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
}

func (s sotwStream) open(c *client, node *corev3.Node) error {
	clear(c.have) // it is sent everything again
	for _, t := range types {
		err := s.Send(&discoveryv3.DiscoveryRequest{Node: node, TypeUrl: t, ResourceNames: c.names[t], VersionInfo: c.version[t]})
		if err != nil {
			return err
		}
		node = nil
	}
	return nil
}

func (s sotwStream) receive(c *client) error {
	m, err := s.Recv()
	if err != nil {
		return err
	}
	t := m.GetTypeUrl()
	c.version[t] = m.GetVersionInfo()
	for _, r := range m.GetResources() {
		// The full state comes with each change: what is as before is no news.
		if name, version := nameOf(r.GetValue()), string(r.GetValue()); c.have[t][name] != version {
			c.got(t, name, version)
		}
	}
	return s.Send(&discoveryv3.DiscoveryRequest{TypeUrl: t, ResponseNonce: m.GetNonce(), VersionInfo: c.version[t], ResourceNames: c.names[t]})
}

// nameOf reads the name of a resource, which is the first field of all four types.
func nameOf(b []byte) string {
	if num, typ, n := protowire.ConsumeTag(b); n > 0 && num == 1 && typ == protowire.BytesType {
		if name, n := protowire.ConsumeBytes(b[n:]); n > 0 {
			return string(name)
		}
	}
	return ""
}
