package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networking "istio.io/api/networking/v1alpha3"
)

// load parses files, given as name and content in turn, and builds a model after another one.
func load(previous *Model, namesAndContents ...string) (*Model, []Problem) {
	var files []File
	for i := 0; i+1 < len(namesAndContents); i += 2 {
		files = append(files, Parse(namesAndContents[i], []byte(namesAndContents[i+1])))
	}
	return Build(files, Options{Previous: previous})
}

func mustLoad(t *testing.T, previous *Model, namesAndContents ...string) *Model {
	t.Helper()
	m, problems := load(previous, namesAndContents...)
	if err := AsError(problems); err != nil {
		t.Fatal(err)
	}
	return m
}

// rule writes a VirtualService that sends a host to a subset of itself.
func rule(name, host, subset string) string {
	return fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: %s}\nspec:\n  hosts: [%s]\n"+
		"  http: [{route: [{destination: {host: %s, subset: %s}}]}]\n", name, host, host, subset)
}

// changedRules lists the rules of a model whose content is not in another one.
func changedRules(m, old *Model) []string {
	had := map[*networking.VirtualService]bool{}
	for _, v := range old.VirtualServices {
		had[v.Spec] = true
	}
	var out []string
	for _, v := range m.VirtualServices {
		if !had[v.Spec] {
			out = append(out, v.Name)
		}
	}
	return out
}

// names lists the rules of a model as name=subset.
func names(m *Model) string {
	var out []string
	for _, v := range m.VirtualServices {
		out = append(out, v.Name+"="+v.Spec.Http[0].Route[0].Destination.Subset)
	}
	return strings.Join(out, " ")
}

func texts(problems []Problem) string {
	var b strings.Builder
	for _, p := range problems {
		if p.Severity == Error || p.Kind == "" {
			fmt.Fprintf(&b, "%s %s\n", p.Severity, p)
		}
	}
	return b.String()
}

func TestShortNamesAreResolved(t *testing.T) {
	m := mustLoad(t, nil, "a.yaml", `
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: v, namespace: shop}
spec:
  hosts: [reviews, "*.example.org", 10.0.0.1, full.example.com]
  gateways: [gw, other/gw, mesh, old.ns.svc.cluster.local]
  http:
  - match: [{gateways: [gw]}]
    route: [{destination: {host: reviews}}]
    mirror: {host: shadow}
  - match: [{uri: {exact: /b}}]
    route: [{destination: {host: reviews}}]
    mirrors: [{destination: {host: shadow.other}}]
  tcp: [{match: [{gateways: [gw]}], route: [{destination: {host: db}}]}]
  tls: [{match: [{sniHosts: [full.example.com], gateways: [mesh]}], route: [{destination: {host: db}}]}]
---
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {name: d, namespace: shop}
spec: {host: reviews, exportTo: [".", other]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: e, namespace: shop}
spec: {host: ratings, workloadSelector: {matchLabels: {app: a}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: s, namespace: shop}
spec: {hosts: [short, long.example.com], exportTo: ["~"]}
---
apiVersion: v1
kind: Service
metadata: {name: k, namespace: shop, annotations: {networking.istio.io/exportTo: "., a"}}
spec: {ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: k-1, namespace: shop, labels: {kubernetes.io/service-name: k}}
addressType: IPv4
endpoints: []
ports: []
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: w}
spec: {address: 10.0.0.1}
`)
	v := m.VirtualServices[0]
	want := []string{"reviews.shop.svc.cluster.local", "*.example.org", "10.0.0.1", "full.example.com"}
	if d := cmp.Diff(want, v.Hosts); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"shop/gw", "other/gw", "mesh", "ns/old"}, v.Gateways); d != "" || !v.InMesh() {
		t.Error(d)
	}
	var hosts []string
	for _, d := range ruleDestinations(v.Spec) {
		hosts = append(hosts, d.to.Host)
	}
	want = []string{"reviews.shop.svc.cluster.local", "shadow.shop.svc.cluster.local", "reviews.shop.svc.cluster.local", "shadow.other", "db.shop.svc.cluster.local", "db.shop.svc.cluster.local"}
	if d := cmp.Diff(want, hosts); d != "" {
		t.Error(d)
	}
	if got := v.Spec.Http[0].Match[0].Gateways[0] + " " + v.Spec.Tcp[0].Match[0].Gateways[0] + " " + v.Spec.Tls[0].Match[0].Gateways[0]; got != "shop/gw shop/gw mesh" {
		t.Error(got)
	}
	if own := m.DestinationRules[1].ExportTo; !own.In("shop") || own.In("other") {
		t.Error("a rule that selects workloads is seen from elsewhere")
	}
	d, s, k := m.DestinationRules[0], m.ServiceEntries[0], m.Services[0]
	if d.Host != "reviews.shop.svc.cluster.local" || d.Spec.Host != d.Host {
		t.Error(d.Host)
	}
	if !d.ExportTo.In("shop") || !d.ExportTo.In("other") || d.ExportTo.In("else") || d.ExportTo.Everywhere() || !v.ExportTo.Everywhere() || !v.ExportTo.In("else") {
		t.Errorf("%+v %+v", d.ExportTo, v.ExportTo)
	}
	if d := cmp.Diff([]string{"short.shop.svc.cluster.local", "long.example.com"}, s.Hosts); d != "" || s.ExportTo.In("shop") {
		t.Error(d, s.ExportTo)
	}
	if k.Host != "k.shop.svc.cluster.local" || !k.ExportTo.In("a") || k.ExportTo.In("b") || m.EndpointSlices[0].Host != k.Host {
		t.Errorf("%+v", k)
	}
	if len(m.WorkloadEntries) != 1 || m.Domain != DefaultDomain {
		t.Errorf("%+v", m)
	}
}

func TestCandidates(t *testing.T) {
	for host, want := range map[string]string{
		"a": "a.ns.svc.d", "a.b": "a.b a.b.svc.d", "a.b.svc": "a.b.svc a.b.svc.d", "a.b.c": "a.b.c", "a.b.svc.d": "a.b.svc.d",
		"10.0.0.1": "10.0.0.1", "::1": "::1", "*": "*",
	} {
		if got := strings.Join(Candidates(host, "ns", "d"), " "); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
	if got := ResolveHost("a", "", "d"); got != "a.default.svc.d" {
		t.Error(got)
	}
}

func TestHostsAreNotCaseSensitive(t *testing.T) {
	m := mustLoad(t, nil, "a.yaml", `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: s}
spec: {hosts: [API.Example.com, Short], ports: [{number: 80, name: grpc}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: ["*.Example.Com.", api.EXAMPLE.com., SHORT]
  http: [{route: [{destination: {host: Api.Example.Com}}], mirror: {host: sHORT}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d}
spec: {host: aPI.example.com}
---
apiVersion: networking.meshframe.dev/v1alpha1
kind: MeshPolicy
metadata: {name: p}
spec: {host: ApI.example.com, fallback: {destination: {host: SHORT}}}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: c}
spec: {egress: [{hosts: ["*/API.example.com"]}]}
`)
	v, short := m.VirtualServices[0], "short.default.svc.cluster.local"
	got := slices.Concat(m.ServiceEntries[0].Hosts, v.Hosts,
		[]string{v.Spec.Http[0].Route[0].Destination.Host, v.Spec.Http[0].Mirror.Host, m.DestinationRules[0].Host, m.Policies[0].Host, m.Policies[0].Spec.Fallback.Destination.Host},
		Candidates("API.Example.com.", "default", m.Domain), Candidates("Short", "default", m.Domain))
	want := []string{"api.example.com", short, "*.example.com", "api.example.com", short, "api.example.com", short,
		"api.example.com", "api.example.com", short, "api.example.com", short}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if !m.Sidecars[0].egress[0].imports("api.example.com", "default", "default") {
		t.Error("the Sidecar does not import the host")
	}
	if got := ResolveHost("*.", "default", m.Domain); got != "*." {
		t.Errorf("what is no name became %q", got)
	}
}

func TestOrderIsIstios(t *testing.T) {
	at := func(name, namespace, created string) string {
		return fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: %s, namespace: %s, creationTimestamp: %s}\nspec: {hosts: [%s.%s.example.com]}\n", name, namespace, created, name, namespace)
	}
	m := mustLoad(t, nil, "z.yaml", at("b", "x", "null"), "y.yaml", at("a", "y", `"2026-01-02T00:00:00Z"`),
		"x.yaml", at("z", "x", `"2026-01-01T00:00:00Z"`)+"---\n"+at("a", "x", `"2026-01-02T00:00:00Z"`))
	var got []string
	for _, s := range m.ServiceEntries {
		got = append(got, s.Namespace+"/"+s.Name)
	}
	if d := cmp.Diff([]string{"x/b", "x/z", "x/a", "y/a"}, got); d != "" {
		t.Error(d)
	}
}

func TestContentThatDoesNotChangeKeepsItsPointer(t *testing.T) {
	first := mustLoad(t, nil, "a.yaml", rule("a", "a.example.com", "v1"), "b.yaml", rule("b", "b.example.com", "v1"))
	second := mustLoad(t, first,
		"a.yaml", "# moved down\n---\n"+strings.Replace(rule("a", "a.example.com", "v1"), "metadata: {", "status: {x: y}\nmetadata: {resourceVersion: '7', ", 1),
		"b.yaml", rule("b", "b.example.com", "v2"))
	a, b := second.VirtualServices[0], second.VirtualServices[1]
	if a.Spec != first.VirtualServices[0].Spec {
		t.Error("the content of a is another one, although only its place changed")
	}
	if a.Source.Line != 3 {
		t.Errorf("a is on line %d", a.Source.Line)
	}
	if b.Spec == first.VirtualServices[1].Spec {
		t.Error("the content of b is the old one")
	}
	if d := cmp.Diff([]string{"b"}, changedRules(second, first)); d != "" {
		t.Error(d)
	}
	// A label is content, too: rules may be selected by it one day.
	third := mustLoad(t, second, "a.yaml", strings.Replace(rule("a", "a.example.com", "v1"), "{name: a}", "{name: a, labels: {x: y}}", 1), "b.yaml", rule("b", "b.example.com", "v2"))
	if d := cmp.Diff([]string{"a"}, changedRules(third, second)); d != "" {
		t.Error(d)
	}
}

func TestAFileParsedOnceKeepsEverything(t *testing.T) {
	files := []File{Parse("a.yaml", []byte(rule("a", "a.example.com", "v1")))}
	first, _ := Build(files, Options{})
	second, _ := Build(files, Options{Previous: first})
	if first.VirtualServices[0] != second.VirtualServices[0] {
		t.Error("a file that was not read again has a new view")
	}
	other, _ := Build(files, Options{Previous: first, Domain: "example.org"})
	if other.VirtualServices[0] == first.VirtualServices[0] || other.Domain != "example.org" {
		t.Error("another domain, and yet the same names")
	}
}

func TestABadFileKeepsWhatItHeld(t *testing.T) {
	a, b := rule("a", "a.example.com", "v1"), rule("b", "b.example.com", "v1")
	first := mustLoad(t, nil, "a.yaml", a, "b.yaml", b)
	bad := strings.Replace(a, "subset", "subst", 1) + "---\n" + rule("more", "more.example.com", "v1")
	second, problems := load(first, "a.yaml", bad, "b.yaml", rule("b", "b.example.com", "v2"), "new.yaml", "}")
	want := `warning a.yaml: the file is refused, what it held before stays in force
error a.yaml:6: VirtualService default/a: spec.http[0].route[0].destination.subst: unknown field of Destination; did you mean "subset"?
warning new.yaml: the file is refused, nothing of it is in force
error new.yaml:1: not valid YAML: did not find expected node content
`
	if d := cmp.Diff(want, texts(problems)); d != "" {
		t.Error(d)
	}
	if got := names(second); got != "a=v1 b=v2" {
		t.Error(got)
	}
	if d := cmp.Diff([]string{"a.yaml"}, second.Kept); d != "" {
		t.Error(d)
	}
	if second.VirtualServices[0] != first.VirtualServices[0] {
		t.Error("the object that was kept is another one")
	}
	raw := second.Raw()
	if string(raw["a.yaml"]) != a || string(raw["b.yaml"]) != rule("b", "b.example.com", "v2") || len(raw) != 2 {
		t.Errorf("raw: %q", raw)
	}
	third, problems := load(second, "b.yaml", b)
	if names(third) != "b=v1" || len(third.Kept) != 0 || HasErrors(problems) {
		t.Errorf("a file that is removed: %s %v %v", names(third), third.Kept, problems)
	}
}

func TestAtTheStartEveryErrorIsReported(t *testing.T) {
	_, problems := load(nil, "a.yaml", "a: [", "b.yaml", "kind: x", "c.yaml", rule("c", "c.example.com", "v1"), "d.yaml", rule("c", "c.example.com", "v1"))
	want := `a.yaml:1: not valid YAML: did not find expected node content
b.yaml:1: x: apiVersion: missing: every object says its apiVersion and kind
d.yaml:1: VirtualService default/c: is defined twice, first at c.yaml:1, with the same content: remove one of them`
	if d := cmp.Diff(want, AsError(problems).Error()); d != "" {
		t.Error(d)
	}
}

func TestAnObjectThatMovesBetweenFiles(t *testing.T) {
	a, b := rule("a", "a.example.com", "v1"), rule("b", "b.example.com", "v1")
	first := mustLoad(t, nil, "one.yaml", a+"---\n"+b, "two.yaml", "")
	for _, c := range []struct {
		name, one, two string
		want, kept     string
		errors         int
	}{
		{"both at once", b, a, "a=v1 b=v1", "", 0},
		{"the copy first", a + "---\n" + b, strings.Replace(a, "subset: v1", "subset: v2", 1), "a=v1 b=v1", "two.yaml", 1},
		{"the removal first", b, "", "b=v1", "", 0},
		{"the removal in a file with an error", b + "---\n}", a, "a=v1 b=v1", "one.yaml two.yaml", 2},
	} {
		m, problems := load(first, "one.yaml", c.one, "two.yaml", c.two)
		errors := strings.Count(texts(problems), "error ")
		if names(m) != c.want || strings.Join(m.Kept, " ") != c.kept || errors != c.errors {
			t.Errorf("%s: %s, kept %v, %v", c.name, names(m), m.Kept, texts(problems))
		}
	}
	// The newcomer is refused even when it comes first in order.
	m, problems := load(first, "0.yaml", strings.Replace(a, "subset: v1", "subset: v2", 1), "one.yaml", a+"---\n"+b)
	if names(m) != "a=v1 b=v1" || !strings.Contains(texts(problems), "error 0.yaml:1: VirtualService default/a: is defined twice, first at one.yaml:1") {
		t.Errorf("%s %s", names(m), texts(problems))
	}
}

const delegation1 = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec:
  hosts: [a.example.com]
  http:
  - name: to-team
    match: [{uri: {prefix: /team}, headers: {x: {exact: "1"}}}]
    timeout: 9s
    retries: {attempts: 5, perTryTimeout: 1s}
    delegate: {name: child, namespace: team}
  - name: lost
    match: [{uri: {prefix: /lost}}]
    delegate: {name: nobody}
  - name: private
    match: [{uri: {prefix: /private}}]
    delegate: {name: private, namespace: team}
  - name: rest
    route: [{destination: {host: a.example.com}}]
`

const delegation2 = `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: child, namespace: team}
spec:
  http:
  - name: exact
    match: [{uri: {exact: /team/a}, headers: {y: {exact: "2"}}}]
    retries: {attempts: 2}
    route: [{destination: {host: short}}]
  - name: outside
    match: [{uri: {prefix: /else}}]
    route: [{destination: {host: short}}]
  - route: [{destination: {host: short}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: private, namespace: team}
spec:
  exportTo: ["."]
  http: [{route: [{destination: {host: short}}]}]
`

func TestDelegatedRoutesStandInPlace(t *testing.T) {
	m, problems := load(nil, "root.yaml", delegation1, "team.yaml", delegation2)
	if len(m.VirtualServices) != 1 {
		t.Fatalf("%d rules", len(m.VirtualServices))
	}
	var got []string
	for _, r := range m.VirtualServices[0].Spec.Http {
		line := r.Name + ":"
		for _, match := range r.Match {
			line += fmt.Sprintf(" [%s%s %s%s]", match.Uri.GetExact(), match.Uri.GetPrefix(), match.Headers["x"].GetExact(), match.Headers["y"].GetExact())
		}
		if r.Timeout != nil {
			line += " timeout " + r.Timeout.AsDuration().String()
		}
		if r.Retries != nil {
			line += fmt.Sprintf(" attempts %d of %s", r.Retries.Attempts, r.Retries.PerTryTimeout.AsDuration())
		}
		for _, d := range r.Route {
			line += " -> " + d.Destination.Host
		}
		if r.DirectResponse != nil {
			line += fmt.Sprintf(" = %d %s", r.DirectResponse.Status, r.DirectResponse.Body.GetString_())
		}
		got = append(got, line)
	}
	want := []string{
		"to-team-exact: [/team/a 12] timeout 9s attempts 2 of 0s -> short.team.svc.cluster.local",
		"to-team: [/team 1] timeout 9s attempts 5 of 1s -> short.team.svc.cluster.local",
		"lost: [/lost ] = 503 no rule default/nobody to delegate to",
		"private: [/private ] = 503 no rule team/private to delegate to",
		"rest: -> a.example.com",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	var warnings []string
	for _, p := range problems {
		if strings.Contains(p.String(), "delegate") {
			warnings = append(warnings, p.String())
		}
	}
	want = []string{
		"root.yaml:15: VirtualService default/root: spec.http[1].delegate: there is no rule default/nobody to delegate to: requests that match fail",
		"root.yaml:18: VirtualService default/root: spec.http[2].delegate: the rule team/private is not exported to this namespace: requests that match fail",
		"team.yaml:11: VirtualService team/child: spec.http[1]: never used by VirtualService default/root: it matches nothing of what is delegated to it",
	}
	if d := cmp.Diff(want, warnings); d != "" {
		t.Error(d)
	}
	// A change of the delegate is a change of the rule that delegates.
	again, _ := load(m, "root.yaml", delegation1, "team.yaml", delegation2)
	if got := changedRules(again, m); got != nil {
		t.Error(got)
	}
	changed, _ := load(m, "root.yaml", delegation1, "team.yaml", strings.Replace(delegation2, "attempts: 2", "attempts: 3", 1))
	if d := cmp.Diff([]string{"root"}, changedRules(changed, m)); d != "" {
		t.Error(d)
	}
}

func TestStringsExclude(t *testing.T) {
	exact := func(s string) *networking.StringMatch {
		return &networking.StringMatch{MatchType: &networking.StringMatch_Exact{Exact: s}}
	}
	prefix := func(s string) *networking.StringMatch {
		return &networking.StringMatch{MatchType: &networking.StringMatch_Prefix{Prefix: s}}
	}
	regex := &networking.StringMatch{MatchType: &networking.StringMatch_Regex{Regex: "x"}}
	present := &networking.StringMatch{}
	for i, c := range []struct {
		root, sub *networking.StringMatch
		want      bool
	}{
		{nil, exact("a"), false}, {exact("a"), nil, false},
		{exact("a"), exact("a"), false}, {exact("a"), exact("b"), true}, {exact("a"), prefix("a"), true},
		{prefix("/a"), exact("/a/b"), false}, {prefix("/a"), prefix("/a/b"), false}, {prefix("/a/b"), prefix("/a"), true},
		{prefix("/a"), regex, true}, {regex, exact("a"), true}, {regex, regex, true}, {present, exact("a"), true}, {prefix("/a"), present, true},
	} {
		if got := stringsExclude(c.root, c.sub); got != c.want {
			t.Errorf("%d: %v", i, got)
		}
	}
}

func TestLinesOfFields(t *testing.T) {
	f := Parse("a.yaml", []byte(`---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: a
  annotations:
    some.dotted/name: x
spec:
  hosts:
  - a.example.com
  ports: &p
  - number: 80
    name: http
  endpoints: []
`))
	m := f.Objects[0].Meta
	for path, want := range map[string]int{
		"": 2, "kind": 3, "metadata.annotations[some.dotted/name]": 7, "spec.hosts[0]": 10, "spec.hosts[7]": 9, "spec.ports[0].name": 13,
		"spec.ports[0].nothing": 12, "nothing.at.all": 2, "spec.hosts[": 9, "spec..hosts": 9,
	} {
		if got := m.LineOf(path); got != want {
			t.Errorf("%q: line %d, want %d", path, got, want)
		}
	}
}

// TestReferencesAreBounded has a small file in which every destination lacks every port
// that can be called: each is said once.
func TestReferencesAreBounded(t *testing.T) {
	const n = 400
	var hosts, routes strings.Builder
	for i := range n {
		fmt.Fprintf(&hosts, "  - h%d.example.com\n", i)
		fmt.Fprintf(&routes, "  - {match: [{uri: {exact: /p%d}}], route: [{destination: {host: to.example.com}}]}\n", i)
	}
	entry := func(name, hosts, protocol string) string {
		return fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: %s}\nspec:\n  resolution: STATIC\n  endpoints: [{address: 10.0.0.1}]\n  hosts:\n%s"+
			"  ports: [{number: 1, name: one, protocol: %s}, {number: 2, name: two, protocol: %[3]s}, {number: 3, name: three, protocol: %[3]s}]\n---\n", name, hosts, protocol)
	}
	yaml := entry("a", hosts.String(), "HTTP") + entry("b", hosts.String(), "TLS") +
		strings.Replace(entry("c", "  - to.example.com\n", "HTTP"), "{number: 3, name: three, protocol: HTTP}", "{number: 4, name: four, protocol: HTTP}", 1) +
		"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v}\nspec:\n  hosts:\n" + hosts.String() + "  http:\n" + routes.String()
	_, problems := load(nil, "a.yaml", yaml)
	if len(problems) == 0 || len(problems) > n {
		t.Errorf("%d problems of %d bytes", len(problems), len(yaml))
	}
}
