package config

import (
	"maps"
	"slices"
	"strconv"

	networkingbeta "istio.io/api/networking/v1beta1"
	security "istio.io/api/security/v1beta1"
	telemetry "istio.io/api/telemetry/v1alpha1"
)

func checkAuthorizationPolicy(r *reader, p *security.AuthorizationPolicy) {
	checkSelector(r, "spec.selector", p.Selector)
	if p.Action == security.AuthorizationPolicy_CUSTOM && p.GetProvider().GetName() == "" {
		r.errorf("spec.provider.name", "missing, but required by the action CUSTOM")
	}
	if p.Action == security.AuthorizationPolicy_DENY && len(p.Rules) == 0 {
		r.warnf("spec.rules", "without rules nothing is denied")
	}
}

// checkDryRun checks the annotation that asks to try a policy without enforcing it.
func checkDryRun(r *reader, spec any) {
	const annotation = "istio.io/dry-run"
	value, ok := r.meta.Annotations[annotation]
	if !ok {
		return
	}
	at := element("metadata.annotations", annotation)
	p, policy := spec.(*security.AuthorizationPolicy)
	switch {
	case !policy:
		r.errorf(at, "is for kind AuthorizationPolicy only: a %s is in force, or it is not there", r.meta.Kind)
	case p.Action != security.AuthorizationPolicy_ALLOW && p.Action != security.AuthorizationPolicy_DENY:
		r.errorf(at, "goes with the actions ALLOW and DENY only, not with %s", p.Action)
	default:
		if _, err := strconv.ParseBool(value); err != nil {
			r.errorf(at, "want \"true\" or \"false\", have %q", shorten(value))
		}
	}
}

func checkRequestAuthentication(r *reader, a *security.RequestAuthentication) {
	checkSelector(r, "spec.selector", a.Selector)
	for i, j := range a.JwtRules {
		path := element("spec.jwtRules", i)
		if j.Issuer == "" {
			r.errorf(field(path, "issuer"), "missing, but required")
		}
		if j.Jwks != "" && j.JwksUri != "" {
			r.errorf(path, "write jwks or jwksUri, not both")
		}
	}
}

func checkPeerAuthentication(r *reader, a *security.PeerAuthentication) {
	checkSelector(r, "spec.selector", a.Selector)
	if len(a.GetSelector().GetMatchLabels()) == 0 && len(a.PortLevelMtls) > 0 {
		r.errorf("spec.portLevelMtls", "needs a selector: ports are those of certain workloads")
	}
	for _, port := range slices.Sorted(maps.Keys(a.PortLevelMtls)) {
		r.judge(element("spec.portLevelMtls", int(port)), badPort(port))
	}
}

// strictField returns the field by which a PeerAuthentication asks for STRICT, "" when it does not.
func strictField(a *security.PeerAuthentication) string {
	if a.GetMtls().GetMode() == security.PeerAuthentication_MutualTLS_STRICT {
		return "spec.mtls.mode"
	}
	for _, port := range slices.Sorted(maps.Keys(a.PortLevelMtls)) {
		if a.PortLevelMtls[port].GetMode() == security.PeerAuthentication_MutualTLS_STRICT {
			return element("spec.portLevelMtls", int(port)) + ".mode"
		}
	}
	return ""
}

func checkProxyConfig(r *reader, p *networkingbeta.ProxyConfig) {
	checkSelector(r, "spec.selector", p.Selector)
	checkCount(r, "spec.concurrency", p.GetConcurrency().GetValue())
}

func checkTelemetry(r *reader, t *telemetry.Telemetry) {
	checkSelector(r, "spec.selector", t.Selector)
	for i, tr := range t.Tracing {
		path := element("spec.tracing", i)
		if p := tr.RandomSamplingPercentage; p != nil && (p.Value < 0 || p.Value > 100) {
			r.errorf(field(path, "randomSamplingPercentage"), "a percentage is from 0 to 100, not %v", p.Value)
		}
	}
	for i, m := range t.Metrics {
		for j, o := range m.Overrides {
			path := element(field(element("spec.metrics", i), "overrides"), j)
			for _, name := range slices.Sorted(maps.Keys(o.TagOverrides)) {
				checkTagOverride(r, element(field(path, "tagOverrides"), name), o.TagOverrides[name])
			}
		}
	}
}

func checkTagOverride(r *reader, path string, t *telemetry.MetricsOverrides_TagOverride) {
	switch remove := t.Operation == telemetry.MetricsOverrides_TagOverride_REMOVE; {
	case remove && t.Value != "":
		r.errorf(field(path, "value"), "goes with the operation UPSERT only")
	case !remove && t.Value == "":
		r.errorf(field(path, "value"), "missing, but required by the operation UPSERT")
	}
}
