package xdsserver

import (
	"reflect"
	"time"

	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
)

// standing is the watches of the streams that go-control-plane's own server runs on the cache. It tells the cache
// neither which stream a watch is of nor when a stream ends: it cancels the watch before each request and opens one
// again at once, but not after the last. So a watch is recognized by the record of its subscription, which is
// one map from the first request of a type to the end of the stream because the cache always returns it as it is; and a watch
// that has been parked for a while is one whose stream is over.
type standing struct {
	watches map[uintptr]standingWatch
	parked  []parking // oldest first
}

type standingWatch struct {
	any           // *deltaWatch or *sotwWatch
	watch  *watch // the same
	parked time.Time
}

// parking is a watch that was parked at a time; it may have been opened since.
type parking struct {
	key uintptr
	at  time.Time
}

// abandoned is how long a watch has to be parked to be taken for one of a stream that is over. One that is opened after
// all is sent everything again.
const abandoned = time.Second

// identity is the address of the record, which cannot be that of another one while the watch holds it.
func identity(sub cache.Subscription) uintptr {
	return reflect.ValueOf(sub.ReturnedResources()).Pointer()
}

// CreateWatch implements cache.Cache for the state-of-the-world protocol.
func (c *Cache) CreateWatch(req *cache.Request, sub cache.Subscription, out chan cache.Response) (func(), error) {
	key := identity(sub)
	w := stand(c, key, req.GetTypeUrl(), func() (*sotwWatch, *watch, protocol) {
		w := &sotwWatch{}
		return w, &w.watch, w
	})
	w.reopen(req, sub, out, nil)
	return func() { c.parkStanding(key) }, nil
}

// CreateDeltaWatch implements cache.Cache for the incremental protocol.
func (c *Cache) CreateDeltaWatch(req *cache.DeltaRequest, sub cache.Subscription, out chan cache.DeltaResponse) (func(), error) {
	key := identity(sub)
	w := stand(c, key, req.GetTypeUrl(), func() (*deltaWatch, *watch, protocol) {
		w := &deltaWatch{}
		return w, &w.watch, w
	})
	w.reopen(req, sub, out, nil)
	return func() { c.parkStanding(key) }, nil
}

// stand returns the watch of a subscription, which is not parked any more.
func stand[W any](c *Cache, key uintptr, typeURL string, fresh func() (W, *watch, protocol)) W {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s, ok := c.standing.watches[key]; ok {
		if w, ok := s.any.(W); ok && s.watch.table.typeURL == typeURL {
			s.parked = time.Time{}
			c.standing.watches[key] = s
			return w
		}
	}
	c.sweep(time.Now())
	w, base, proto := fresh()
	base.begin(c, proto, tableKey{typeURL: typeURL})
	c.standing.watches[key] = standingWatch{any: w, watch: base}
	return w
}

// parkStanding keeps a watch from answering until it is opened again, if it is.
func (c *Cache) parkStanding(key uintptr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.standing.watches[key]
	if !ok {
		return
	}
	now := time.Now()
	s.watch.open, s.parked = false, now
	c.standing.watches[key] = s
	c.standing.parked = append(c.standing.parked, parking{key, now})
	c.sweep(now)
}

// sweep closes the watches of streams that are over.
func (c *Cache) sweep(now time.Time) {
	n := 0
	for _, p := range c.standing.parked {
		if now.Sub(p.at) < abandoned {
			break
		}
		n++
		if s := c.standing.watches[p.key]; s.watch != nil && s.parked.Equal(p.at) {
			s.watch.close()
			delete(c.standing.watches, p.key)
		}
	}
	c.standing.parked = c.standing.parked[n:]
}
