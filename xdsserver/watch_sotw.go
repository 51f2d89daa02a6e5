package xdsserver

import (
	"context"
	"slices"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// sotwWatch is a watch of the state-of-the-world protocol, and its own token like deltaWatch.
type sotwWatch struct {
	watch
	request  *cache.Request
	out      chan cache.Response
	record   map[string]string // what go-control-plane has on record; it stays as it is, the links know better
	response *discoveryv3.DiscoveryResponse
}

var _ cache.Response = (*sotwWatch)(nil)

// shown is what the client sees of an entry; nil: nothing.
func (w *sotwWatch) shown(e *entry) *encoded {
	if e.cur == nil {
		return e.instead
	}
	return e.cur
}

// stale: of types whose responses are partial, the client cannot be told that a resource is gone.
func (w *sotwWatch) stale(l *link) bool {
	shown := w.shown(l.entry)
	if w.table.fullState {
		return shown.version() != l.sent
	}
	return shown != nil && shown.version() != l.sent && !l.held()
}

// blocked: a response that carries the full state cannot leave a held resource out.
func (w *sotwWatch) blocked() bool {
	return w.table.fullState && slices.ContainsFunc(w.links, (*link).held)
}

func (w *sotwWatch) enqueue() bool {
	select {
	case w.out <- w:
		return true
	default:
		return false
	}
}

// reopen opens the watch for the next response, with what the request changes.
func (w *sotwWatch) reopen(req *cache.Request, sub cache.Subscription, out chan cache.Response, i interest) {
	// On its first request a client that comes back says only that it has something.
	has := ""
	if w.request == nil && req.GetVersionInfo() != "" {
		has = some
	}
	var added, removed []string
	if w.request == nil || !slices.Equal(w.request.GetResourceNames(), req.GetResourceNames()) {
		added, removed = w.news(req.GetResourceNames(), w.others(sub.SubscribedResources()))
	}
	w.request, w.out, w.record = req, out, sub.ReturnedResources()
	tell(i, req.GetTypeUrl(), added, removed, func() {
		w.watch.reopen(func() {
			w.queued = false // a token that was not taken before this request never will be
			w.subscribe(added, func(string) string { return has })
			w.unsubscribe(removed)
			w.setWildcard(sub.IsWildcard(), nil)
		})
	})
}

// take makes the response out of what the client should hear of now.
func (w *sotwWatch) take() {
	send := w.dirty
	if w.table.fullState {
		send = w.links
	}
	var sum uint64
	var gone []*link
	all := make([]*discoveryv3.Resource, 0, len(send))
	for _, l := range send {
		shown := w.shown(l.entry)
		if w.stale(l) {
			l.told(shown.version())
		} else if !w.table.fullState {
			continue
		}
		switch {
		case shown != nil:
			sum ^= shown.hash
			all = append(all, shown.wire)
		case !l.named:
			gone = append(gone, l)
		}
	}
	w.clean()
	for _, l := range gone {
		w.unlink(l)
	}
	slices.SortFunc(all, func(a, b *discoveryv3.Resource) int { return strings.Compare(a.Name, b.Name) })
	resp := &discoveryv3.DiscoveryResponse{TypeUrl: w.table.typeURL, VersionInfo: versionOf(sum, all), Resources: make([]*anypb.Any, len(all))}
	for i, r := range all {
		resp.Resources[i] = r.Resource
	}
	w.response = resp
	w.queued, w.open = false, false
}

// GetDiscoveryResponse makes the response of a token the first time it is called and returns it.
func (w *sotwWatch) GetDiscoveryResponse() (*discoveryv3.DiscoveryResponse, error) {
	w.cache.mu.Lock()
	defer w.cache.mu.Unlock()
	if w.queued {
		w.take()
		w.fireAll()
	}
	return w.response, nil
}

// GetRequest returns the latest request.
func (w *sotwWatch) GetRequest() *discoveryv3.DiscoveryRequest { return w.request }

// GetVersion returns the version of the response.
func (w *sotwWatch) GetVersion() (string, error) { return w.GetResponseVersion(), nil }

// GetResponseVersion returns the version of the response.
func (w *sotwWatch) GetResponseVersion() string { return w.response.GetVersionInfo() }

// GetReturnedResources returns what go-control-plane should have on record.
func (w *sotwWatch) GetReturnedResources() map[string]string { return w.record }

// GetContext returns no particular context.
func (w *sotwWatch) GetContext() context.Context { return context.Background() }
