package xdsserver

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/xdsserver/support"
	"github.com/meshframe/meshframe/xdsserver/translate"
)

// client is one stream to the server: its session with the cache, its place in the builder, the leases that it holds
// and the record of what it was sent and said to it.
type client struct {
	server   *Server
	stream   grpc.ServerStream
	session  *session
	protocol string // "delta" or "sotw"
	remote   string
	peerIP   string // "" when the peer has none
	since    time.Time

	// Known from the first request on, then fixed; used by the stream's goroutine and, with mu, by others.
	node   node
	kind   translate.Client
	joined bool

	// Guarded by the builder's mutex.
	view  *view
	names map[string]map[string]struct{} // by type, the names that the client subscribes to

	mu      sync.Mutex
	types   map[string]*record
	inbound inbound
}

// record is the history of one type on one stream.
type record struct {
	Type string `json:"type"`
	// Names is how many resources the client subscribes to by name.
	Names    int       `json:"names"`
	Sent     string    `json:"sent,omitempty"`   // version of the last response
	Acked    string    `json:"acked,omitempty"`  // version that the client last accepted
	Nacked   string    `json:"nacked,omitempty"` // version that the client refused, if that is the last that it was sent
	Error    string    `json:"error,omitempty"`  // the client's reason for the refusal
	Pushes   int       `json:"pushes"`
	LastPush time.Time `json:"lastPush,omitzero"`

	nonce string
}

func newClient(st grpc.ServerStream, s *Server, protocol string) *client {
	c := &client{
		server: s, stream: st, protocol: protocol, since: time.Now(),
		names: map[string]map[string]struct{}{}, types: map[string]*record{},
	}
	c.session = s.cache.newSession("", c)
	if p, ok := peer.FromContext(st.Context()); ok && p.Addr != nil {
		c.remote = p.Addr.String()
		if host, _, err := net.SplitHostPort(c.remote); err == nil {
			c.peerIP = host
		}
	}
	return c
}

// begin reads the node of the first request. Headers tell the client that it was taken: one that has everything gets no
// response that would.
func (c *client) begin(n *corev3.Node) error {
	if c.joined {
		return nil
	}
	if n == nil {
		return grpcstatus.Error(codes.InvalidArgument, "the first request of a stream must name the node")
	}
	parsed, err := parseNode(n)
	if err != nil {
		c.server.builder.report.refused(parsed.kind.Kind(), n.GetId(), c.remote)
		return grpcstatus.Error(codes.FailedPrecondition, err.Error())
	}
	if err := c.stream.SendHeader(nil); err != nil {
		return err
	}
	c.mu.Lock()
	c.node, c.kind, c.joined = parsed, parsed.kind, true
	c.mu.Unlock()
	c.server.builder.join(c)
	c.server.metrics.clients.WithLabelValues(c.kind.Type.String(), c.protocol).Inc()
	c.server.log.Debug("client connected", "node", c.node.id, "remote", c.remote, "kind", c.kind.Type, "protocol", c.protocol)
	return nil
}

// end gives up everything. The stream is over.
func (c *client) end() {
	c.session.close()
	if !c.joined {
		return
	}
	c.server.builder.leave(c)
	c.server.metrics.clients.WithLabelValues(c.kind.Type.String(), c.protocol).Dec()
	c.server.log.Debug("client disconnected", "node", c.node.id, "remote", c.remote)
}

// wanted implements interest.
func (c *client) wanted(typeURL string, names []string) {
	c.server.builder.want(c, typeURL, names)
	c.count(typeURL, len(names))
	if typeURL == resource.ListenerType {
		for _, n := range names {
			if strings.HasPrefix(n, translate.InboundPrefix) {
				c.listening(n)
			}
		}
	}
}

// unwanted implements interest.
func (c *client) unwanted(typeURL string, names []string, lost bool) {
	c.server.builder.unwant(c, typeURL, names)
	c.count(typeURL, -len(names))
	if typeURL == resource.ListenerType {
		for _, n := range names {
			if strings.HasPrefix(n, translate.InboundPrefix) {
				c.notListening(n, lost)
			}
		}
	}
}

func (c *client) count(typeURL string, n int) {
	c.mu.Lock()
	c.record(typeURL).Names += n
	c.mu.Unlock()
}

func (c *client) record(typeURL string) *record {
	r := c.types[typeURL]
	if r == nil {
		r = &record{Type: shortType(typeURL)}
		c.types[typeURL] = r
	}
	return r
}

// heard notes an acknowledgement or refusal.
func (c *client) heard(typeURL, nonce string, refusal *status.Status) {
	if nonce == "" || !supported(typeURL) {
		return
	}
	if typeURL == resource.ListenerType {
		c.answered(nonce, reason(refusal))
	}
	c.mu.Lock()
	r := c.record(typeURL)
	if r.nonce != nonce {
		c.mu.Unlock()
		return
	}
	var first bool // to be refused for this reason
	if refusal == nil {
		r.Acked, r.Nacked, r.Error = r.Sent, "", ""
	} else {
		first = r.Nacked != r.Sent || r.Error != refusal.GetMessage()
		r.Nacked, r.Error = r.Sent, refusal.GetMessage()
	}
	version := r.Sent
	r.nonce = "" // later requests with this nonce change the subscription and acknowledge nothing
	c.mu.Unlock()
	if refusal == nil {
		c.server.metrics.byType[typeURL].acks.Inc()
		return
	}
	c.server.metrics.byType[typeURL].nacks.Inc()
	if first {
		c.server.log.Warn("a client refused a response", "node", c.node.id, "remote", c.remote,
			"type", shortType(typeURL), "version", version, "error", refusal.GetMessage())
	}
}

// reason is why a client refuses a response; "" if it does not.
func reason(refusal *status.Status) string {
	if refusal == nil {
		return ""
	}
	return cmp.Or(refusal.GetMessage(), "no reason given")
}

// told notes a response.
func (c *client) told(typeURL, version, nonce string, resources int) {
	c.mu.Lock()
	r := c.record(typeURL)
	r.Sent, r.nonce = version, nonce
	r.Pushes++
	r.LastPush = time.Now().UTC()
	c.mu.Unlock()
	c.server.metrics.byType[typeURL].pushes.Inc()
	c.server.metrics.byType[typeURL].resources.Add(float64(resources))
}

// supported reports whether a type is served at all. Requests for others are left unanswered, as of a server that has
// no such resource and will never have one.
func supported(typeURL string) bool {
	switch typeURL {
	case resource.ListenerType, resource.RouteType, resource.ClusterType, resource.EndpointType:
		return true
	default:
		return false
	}
}

// The callbacks of go-control-plane's servers.

func (c *client) OnStreamOpen(context.Context, int64, string) error      { return nil }
func (c *client) OnStreamClosed(int64, *corev3.Node)                     {}
func (c *client) OnDeltaStreamOpen(context.Context, int64, string) error { return nil }
func (c *client) OnDeltaStreamClosed(int64, *corev3.Node)                {}

func (c *client) OnStreamRequest(_ int64, req *discoveryv3.DiscoveryRequest) error {
	c.heard(req.GetTypeUrl(), req.GetResponseNonce(), req.GetErrorDetail())
	c.had(req.GetTypeUrl(), nil, req.GetResponseNonce() == "" && req.GetVersionInfo() != "")
	return c.begin(nonEmpty(req.GetNode()))
}

func (c *client) OnStreamDeltaRequest(_ int64, req *discoveryv3.DeltaDiscoveryRequest) error {
	c.heard(req.GetTypeUrl(), req.GetResponseNonce(), req.GetErrorDetail())
	c.had(req.GetTypeUrl(), req.GetInitialResourceVersions(), false)
	return c.begin(req.GetNode())
}

func (c *client) OnStreamResponse(_ context.Context, _ int64, _ *discoveryv3.DiscoveryRequest, resp *discoveryv3.DiscoveryResponse) {
	if resp.GetTypeUrl() == resource.ListenerType {
		c.sentListeners(resp.GetNonce(), c.namesIn(resp.GetResources()))
	}
	c.told(resp.GetTypeUrl(), resp.GetVersionInfo(), resp.GetNonce(), len(resp.GetResources()))
}

func (c *client) OnStreamDeltaResponse(_ int64, _ *discoveryv3.DeltaDiscoveryRequest, resp *discoveryv3.DeltaDiscoveryResponse) {
	if resp.GetTypeUrl() == resource.ListenerType {
		c.sentListeners(resp.GetNonce(), namesOf(resp.GetResources()))
	}
	c.told(resp.GetTypeUrl(), resp.GetSystemVersionInfo(), resp.GetNonce(), len(resp.GetResources())+len(resp.GetRemovedResources()))
}

// nonEmpty: go-control-plane puts an empty node into a request that has none.
func nonEmpty(n *corev3.Node) *corev3.Node {
	if n.GetId() == "" && n.GetUserAgentName() == "" && n.GetMetadata() == nil {
		return nil
	}
	return n
}

// clientStatus is a client as /debug/clients shows it.
type clientStatus struct {
	Node      string            `json:"node"`
	Remote    string            `json:"remote"`
	Kind      string            `json:"kind"`            // such as grpc-go
	Agent     string            `json:"agent,omitempty"` // what the client calls itself, with its version
	As        string            `json:"as"`              // the first release that is served as this one is, such as grpc-go@1.50; without one the newest
	Protocol  string            `json:"protocol"`
	Namespace string            `json:"namespace"`
	Labels    map[string]string `json:"labels,omitempty"`
	Locality  string            `json:"locality,omitempty"`
	Since     time.Time         `json:"since"`
	Types     []record          `json:"types"`
	// Support lists the fields of the objects behind what the client subscribes to which it does not do as they are
	// written.
	Support []support.Entry `json:"support"`
}

func (c *client) status() clientStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := clientStatus{
		Node: c.node.id, Remote: c.remote, Kind: c.kind.Type.String(), Agent: c.node.agent, As: c.kind.Kind().Canonical().String(), Protocol: c.protocol,
		Namespace: c.kind.Namespace, Labels: c.kind.Labels, Locality: c.kind.Locality, Since: c.since.UTC(), Types: []record{},
	}
	for _, r := range c.types {
		out.Types = append(out.Types, *r)
	}
	slices.SortFunc(out.Types, func(a, b record) int { return cmp.Compare(a.Type, b.Type) })
	return out
}
