package registry

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// Instance is a server that registers itself for one port of one service.
type Instance struct {
	// Host of the service. It may be short and is then resolved from Namespace; see Lease.Host.
	Host string `json:"host"`
	Port uint32 `json:"port"` // of the service
	// Address is where the server listens, "ip:port".
	Address string `json:"address"`
	// Protocol of the port, as in Port.Protocol; used where the configuration does not declare the port. Default GRPC.
	Protocol       string            `json:"protocol,omitempty"`
	Namespace      string            `json:"namespace,omitempty"` // of the workload; default config.DefaultNamespace
	NodeID         string            `json:"node,omitempty"`
	Workload       string            `json:"workload,omitempty"`
	ServiceAccount string            `json:"serviceAccount,omitempty"`
	Labels         map[string]string `json:"labels,omitempty"`
	Locality       string            `json:"locality,omitempty"` // "region/zone/subzone"
	Network        string            `json:"network,omitempty"`
	Weight         uint32            `json:"weight,omitempty"` // 0 counts as 1
}

// check fills in defaults and says what is wrong.
func (i *Instance) check() error {
	if i.Namespace == "" {
		i.Namespace = config.DefaultNamespace
	}
	if i.Protocol == "" {
		i.Protocol = "GRPC"
	}
	if err := config.CheckHost(i.Host); err != nil {
		return fmt.Errorf("register %q: %w", i.Host, err)
	}
	if i.Port < 1 || i.Port > 65535 {
		return fmt.Errorf("register %s: a service port is from 1 to 65535, not %d", i.Host, i.Port)
	}
	at, err := netip.ParseAddrPort(i.Address)
	switch {
	case err != nil:
		return fmt.Errorf("register %s:%d: the address must be ip:port: %w", i.Host, i.Port, err)
	case at.Port() == 0:
		return fmt.Errorf("register %s:%d: the address %s has no port", i.Host, i.Port, i.Address)
	case at.Addr().IsUnspecified():
		return fmt.Errorf("register %s:%d: nobody can connect to the wildcard address %s", i.Host, i.Port, i.Address)
	}
	i.Address = netip.AddrPortFrom(at.Addr().Unmap(), at.Port()).String()
	return nil
}

// endpoint is what clients get of the instance.
func (i *Instance) endpoint() Endpoint {
	at := netip.MustParseAddrPort(i.Address) // check has parsed it
	return Endpoint{
		Address: at.Addr().String(), Ports: map[uint32]uint32{i.Port: uint32(at.Port())}, Labels: i.Labels, Weight: i.Weight,
		Locality: i.Locality, Network: i.Network, Namespace: i.Namespace, Workload: i.Workload,
		ServiceAccount: i.ServiceAccount, Node: i.NodeID, Registered: true,
	}
}

// place is what identifies a registration.
type place struct {
	host      string // as given
	namespace string
	port      uint32
	address   string
}

func (i *Instance) place() place { return place{i.Host, i.Namespace, i.Port, i.Address} }

// registration is one place with everybody who holds it.
type registration struct {
	leases []*Lease // the newest last, and it is the one that counts; never empty
	home   string   // the host of the service that the endpoint belongs to
	kept   string   // why the endpoint is kept back, "" when it is not
}

func (g *registration) instance() *Instance { return &g.leases[len(g.leases)-1].instance }

// Lease is a hold on one registration. It is safe for concurrent use.
type Lease struct {
	registry *Registry
	instance Instance
}

// Instance returns what was registered, defaults filled in.
func (l *Lease) Instance() Instance { return l.instance }

// Host returns the fully qualified host of the service that the endpoint belongs to at present; a change of the
// configuration may change it for a short name. It is "" once the lease is released.
func (l *Lease) Host() string {
	l.registry.mu.Lock()
	defer l.registry.mu.Unlock()
	if g := l.registry.held(l); g != nil {
		return g.home
	}
	return ""
}

// Pending returns why the registration is kept back at present, "" when it is not: the policy does not allow it, or the
// service is declared in a way that leaves no room for it.
func (l *Lease) Pending() string {
	l.registry.mu.Lock()
	defer l.registry.mu.Unlock()
	if g := l.registry.held(l); g != nil {
		return g.kept
	}
	return ""
}

// Release gives the hold up and reports whether that removed the endpoint: the last one to do so does. It may be called
// more than once.
func (l *Lease) Release() (removed bool) { return l.registry.release(l) }

// ErrOff is the error of Register under the policy Off.
var ErrOff = errors.New("registration is off")

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
	return Any, fmt.Errorf("registration %q: want any, declared or off", s)
}

// settle finds the service of a registration among the declared ones: of the names that its host may mean the first that
// is declared, else the one that the configuration's rule for short names gives.
func (g *registration) settle(declared func(string) []*Service, domain string, policy Policy) {
	i := g.instance()
	names := config.Candidates(i.Host, i.Namespace, domain)
	g.home, g.kept = names[0], ""
	for _, name := range names {
		if s := owner(declared(name), i.Namespace); s != nil {
			g.home, g.kept = name, reasonToKeep(s, i, policy)
			return
		}
	}
	if policy != Any {
		g.kept = fmt.Sprintf("the configuration declares no service %s", g.home)
	}
}

func reasonToKeep(s *Service, i *Instance, policy Policy) string {
	switch {
	case s.Resolution != Static:
		return fmt.Sprintf("the service %s has resolution %s, it cannot take endpoints", s.Host, s.Resolution)
	case policy != Any && s.Port(i.Port) == nil:
		return fmt.Sprintf("the service %s has no port %d", s.Host, i.Port)
	}
	return ""
}

// owner is the declaration that endpoints of a namespace belong to.
func owner(declared []*Service, namespace string) *Service {
	if i := slices.IndexFunc(declared, func(s *Service) bool { return s.Namespace == namespace }); i >= 0 {
		return declared[i]
	}
	if len(declared) > 0 {
		return declared[0]
	}
	return nil
}

// admit adds registered endpoints to the declared services of a host, or makes a service of them alone. Services that
// get none are returned as they are.
func admit(host string, declared []*Service, registered []*registration, domain string) []*Service {
	if len(registered) == 0 {
		return declared
	}
	slices.SortFunc(registered, func(a, b *registration) int {
		i, j := a.instance(), b.instance()
		return cmp.Or(strings.Compare(i.Address, j.Address), cmp.Compare(i.Port, j.Port), strings.Compare(i.Namespace, j.Namespace),
			strings.Compare(i.Host, j.Host))
	})
	out := slices.Clone(declared)
	if len(out) == 0 {
		out = []*Service{{Host: host, Namespace: namespaceOf(host, registered[0].instance().Namespace, domain)}}
	}
	copied := map[int]bool{}
	for _, g := range registered {
		i := g.instance()
		at := slices.Index(out, owner(out, i.Namespace))
		if !copied[at] {
			copied[at] = true
			own := *out[at]
			own.Endpoints, own.Ports = slices.Clip(own.Endpoints), slices.Clip(own.Ports)
			out[at] = &own
		}
		out[at].admit(i)
	}
	return out
}

func (s *Service) admit(i *Instance) {
	if s.Port(i.Port) == nil {
		s.Ports = append(s.Ports, Port{Number: i.Port, Name: strings.ToLower(i.Protocol), Protocol: strings.ToUpper(i.Protocol)})
		if s.Source == nil {
			slices.SortFunc(s.Ports, func(a, b Port) int { return cmp.Compare(a.Number, b.Number) })
		}
	}
	s.Endpoints = append(s.Endpoints, i.endpoint())
}

// namespaceOf reads the namespace out of a host such as name.namespace.svc.domain.
func namespaceOf(host, otherwise, domain string) string {
	rest, ok := strings.CutSuffix(host, ".svc."+domain)
	if _, namespace, cut := strings.Cut(rest, "."); ok && cut {
		return namespace
	}
	return otherwise
}

func isUnix(address string) bool { return strings.HasPrefix(address, "unix:") }
