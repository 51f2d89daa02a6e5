package registry

import (
	"maps"
	"slices"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// Index is all services at one moment, together with the configuration that they were made from. It is immutable and
// safe for concurrent use.
type Index struct {
	// Model is the configuration that this index belongs to; never nil.
	Model *config.Model

	services map[string][]*Service
}

// NewIndex makes an index of services that are given; those with the same host are in order of precedence. A Registry
// makes its own: this is for whoever has the services already, such as tests.
func NewIndex(m *config.Model, services ...*Service) *Index {
	x := &Index{Model: m, services: make(map[string][]*Service, len(services))}
	for _, s := range services {
		x.services[s.Host] = append(x.services[s.Host], s)
	}
	return x
}

// Service returns the service with exactly this host, nil when there is none. When several namespaces declare the
// host, it is the one of the oldest declaration.
func (x *Index) Service(host string) *Service {
	if all := x.services[host]; len(all) > 0 {
		return all[0]
	}
	return nil
}

// Find returns the service that a client in a namespace means by a host name, which may be short: the candidates of
// config.Candidates are tried in order, each exactly and then against wildcard hosts, longest first. Of several
// declarations the client's own namespace wins, then the oldest that is exported to it. It returns nil when there is
// none that the client may see.
func (x *Index) Find(host, namespace string) *Service {
	for _, name := range config.Candidates(host, namespace, x.Model.Domain) {
		if s := visible(x.services[name], namespace); s != nil {
			return s
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
func (x *Index) Hosts() []string { return slices.Sorted(maps.Keys(x.services)) }
