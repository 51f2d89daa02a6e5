package config

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// Subject is what policies are looked up for.
type Subject struct {
	Host   string // fully qualified
	Subset string // "" for the host as a whole: policies for subsets do not apply then
	Port   uint32
	// Namespace is that of the service.
	Namespace string
	// Client is the namespace of who calls; "" asks for the server's side.
	Client string
	// Root is the namespace whose policies are for all others, "" for none.
	Root string
}

// Setting is one section of a policy, and where it was written. Value is nil when there is none.
type Setting[T any] struct {
	Value  T
	Policy *Meta
	Field  string // such as spec.breaker
}

// Policy is what the MeshPolicies say about a subject.
type Policy struct {
	Breaker               Setting[*Breaker]
	Fallback              Setting[*Fallback]
	ClientRateLimit       Setting[*RateLimit]
	ServerRateLimit       Setting[*RateLimit]
	MaxConcurrentRequests Setting[uint32] // 0 is no limit
	LoadBalancer          Setting[*LoadBalancer]
	OutlierDetection      Setting[*OutlierDetection]
	Retry                 Setting[*Retry]
	Hedge                 Setting[*Hedge]
	SessionAffinity       Setting[*SessionAffinity]
	Timeouts              Setting[*Timeouts]
	Fault                 Setting[*FaultControl]
}

// Policy joins the MeshPolicies for a subject, nil when there is none. They are looked for as DestinationRules are: in
// the client's namespace, else in that of the service, else in the root namespace, each time for the most specific host
// that any has. Of those found there, a section is taken from the policy that is the most specific: one with a subset
// before one without, then one with a port before one without, then the oldest.
func (m *Model) Policy(s Subject) *Policy {
	if len(m.policies) == 0 {
		return nil
	}
	for i, namespace := range []string{s.Client, s.Namespace, s.Root} {
		if namespace == "" || i > 0 && namespace == s.Client {
			continue
		}
		for host := range wildcards(s.Host) {
			if found := applicable(m.policies[host], s, namespace); len(found) > 0 {
				return joinPolicies(found)
			}
		}
	}
	return nil
}

// wildcards lists a host and the wildcards that cover it, the most specific first.
func wildcards(host string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !yield(host) {
			return
		}
		rest := strings.TrimPrefix(host, "*.")
		if rest == host {
			_, rest, _ = strings.Cut(host, ".")
		} else {
			_, rest, _ = strings.Cut(rest, ".")
		}
		for rest != "" {
			if !yield("*." + rest) {
				return
			}
			_, rest, _ = strings.Cut(rest, ".")
		}
		yield("*")
	}
}

// applicable returns the policies of a namespace that are for a subject, the most specific first.
func applicable(all []*MeshPolicy, s Subject, namespace string) []*MeshPolicy {
	var out []*MeshPolicy
	for _, p := range all {
		if p.Namespace == namespace && (p.Spec.Subset == "" || p.Spec.Subset == s.Subset) &&
			(p.Spec.Port == 0 || p.Spec.Port == s.Port) && (s.Client == "" || p.ExportTo.In(s.Client)) {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b *MeshPolicy) int { return cmp.Compare(b.specificity(), a.specificity()) })
	return out
}

func (p *MeshPolicy) specificity() int {
	n := 0
	if p.Spec.Subset != "" {
		n += 2
	}
	if p.Spec.Port != 0 {
		n++
	}
	return n
}

func joinPolicies(all []*MeshPolicy) *Policy {
	out := &Policy{}
	for _, p := range all {
		limits := p.Spec.RateLimit
		if limits == nil {
			limits = &RateLimits{}
		}
		set(&out.Breaker, p, p.Spec.Breaker, "breaker")
		set(&out.Fallback, p, p.Spec.Fallback, "fallback")
		set(&out.ClientRateLimit, p, limits.Client, "rateLimit.client")
		set(&out.ServerRateLimit, p, limits.Server, "rateLimit.server")
		set(&out.MaxConcurrentRequests, p, p.Spec.MaxConcurrentRequests, "maxConcurrentRequests")
		set(&out.LoadBalancer, p, p.Spec.LoadBalancer, "loadBalancer")
		set(&out.OutlierDetection, p, p.Spec.OutlierDetection, "outlierDetection")
		set(&out.Retry, p, p.Spec.Retry, "retry")
		set(&out.Hedge, p, p.Spec.Hedge, "hedge")
		set(&out.SessionAffinity, p, p.Spec.SessionAffinity, "sessionAffinity")
		set(&out.Timeouts, p, p.Spec.Timeouts, "timeouts")
		set(&out.Fault, p, p.Spec.Fault, "fault")
	}
	return out
}

// set takes a section of a policy unless a more specific one has it.
func set[T comparable](s *Setting[T], p *MeshPolicy, value T, name string) {
	var none T
	if s.Value == none && value != none {
		*s = Setting[T]{value, p.Meta, "spec." + name}
	}
}
