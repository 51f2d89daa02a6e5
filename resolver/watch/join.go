package watch

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/xdsclient"
)

// join holds what is known of the resources of one target and publishes their
// union whenever it is complete. Its fields are guarded by the target's mutex.
type join struct {
	t        *Target
	listener *sub[*snapshot.Listener]
	routes   *sub[*snapshot.RouteConfiguration] // of the newest listener; nil when inline
	clusters map[string]*cluster

	active  config // what is published
	warming config // what waits for its clusters
	timer   *time.Timer
	expired bool // the wait for warming is over
}

// config is a listener with its routes.
type config struct {
	listener *snapshot.Listener
	routes   *snapshot.RouteConfiguration
}

// sub is the subscription to one resource.
type sub[T any] struct {
	name    string
	cancel  func()
	closed  bool
	value   T
	known   bool  // value was received
	missing error // the resource does not exist
	refused error // it could not be read or was not given out, and there is no earlier version
}

// settled reports whether the subscription has been answered.
func (s *sub[T]) settled() bool { return s.known || s.missing != nil || s.refused != nil }

func (s *sub[T]) close() {
	if s != nil && !s.closed {
		s.closed = true
		s.cancel()
	}
}

// subscriber passes what arrives for a sub to its target.
type subscriber[T any] struct {
	t *Target
	s *sub[T]
}

func subscribe[T any](t *Target, rt *xdsclient.ResourceType[T], name string) *sub[T] {
	s := &sub[T]{name: name}
	s.cancel = xdsclient.Watch(t.client, rt, name, subscriber[T]{t, s})
	return s
}

// under runs f with the target locked unless the subscription has ended.
func (w subscriber[T]) under(done func(), f func()) {
	defer done()
	w.t.mu.Lock()
	defer w.t.mu.Unlock()
	if w.s.closed || w.t.join == nil {
		return
	}
	f()
}

func (w subscriber[T]) Update(u xdsclient.Update[T], done func()) {
	w.under(done, func() {
		w.s.value, w.s.known, w.s.missing, w.s.refused = u.Value, true, nil, nil
		w.t.join.evaluate()
	})
}

func (w subscriber[T]) Missing(_ string, err error, done func()) {
	w.under(done, func() {
		var zero T
		w.s.value, w.s.known, w.s.missing, w.s.refused = zero, false, err, nil
		w.t.join.evaluate()
	})
}

// Error is a refusal of the whole resource, the control plane's own error for it,
// or a failure of the stream; none takes anything away that was good.
func (w subscriber[T]) Error(_ string, err error, done func()) {
	w.under(done, func() {
		if isAnswer(err) && !w.s.known {
			w.s.missing, w.s.refused = nil, err
			w.t.join.evaluate()
			return
		}
		if w.t.join.listener.known && w.t.current.Load() == nil && w.t.err == nil {
			w.t.withheld = err // the rest of what was kept from before is on its way
			return
		}
		w.t.setError(err)
	})
}

// isAnswer reports whether err, in place of a version, is about one resource and
// settles it for now; an outage leaves all of them waiting.
func isAnswer(err error) bool {
	var refused *xdsclient.RefusedError
	var server *xdsclient.ServerError
	return errors.As(err, &refused) || errors.As(err, &server) && server.Resource != ""
}

func newJoin(t *Target, listener string) *join {
	j := &join{t: t, clusters: map[string]*cluster{}}
	j.listener = subscribe(t, t.m.listeners, listener)
	return j
}

func (j *join) close() {
	j.listener.close()
	j.routes.close()
	for _, c := range j.clusters {
		c.close()
	}
	if j.timer != nil {
		j.timer.Stop()
	}
}

// candidate returns the newest listener with its routes; ok is false while it
// is incomplete, and err says why it cannot become complete.
func (j *join) candidate() (c config, ok bool, err error) {
	l := j.listener
	switch {
	case l.missing != nil:
		return c, false, fmt.Errorf("listener %q: %w", l.name, l.missing)
	case l.refused != nil:
		return c, false, fmt.Errorf("listener %q: %w", l.name, l.refused)
	case !l.known:
		return c, false, nil
	case l.value.Routes != nil:
		j.routes.close()
		j.routes = nil
		return config{l.value, l.value.Routes}, true, nil
	case l.value.RouteConfigName == "":
		return c, false, fmt.Errorf("listener %q has no routes for clients", l.name)
	}
	if j.routes == nil || j.routes.name != l.value.RouteConfigName {
		j.routes.close()
		j.routes = subscribe(j.t, j.t.m.routes, l.value.RouteConfigName)
	}
	r := j.routes
	switch {
	case r.missing != nil:
		return c, false, fmt.Errorf("route configuration %q: %w", r.name, r.missing)
	case r.refused != nil:
		return c, false, fmt.Errorf("route configuration %q: %w", r.name, r.refused)
	}
	return config{l.value, r.value}, r.known, nil
}

// evaluate looks at everything that is known and publishes what follows.
func (j *join) evaluate() {
	next, ok, err := j.candidate()
	if isAnswer(err) && j.active.listener != nil {
		j.t.setError(err) // what was good before stays
		err = nil
	}
	if err != nil {
		j.active, j.warming = config{}, config{}
		j.unused(nil)
		j.apply(&snapshot.Update{Err: err})
		return
	}
	if ok && next != j.active {
		j.warm(next)
	}
	if j.active.listener == nil {
		return
	}
	names := j.advance()
	needed := names
	if j.warming.listener != nil {
		needed = slices.Concat(names, j.names(j.warming))
	}
	j.unused(needed)
	j.apply(j.update(names))
}

// warm makes next active once every cluster it names has been answered.
func (j *join) warm(next config) {
	if next != j.warming {
		j.warming, j.expired = next, false
		if j.timer != nil {
			j.timer.Stop()
		}
		j.timer = time.AfterFunc(j.t.m.cfg.WarmTimeout, func() { j.expire(next) })
	}
	settled := true
	for _, name := range j.names(next) {
		c := j.cluster(name)
		c.advance(j)
		settled = settled && c.settled()
	}
	if !settled && !j.expired {
		return
	}
	j.timer.Stop()
	j.active, j.warming = next, config{}
}

// expire publishes routes whose clusters were waited for long enough, so that
// one missing cluster does not hold up all others.
func (j *join) expire(c config) {
	j.t.mu.Lock()
	defer j.t.mu.Unlock()
	if j.t.join == j && j.warming == c {
		j.expired = true
		j.evaluate()
	}
}

// cluster returns the subscription to a cluster, made if need be.
func (j *join) cluster(name string) *cluster {
	c := j.clusters[name]
	if c == nil {
		c = newCluster(j.t, name)
		j.clusters[name] = c
	}
	return c
}

// names returns the clusters that calls to the target can draw, and those that
// stand behind them: members of aggregate clusters, fallbacks. It looks no deeper
// than aggregate clusters may stand behind each other, or a control plane that
// always has one more would have no end.
func (j *join) names(c config) []string {
	names := snapshot.ClusterNames(j.t.current.Load(), c.listener, c.routes, j.t.name)
	seen := make(map[string]bool, len(names))
	for _, name := range names {
		seen[name] = true
	}
	level := names
	for range snapshot.MaxDepth {
		first := len(names)
		for _, name := range level {
			for _, behind := range j.behind(name) {
				if !seen[behind] {
					seen[behind] = true
					names = append(names, behind)
				}
			}
		}
		level = names[first:]
	}
	return names
}

// advance follows the newest versions of the clusters that are published and returns
// their names.
func (j *join) advance() []string {
	names := j.names(j.active)
	for _, name := range names {
		j.cluster(name)
	}
	fewer := false
	for _, name := range names {
		fewer = j.cluster(name).advance(j) || fewer
	}
	if fewer {
		return j.names(j.active)
	}
	return names
}

// behind returns the clusters that a cluster leads to: those of its newest version,
// and of the one that is used while that one is waited for.
func (j *join) behind(name string) []string {
	c, now := j.cluster(name), j.t.current.Load()
	names := snapshot.Behind(now, name, c.resource.value)
	if used := c.used.cluster; used != nil && used != c.resource.value {
		names = append(names, snapshot.Behind(now, name, used)...)
	}
	return names
}

// led reports whether all clusters that the newest version of c leads to have been
// answered, of those that are asked for: too deep ones are not.
func (j *join) led(c *cluster) bool {
	seen := map[string]bool{c.resource.name: true}
	level := []*cluster{c}
	for range snapshot.MaxDepth {
		var next []*cluster
		for _, of := range level {
			for _, name := range snapshot.Behind(j.t.current.Load(), of.resource.name, of.resource.value) {
				b := j.clusters[name]
				if b != nil && !b.settled() {
					return false
				}
				if b != nil && !seen[name] {
					seen[name] = true
					next = append(next, b)
				}
			}
		}
		level = next
	}
	return true
}

// unused ends the subscriptions to clusters that are not in names.
func (j *join) unused(names []string) {
	keep := make(map[string]bool, len(names))
	for _, n := range names {
		keep[n] = true
	}
	for name, c := range j.clusters {
		if !keep[name] {
			c.close()
			delete(j.clusters, name)
		}
	}
}

// update is the active configuration with all that is known of its clusters.
func (j *join) update(names []string) *snapshot.Update {
	u := &snapshot.Update{
		Listener: j.active.listener, Routes: j.active.routes,
		Clusters:  make(map[string]*snapshot.Cluster, len(names)),
		Endpoints: make(map[string]*snapshot.ClusterLoadAssignment, len(names)),
		Missing:   map[string]error{},
	}
	for _, name := range names {
		c := j.cluster(name)
		if c.used.cluster != nil {
			u.Clusters[name] = c.used.cluster
		}
		if c.used.endpoints != nil {
			u.Endpoints[name] = c.used.endpoints
		}
		if err := c.err(); err != nil {
			u.Missing[name] = err
		}
	}
	return u
}

func (j *join) apply(u *snapshot.Update) {
	u.Target, u.Authority = j.t.name, j.t.name
	j.t.publish(j.t.m.cfg.Engine.Apply(u))
}
