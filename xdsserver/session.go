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
	watches  map[string]sessionWatch
	interest interest
}

// interest hears which names a session wants. A nil interest does not care.
type interest interface {
	// wanted is called before the names are looked up in the cache.
	wanted(typeURL string, names []string)
	// unwanted is called after the client gave the names up (lost is false), or its stream ended (lost is true).
	unwanted(typeURL string, names []string, lost bool)
}

type sessionWatch interface{ base() *watch }

func (w *watch) base() *watch { return w }

func (c *Cache) newSession(view string, i interest) *session {
	return &session{cache: c, view: view, watches: map[string]sessionWatch{}, interest: i}
}

// CreateDeltaWatch implements cache.ConfigWatcher.
func (s *session) CreateDeltaWatch(req *cache.DeltaRequest, sub cache.Subscription, out chan cache.DeltaResponse) (func(), error) {
	typeURL := req.GetTypeUrl()
	w, _ := s.watches[typeURL].(*deltaWatch)
	if w == nil {
		w = &deltaWatch{}
		s.adopt(&w.watch, w, typeURL)
		s.watches[typeURL] = w
	}
	w.request, w.out, w.known = req, out, sub.ReturnedResources()
	added, removed := w.news(req.GetResourceNamesSubscribe(), req.GetResourceNamesUnsubscribe())
	s.wanted(typeURL, added)
	w.reopen(func() {
		for _, name := range req.GetResourceNamesSubscribe() {
			if l := w.byName[name]; l != nil { // subscribed to again: to be sent again
				l.sent = ""
				l.mark()
			}
		}
		w.subscribe(added, func(name string) string { return w.known[name] })
		w.unsubscribe(removed)
		w.setWildcard(sub.IsWildcard(), w.known)
	})
	s.unwanted(typeURL, removed, false)
	return w.park, nil
}

// CreateWatch implements cache.ConfigWatcher.
func (s *session) CreateWatch(req *cache.Request, sub cache.Subscription, out chan cache.Response) (func(), error) {
	typeURL := req.GetTypeUrl()
	w, _ := s.watches[typeURL].(*sotwWatch)
	if w == nil {
		w = &sotwWatch{}
		s.adopt(&w.watch, w, typeURL)
		s.watches[typeURL] = w
	}
	// On its first request a client that comes back says only that it has something.
	has := ""
	if w.request == nil && req.GetVersionInfo() != "" {
		has = some
	}
	var added, removed []string
	if w.request == nil || !slices.Equal(w.request.GetResourceNames(), req.GetResourceNames()) {
		added, removed = w.news(req.GetResourceNames(), w.others(sub.SubscribedResources()))
	}
	w.request, w.out, w.known = req, out, sub.ReturnedResources()
	s.wanted(typeURL, added)
	w.reopen(func() {
		w.queued = false // a token that was not taken before this request never will be
		w.subscribe(added, func(string) string { return has })
		w.unsubscribe(removed)
		w.setWildcard(sub.IsWildcard(), nil)
	})
	s.unwanted(typeURL, removed, false)
	return w.park, nil
}

func (s *session) adopt(w *watch, p protocol, typeURL string) {
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	w.cache, w.proto, w.table = s.cache, p, s.cache.table(tableKey{s.view, typeURL})
	w.byName = map[string]*link{}
	s.stream.add(w)
}

// news returns which of the names to add the watch does not have by name, and which of the names to remove it has.
func (w *watch) news(add, remove []string) (added, removed []string) {
	if len(add) == 0 && len(remove) == 0 {
		return nil, nil
	}
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	seen := make(map[string]bool, len(add))
	for _, name := range add {
		if l := w.byName[name]; name != wildcardName && !seen[name] && (l == nil || !l.named) {
			seen[name] = true
			added = append(added, name)
		}
	}
	for _, name := range remove {
		if l := w.byName[name]; l != nil && l.named && !seen[name] {
			seen[name] = true
			removed = append(removed, name)
		}
	}
	return added, removed
}

// others returns the names that the watch has by name, but for these.
func (w *watch) others(names map[string]struct{}) (others []string) {
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	for name, l := range w.byName {
		if _, ok := names[name]; !ok && l.named {
			others = append(others, name)
		}
	}
	return others
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
		s.unwanted(typeURL, names[typeURL], true)
	}
}

func (s *session) wanted(typeURL string, names []string) {
	if s.interest != nil && len(names) > 0 {
		s.interest.wanted(typeURL, names)
	}
}

func (s *session) unwanted(typeURL string, names []string, lost bool) {
	if s.interest != nil && len(names) > 0 {
		s.interest.unwanted(typeURL, names, lost)
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

// Register adds the aggregated discovery service, both protocols, to a gRPC server and serves the cache with it. It
// costs less per acknowledgement than go-control-plane's server.NewServer(ctx, cache, nil), which works as well.
// A request without resource names subscribes to nothing; "*" subscribes to everything.
func (c *Cache) Register(s grpc.ServiceRegistrar) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s, cacheService{cache: c})
}

type cacheService struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	cache *Cache
}

func (s cacheService) StreamAggregatedResources(st discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	session := s.cache.newSession("", nil)
	defer session.close()
	return sotw.NewServer(st.Context(), session, nil, sotw.WithOrderedADS(), sotw.DeactivateLegacyWildcard()).StreamHandler(st, resource.AnyType)
}

func (s cacheService) DeltaAggregatedResources(st discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	session := s.cache.newSession("", nil)
	defer session.close()
	return delta.NewServer(st.Context(), session, nil, delta.DeactivateLegacyWildcard()).DeltaStreamHandler(st, resource.AnyType)
}
