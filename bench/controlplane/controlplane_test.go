package main

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// TestPlanes checks that every control plane sends a change to its subscriber,
// so that what is compared is the same work.
func TestPlanes(t *testing.T) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			s := grpc.NewServer()
			set := planes[name](s)
			lis, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			go func() { _ = s.Serve(lis) }()
			defer s.Stop()
			cc, err := grpc.NewClient(lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				t.Fatal(err)
			}
			defer cc.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			st, err := discoveryv3.NewAggregatedDiscoveryServiceClient(cc).DeltaAggregatedResources(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for generation := range 3 {
				if err := set(serviceName(7), assignment(7, generation)); err != nil {
					t.Fatal(err)
				}
				req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resource.EndpointType}
				if generation == 0 {
					req.ResourceNamesSubscribe = []string{serviceName(7)}
					if err := st.Send(req); err != nil {
						t.Fatal(err)
					}
				}
				m, err := st.Recv()
				if err != nil {
					t.Fatal(err)
				}
				if len(m.GetResources()) != 1 || m.GetResources()[0].GetName() != serviceName(7) {
					t.Fatal(fmt.Sprint("got ", m))
				}
				req.ResourceNamesSubscribe, req.ResponseNonce = nil, m.GetNonce()
				if err := st.Send(req); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
