package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const workloadsYAML = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 8080}
  - {number: 90, name: grpc, protocol: GRPC}
  workloadSelector: {labels: {app: reviews}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: by-name, namespace: shop}
spec:
  hosts: [by-name.example.com]
  resolution: DNS
  ports: [{number: 80, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: named}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: nobody, namespace: shop}
spec:
  hosts: [nobody.example.com]
  resolution: DNS
  ports: [{number: 80, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: nobody}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: no-labels, namespace: shop}
spec: {hosts: [no-labels.example.com], resolution: STATIC, workloadSelector: {}}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: reviews, version: v1}
  ports:
  - {name: a, port: 70, targetPort: 7070}
  - {name: b, port: 71, targetPort: admin}
  - {name: c, port: 72, targetPort: unknown}
  - {name: http, port: 73, targetPort: 7373}
  - {name: e, port: 74}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-1, namespace: shop, labels: {app: reviews, version: v0}}
spec:
  address: 10.0.0.1
  labels: {version: v1}
  ports: {http: 9000, admin: 9001}
  weight: 5
  locality: r/z/s
  network: n1
  serviceAccount: sa
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-2, namespace: shop}
spec: {address: 10.0.0.2, labels: {app: reviews, version: v2}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-3, namespace: shop}
spec: {address: vm-3.example.com, labels: {app: reviews, version: v1}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-4, namespace: shop}
spec: {network: elsewhere, labels: {app: reviews, version: v1}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-5, namespace: shop}
spec: {address: "unix:///run/vm-5.sock", labels: {app: reviews, version: v1}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-6, namespace: other}
spec: {address: 10.0.0.6, labels: {app: reviews, version: v1}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm-7, namespace: shop}
spec: {address: vm-7.example.com, labels: {app: named}}
`

func TestWorkloadsAreSelectedByLabel(t *testing.T) {
	r := newRegistry(t, Options{})
	x := r.SetModel(model(t, workloadsYAML))
	check(t, r, "reviews.shop.svc.cluster.local", `
shop/reviews.shop.svc.cluster.local static 80=http:HTTP 90=grpc:GRPC
  10.0.0.1 80->9000 90->90 app=reviews version=v1 weight 5 at r/z/s
  10.0.0.2 80->8080 90->90 app=reviews version=v2
  unix:/run/vm-5.sock 80->0 90->0 app=reviews version=v1`)
	check(t, r, "web.shop.svc.cluster.local", `
shop/web.shop.svc.cluster.local static 70=a: 71=b: 72=c: 73=http:HTTP 74=e:
  10.0.0.1 70->7070 71->9001 73->9000 74->74 app=reviews version=v1 weight 5 at r/z/s
  unix:/run/vm-5.sock 70->0 71->0 72->0 73->0 74->0 app=reviews version=v1`)
	check(t, r, "by-name.example.com", `
shop/by-name.example.com dns 80=http:HTTP
  vm-7.example.com 80->80 app=named`)
	check(t, r, "nobody.example.com", "shop/nobody.example.com static 80=http:HTTP")
	check(t, r, "no-labels.example.com", "shop/no-labels.example.com static")
	e := x.Service("reviews.shop.svc.cluster.local").Endpoints[0]
	if e.Network != "n1" || e.ServiceAccount != "sa" || e.Workload != "vm-1" || e.Namespace != "shop" {
		t.Errorf("%+v", e)
	}
}

// TestWorkloadsComeAndGo holds that a workload that is not selected any more, or newly, changes the services that
// selected it, and only those.
func TestWorkloadsComeAndGo(t *testing.T) {
	const service = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: %[1]s}
spec: {hosts: [%[1]s.example.com], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], workloadSelector: {labels: {app: %[1]s}}}
---
`
	services := fmt.Sprintf(service, "a") + fmt.Sprintf(service, "b") + fmt.Sprintf(service, "c")
	workload := func(app string, weight int) string {
		return services + fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w, labels: {app: %s}}\nspec: {address: 10.0.0.1, weight: %d}\n", app, weight)
	}
	r := newRegistry(t, Options{})
	var told []string
	r.Subscribe(func(changed []string, _ *Index) { told = append(told, strings.Join(changed, " ")) })
	m := model(t, services)
	r.SetModel(m)
	for _, yaml := range []string{workload("a", 1), workload("a", 1), workload("a", 2), workload("b", 2), services} {
		m = modelAfter(t, m, yaml)
		r.SetModel(m)
	}
	want := []string{"a.example.com b.example.com c.example.com", "a.example.com", "", "a.example.com", "a.example.com b.example.com", "b.example.com"}
	if d := cmp.Diff(want, told); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}
