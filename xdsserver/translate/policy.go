package translate

import (
	"fmt"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/meshframe/meshframe/xdsserver/config"
	"github.com/meshframe/meshframe/xdsserver/registry"
)

// destination is the DestinationRules that apply to one service, merged, for one client.
type destination struct {
	rules   []*config.DestinationRule // those that are part of it, first the one whose policy counts
	policy  *networking.TrafficPolicy
	subsets []subset
}

type subset struct {
	*networking.Subset
	rule  *config.DestinationRule
	field string // such as spec.subsets[0]
}

// destination selects the rules for a service as Istio does: those of the client's namespace, else of the service's,
// else of the root namespace, each time for the most specific host. It returns an empty one when there are none.
func (t *translation) destination(s *registry.Service) destination {
	t.dep(Policy, s.Host)
	for _, ns := range []string{t.client.Namespace, s.Namespace, t.opts.RootNamespace} {
		if d, ok := t.destinationIn(ns, s.Host); ok {
			for _, r := range d.rules {
				t.uses(r.Meta)
			}
			return d
		}
	}
	return destination{}
}

func (t *translation) destinationIn(namespace, host string) (d destination, ok bool) {
	rules := t.rules.destination[namespace]
	rules.find(host, func(_ string, list []*config.DestinationRule) bool {
		var visible []*config.DestinationRule
		for _, r := range list {
			if r.ExportTo.In(t.client.Namespace) {
				visible = append(visible, r)
			}
		}
		d, ok = t.merge(namespace, visible)
		return ok
	})
	return d, ok
}

// merge joins the rules of one namespace for one host: the first policy counts, subsets are joined, the first of a
// name counts. Rules with a workload selector are only for the workloads of their own namespace that it selects, and
// stand for themselves.
func (t *translation) merge(namespace string, list []*config.DestinationRule) (destination, bool) {
	var d destination
	for _, r := range list {
		if sel := r.Spec.GetWorkloadSelector(); sel != nil {
			if namespace == t.client.Namespace && contains(t.client.Labels, sel.GetMatchLabels()) {
				var own destination
				own.add(r)
				return own, true
			}
			continue
		}
		d.add(r)
	}
	return d, len(d.rules) > 0
}

func contains(labels, wanted map[string]string) bool {
	for k, v := range wanted {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

func (d *destination) add(r *config.DestinationRule) {
	if d.policy == nil && r.Spec.GetTrafficPolicy() != nil {
		d.policy = r.Spec.GetTrafficPolicy()
		d.rules = append([]*config.DestinationRule{r}, d.rules...)
	} else {
		d.rules = append(d.rules, r)
	}
	for i, s := range r.Spec.GetSubsets() {
		if d.subset(s.GetName()) == nil {
			d.subsets = append(d.subsets, subset{s, r, fmt.Sprintf("spec.subsets[%d]", i)})
		}
	}
}

func (d *destination) subset(name string) *subset {
	for i := range d.subsets {
		if d.subsets[i].GetName() == name {
			return &d.subsets[i]
		}
	}
	return nil
}

// trafficPolicy is the settings that apply to a port of a service, and where each was written.
type trafficPolicy struct {
	own      *config.Policy // of this project's MeshPolicies; never nil
	pool     setting[*networking.ConnectionPoolSettings]
	outlier  setting[*networking.OutlierDetection]
	balancer setting[*networking.LoadBalancerSettings]
	tls      setting[*networking.ClientTLSSettings]
	proxy    setting[*networking.TrafficPolicy_ProxyProtocol]
	budget   setting[*networking.TrafficPolicy_RetryBudget]

	elsewhere *routev3.RouteAction_HashPolicy // of where calls fall back to; nil: none
}

// setting is one message of a traffic policy; nil when nothing sets it.
type setting[T any] struct {
	value T
	rule  *config.Meta
	field string // such as spec.trafficPolicy.tls
}

// policyOf returns the policy for a cluster of a service.
func (t *translation) policyOf(s *registry.Service, n ClusterName) trafficPolicy {
	d := t.destination(s)
	_, sub, _ := d.subsetLabels(n.Subset)
	return t.policyFor(s, &d, n.Port, sub)
}

// policyFor returns the policy for a port of a service, of a subset if there is one. A subset's settings replace the
// rule's, setting by setting; the settings of a port replace all others, without inheriting what they leave out.
func (t *translation) policyFor(s *registry.Service, d *destination, port uint32, sub *subset) (p trafficPolicy) {
	if len(d.rules) > 0 {
		p.overlay(d.policy, d.rules[0].Meta, "spec.trafficPolicy", port)
	}
	name := ""
	if sub != nil {
		name = sub.GetName()
		p.overlay(sub.GetTrafficPolicy(), sub.rule.Meta, sub.field+".trafficPolicy", port)
	}
	p.own = t.meshPolicy(s, port, name, t.client.Namespace)
	return p
}

// noPolicy says nothing. It is not written to.
var noPolicy = &config.Policy{}

// meshPolicy returns what the MeshPolicies say about a port of a service, or a subset of it. Without a namespace of a
// client it is what they say about its servers.
func (t *translation) meshPolicy(s *registry.Service, port uint32, subset, client string) *config.Policy {
	t.dep(Policy, s.Host)
	p := t.index.Model.Policy(config.Subject{
		Host: s.Host, Subset: subset, Port: port, Namespace: s.Namespace, Client: client, Root: t.opts.RootNamespace,
	})
	if p == nil {
		return noPolicy
	}
	for _, o := range []*config.Meta{
		p.Breaker.Policy, p.Fallback.Policy, p.ClientRateLimit.Policy, p.ServerRateLimit.Policy, p.MaxConcurrentRequests.Policy,
		p.LoadBalancer.Policy, p.OutlierDetection.Policy, p.Retry.Policy, p.Hedge.Policy, p.SessionAffinity.Policy,
		p.Timeouts.Policy, p.Fault.Policy,
	} {
		t.uses(o)
	}
	return p
}

// overlay puts the settings of a policy over those that are there.
func (p *trafficPolicy) overlay(o *networking.TrafficPolicy, rule *config.Meta, field string, port uint32) {
	p.pool.replace(o.GetConnectionPool() != nil, o.GetConnectionPool(), rule, field+".connectionPool")
	p.outlier.replace(o.GetOutlierDetection() != nil, o.GetOutlierDetection(), rule, field+".outlierDetection")
	p.balancer.replace(o.GetLoadBalancer() != nil, o.GetLoadBalancer(), rule, field+".loadBalancer")
	p.tls.replace(o.GetTls() != nil, o.GetTls(), rule, field+".tls")
	p.proxy.replace(o.GetProxyProtocol() != nil, o.GetProxyProtocol(), rule, field+".proxyProtocol")
	p.budget.replace(o.GetRetryBudget() != nil, o.GetRetryBudget(), rule, field+".retryBudget")
	for i, l := range o.GetPortLevelSettings() {
		if l.GetPort().GetNumber() != port {
			continue
		}
		field := fmt.Sprintf("%s.portLevelSettings[%d]", field, i)
		p.pool.replace(true, l.GetConnectionPool(), rule, field+".connectionPool")
		p.outlier.replace(true, l.GetOutlierDetection(), rule, field+".outlierDetection")
		p.balancer.replace(true, l.GetLoadBalancer(), rule, field+".loadBalancer")
		p.tls.replace(true, l.GetTls(), rule, field+".tls")
		return
	}
}

func (s *setting[T]) replace(set bool, value T, rule *config.Meta, field string) {
	if set {
		*s = setting[T]{value, rule, field}
	}
}

// refusal says why calls under a policy must fail, "" when they need not.
func (p *trafficPolicy) refusal() string {
	mode := p.tls.value.GetMode()
	if p.tls.value == nil || mode == networking.ClientTLSSettings_DISABLE {
		return ""
	}
	return fmt.Sprintf("%s: %s: mode %v is not supported yet, and plaintext would break what the rule asks for", p.tls.rule.ID(), p.tls.field, mode)
}

// subsetLabels returns the labels of a subset; false when no rule defines it.
func (d *destination) subsetLabels(name string) (map[string]string, *subset, bool) {
	if name == "" {
		return nil, nil, true
	}
	s := d.subset(name)
	if s == nil {
		return nil, nil, false
	}
	return s.GetLabels(), s, true
}
