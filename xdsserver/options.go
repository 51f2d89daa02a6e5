package xdsserver

import (
	"cmp"
	"fmt"
	"log/slog"
	"time"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
	"github.com/meshframe/meshframe/xdsserver/translate"
)

// OutboundPolicy says what becomes of calls to hosts that the registry does not know.
type OutboundPolicy uint8

const (
	// AllowAny leaves them to DNS: an unknown "host:port" is a cluster of its own.
	AllowAny OutboundPolicy = iota
	// RegistryOnly makes them fail at once with an error that names the host.
	RegistryOnly
)

// String returns "allow-any" or "registry-only".
func (p OutboundPolicy) String() string {
	if p == AllowAny {
		return "allow-any"
	}
	return "registry-only"
}

// ParseOutboundPolicy reads what String writes.
func ParseOutboundPolicy(s string) (OutboundPolicy, error) {
	for _, p := range []OutboundPolicy{AllowAny, RegistryOnly} {
		if p.String() == s {
			return p, nil
		}
	}
	return AllowAny, fmt.Errorf("outbound policy %q: want allow-any or registry-only", s)
}

// Registration says which servers may register themselves.
type Registration = registry.Policy

// The policies of registration.
const (
	// RegistrationAny lets any server register for any service, also for one that the configuration does not declare.
	RegistrationAny = registry.Any
	// RegistrationDeclared lets servers register only for services that the configuration declares.
	RegistrationDeclared = registry.Declared
	// RegistrationOff lets no server register.
	RegistrationOff = registry.Off
)

// ParseRegistration reads "any", "declared" or "off".
func ParseRegistration(s string) (Registration, error) { return registry.ParsePolicy(s) }

// Options configure a Server. The zero value is a server without configuration, to which servers may register.
type Options struct {
	// Config lists files and directories with Istio's and Kubernetes' objects; directories are read recursively. They
	// are watched: a change is taken up at once, and a file that has become bad leaves what it held in force.
	Config []string
	// OutboundPolicy is for hosts that the registry does not know; default AllowAny.
	OutboundPolicy OutboundPolicy
	// Registration says which servers may register; default RegistrationAny.
	Registration Registration
	// StateDir is a directory in which registrations and the last good configuration survive a restart; "" keeps
	// neither. It is made when it is missing, and belongs to one server at a time.
	StateDir string
	// AllowUnenforced accepts security policies that nothing enforces yet, with a warning.
	AllowUnenforced bool
	// Domain is the domain of the cluster that short names are completed with; default "cluster.local".
	Domain string
	// RootNamespace holds the DestinationRules for all namespaces; default "istio-system".
	RootNamespace string
	// SystemNamespace holds services that every client sees, whatever Sidecars say: those of the mesh itself. The default
	// is none.
	SystemNamespace string
	// Logger is for what an operator should know; default slog.Default().
	Logger *slog.Logger

	// LeaseGrace is how long a registration outlives the stream that held it when that is lost; default 10 s.
	LeaseGrace time.Duration
	// RestartGrace is how long after the start registrations from before may be missing: those restored from StateDir
	// are held as long, and without StateDir no endpoint is withdrawn from a client that comes back, while a new one
	// hears in the first 5 s only of services that are declared or registered, and of others if servers cannot register
	// for them. Default 30 s.
	RestartGrace time.Duration
	// Retention is how long a cluster that the configuration no longer has is kept for clients that still use it;
	// default 10 s. It ends earlier, when no client subscribes to it.
	Retention time.Duration
}

func (o Options) withDefaults() Options {
	o.Domain = cmp.Or(o.Domain, config.DefaultDomain)
	o.RootNamespace = cmp.Or(o.RootNamespace, translate.DefaultRootNamespace)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	o.LeaseGrace = cmp.Or(o.LeaseGrace, 10*time.Second)
	o.RestartGrace = cmp.Or(o.RestartGrace, 30*time.Second)
	o.Retention = cmp.Or(o.Retention, 10*time.Second)
	return o
}

func (o Options) world() translate.Options {
	return translate.Options{
		RegistryOnly: o.OutboundPolicy == RegistryOnly, RootNamespace: o.RootNamespace, SystemNamespace: o.SystemNamespace,
		Declared: o.Registration == RegistrationDeclared,
	}
}
