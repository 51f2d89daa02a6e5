package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	networking "istio.io/api/networking/v1alpha3"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// everyForm has every form that a value may have.
const everyForm = `
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: a}
spec:
  hosts: [a.example.com]
  exportTo: ["*"]
  http:
  - name: all
    match:
    - uri: {prefix: /a}
      headers: {x: {regex: "a+"}, present: {}, z: {exact: ""}}
      queryParams: {q: {exact: "1"}}
      port: 80
      ignoreUriCase: true
      sourceLabels: {app: a}
    route:
    - destination: {host: a.example.com, port: {number: 80}}
      weight: 0x5a
    - {destination: {host: a.example.com}, weight: 1e1, headers: {request: {set: {a: b}, remove: [c]}}}
    timeout: 1.5s
    retries: {attempts: 3, perTryTimeout: 0.25s, retryRemoteLocalities: false}
    fault: {delay: {fixedDelay: 2s, percentage: {value: 0.1}}, abort: {grpcStatus: NOT_FOUND, percentage: {value: 5}}}
    mirror: {host: a.example.com}
    mirrorPercentage: {value: 1.5}
    corsPolicy: {allowCredentials: true, maxAge: 86400s, allowOrigins: [{exact: x}], unmatchedPreflights: IGNORE}
  - match: [{uri: {exact: /b}}]
    directResponse: {status: 200, body: {bytes: aGVsbG8=}}
  - redirect: {uri: /x, derivePort: FROM_REQUEST_PORT}
`

// TestDecodingIsThatOfProtojson holds the reader against protojson, which reads the same values without lines.
func TestDecodingIsThatOfProtojson(t *testing.T) {
	inputs := map[string]string{"everyForm": everyForm}
	if dir := os.Getenv("ISTIO_SAMPLES"); dir != "" {
		for _, path := range yamlFiles(t, "ISTIO_SAMPLES") {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			inputs[filepath.Base(filepath.Dir(path))+"/"+filepath.Base(path)] = string(data)
		}
	}
	for name, input := range inputs {
		f := Parse(name, []byte(input))
		for _, o := range f.Objects {
			got, ok := o.Spec.(proto.Message)
			if !ok {
				continue
			}
			want := got.ProtoReflect().New().Interface()
			if err := protojson.Unmarshal(specJSON(t, input, o), want); err != nil {
				t.Errorf("%s: %v", o.ID(), err)
			}
			if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
				t.Errorf("%s: %s: -protojson +ours\n%s", name, o.ID(), d)
			}
		}
		if name == "everyForm" && len(f.Objects) != 1 {
			t.Error(f.Problems)
		}
	}
}

// specJSON finds an object in YAML by its name and returns its spec as JSON.
func specJSON(t *testing.T, input string, o *Object) []byte {
	t.Helper()
	for doc := range strings.SplitSeq(input, "\n---") {
		var head struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     json.RawMessage
		}
		if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
			t.Fatal(err)
		}
		if head.Kind == o.Kind && head.Metadata.Name == o.Name {
			return head.Spec
		}
	}
	t.Fatalf("no %s", o.ID())
	return nil
}

func TestWhatKubectlWrites(t *testing.T) {
	const got = `
apiVersion: v1
items:
- apiVersion: networking.istio.io/v1
  kind: VirtualService
  metadata:
    annotations:
      kubectl.kubernetes.io/last-applied-configuration: |
        {"apiVersion":"networking.istio.io/v1","kind":"VirtualService"}
    creationTimestamp: "2026-01-02T03:04:05Z"
    generation: 1
    managedFields:
    - {apiVersion: networking.istio.io/v1, fieldsType: FieldsV1, fieldsV1: {"f:spec": {}}, manager: kubectl, operation: Update}
    name: a
    namespace: shop
    ownerReferences: [{kind: x}]
    resourceVersion: "123"
    uid: 0b1c
  spec:
    hosts: [a.example.com]
    http: [{route: [{destination: {host: a.example.com}}]}]
  status: {conditions: [{anything: goes}]}
- apiVersion: v1
  kind: Service
  metadata: {creationTimestamp: null, labels: {app: b}, name: b, namespace: shop}
  spec:
    clusterIP: 10.96.0.1
    clusterIPs: [10.96.0.1]
    internalTrafficPolicy: Cluster
    ipFamilies: [IPv4]
    ipFamilyPolicy: SingleStack
    ports: [{name: http, port: 80, protocol: TCP, targetPort: web, appProtocol: null}]
    selector: {app: b}
    sessionAffinity: ClientIP
    sessionAffinityConfig: {clientIP: {timeoutSeconds: 10}}
    type: ClusterIP
  status: {loadBalancer: {}}
kind: List
metadata: {resourceVersion: ""}
`
	f := Parse("a.yaml", []byte(got))
	if len(f.Problems) != 0 || len(f.Objects) != 2 {
		t.Fatal(f.Problems)
	}
	a, b := f.Objects[0], f.Objects[1]
	if a.Created.IsZero() || a.Namespace != "shop" || len(a.Annotations) != 1 || a.Source.Line != 4 {
		t.Errorf("%+v", a.Meta)
	}
	s := b.Spec.(*corev1.Service)
	if s.Name != "b" || s.Spec.Ports[0].TargetPort.StrVal != "web" || *s.Spec.SessionAffinityConfig.ClientIP.TimeoutSeconds != 10 || s.Labels["app"] != "b" {
		t.Errorf("%+v", s)
	}
}

func TestDocumentsAndMarkers(t *testing.T) {
	const one = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: %}\nspec: {hosts: [%.example.com]}\n"
	entry := func(name string) string { return strings.ReplaceAll(one, "%", name) }
	for _, c := range []struct {
		name, text, want string
	}{
		{"nothing", "", ""},
		{"comments", "# a\n\n# b\n", ""},
		{"markers", "---\n---\n--- \n---\t# x\n", ""},
		{"crlf", strings.ReplaceAll(entry("a")+"---\n"+entry("b"), "\n", "\r\n"), "a:1 b:6"},
		{"byte order mark", "\xef\xbb\xbf" + entry("a"), "a:1"},
		{"byte order marks of joined files", "\xef\xbb\xbf" + entry("a") + "\xef\xbb\xbf---\n" + entry("b") + "---\n\xef\xbb\xbf" + entry("c"), "a:1 b:6 c:11"},
		{"end markers", entry("a") + "...\n" + entry("b") + "...\n---\n" + entry("c"), "a:1 b:6 c:12"},
		{"content on the marker", "--- {apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: a}, spec: {hosts: [a.example.com]}}\n", "a:1"},
		{"directive", "# c\n%YAML 1.1\n---\n" + entry("a"), "a:4"},
		{"a text with dashes", strings.Replace(entry("a"), "spec:", "status: |\n  ---\n  x\nspec:", 1), "a:1"},
		{"no newline at the end", strings.TrimSpace(entry("a")), "a:1"},
		{"json in yaml", `{"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": {"name": "a"}, "spec": {"hosts": ["a.example.com"]}}`, "a:1"},
	} {
		f := Parse("a.yaml", []byte(c.text))
		var got []string
		for _, o := range f.Objects {
			got = append(got, o.Name+":"+itoa(o.Source.Line))
		}
		if s := strings.Join(got, " "); s != c.want || HasErrors(f.Problems) {
			t.Errorf("%s: %q, want %q; %v", c.name, s, c.want, f.Problems)
		}
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestJSONIsReadAsJSON(t *testing.T) {
	text := "{\n\t\"apiVersion\": \"networking.istio.io/v1\", \"kind\": \"ServiceEntry\", \"metadata\": {\"name\": \"a\", \"annotations\": {\"x\": \"\\ud83d\\ude00\\/\", \"" +
		strings.Repeat("k", 2000) + "\": \"v\"}},\n\t\"spec\": {\"hosts\": [\"a.example.com\"],\n\t\t\"ports\": [{\"number\": 80, \"name\": \"http\", \"protocol\": null}]}\n}"
	f := Parse("a.json", []byte(text))
	if len(f.Problems) != 0 || len(f.Objects) != 1 {
		t.Fatal(f.Problems)
	}
	o := f.Objects[0]
	if o.Annotations["x"] != "😀/" || o.LineOf("spec.ports[0].name") != 4 || o.Spec.(*networking.ServiceEntry).Ports[0].Number != 80 {
		t.Errorf("%+v", o)
	}
	deep := Parse("a.json", []byte(strings.Repeat("[", 1000)))
	if len(deep.Problems) != 1 || !strings.Contains(deep.Problems[0].Message, "nested deeper") {
		t.Error(deep.Problems)
	}
}

func TestAliasesCannotMakeAFileLarge(t *testing.T) {
	var b strings.Builder
	b.WriteString("apiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\nmetadata: {name: a}\nspec:\n  configPatches:\n  - applyTo: CLUSTER\n    patch:\n      operation: MERGE\n      value:\n        a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < 12; i++ {
		name, last := itoa(i), "*a"+itoa(i-1)
		b.WriteString("        a" + name + ": &a" + name + " [" + strings.Repeat(last+", ", 9) + last + "]\n")
	}
	b.WriteString("  notAField: 1\n---\napiVersion: networking.istio.io/v1\nkind: Nothing\n")
	f := Parse("a.yaml", []byte(b.String()))
	// No consequences are listed, but what is wrong with other documents is.
	if len(f.Problems) != 2 || !strings.Contains(f.Problems[0].Message, "too large") || f.Problems[1].Field != "kind" {
		t.Error(f.Problems)
	}
}

func TestMergesCannotMakeAFileLarge(t *testing.T) {
	var b strings.Builder
	b.WriteString("m0: &m0 {a: b}\n")
	for i := 1; i < 60; i++ {
		name, last := itoa(i), "*m"+itoa(i-1)
		b.WriteString("m" + name + ": &m" + name + " {<<: [" + last + ", " + last + "]}\n")
	}
	b.WriteString("<<: *m59\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a, <<: *m59}\nspec: {hosts: [a.example.com]}\n")
	if f := Parse("a.yaml", []byte(b.String())); !HasErrors(f.Problems) {
		t.Error("no error")
	}
}

func TestNearest(t *testing.T) {
	fields := []string{"timeout", "retries", "route", "trafficPolicy", "hosts"}
	for wrong, want := range map[string]string{
		"timout": "timeout", "retires": "retries", "traffic_policy": "trafficPolicy", "TrafficPolicy": "trafficPolicy", "host": "hosts",
		"completelyDifferent": "", strings.Repeat("x", 100): "",
	} {
		if got := nearest(wrong, fields); got != want {
			t.Errorf("%s: %q, want %q", wrong, got, want)
		}
	}
}

// FuzzParse holds that no input makes Parse or Build panic, that what is wrong has a line, and that what is accepted is
// accepted again.
func FuzzParse(f *testing.F) {
	paths, err := filepath.Glob("testdata/problems/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		input, _, _ := strings.Cut(string(data), marker)
		f.Add([]byte(input), strings.Contains(input, "test.json"))
	}
	f.Add([]byte(everyForm), false)
	f.Add([]byte(delegation1+"---\n"+delegation2), false)
	f.Fuzz(func(t *testing.T, data []byte, isJSON bool) {
		name := "a.yaml"
		if isJSON {
			name = "a.json"
		}
		file := Parse(name, data)
		for _, p := range file.Problems {
			if p.Line <= 0 || p.Message == "" || p.File != name {
				t.Errorf("a problem without place or text: %+v", p)
			}
		}
		m, problems := Build([]File{file}, Options{})
		again, _ := Build([]File{Parse(name, data)}, Options{Previous: m})
		if d := changedRules(again, m); d != nil && !HasErrors(problems) {
			t.Errorf("the same bytes differ: %v", d)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	var text strings.Builder
	for i := range 1000 {
		text.WriteString("---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s" + itoa(i) + "}\nspec:\n  hosts: [s" + itoa(i) +
			".example.com]\n  resolution: STATIC\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  endpoints:\n")
		for j := range 10 {
			text.WriteString("  - {address: 10.0.0." + itoa(j) + ", labels: {version: v1}}\n")
		}
	}
	data := []byte(text.String())
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if f := Parse("a.yaml", data); len(f.Objects) != 1000 {
			b.Fatal(f.Problems)
		}
	}
}

// A word that has nothing left of what is written is no suggestion.
func TestSuggestions(t *testing.T) {
	for wrong, want := range map[string]string{"FOO": "", "O": "OK", "ABORTD": "ABORTED", "un-known": "UNKNOWN"} {
		if got := nearest(wrong, []string{"OK", "ABORTED", "UNKNOWN"}); got != want {
			t.Errorf("%s: %q, want %q", wrong, got, want)
		}
	}
}
