package xdsserver

import (
	"context"
	"maps"
	"slices"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
)

// deltaWatch is a watch of the incremental protocol. It is itself the token that is passed to go-control-plane's
// server, which asks it for the response in the moment it sends it, on the stream's goroutine.
type deltaWatch struct {
	watch
	request  *cache.DeltaRequest
	out      chan cache.DeltaResponse
	record   map[string]string // what go-control-plane has on record; it stays as it is, the links know better
	response *discoveryv3.DeltaDiscoveryResponse
}

var _ cache.DeltaResponse = (*deltaWatch)(nil)

func (w *deltaWatch) stale(l *link) bool {
	return l.entry.cur.version() != l.sent && !l.held()
}

func (w *deltaWatch) blocked() bool { return false }

func (w *deltaWatch) enqueue() bool {
	select {
	case w.out <- w:
		return true
	default:
		return false
	}
}

// reopen opens the watch for the next response, with what the request changes.
func (w *deltaWatch) reopen(req *cache.DeltaRequest, sub cache.Subscription, out chan cache.DeltaResponse, i interest) {
	subscribe := req.GetResourceNamesSubscribe()
	if w.request == nil {
		subscribe = slices.Collect(maps.Keys(sub.SubscribedResources()))
	}
	w.request, w.out, w.record = req, out, sub.ReturnedResources()
	added, removed := w.news(subscribe, req.GetResourceNamesUnsubscribe())
	tell(i, req.GetTypeUrl(), added, removed, func() {
		w.watch.reopen(func() {
			for _, name := range req.GetResourceNamesSubscribe() {
				if l := w.byName[name]; l != nil { // subscribed to again: to be sent again
					l.sent = ""
					l.mark()
				}
			}
			known := req.GetInitialResourceVersions() // of the first request of a stream only
			w.subscribe(added, func(name string) string { return known[name] })
			w.unsubscribe(removed)
			w.setWildcard(sub.IsWildcard(), known)
		})
	})
}

// take makes the response out of what the client should hear of now.
func (w *deltaWatch) take() {
	resp := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: w.table.typeURL}
	var sum uint64
	var gone []*link
	for _, l := range w.dirty {
		if !w.stale(l) {
			continue
		}
		l.told(l.entry.cur.version())
		if cur := l.entry.cur; cur != nil {
			sum ^= cur.hash
			resp.Resources = append(resp.Resources, cur.wire)
			continue
		}
		resp.RemovedResources = append(resp.RemovedResources, l.entry.name)
		if !l.named {
			gone = append(gone, l)
		}
	}
	w.clean()
	for _, l := range gone {
		w.unlink(l)
	}
	if len(resp.Resources) > 1 {
		slices.SortFunc(resp.Resources, func(a, b *discoveryv3.Resource) int { return strings.Compare(a.Name, b.Name) })
	}
	slices.Sort(resp.RemovedResources)
	resp.SystemVersionInfo = versionOf(sum, resp.Resources)
	w.response = resp
	w.queued, w.open = false, false
}

// versionOf is the version of a response as a whole, for people.
func versionOf(sum uint64, rs []*discoveryv3.Resource) string {
	if len(rs) == 1 {
		return rs[0].Version
	}
	return formatHash(sum)
}

// GetDeltaDiscoveryResponse makes the response of a token the first time it is called and returns it.
func (w *deltaWatch) GetDeltaDiscoveryResponse() (*discoveryv3.DeltaDiscoveryResponse, error) {
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	if w.queued {
		w.take()
		w.fireAll()
	}
	return w.response, nil
}

// GetDeltaRequest returns the latest request.
func (w *deltaWatch) GetDeltaRequest() *discoveryv3.DeltaDiscoveryRequest { return w.request }

// GetSystemVersion returns the version of the response.
func (w *deltaWatch) GetSystemVersion() (string, error) { return w.GetResponseVersion(), nil }

// GetResponseVersion returns the version of the response.
func (w *deltaWatch) GetResponseVersion() string { return w.response.GetSystemVersionInfo() }

// GetNextVersionMap returns what go-control-plane should have on record.
func (w *deltaWatch) GetNextVersionMap() map[string]string { return w.GetReturnedResources() }

// GetReturnedResources returns what go-control-plane should have on record.
func (w *deltaWatch) GetReturnedResources() map[string]string { return w.record }

// GetContext returns no particular context.
func (w *deltaWatch) GetContext() context.Context { return context.Background() }
