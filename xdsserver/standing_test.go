package xdsserver

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	subscription "github.com/envoyproxy/go-control-plane/pkg/server/stream/v3"
)

// Streams of go-control-plane's server end without a word. What the cache holds for them goes all the same.
func TestStandingWatchesGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCache()
		for range 100 {
			sub := subscription.NewDeltaSubscription([]string{"a"}, nil, nil, true)
			out := make(chan cache.DeltaResponse, 1)
			for range 3 { // the first request and two acknowledgements
				cancel, err := c.CreateDeltaWatch(&cache.DeltaRequest{TypeUrl: resource.EndpointType}, sub, out)
				if err != nil {
					t.Fatal(err)
				}
				cancel()
			}
			close(out)
		}
		if n := len(c.standing.watches); n != 100 {
			t.Errorf("%d watches", n)
		}
		<-time.After(2 * time.Second)
		sub := subscription.NewSotwSubscription([]string{"a"}, true)
		cancel, err := c.CreateWatch(&cache.Request{TypeUrl: resource.EndpointType, ResourceNames: []string{"a"}}, sub, make(chan cache.Response, 1))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(c.standing.watches); n != 1 {
			t.Errorf("%d watches are left", n)
		}
		if n := len(c.tables[tableKey{typeURL: resource.EndpointType}].entries["a"].links); n != 1 {
			t.Errorf("%d links are left", n)
		}
		cancel()
	})
}
