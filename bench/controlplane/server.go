package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"

	"github.com/meshframe/meshframe/bench/internal/proc"
	"github.com/meshframe/meshframe/xdsserver"
)

// plane is a control plane: it serves the assignments that set gives it.
type plane func(s *grpc.Server) (set func(name string, a *endpointv3.ClusterLoadAssignment) error)

var planes = map[string]plane{
	"linear": func(s *grpc.Server) func(string, *endpointv3.ClusterLoadAssignment) error {
		c := cache.NewLinearCache(resource.EndpointType)
		mux := &cache.MuxCache{
			Classify:      func(*cache.Request) string { return resource.EndpointType },
			ClassifyDelta: func(*cache.DeltaRequest) string { return resource.EndpointType },
			Caches:        map[string]cache.Cache{resource.EndpointType: c},
		}
		discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, server.NewServer(context.Background(), mux, nil))
		return func(name string, a *endpointv3.ClusterLoadAssignment) error {
			return c.UpdateResources(map[string]types.Resource{name: a}, nil)
		}
	},
	"meshframe": func(s *grpc.Server) func(string, *endpointv3.ClusterLoadAssignment) error {
		c := xdsserver.NewCache()
		c.Register(s)
		return func(name string, a *endpointv3.ClusterLoadAssignment) error {
			return c.Set(resource.EndpointType, name, a)
		}
	},
}

// reply answers one command.
type reply struct {
	Begin int64 // wall clock in ns before the change
	CPU   int64 // ns that the process has used
}

// serve runs a control plane that makes the changes that its input asks for.
func serve(p plane, out io.Writer) error {
	if p == nil {
		return errors.New("no such control plane")
	}
	s := grpc.NewServer()
	set := p(s)
	for i := range services {
		if err := set(serviceName(i), assignment(i, 0)); err != nil {
			return err
		}
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go func() { _ = s.Serve(lis) }()
	answers := json.NewEncoder(out)
	if err := answers.Encode(lis.Addr().String()); err != nil {
		return err
	}
	// A read that blocks in the kernel would keep the only processor from the
	// other goroutines for up to 10 ms; a non-blocking one goes to the poller.
	if err := syscall.SetNonblock(0, true); err != nil {
		return err
	}
	commands := bufio.NewScanner(os.NewFile(0, "stdin"))
	for commands.Scan() {
		var service, generation int
		r := reply{Begin: time.Now().UnixNano()}
		if n, _ := fmt.Sscan(commands.Text(), &service, &generation); n == 2 {
			if err := set(serviceName(service), assignment(service, generation+1)); err != nil {
				return err
			}
		}
		r.CPU = int64(proc.CPU())
		if err := answers.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

func serviceName(i int) string { return fmt.Sprintf("service-%04d", i) }

// assignment is a service's endpoints; the port of the first tells generations
// apart.
func assignment(service, generation int) *endpointv3.ClusterLoadAssignment {
	l := &endpointv3.LocalityLbEndpoints{Locality: &corev3.Locality{Region: "region", Zone: "zone"}}
	for i := range endpoints {
		port := uint32(8080)
		if i == 0 {
			port = uint32(10_000 + generation%50_000)
		}
		l.LbEndpoints = append(l.LbEndpoints, &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: fmt.Sprintf("10.%d.%d.%d", service/250, service%250, i+1), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
			}}},
		}}})
	}
	return &endpointv3.ClusterLoadAssignment{ClusterName: serviceName(service), Endpoints: []*endpointv3.LocalityLbEndpoints{l}}
}
