package registry

import (
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// Index is all services at one moment, together with the configuration that they were made from. It is immutable and
// safe for concurrent use.
type Index struct {
	// Model is the configuration that this index belongs to; never nil.
	Model *config.Model

	// The services by host, spread over maps so that a change copies a small one.
	shards [shardCount]map[string][]*Service
}

const shardCount = 64

var shardSeed = maphash.MakeSeed()

func shardOf(host string) uint64 { return maphash.String(shardSeed, host) % shardCount }

// NewIndex makes an index of services that are given; those with the same host are in order of precedence. A Registry
// makes its own: this is for whoever has the services already, such as tests.
func NewIndex(m *config.Model, services ...*Service) *Index {
	all := map[string][]*Service{}
	for _, s := range services {
		all[s.Host] = append(all[s.Host], s)
	}
	return (&Index{}).with(m, all)
}

// with returns a copy of the index in which some hosts have other services; none removes a host.
func (x *Index) with(m *config.Model, changes map[string][]*Service) *Index {
	out := &Index{Model: m, shards: x.shards}
	var copied [shardCount]bool
	for host, services := range changes {
		i := shardOf(host)
		if !copied[i] {
			copied[i] = true
			out.shards[i] = maps.Clone(x.shards[i])
			if out.shards[i] == nil {
				out.shards[i] = map[string][]*Service{}
			}
		}
		if len(services) == 0 {
			delete(out.shards[i], host)
		} else {
			out.shards[i][host] = services
		}
	}
	return out
}

func (x *Index) declared(host string) []*Service { return x.shards[shardOf(host)][host] }

// Service returns the service with exactly this host, nil when there is none. When several namespaces declare the
// host, it is the one of the oldest declaration.
func (x *Index) Service(host string) *Service {
	if all := x.declared(host); len(all) > 0 {
		return all[0]
	}
	return nil
}

// All returns the services of all namespaces that declare exactly this host, in order of precedence.
func (x *Index) All(host string) []*Service { return slices.Clone(x.declared(host)) }

// Find returns the service that a client in a namespace means by a host name, which may be short: the candidates of
// config.Candidates are tried in order as they are, and then against wildcard hosts, longest first. Of several
// declarations the client's own namespace wins, then the oldest that is exported to it. It returns nil when there is
// none that the client may see.
func (x *Index) Find(host, namespace string) *Service {
	names := config.Candidates(host, namespace, x.Model.Domain)
	for _, name := range names {
		if s := visible(x.declared(name), namespace); s != nil {
			return s
		}
	}
	for _, name := range names {
		for _, suffix, more := strings.Cut(name, "."); more; _, suffix, more = strings.Cut(suffix, ".") {
			if s := visible(x.declared("*."+suffix), namespace); s != nil {
				return s
			}
		}
	}
	return nil
}

func visible(declared []*Service, namespace string) *Service {
	var first *Service
	for _, s := range declared {
		switch {
		case !s.ExportTo.In(namespace):
		case s.Namespace == namespace:
			return s
		case first == nil:
			first = s
		}
	}
	return first
}

// Hosts returns the hosts of all services, sorted.
func (x *Index) Hosts() []string {
	var out []string
	for _, shard := range x.shards {
		out = slices.AppendSeq(out, maps.Keys(shard))
	}
	slices.Sort(out)
	return out
}
