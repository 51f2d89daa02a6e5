package xdsclient

import (
	"context"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// wire is an open ADS stream of either protocol. One goroutine may send while
// another receives.
type wire interface {
	send(r *request) error
	recv() (*response, error)
	// taken reports, once recv has failed, whether the server had sent headers.
	taken() bool
}

// request is one message to the server, in the words of both protocols.
type request struct {
	node    *corev3.Node
	typeURL string
	nonce   string
	refusal string // not empty: a NACK, with this detail

	names   []string // state-of-the-world: all names
	version string   // state-of-the-world: the version last accepted

	subscribe, unsubscribe []string          // delta
	initial                map[string]string // delta: versions at hand, first request of a type

	fresh []string // names of which nothing is known yet; not sent
}

// response is one message from the server, in the words of both protocols.
type response struct {
	typeURL   string
	version   string
	nonce     string
	resources []received
	removed   []string
	failures  []failure
}

// received is one resource of a response.
type received struct {
	name    string // "": the protocol did not say
	version string
	body    []byte
	err     error // the envelope is bad
	absent  bool  // the envelope has no body: a heartbeat
}

// failure is what a server reports in place of a resource (gRFC A88).
type failure struct {
	name string
	err  *status.Status
}

// open starts an ADS stream. It fails when the connection cannot be made.
func open(ctx context.Context, cc grpc.ClientConnInterface, p Protocol) (wire, error) {
	ads := discoveryv3.NewAggregatedDiscoveryServiceClient(cc)
	if p == StateOfTheWorld {
		s, err := ads.StreamAggregatedResources(ctx)
		return sotwWire{s}, err
	}
	s, err := ads.DeltaAggregatedResources(ctx)
	return deltaWire{s}, err
}

// hasHeader reports whether a stream that has ended began with headers; one that
// was turned away has none.
func hasHeader(s grpc.ClientStream) bool {
	md, err := s.Header()
	return err == nil && md != nil
}

// sotwWire speaks the state-of-the-world protocol.
type sotwWire struct {
	stream discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesClient
}

func (w sotwWire) send(r *request) error {
	return w.stream.Send(&discoveryv3.DiscoveryRequest{
		Node:          r.node,
		TypeUrl:       r.typeURL,
		VersionInfo:   r.version,
		ResourceNames: r.names,
		ResponseNonce: r.nonce,
		ErrorDetail:   refusalStatus(r.refusal).Proto(),
	})
}

func (w sotwWire) taken() bool { return hasHeader(w.stream) }

func (w sotwWire) recv() (*response, error) {
	m, err := w.stream.Recv()
	if err != nil {
		return nil, err
	}
	return fromSotW(m), nil
}

// fromSotW reads a state-of-the-world response.
func fromSotW(m *discoveryv3.DiscoveryResponse) *response {
	r := &response{
		typeURL:   m.GetTypeUrl(),
		version:   m.GetVersionInfo(),
		nonce:     m.GetNonce(),
		resources: make([]received, 0, len(m.GetResources())),
		failures:  fromErrors(m.GetResourceErrors()),
	}
	for _, a := range m.GetResources() {
		r.resources = append(r.resources, fromAny(a, r))
	}
	return r
}

var wrapperURL = "type.googleapis.com/" + string((&discoveryv3.Resource{}).ProtoReflect().Descriptor().FullName())

// fromAny reads a resource of a state-of-the-world response, which may be
// wrapped to give its name (client feature "xds.config.resource-in-sotw").
func fromAny(a *anypb.Any, r *response) received {
	if a.GetTypeUrl() != wrapperURL {
		return received{version: r.version, body: a.GetValue(), err: checkType(a, r.typeURL)}
	}
	var wrapped discoveryv3.Resource
	if err := proto.Unmarshal(a.GetValue(), &wrapped); err != nil {
		return received{version: r.version, err: fmt.Errorf("cannot read the resource wrapper: %w", err)}
	}
	got := fromResource(&wrapped, r.typeURL)
	got.version = r.version
	return got
}

// deltaWire speaks the incremental protocol.
type deltaWire struct {
	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
}

func (w deltaWire) send(r *request) error {
	return w.stream.Send(&discoveryv3.DeltaDiscoveryRequest{
		Node:                     r.node,
		TypeUrl:                  r.typeURL,
		ResourceNamesSubscribe:   r.subscribe,
		ResourceNamesUnsubscribe: r.unsubscribe,
		InitialResourceVersions:  r.initial,
		ResponseNonce:            r.nonce,
		ErrorDetail:              refusalStatus(r.refusal).Proto(),
	})
}

func (w deltaWire) taken() bool { return hasHeader(w.stream) }

func (w deltaWire) recv() (*response, error) {
	m, err := w.stream.Recv()
	if err != nil {
		return nil, err
	}
	return fromDelta(m), nil
}

// fromDelta reads an incremental response.
func fromDelta(m *discoveryv3.DeltaDiscoveryResponse) *response {
	r := &response{
		typeURL:   m.GetTypeUrl(),
		version:   m.GetSystemVersionInfo(),
		nonce:     m.GetNonce(),
		resources: make([]received, 0, len(m.GetResources())),
		removed:   m.GetRemovedResources(),
		failures:  fromErrors(m.GetResourceErrors()),
	}
	for _, n := range m.GetRemovedResourceNames() {
		r.removed = append(r.removed, n.GetName())
	}
	for _, res := range m.GetResources() {
		got := fromResource(res, r.typeURL)
		if got.name == "" && got.err == nil {
			got.err = errNameless
		}
		r.resources = append(r.resources, got)
	}
	return r
}

// fromResource reads a named resource.
func fromResource(m *discoveryv3.Resource, typeURL string) received {
	got := received{name: m.GetName(), version: m.GetVersion()}
	if got.name == "" {
		got.name = m.GetResourceName().GetName()
	}
	if m.GetResource() == nil {
		got.absent = true
		return got
	}
	got.body, got.err = m.GetResource().GetValue(), checkType(m.GetResource(), typeURL)
	return got
}

func checkType(a *anypb.Any, want string) error {
	if got := a.GetTypeUrl(); got != want {
		return fmt.Errorf("the resource is a %q in a response for %q", got, want)
	}
	return nil
}

func fromErrors(list []*discoveryv3.ResourceError) []failure {
	var out []failure
	for _, e := range list {
		out = append(out, failure{name: e.GetResourceName().GetName(), err: status.FromProto(e.GetErrorDetail())})
	}
	return out
}

// refusalStatus is the error of a NACK with this detail; none if it is empty.
func refusalStatus(detail string) *status.Status {
	if detail == "" {
		return nil
	}
	return status.New(codes.InvalidArgument, detail)
}
