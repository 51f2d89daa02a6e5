package xdsserver

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/support"
)

// reporter says in the log what clients do not do as the configuration has it, once for each field: for this project's
// clients when configuration is applied, for others when the first of their type connects, and from then on.
type reporter struct {
	to *slog.Logger

	mu    sync.Mutex
	model *config.Model
	types map[support.Client]map[*config.Object]struct{} // the objects that were looked at
	noted map[string]struct{}                            // what was logged
}

func newReporter(log *slog.Logger) *reporter {
	return &reporter{
		to:    log,
		types: map[support.Client]map[*config.Object]struct{}{{Type: support.Meshframe}: nil},
		noted: map[string]struct{}{},
	}
}

// configured takes the configuration that is in force now.
func (r *reporter) configured(m *config.Model) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.model == m {
		return
	}
	r.model = m
	objects := m.Objects()
	for c := range r.types {
		r.look(c, objects)
	}
}

// connected takes note of a client.
func (r *reporter) connected(c support.Client) {
	c = c.Canonical()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.types[c]; !known {
		r.look(c, r.model.Objects())
	}
}

// refused says that a client of a type is not served, once for each type and release.
func (r *reporter) refused(c support.Client, node, remote string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.first("refused " + c.String()) {
		r.to.Warn("a client is refused: "+c.Refusal(), "client", c.String(), "node", node, "remote", remote)
	}
}

// look logs what a type of client does not do of the objects that are new.
func (r *reporter) look(c support.Client, objects []*config.Object) {
	before, now := r.types[c], make(map[*config.Object]struct{}, len(objects))
	for _, o := range objects {
		now[o] = struct{}{}
		if _, known := before[o]; !known {
			r.write(support.Object(o, c))
		}
	}
	r.types[c] = now
}

// log logs entries that were not logged before.
func (r *reporter) log(entries []support.Entry) {
	if len(entries) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.write(entries)
}

// maxNoted bounds what is remembered to be logged already; past it entries are logged again.
const maxNoted = 10_000

func (r *reporter) write(entries []support.Entry) {
	for _, e := range entries {
		key := e.Client.String() + e.Object.ID() + " " + e.Field + e.Verdict.String()
		if !r.first(key) {
			continue
		}
		level := slog.LevelInfo
		if e.Outcome == support.Rejected {
			level = slog.LevelWarn
		}
		r.to.Log(context.Background(), level, "not done as it is configured: "+e.String(), "client", e.Client.String(), "file", e.Object.Source.File, "line", e.Line)
	}
}

// first reports whether something was not logged before, and takes note of it.
func (r *reporter) first(key string) bool {
	if _, known := r.noted[key]; known {
		return false
	}
	if len(r.noted) >= maxNoted {
		clear(r.noted)
	}
	r.noted[key] = struct{}{}
	return true
}

// use is a client and what the resources that it subscribes to are made of.
type use struct {
	client  *client
	objects map[string]struct{} // by their ids: an object that only moved in its file is the same
	notes   []support.Entry
}

// uses returns the clients that have named themselves.
func (b *builder) uses() (*config.Model, []use) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []use
	for c := range b.clients {
		u := use{client: c, objects: map[string]struct{}{}}
		for typeURL, names := range c.names {
			for name := range names {
				resource := c.view.units[unitKey{typeURL, name}]
				u.notes = append(u.notes, resource.notes...)
				for _, o := range resource.objects {
					u.objects[o.ID()] = struct{}{}
				}
			}
		}
		out = append(out, u)
	}
	return b.world.Index().Model, out
}

// support returns what clients do not do of what their resources are made of.
func (b *builder) support() map[*client][]support.Entry {
	model, uses := b.uses()
	objects := map[string]*config.Object{}
	for _, o := range model.Objects() {
		objects[o.ID()] = o
	}
	type question struct {
		object string
		client support.Client
	}
	answers := map[question][]support.Entry{}
	out := make(map[*client][]support.Entry, len(uses))
	for _, u := range uses {
		entries := append([]support.Entry{}, u.notes...)
		for id := range u.objects {
			q := question{id, u.client.kind.Kind().Canonical()}
			answer, known := answers[q]
			if o := objects[id]; !known && o != nil {
				answer = support.Object(o, q.client)
				answers[q] = answer
			}
			entries = append(entries, answer...)
		}
		slices.SortFunc(entries, func(a, b support.Entry) int {
			return cmp.Or(cmp.Compare(a.Object.Source.File, b.Object.Source.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Field, b.Field), cmp.Compare(a.Reason, b.Reason))
		})
		out[u.client] = slices.Compact(entries)
	}
	return out
}
