package xdsserver

import (
	"maps"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/delta/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	"google.golang.org/grpc"
)

// session is one stream's face of the cache: the ConfigWatcher that go-control-plane's server runs the stream on. It
// keeps one watch per type from the first request to the end of the stream.
//
// Its methods are called by the stream's goroutine, one at a time.
type session struct {
	cache    *Cache
	view     string
	stream   stream
	watches  map[string]any // *deltaWatch or *sotwWatch, by type
	interest interest
}

// interest hears which names a session wants. A nil interest does not care.
type interest interface {
	// wanted is called before the names are looked up in the cache.
	wanted(typeURL string, names []string)
	// unwanted is called after the client gave the names up (lost is false), or its stream ended (lost is true).
	unwanted(typeURL string, names []string, lost bool)
}

func (c *Cache) newSession(view string, i interest) *session {
	return &session{cache: c, view: view, watches: map[string]any{}, interest: i}
}

// CreateDeltaWatch implements cache.ConfigWatcher.
func (s *session) CreateDeltaWatch(req *cache.DeltaRequest, sub cache.Subscription, out chan cache.DeltaResponse) (func(), error) {
	w, ok := s.watches[req.GetTypeUrl()].(*deltaWatch)
	if !ok {
		w = &deltaWatch{}
		s.adopt(&w.watch, w, req.GetTypeUrl())
		s.watches[req.GetTypeUrl()] = w
	}
	w.reopen(req, sub, out, s.interest)
	return w.park, nil
}

// CreateWatch implements cache.ConfigWatcher.
func (s *session) CreateWatch(req *cache.Request, sub cache.Subscription, out chan cache.Response) (func(), error) {
	w, ok := s.watches[req.GetTypeUrl()].(*sotwWatch)
	if !ok {
		w = &sotwWatch{}
		s.adopt(&w.watch, w, req.GetTypeUrl())
		s.watches[req.GetTypeUrl()] = w
	}
	w.reopen(req, sub, out, s.interest)
	return w.park, nil
}

func (s *session) adopt(w *watch, p protocol, typeURL string) {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	w.begin(s.cache, p, tableKey{s.view, typeURL})
	s.stream.add(w)
}

// close ends all watches. The stream is over and nothing is sent any more.
func (s *session) close() {
	names := map[string][]string{}
	s.cache.mu.Lock()
	for _, w := range s.stream.watches {
		for name, l := range w.byName {
			if l.named {
				names[w.table.typeURL] = append(names[w.table.typeURL], name)
			}
		}
		w.close()
	}
	s.stream.watches = nil
	s.cache.mu.Unlock()
	for _, typeURL := range slices.Sorted(maps.Keys(names)) {
		if s.interest != nil {
			s.interest.unwanted(typeURL, names[typeURL], true)
		}
	}
}

// rebase gives the session another view. What its names are there has been set.
func (s *session) rebase(view string) {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	s.view = view
	for _, w := range s.stream.watches {
		w.rebase(s.cache.table(tableKey{view, w.table.typeURL}))
	}
	s.stream.fireAll()
}

// Register adds the aggregated discovery service, both protocols, to a gRPC server and serves the cache with it. Unlike
// with go-control-plane's server.NewServer(ctx, cache, nil), which works as well, the types of a stream are sent in
// order, and a request without resource names subscribes to nothing; "*" subscribes to everything.
// Clients ping after 30 seconds of silence: let them with grpc.KeepaliveEnforcementPolicy, or each loses its first
// connection over it.
func (c *Cache) Register(s grpc.ServiceRegistrar) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, cacheService{cache: c})
}

type cacheService struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	cache *Cache
}

func (s cacheService) StreamAggregatedResources(st discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	if err := st.SendHeader(nil); err != nil { // or a client that has everything would hear nothing at all
		return err
	}
	session := s.cache.newSession("", nil)
	defer session.close()
	return sotw.NewServer(st.Context(), session, nil, sotw.WithOrderedADS(), sotw.DeactivateLegacyWildcard()).StreamHandler(st, resource.AnyType)
}

func (s cacheService) DeltaAggregatedResources(st discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	if err := st.SendHeader(nil); err != nil { // or a client that has everything would hear nothing at all
		return err
	}
	session := s.cache.newSession("", nil)
	defer session.close()
	return delta.NewServer(st.Context(), session, nil, delta.DeactivateLegacyWildcard()).DeltaStreamHandler(st, resource.AnyType)
}
