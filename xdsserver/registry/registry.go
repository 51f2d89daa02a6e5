package registry

import (
	"context"
	"errors"
	"log/slog"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// Policy says who may register.
type Policy uint8

const (
	// Any server may register for any service, also for one that the configuration does not know.
	Any Policy = iota
	// Declared: only for services that the configuration declares. A registration for another one is kept back until
	// the configuration declares it.
	Declared
	// Off: nobody may register.
	Off
)

// String returns "any", "declared" or "off".
func (p Policy) String() string {
	switch p {
	case Any:
		return "any"
	case Declared:
		return "declared"
	default:
		return "off"
	}
}

// ParsePolicy reads what String writes.
func ParsePolicy(s string) (Policy, error) {
	for _, p := range []Policy{Any, Declared, Off} {
		if p.String() == s {
			return p, nil
		}
	}
	return Any, errors.New("registration policy " + s + ": want any, declared or off")
}

// ErrOff is the error of Register under the policy Off.
var ErrOff = errors.New("registration is off")

// Resolver looks a host name up. *net.Resolver is one.
type Resolver interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
}

// Options configure a Registry. The zero value works.
type Options struct {
	Policy Policy
	// StateDir is where registrations are kept across a restart; "" keeps them in memory only.
	StateDir string
	Resolver Resolver     // default net.DefaultResolver
	Logger   *slog.Logger // default slog.Default()
}

// Instance is a server that registers itself for one port of one service.
type Instance struct {
	Host           string            `json:"host"`                // of the service; may be short, resolved from Namespace
	Port           uint32            `json:"port"`                // of the service
	Address        string            `json:"address"`             // where the server listens, "ip:port"
	Namespace      string            `json:"namespace,omitempty"` // of the workload; default config.DefaultNamespace
	NodeID         string            `json:"node,omitempty"`
	Workload       string            `json:"workload,omitempty"`
	ServiceAccount string            `json:"serviceAccount,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	Locality       string            `json:"locality,omitempty"` // "region/zone/subzone"
	Network        string            `json:"network,omitempty"`
	Weight         uint32            `json:"weight,omitempty"` // 0 counts as 1
}

// Registry owns the sources of services and publishes the Index. It is safe for concurrent use.
type Registry struct{}

// New returns a registry over an empty configuration, with the registrations of StateDir already restored.
func New(opts Options) (*Registry, error) { return &Registry{}, nil }

// Close stops resolving names and waits until no subscriber is being called; it keeps what is in StateDir.
func (r *Registry) Close() error { return nil }

// Index returns the present index.
func (r *Registry) Index() *Index { return nil }

// SetModel replaces the configuration and returns the index that has it. The subscribers have been told when it returns.
func (r *Registry) SetModel(m *config.Model) *Index { return nil }

// Register adds a server until the lease is released. Registering the same host, port and address again is fine: the
// endpoint stays until every lease for it is released, and has the labels of the lease that is newest. The error says
// what is wrong with the instance, or is ErrOff.
func (r *Registry) Register(i Instance) (*Lease, error) { return nil, nil }

// Restored returns leases for the registrations that New read from StateDir and that have not been released. The
// caller releases them once it has waited long enough for their servers to come back.
func (r *Registry) Restored() []*Lease { return nil }

// Subscribe calls fn for each index published after the one that it returns, in order, one call at a time. changed are
// the hosts, sorted, whose service was added, removed or changed in any way; it may be empty when only the Model is
// new. fn must not call the registry. After cancel has returned fn is not called any more.
func (r *Registry) Subscribe(fn func(changed []string, x *Index)) (x *Index, cancel func()) {
	return nil, func() {}
}

// Lease is a hold on one registration.
type Lease struct{}

// Instance returns what was registered, its host fully qualified.
func (l *Lease) Instance() Instance { return Instance{} }

// Pending reports whether the registration is kept back because of the policy or because of how the service is declared.
func (l *Lease) Pending() bool { return false }

// Release gives the hold up; the last one to do so removes the endpoint. It may be called more than once.
func (l *Lease) Release() {}
