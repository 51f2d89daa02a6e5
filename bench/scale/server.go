package main

import (
	"context"
	"errors"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// listener is the inbound listener of the server that comes and goes.
const listener = "xds.istio.io/grpc/lds/inbound/10.200.0.1:9080"

// server is a server of the first service, as far as a control plane knows.
type server struct {
	cc   *grpc.ClientConn
	st   discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	node *corev3.Node
}

func newServer(address string) (*server, error) {
	cc, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, err
	}
	s := &server{cc: cc, node: nodeOf("server", "meshframe", map[string]any{"MESH_SERVICES": hostName(0) + ":9080", "LABELS": map[string]any{"version": "v1"}})}
	s.st, err = discoveryv3.NewAggregatedDiscoveryServiceClient(cc).DeltaAggregatedResources(context.Background())
	return s, err
}

func (s *server) close() { s.cc.Close() }

// register subscribes to the listener, and accepts it.
func (s *server) register() error {
	err := s.st.Send(&discoveryv3.DeltaDiscoveryRequest{Node: s.node, TypeUrl: resource.ListenerType, ResourceNamesSubscribe: []string{listener}})
	s.node = nil
	if err != nil {
		return err
	}
	m, err := s.st.Recv()
	if err != nil {
		return err
	}
	if len(m.GetResources()) != 1 {
		return errors.New("the server was not sent its listener")
	}
	return s.st.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.ListenerType, ResponseNonce: m.GetNonce()})
}

// withdraw gives the subscription up.
func (s *server) withdraw() error {
	return s.st.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.ListenerType, ResourceNamesUnsubscribe: []string{listener}})
}
