package config

import (
	"fmt"
	"testing"
)

const sidecarsYAML = `
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: for-all, namespace: istio-system}
spec:
  egress: [{hosts: ["istio-system/*", "./*"]}]
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: not-for-others, namespace: istio-system}
spec:
  workloadSelector: {labels: {app: web}}
  egress: [{hosts: ["*/*"]}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: a-default, namespace: shop}
spec:
  egress: [{hosts: ["./*", "prod/*.example.com", "*/everybody.example.com", "~/prod.svc"]}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: b-younger, namespace: shop}
spec:
  egress: [{hosts: ["~/*"]}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: web, namespace: shop}
spec:
  workloadSelector: {labels: {app: web}}
  egress:
  - {port: {number: 80, protocol: HTTP, name: http}, hosts: ["prod/*"]}
  - {hosts: ["./own.shop.svc.cluster.local"]}
  outboundTrafficPolicy: {mode: ALLOW_ANY}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: nobody, namespace: shop}
spec:
  workloadSelector: {labels: {app: hermit}}
  egress: [{hosts: ["~/*"]}]
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: no-egress, namespace: shop}
spec:
  workloadSelector: {labels: {app: free}}
  outboundTrafficPolicy: {}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: all-but, namespace: shop}
spec:
  workloadSelector: {labels: {app: picky}}
  egress:
  - {port: {number: 80, protocol: HTTP, name: http}, hosts: ["~prod/b.example.com", "prod/*"]}
  - {hosts: ["*/*", "~prod/*", "~/everybody.example.com", "~*/*.test.com", "~./own.shop.svc.cluster.local"]}
`

func TestSidecarsAreSelected(t *testing.T) {
	m := mustLoad(t, nil, "a.yaml", sidecarsYAML)
	for _, c := range []struct {
		namespace, app, want string
		outbound             OutboundPolicy
	}{
		{"shop", "", "a-default", OutboundDefault},
		{"shop", "web", "web", OutboundAllowAny},
		{"shop", "hermit", "nobody", OutboundDefault},
		{"shop", "free", "no-egress", OutboundRegistryOnly},
		{"shop", "picky", "all-but", OutboundDefault},
		{"elsewhere", "web", "for-all", OutboundRegistryOnly},
		{"istio-system", "web", "not-for-others", OutboundDefault},
	} {
		s := m.Scope(c.namespace, "istio-system", map[string]string{"app": c.app, "version": "v1"})
		if s.Sidecar == nil || s.Sidecar.Name != c.want || s.Outbound() != c.outbound {
			t.Errorf("%s, app %q: %+v, %d", c.namespace, c.app, s.Sidecar, s.Outbound())
		}
	}
	if s := m.Scope("elsewhere", "", nil); s.Sidecar != nil || !s.Allows("x.example.com", "prod") || s.Outbound() != OutboundDefault {
		t.Errorf("%+v", s.Sidecar)
	}
}

func TestAScopeAllowsWhatItsEgressNames(t *testing.T) {
	m := mustLoad(t, nil, "a.yaml", sidecarsYAML)
	for _, c := range []struct {
		namespace, app, host, from string
		port                       uint32
		want                       bool
	}{
		{"shop", "", "own.shop.svc.cluster.local", "shop", 80, true},
		{"shop", "", "own.shop.svc.cluster.local", "prod", 80, false},
		{"shop", "", "a.example.com", "prod", 80, true},
		{"shop", "", "a.b.example.com", "prod", 80, true},
		{"shop", "", "*.example.com", "prod", 80, true},
		{"shop", "", "*.com", "prod", 80, false},
		{"shop", "", "example.com", "prod", 80, false},
		{"shop", "", "a.example.com", "test", 80, false},
		{"shop", "", "everybody.example.com", "test", 80, true},
		{"shop", "web", "x.example.com", "prod", 80, true},
		{"shop", "web", "x.example.com", "prod", 81, false},
		{"shop", "web", "own.shop.svc.cluster.local", "shop", 81, true},
		{"shop", "web", "other.shop.svc.cluster.local", "shop", 81, false},
		{"shop", "hermit", "own.shop.svc.cluster.local", "shop", 80, false},
		{"shop", "free", "x.example.com", "anywhere", 80, true},
		{"shop", "picky", "a.example.com", "prod", 80, true},
		{"shop", "picky", "b.example.com", "prod", 80, false},
		{"shop", "picky", "a.example.com", "prod", 81, false},
		{"shop", "picky", "a.example.com", "test", 81, true},
		{"shop", "picky", "everybody.example.com", "test", 81, false},
		{"shop", "picky", "*.a.test.com", "test", 81, false},
		{"shop", "picky", "own.shop.svc.cluster.local", "shop", 81, false},
		{"shop", "picky", "own.shop.svc.cluster.local", "other", 81, true},
		{"elsewhere", "", "own.elsewhere.svc.cluster.local", "elsewhere", 80, true},
		{"elsewhere", "", "own.shop.svc.cluster.local", "shop", 80, false},
	} {
		t.Run(fmt.Sprintf("%s,%s,%s,%s,%d", c.namespace, c.app, c.host, c.from, c.port), func(t *testing.T) {
			s := m.Scope(c.namespace, "istio-system", map[string]string{"app": c.app})
			if got := s.AllowsPort(c.host, c.from, c.port); got != c.want {
				t.Errorf("%v by %s", got, s.Sidecar.Name)
			}
			if c.want && !s.Allows(c.host, c.from) {
				t.Error("allowed on a port, and not at all")
			}
		})
	}
}
