package config

import (
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// Scope says which services the clients of one workload see, by the Sidecar that applies to it. It is immutable.
type Scope struct {
	// Sidecar is the rule that applies, nil when there is none and everything is seen.
	Sidecar *Sidecar

	namespace string
}

// OutboundPolicy says what becomes of calls to hosts that are no service.
type OutboundPolicy uint8

const (
	// OutboundDefault is whatever the whole mesh has.
	OutboundDefault OutboundPolicy = iota
	// OutboundAllowAny leaves such hosts to DNS.
	OutboundAllowAny
	// OutboundRegistryOnly fails the calls.
	OutboundRegistryOnly
)

// egressListener is one element of a Sidecar's egress.
type egressListener struct {
	port  uint32 // 0 is every port
	hosts []scopedHost
}

// scopedHost is a host of a Sidecar's egress: "namespace/host", or with ~ before it one that is left out.
type scopedHost struct {
	namespace, host string
	out             bool
}

// Scope returns what a workload with these labels sees: by the first Sidecar of its namespace whose selector has them,
// else by the first of its namespace without a selector, else by the first such of the root namespace.
func (m *Model) Scope(namespace, rootNamespace string, labels map[string]string) *Scope {
	out := &Scope{namespace: namespace}
	for _, s := range m.sidecars[namespace] {
		switch selector := s.Spec.GetWorkloadSelector().GetLabels(); {
		case len(selector) > 0 && Selects(selector, labels):
			out.Sidecar = s
			return out
		case len(selector) == 0 && out.Sidecar == nil:
			out.Sidecar = s
		}
	}
	if out.Sidecar != nil {
		return out
	}
	for _, s := range m.sidecars[rootNamespace] {
		if len(s.Spec.GetWorkloadSelector().GetLabels()) == 0 {
			out.Sidecar = s
			return out
		}
	}
	return out
}

// Selects reports whether a workload with these labels has every label of a selector; an empty selector selects all.
func Selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// Allows reports whether the service of a namespace, or a VirtualService of that namespace for the host, is seen on any
// port. host is fully qualified, and may be a wildcard.
func (s *Scope) Allows(host, namespace string) bool {
	return s.allows(host, namespace, func(uint32) bool { return true })
}

// AllowsPort is Allows for one port of the service.
func (s *Scope) AllowsPort(host, namespace string, port uint32) bool {
	return s.allows(host, namespace, func(listener uint32) bool { return listener == 0 || listener == port })
}

func (s *Scope) allows(host, namespace string, port func(uint32) bool) bool {
	if s.Sidecar == nil || len(s.Sidecar.egress) == 0 {
		return true
	}
	for _, l := range s.Sidecar.egress {
		if !port(l.port) {
			continue
		}
		if l.imports(host, namespace, s.namespace) {
			return true
		}
	}
	return false
}

// imports reports whether a service is among the hosts of a listener, and not among those that are left out.
func (l *egressListener) imports(host, namespace, own string) bool {
	found := false
	for _, h := range l.hosts {
		if h.covers(host, namespace, own) {
			if h.out {
				return false
			}
			found = true
		}
	}
	return found
}

// covers reports whether a service is meant by a workload of the namespace own.
func (h scopedHost) covers(host, namespace, own string) bool {
	switch h.namespace {
	case "*":
	case ".":
		if namespace != own {
			return false
		}
	default:
		if namespace != h.namespace {
			return false
		}
	}
	return covers(h.host, host)
}

// Outbound returns the policy for hosts that are no service.
func (s *Scope) Outbound() OutboundPolicy {
	if s.Sidecar == nil || s.Sidecar.Spec.GetOutboundTrafficPolicy() == nil {
		return OutboundDefault
	}
	if s.Sidecar.Spec.OutboundTrafficPolicy.Mode == networking.OutboundTrafficPolicy_ALLOW_ANY {
		return OutboundAllowAny
	}
	return OutboundRegistryOnly
}

func egressListeners(s *networking.Sidecar) []egressListener {
	out := make([]egressListener, len(s.Egress))
	for i, e := range s.Egress {
		out[i].port = e.GetPort().GetNumber()
		for _, h := range e.Hosts {
			namespace, host, _ := strings.Cut(h, "/")
			plain, left := strings.CutPrefix(namespace, "~")
			if plain == "" {
				plain = "*"
			}
			out[i].hosts = append(out[i].hosts, scopedHost{plain, PlainHost(host), left})
		}
	}
	return out
}
