package xdsserver

import (
	"fmt"
	"testing"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	subscription "github.com/envoyproxy/go-control-plane/pkg/server/stream/v3"
)

// What a change of one resource costs the cache, until every subscriber has its response and has acknowledged it.
func BenchmarkCacheChange(b *testing.B) {
	for _, subscribers := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(subscribers), func(b *testing.B) {
			c := NewCache()
			var names []string
			for i := range 20 {
				names = append(names, fmt.Sprint("service-", i))
			}
			type client struct {
				sub    subscription.Subscription
				out    chan cache.DeltaResponse
				cancel func()
			}
			open := func(cl *client, names []string) {
				cl.cancel, _ = c.CreateDeltaWatch(&cache.DeltaRequest{TypeUrl: resource.EndpointType, ResourceNamesSubscribe: names}, cl.sub, cl.out)
			}
			take := func(cl *client) {
				r := <-cl.out
				_, _ = r.GetDeltaDiscoveryResponse()
				cl.sub.SetReturnedResources(r.GetReturnedResources())
				cl.cancel()
				open(cl, nil)
			}
			clients := make([]*client, subscribers)
			for i := range clients {
				clients[i] = &client{sub: subscription.NewDeltaSubscription(names, nil, nil, true), out: make(chan cache.DeltaResponse, 10)}
				open(clients[i], names)
				take(clients[i])
			}
			b.ReportAllocs()
			n := uint32(0)
			for b.Loop() {
				n++
				_ = c.Set(resource.EndpointType, "service-0", &endpointv3.ClusterLoadAssignment{ClusterName: "service-0", Endpoints: []*endpointv3.LocalityLbEndpoints{{Priority: n}}})
				for _, cl := range clients {
					take(cl)
				}
			}
		})
	}
}
