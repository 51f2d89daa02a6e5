package xdsclient_test

import (
	"context"
	"errors"
	"fmt"
	"net"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	serverv3 "github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"github.com/meshframe/meshframe/resolver/xdsclient"
)

// policies is a resource type: what this program wants to know of a cluster is
// its load-balancing policy.
var policies = &xdsclient.ResourceType[string]{
	TypeURL:   resource.ClusterType,
	FullState: true,
	Decode: func(_ string, body []byte) xdsclient.Decoded[string] {
		var c clusterv3.Cluster
		if err := proto.Unmarshal(body, &c); err != nil {
			return xdsclient.Decoded[string]{Err: err}
		}
		d := xdsclient.Decoded[string]{Name: c.GetName(), Value: c.GetLbPolicy().String(), Usable: true}
		if c.GetLbPolicy() == clusterv3.Cluster_MAGLEV {
			d.Usable, d.Err = false, fmt.Errorf("lb_policy: %s is not supported", d.Value)
		}
		return d
	},
}

// printer is a watcher: it prints, and says when it has.
type printer chan struct{}

func (p printer) Update(u xdsclient.Update[string], done func()) {
	fmt.Println(u.Name, "uses", u.Value)
	done()
	p <- struct{}{}
}

func (p printer) Missing(name string, _ error, done func()) {
	fmt.Println(name, "does not exist")
	done()
	p <- struct{}{}
}

func (p printer) Error(name string, err error, done func()) {
	if refused, ok := errors.AsType[*xdsclient.RefusedError](err); ok {
		err = refused.Err
	}
	fmt.Println(name+":", err)
	done()
	p <- struct{}{}
}

// A control plane made of go-control-plane's parts, in memory, and a client that
// follows one of its clusters through a change, a mistake and the end.
func Example() {
	clusters := cache.NewLinearCache(resource.ClusterType)
	dial, stop := serve(clusters)
	defer stop()

	client, err := xdsclient.New(xdsclient.Config{
		Servers: []xdsclient.Server{{URI: "control-plane", Credentials: insecure.NewCredentials(), Dialer: dial}},
		Node:    &corev3.Node{Id: "example"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	set := func(policy clusterv3.Cluster_LbPolicy) {
		if err := clusters.UpdateResource("reviews", &clusterv3.Cluster{Name: "reviews", LbPolicy: policy}); err != nil {
			fmt.Println(err)
		}
	}
	set(clusterv3.Cluster_ROUND_ROBIN)

	told := make(printer)
	cancel := xdsclient.Watch(client, policies, "reviews", told)
	defer cancel()
	<-told

	set(clusterv3.Cluster_RANDOM)
	<-told

	set(clusterv3.Cluster_MAGLEV)
	<-told
	fmt.Println("state:", client.Status().Resources[0].State)

	if err := clusters.DeleteResource("reviews"); err != nil {
		fmt.Println(err)
	}
	<-told

	// Output:
	// reviews uses ROUND_ROBIN
	// reviews uses RANDOM
	// reviews: lb_policy: MAGLEV is not supported
	// state: refused
	// reviews does not exist
}

// Any number of watches share one stream and one subscription, and a late one is
// answered from memory.
func ExampleWatch() {
	clusters := cache.NewLinearCache(resource.ClusterType)
	if err := clusters.UpdateResource("ratings", &clusterv3.Cluster{Name: "ratings"}); err != nil {
		fmt.Println(err)
		return
	}
	dial, stop := serve(clusters)
	defer stop()
	client, err := xdsclient.New(xdsclient.Config{
		Servers:  []xdsclient.Server{{URI: "control-plane", Credentials: insecure.NewCredentials(), Dialer: dial}},
		Protocol: xdsclient.StateOfTheWorld,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()

	told := make(printer)
	defer xdsclient.Watch(client, policies, "ratings", told)()
	<-told
	defer xdsclient.Watch(client, policies, "ratings", told)()
	<-told
	fmt.Println(client.Status().Resources[0].Watchers, "watchers of ratings")

	// Output:
	// ratings uses ROUND_ROBIN
	// ratings uses ROUND_ROBIN
	// 2 watchers of ratings
}

// serve runs an ADS server in memory, and returns how to dial it.
func serve(c cache.Cache) (dial func(context.Context, string) (net.Conn, error), stop func()) {
	lis := bufconn.Listen(1 << 16)
	ctx, cancel := context.WithCancel(context.Background())
	srv := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(srv, serverv3.NewServer(ctx, c, nil))
	go func() { _ = srv.Serve(lis) }()
	dial = func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }
	return dial, func() { srv.Stop(); cancel() }
}
