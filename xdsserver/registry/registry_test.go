package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"github.com/meshframe/meshframe/xdsserver/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// model reads YAML that must be right.
func model(t testing.TB, yaml string) *config.Model {
	t.Helper()
	return modelAfter(t, nil, yaml)
}

func modelAfter(t testing.TB, previous *config.Model, yaml string) *config.Model {
	t.Helper()
	m, problems := config.Build([]config.File{config.Parse("test.yaml", []byte(yaml))}, config.Options{Previous: previous})
	if err := config.AsError(problems); err != nil {
		t.Fatal(err)
	}
	return m
}

func newRegistry(t testing.TB, opts Options) *Registry {
	t.Helper()
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	r, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func register(t testing.TB, r *Registry, i Instance) *Lease {
	t.Helper()
	l, err := r.Register(i)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// show writes a service on a few lines.
func show(s *Service) string {
	if s == nil {
		return "none"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s/%s %s", s.Namespace, s.Host, s.Resolution)
	for _, p := range s.Ports {
		fmt.Fprintf(&b, " %d=%s:%s", p.Number, p.Name, p.Protocol)
	}
	for _, e := range s.Endpoints {
		fmt.Fprintf(&b, "\n  %s", e.Address)
		for _, n := range slices.Sorted(maps.Keys(e.Ports)) {
			fmt.Fprintf(&b, " %d->%d", n, e.Ports[n])
		}
		for _, k := range slices.Sorted(maps.Keys(e.Labels)) {
			fmt.Fprintf(&b, " %s=%s", k, e.Labels[k])
		}
		if e.Weight != 0 {
			fmt.Fprintf(&b, " weight %d", e.Weight)
		}
		if e.Locality != "" {
			fmt.Fprintf(&b, " at %s", e.Locality)
		}
		if e.Health != Healthy {
			fmt.Fprintf(&b, " health %d", e.Health)
		}
		if e.Registered {
			b.WriteString(" registered")
		}
	}
	return b.String()
}

func check(t testing.TB, r *Registry, host, want string) {
	t.Helper()
	if d := cmp.Diff(strings.TrimSpace(want), show(r.Index().Service(host))); d != "" {
		t.Errorf("%s: -want +got\n%s", host, d)
	}
}

const staticYAML = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 80, name: http, protocol: http, targetPort: 8080}
  - {number: 90, name: grpc, protocol: GRPC}
  endpoints:
  - {address: 10.0.0.1, labels: {version: v1}, locality: r1/z1/s1, serviceAccount: reviews, network: n1}
  - {address: 10.0.0.2, labels: {version: v2}, weight: 3, ports: {grpc: 9999}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: socket, namespace: shop}
spec:
  hosts: [socket.example.com]
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: "unix:///run/app.sock"}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: none}
spec:
  hosts: ["*.wild.example.com", plain.example.com]
  location: MESH_EXTERNAL
  ports: [{number: 443, name: tls, protocol: TLS}]
`

func TestServiceEntriesBecomeServices(t *testing.T) {
	r := newRegistry(t, Options{})
	x := r.SetModel(model(t, staticYAML))
	check(t, r, "reviews.shop.svc.cluster.local", `
shop/reviews.shop.svc.cluster.local static 80=http:HTTP 90=grpc:GRPC
  10.0.0.1 80->8080 90->90 version=v1 at r1/z1/s1
  10.0.0.2 80->8080 90->9999 version=v2 weight 3`)
	check(t, r, "socket.example.com", `
shop/socket.example.com static 80=http:HTTP
  unix:/run/app.sock 80->0`)
	check(t, r, "plain.example.com", "default/plain.example.com none 443=tls:TLS")
	if s := x.Service("plain.example.com"); !s.External || s.Source.Name != "none" {
		t.Errorf("%+v", s)
	}
	e := x.Service("reviews.shop.svc.cluster.local").Endpoints[0]
	if e.ServiceAccount != "reviews" || e.Network != "n1" || e.Namespace != "shop" || !e.Matches(map[string]string{"version": "v1"}) || e.Matches(map[string]string{"version": "v2"}) {
		t.Errorf("%+v", e)
	}
}

func TestNamesAreFoundAsAClientMeansThem(t *testing.T) {
	m := model(t, staticYAML+`
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: other, namespace: other, creationTimestamp: "2026-01-01T00:00:00Z"}
spec: {hosts: [plain.example.com], ports: [{number: 1, name: a}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: secret, namespace: shop}
spec: {hosts: [secret.example.com], exportTo: ["."]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: longer, namespace: shop}
spec: {hosts: ["*.deep.wild.example.com"]}
`)
	r := newRegistry(t, Options{})
	x := r.SetModel(m)
	for _, c := range []struct{ host, namespace, want string }{
		{"reviews", "shop", "shop/reviews.shop.svc.cluster.local"},
		{"reviews", "other", ""},
		{"reviews.shop", "other", "shop/reviews.shop.svc.cluster.local"},
		{"reviews.shop.svc", "other", "shop/reviews.shop.svc.cluster.local"},
		{"reviews.shop.svc.cluster.local", "other", "shop/reviews.shop.svc.cluster.local"},
		{"plain.example.com", "shop", "default/plain.example.com"},
		{"plain.example.com", "other", "other/plain.example.com"},
		{"secret.example.com", "shop", "shop/secret.example.com"},
		{"secret.example.com", "other", ""},
		{"a.wild.example.com", "shop", "default/*.wild.example.com"},
		{"a.b.wild.example.com", "shop", "default/*.wild.example.com"},
		{"a.deep.wild.example.com", "shop", "shop/*.deep.wild.example.com"},
		{"wild.example.com", "shop", ""},
		{"nobody.example.com", "shop", ""},
	} {
		got := ""
		if s := x.Find(c.host, c.namespace); s != nil {
			got = s.Namespace + "/" + s.Host
		}
		if got != c.want {
			t.Errorf("%s from %s: %q, want %q", c.host, c.namespace, got, c.want)
		}
	}
	if n := len(x.All("plain.example.com")); n != 2 {
		t.Errorf("plain.example.com is declared %d times", n)
	}
}

func TestEntriesOfOneNamespaceAreJoined(t *testing.T) {
	r := newRegistry(t, Options{})
	r.SetModel(model(t, `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: a}
spec: {hosts: [x.example.com], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.1}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: b}
spec: {hosts: [x.example.com], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: grpc, protocol: GRPC}], endpoints: [{address: 10.0.0.2}]}
`))
	check(t, r, "x.example.com", `
default/x.example.com static 80=http:HTTP 81=grpc:GRPC
  10.0.0.1 80->80
  10.0.0.2 80->80 81->81`)
}

const kubernetesYAML = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1, "fd00::1"]
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: named}
  - {name: grpc-api, port: 90}
  - {name: x, port: 91, appProtocol: kubernetes.io/h2c}
  - {name: dns, port: 53, protocol: UDP}
  - {name: other, port: 92}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web, version: v1}}
addressType: IPv4
ports:
- {name: http, port: 8080, protocol: TCP}
- {name: grpc-api, port: 9090}
endpoints:
- {addresses: [10.0.0.1], zone: z1, nodeName: n1, targetRef: {kind: Pod, name: web-abc}, conditions: {ready: true}}
- {addresses: [10.0.0.2, 10.0.0.3]}
- {addresses: [10.0.0.4], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.0.5], conditions: {ready: false}}
---
apiVersion: v1
kind: Service
metadata: {name: outside, namespace: shop, annotations: {networking.istio.io/exportTo: "."}}
spec: {type: ExternalName, externalName: www.example.com, ports: [{port: 443}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: shop}
spec: {clusterIP: None}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: stray, namespace: shop, labels: {kubernetes.io/service-name: nothing}}
addressType: IPv4
endpoints: []
ports: []
`

func TestKubernetesServicesBecomeServices(t *testing.T) {
	r := newRegistry(t, Options{})
	x := r.SetModel(model(t, kubernetesYAML))
	check(t, r, "web.shop.svc.cluster.local", `
shop/web.shop.svc.cluster.local static 80=http:HTTP 90=grpc-api:GRPC 91=x:HTTP2 53=dns:UDP 92=other:
  10.0.0.1 80->8080 90->9090 version=v1 at /z1
  10.0.0.2 80->8080 90->9090 version=v1
  10.0.0.4 80->8080 90->9090 version=v1 health 1`)
	check(t, r, "outside.shop.svc.cluster.local", `
shop/outside.shop.svc.cluster.local dns 443=:
  www.example.com 443->443`)
	web := x.Service("web.shop.svc.cluster.local")
	if d := cmp.Diff([]string{"10.96.0.1", "fd00::1"}, web.Addresses); d != "" {
		t.Error(d)
	}
	if e := web.Endpoints[0]; e.Workload != "web-abc" || e.Node != "n1" {
		t.Errorf("%+v", e)
	}
	if s := x.Service("outside.shop.svc.cluster.local"); s.ExportTo.In("other") || !s.ExportTo.In("shop") {
		t.Errorf("%+v", s)
	}
	if s := x.Service("headless.shop.svc.cluster.local"); !s.Headless || s.Addresses != nil {
		t.Errorf("%+v", s)
	}
	if got := len(x.Hosts()); got != 3 {
		t.Errorf("hosts %v", x.Hosts())
	}
}

func TestRegistrationsJoinAndLeave(t *testing.T) {
	r := newRegistry(t, Options{})
	r.SetModel(model(t, staticYAML))
	const host = "reviews.shop.svc.cluster.local"
	a := register(t, r, Instance{Host: "reviews", Namespace: "shop", Port: 80, Address: "10.1.0.2:7000", Labels: map[string]string{"version": "v3"}})
	b := register(t, r, Instance{Host: host, Port: 80, Address: "10.1.0.1:7000"})
	if a.Host() != host || a.Pending() != "" {
		t.Errorf("host %q, pending %q", a.Host(), a.Pending())
	}
	check(t, r, host, `
shop/reviews.shop.svc.cluster.local static 80=http:HTTP 90=grpc:GRPC
  10.0.0.1 80->8080 90->90 version=v1 at r1/z1/s1
  10.0.0.2 80->8080 90->9999 version=v2 weight 3
  10.1.0.1 80->7000 registered
  10.1.0.2 80->7000 version=v3 registered`)
	a.Release()
	a.Release()
	b.Release()
	check(t, r, host, `
shop/reviews.shop.svc.cluster.local static 80=http:HTTP 90=grpc:GRPC
  10.0.0.1 80->8080 90->90 version=v1 at r1/z1/s1
  10.0.0.2 80->8080 90->9999 version=v2 weight 3`)
	if a.Host() != "" {
		t.Errorf("a released lease belongs to %q", a.Host())
	}
}

func TestAnUnknownHostComesToBeByRegistration(t *testing.T) {
	r := newRegistry(t, Options{})
	var leases []*Lease
	for _, i := range []Instance{
		{Host: "new", Namespace: "shop", Port: 9080, Address: "10.1.0.1:1"},
		{Host: "new", Namespace: "shop", Port: 80, Address: "[fd00::1]:2", Protocol: "HTTP"},
		{Host: "new.shop.svc.cluster.local", Namespace: "elsewhere", Port: 9080, Address: "10.1.0.3:3", Weight: 2, Locality: "r/z/s"},
	} {
		leases = append(leases, register(t, r, i))
	}
	check(t, r, "new.shop.svc.cluster.local", `
shop/new.shop.svc.cluster.local static 80=http:HTTP 9080=grpc:GRPC
  10.1.0.1 9080->1 registered
  10.1.0.3 9080->3 weight 2 at r/z/s registered
  fd00::1 80->2 registered`)
	for _, l := range leases {
		l.Release()
	}
	check(t, r, "new.shop.svc.cluster.local", "none")
	if len(r.homes) != 0 || len(r.registrations) != 0 {
		t.Errorf("left behind: %v %v", r.homes, r.registrations)
	}
}

func TestThePolicyDecidesWhoMayRegister(t *testing.T) {
	for _, c := range []struct {
		policy  Policy
		i       Instance
		pending string
	}{
		{Any, Instance{Host: "unknown", Port: 1}, ""},
		{Any, Instance{Host: "reviews.shop", Port: 7}, ""},
		{Any, Instance{Host: "plain.example.com", Port: 443}, "the service plain.example.com has resolution none, it cannot take endpoints"},
		{Declared, Instance{Host: "unknown", Port: 1}, "the configuration declares no service unknown.default.svc.cluster.local"},
		{Declared, Instance{Host: "reviews.shop", Port: 7}, "the service reviews.shop.svc.cluster.local has no port 7"},
		{Declared, Instance{Host: "reviews.shop", Port: 80}, ""},
	} {
		r := newRegistry(t, Options{Policy: c.policy})
		r.SetModel(model(t, staticYAML))
		before := r.Index()
		c.i.Address = "10.1.0.1:1"
		l := register(t, r, c.i)
		if got := l.Pending(); got != c.pending {
			t.Errorf("%s %+v: pending %q, want %q", c.policy, c.i, got, c.pending)
		}
		if changed := before != r.Index(); changed != (c.pending == "") {
			t.Errorf("%s %+v: changed %v", c.policy, c.i, changed)
		}
		l.Release()
	}
	r := newRegistry(t, Options{Policy: Off})
	if _, err := r.Register(Instance{Host: "a", Port: 1, Address: "10.0.0.1:1"}); !errors.Is(err, ErrOff) {
		t.Errorf("off: %v", err)
	}
}

func TestPoliciesAreReadAsTheyAreWritten(t *testing.T) {
	for _, p := range []Policy{Any, Declared, Off} {
		if got, err := ParsePolicy(p.String()); got != p || err != nil {
			t.Errorf("%s: %v, %v", p, got, err)
		}
	}
	if _, err := ParsePolicy("some"); err == nil || err.Error() != `registration "some": want any, declared or off` {
		t.Error(err)
	}
}

func TestConfigurationMovesRegistrations(t *testing.T) {
	r := newRegistry(t, Options{Policy: Declared})
	l := register(t, r, Instance{Host: "reviews.shop", Port: 80, Address: "10.1.0.1:1"})
	if l.Pending() == "" {
		t.Error("a service that nothing declares took a registration")
	}
	m := model(t, staticYAML)
	r.SetModel(m)
	if l.Host() != "reviews.shop.svc.cluster.local" || l.Pending() != "" {
		t.Errorf("%q %q", l.Host(), l.Pending())
	}
	if n := len(r.Index().Find("reviews", "shop").Endpoints); n != 3 {
		t.Errorf("%d endpoints", n)
	}
	r.SetModel(modelAfter(t, m, "# nothing any more\n"))
	if l.Pending() == "" || len(r.Index().Hosts()) != 0 {
		t.Errorf("pending %q, hosts %v", l.Pending(), r.Index().Hosts())
	}
}

func TestTheNewestLeaseCounts(t *testing.T) {
	r := newRegistry(t, Options{})
	at := func(version string) Instance {
		return Instance{Host: "a", Port: 1, Address: "10.1.0.1:1", Labels: map[string]string{"version": version}}
	}
	version := func() string { return r.Index().Service("a.default.svc.cluster.local").Endpoints[0].Labels["version"] }
	one := register(t, r, at("v1"))
	two := register(t, r, at("v2"))
	if version() != "v2" {
		t.Error(version())
	}
	before := r.Index()
	one.Release() // the old stream ends after the new one came
	if version() != "v2" || before != r.Index() {
		t.Error("an old lease took the new one with it")
	}
	three := register(t, r, at("v3"))
	three.Release()
	if version() != "v2" {
		t.Error(version())
	}
	two.Release()
	check(t, r, "a.default.svc.cluster.local", "none")
}

func TestBadInstancesAreRefused(t *testing.T) {
	r := newRegistry(t, Options{})
	for _, c := range []struct {
		i    Instance
		want string
	}{
		{Instance{Port: 1, Address: "10.0.0.1:1"}, `register "": a host name must not be empty`},
		{Instance{Host: "*.a", Port: 1, Address: "10.0.0.1:1"}, `register "*.a": "*.a" is no host name: "*" is no part of one`},
		{Instance{Host: "a", Address: "10.0.0.1:1"}, `register a: a service port is from 1 to 65535, not 0`},
		{Instance{Host: "a", Port: 70000, Address: "10.0.0.1:1"}, `register a: a service port is from 1 to 65535, not 70000`},
		{Instance{Host: "a", Port: 1, Address: "here"}, `register a:1: the address must be ip:port: not an ip:port`},
		{Instance{Host: "a", Port: 1, Address: "10.0.0.1:0"}, `register a:1: the address 10.0.0.1:0 has no port`},
		{Instance{Host: "a", Port: 1, Address: "[::]:80"}, `register a:1: nobody can connect to the wildcard address [::]:80`},
	} {
		if _, err := r.Register(c.i); err == nil || err.Error() != c.want {
			t.Errorf("%+v: %v, want %s", c.i, err, c.want)
		}
	}
}

func TestSubscribersHearEachChangeOnce(t *testing.T) {
	r := newRegistry(t, Options{})
	var heard []string
	first, cancel := r.Subscribe(func(changed []string, x *Index) {
		if x != r.Index() {
			t.Error("the index is not the present one")
		}
		heard = append(heard, strings.Join(changed, ","))
	})
	if first != r.Index() {
		t.Error("the first index is not the present one")
	}
	m := model(t, staticYAML)
	r.SetModel(m)
	reviews := r.Index().Find("reviews", "shop")
	r.SetModel(m)
	same := modelAfter(t, m, "# moved down by a line\n"+staticYAML)
	r.SetModel(same)
	if r.Index().Find("reviews", "shop") != reviews {
		t.Error("the service is another one although nothing changed")
	}
	l := register(t, r, Instance{Host: "plain", Port: 1, Address: "10.0.0.1:1"})
	l.Release()
	r.SetModel(modelAfter(t, same, strings.Replace(staticYAML, "weight: 3", "weight: 4", 1)))
	cancel()
	r.SetModel(model(t, ""))
	want := []string{
		"*.wild.example.com,plain.example.com,reviews.shop.svc.cluster.local,socket.example.com",
		"", // only the model is new
		"plain.default.svc.cluster.local",
		"plain.default.svc.cluster.local",
		"reviews.shop.svc.cluster.local",
	}
	if d := cmp.Diff(want, heard); d != "" {
		t.Error(d)
	}
}

func TestRegistrationsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	opts := Options{StateDir: dir, Logger: slog.New(slog.DiscardHandler)}
	r, err := New(opts)
	if err != nil {
		t.Fatal(err)
	}
	instance := Instance{Host: "a", Port: 1, Address: "10.0.0.1:1", Labels: map[string]string{"version": "v1"}, NodeID: "n", Weight: 2}
	kept := register(t, r, instance)
	gone := register(t, r, Instance{Host: "b", Port: 1, Address: "10.0.0.1:1"})
	gone.Release()
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	kept.Release() // the streams end after the registry has closed

	r = newRegistry(t, opts)
	check(t, r, "a.default.svc.cluster.local", `
default/a.default.svc.cluster.local static 1=grpc:GRPC
  10.0.0.1 1->1 version=v1 weight 2 registered`)
	check(t, r, "b.default.svc.cluster.local", "none")
	restored := r.Restored()
	if len(restored) != 1 {
		t.Fatalf("restored %v", restored)
	}
	back := register(t, r, instance)
	restored[0].Release()
	if n := len(r.Index().Service("a.default.svc.cluster.local").Endpoints); n != 1 || len(r.Restored()) != 0 {
		t.Errorf("%d endpoints, %d restored", n, len(r.Restored()))
	}
	back.Release()
	check(t, r, "a.default.svc.cluster.local", "none")
}

// What could not be written is written when it can be, at the latest at the end, though nothing changes any more.
func TestAStateThatCannotBeWrittenIsWrittenLater(t *testing.T) {
	dir := t.TempDir()
	inTheWay := filepath.Join(dir, stateFile, "x")
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	log, failures := slog.New(slog.DiscardHandler), make(chan struct{}, 10)
	s := newState(dir, slog.New(handler{log.Handler(), failures}), func() []Instance { return []Instance{{Host: "a"}} })
	s.dirty()
	<-failures
	if err := os.RemoveAll(filepath.Dir(inTheWay)); err != nil {
		t.Fatal(err)
	}
	s.close()
	all, err := restore(dir, log)
	if err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
}

// handler tells when something is logged.
type handler struct {
	slog.Handler
	logged chan struct{}
}

func (h handler) Enabled(context.Context, slog.Level) bool { return true }

func (h handler) Handle(context.Context, slog.Record) error {
	h.logged <- struct{}{}
	return nil
}

func TestAStateThatCannotBeReadIsPutAside(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRegistry(t, Options{StateDir: dir})
	if len(r.Registrations()) != 0 {
		t.Error(r.Registrations())
	}
	if _, err := os.Stat(filepath.Join(dir, stateFile+".bad")); err != nil {
		t.Error(err)
	}
}

// fakeDNS answers from a table.
type fakeDNS struct {
	mu      sync.Mutex
	answers map[string][]string
	asked   map[string]int
}

func (f *fakeDNS) set(host string, addresses ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[host] = addresses
}

func (f *fakeDNS) LookupHost(_ context.Context, host string) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked[host]++
	if a := f.answers[host]; len(a) > 0 {
		return slices.Clone(a), nil
	}
	return nil, errors.New("no such host")
}

const dnsYAML = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: one}
spec:
  hosts: [one.example.com]
  resolution: DNS
  ports: [{number: 443, name: https, protocol: HTTPS}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: several}
spec:
  hosts: [several.example.com]
  resolution: DNS
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints:
  - {address: a.example.com, labels: {version: v1}}
  - {address: b.example.com, ports: {http: 8080}, weight: 2}
  - {address: 10.9.9.9}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: single}
spec:
  hosts: [single.example.com]
  resolution: DNS_ROUND_ROBIN
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8000}]
  endpoints: [{address: c.example.com}]
`

func TestSeveralNamesAreLookedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dns := &fakeDNS{answers: map[string][]string{}, asked: map[string]int{}}
		dns.set("a.example.com", "10.0.0.2", "10.0.0.1")
		r := newRegistry(t, Options{Resolver: dns})
		r.SetModel(model(t, dnsYAML))
		synctest.Wait()
		check(t, r, "one.example.com", `
default/one.example.com dns 443=https:HTTPS
  one.example.com 443->443`)
		check(t, r, "single.example.com", `
default/single.example.com dns-round-robin 80=http:HTTP
  c.example.com 80->8000`)
		const a = "\n  10.0.0.1 80->80 version=v1\n  10.0.0.2 80->80 version=v1"
		const head = "default/several.example.com static 80=http:HTTP"
		check(t, r, "several.example.com", head+a+"\n  10.9.9.9 80->80")
		dns.set("b.example.com", "10.0.0.3")
		time.Sleep(6 * time.Second) // what failed is tried again soon
		synctest.Wait()
		check(t, r, "several.example.com", head+a+"\n  10.0.0.3 80->8080 weight 2\n  10.9.9.9 80->80")
		dns.set("a.example.com") // fails: what is known stays
		dns.set("b.example.com", "10.0.0.4")
		time.Sleep(40 * time.Second)
		synctest.Wait()
		check(t, r, "several.example.com", head+a+"\n  10.0.0.4 80->8080 weight 2\n  10.9.9.9 80->80")
		if dns.asked["one.example.com"]+dns.asked["c.example.com"] != 0 {
			t.Error("single names were looked up")
		}
		r.SetModel(model(t, "# nothing"))
		synctest.Wait()
		before := dns.asked["a.example.com"]
		time.Sleep(time.Hour)
		if after := dns.asked["a.example.com"]; after != before {
			t.Errorf("a name that nobody uses was looked up %d times", after-before)
		}
		if len(r.names.known) != 0 || len(r.names.used) != 0 {
			t.Errorf("left behind: %v %v", r.names.known, r.names.used)
		}
	})
}

// ignoreIdentity compares services by content.
var ignoreIdentity = cmp.Options{cmpopts.IgnoreFields(Service{}, "Source"), cmp.AllowUnexported(config.Visibility{}), cmpopts.EquateEmpty()}

func TestUseFromManyGoroutines(t *testing.T) {
	r := newRegistry(t, Options{StateDir: t.TempDir()})
	empty, full := model(t, ""), model(t, staticYAML)
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			var last *Index
			_, cancel := r.Subscribe(func(_ []string, x *Index) {
				if x == last {
					t.Error("the same index twice")
				}
				last = x
			})
			defer cancel()
			for i := range 50 {
				l := register(t, r, Instance{Host: "reviews", Namespace: "shop", Port: 80, Address: fmt.Sprintf("10.1.%d.%d:1", n, i)})
				if n == 0 {
					r.SetModel([]*config.Model{empty, full}[i%2])
				}
				_ = l.Host() + l.Pending()
				_ = r.Index().Find("reviews", "shop")
				l.Release()
			}
		})
	}
	wg.Wait()
	if left := r.Registrations(); len(left) != 0 {
		t.Error(left)
	}
}

// BenchmarkRegister changes one instance of one service among a thousand.
func BenchmarkRegister(b *testing.B) {
	var yaml strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&yaml, "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s%d}\nspec: {hosts: [s%d], resolution: STATIC, ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.1}]}\n", i, i)
	}
	r := newRegistry(b, Options{})
	r.SetModel(model(b, yaml.String()))
	b.ReportAllocs()
	for b.Loop() {
		register(b, r, Instance{Host: "s7", Port: 80, Address: "10.1.0.1:1"}).Release()
	}
}
