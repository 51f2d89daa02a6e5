package support

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meshframe/meshframe/xdsserver/config"
)

// TestEveryFieldHasARow walks the types of every kind that config reads.
func TestEveryFieldHasARow(t *testing.T) {
	left := map[string]bool{}
	for _, table := range tables {
		left[table.kind] = true
	}
	for _, k := range config.Kinds() {
		table := tableOf(k.Name)
		if table == nil {
			t.Errorf("%s has no table", k.Name)
			continue
		}
		delete(left, k.Name)
		if table.byField[""] == nil {
			checkTable(t, table, fieldsOf(table, k.New()))
		}
	}
	for kind := range left {
		t.Errorf("there is no kind %s", kind)
	}
}

func checkTable(t *testing.T, table *table, fields map[string]bool) {
	t.Helper()
	for _, r := range table.rows {
		if _, exists := fields[r.field]; !exists {
			t.Errorf("%s has no field %s", table.kind, r.field)
		}
		if r.as != "" {
			if _, exists := fields[r.as]; !exists {
				t.Errorf("%s: %s is as %s, which does not exist", table.kind, r.field, r.as)
			}
		}
		for _, outer := range table.rows {
			if outer.as == "" && below(r.field, outer.field) {
				t.Errorf("%s: the row of %s is never read: that of %s speaks for it", table.kind, r.field, outer.field)
			}
		}
		for _, c := range everyClient() {
			if v, _ := r.verdict(c); v.Outcome != Supported && v.Reason == "" {
				t.Errorf("%s: %s: %s for %s without a reason", table.kind, r.field, v.Outcome, c)
			}
		}
	}
	if len(table.byField) != len(table.rows) {
		t.Errorf("%s has two rows for a field", table.kind)
	}
	for field, leaf := range fields {
		if leaf && !covered(table, field) {
			t.Errorf("%s: nothing is said about %s", table.kind, field)
		}
	}
}

// everyClient is the newest client of each type, and each older one that something becomes different with.
func everyClient() []Client {
	out := Clients()
	for t := range types {
		for _, f := range features {
			if since := f.since[t]; t.GRPC() && since != never {
				out = append(out, Client{t, since})
			}
		}
		if t.GRPC() {
			out = append(out, Client{t, oldest[t]}, Client{t, Release{1, 1, 0}})
		}
	}
	return out
}

// below reports whether a field is in another.
func below(field, outer string) bool {
	rest, ok := strings.CutPrefix(field, outer)
	return ok && strings.HasPrefix(rest, ".")
}

// covered reports whether a field or one that it is in has a row.
func covered(t *table, field string) bool {
	for field != "" {
		if t.find(field) != nil {
			return true
		}
		i := strings.LastIndexByte(field, '.')
		field = field[:max(i, 0)]
	}
	return false
}

func read(t testing.TB, yaml string) *config.Model {
	t.Helper()
	m, problems := config.Build([]config.File{config.Parse("test.yaml", []byte(yaml))}, config.Options{AllowUnenforced: true})
	if err := config.AsError(problems); err != nil {
		t.Fatal(err)
	}
	return m
}

const reportYAML = `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  gateways: [mesh, edge]
  http:
  - match:
    - {headers: {user-agent: {prefix: curl}, x-user: {exact: jason}}, withoutHeaders: {trace-bin: {exact: "1"}},
       queryParams: {v: {exact: "1"}}}
    route: [{destination: {host: reviews}}]
    retries: {attempts: 3, retryOn: "unavailable,5xx", perTryTimeout: 1s}
    mirror: {host: reviews, subset: v2}
    corsPolicy: {allowCredentials: true}
  - route:
    - destination: {host: reviews}
      headers: {request: {set: {x-a: b}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer: {simple: LEAST_REQUEST}
    tls: {mode: DISABLE}
    portLevelSettings:
    - port: {number: 9080}
      loadBalancer: {simple: RANDOM}
      tls: {mode: SIMPLE}
  subsets:
  - name: v2
    labels: {version: v2}
    trafficPolicy:
      loadBalancer: {consistentHash: {httpHeaderName: x-user, ringHash: {minimumRingSize: 8192}}}
      outlierDetection: {interval: 1s}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec: {servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
---
apiVersion: networking.meshframe.dev/v1alpha1
kind: MeshPolicy
metadata: {name: reviews}
spec:
  host: reviews
  breaker: {}
  rateLimit: {client: {maxTokens: 1, fillInterval: 1s}}
  loadBalancer: {policy: PEAK_EWMA}
`

func TestReport(t *testing.T) {
	m := read(t, reportYAML)
	for c, want := range map[Client]string{
		{Type: Meshframe}: `
test.yaml:6: VirtualService default/reviews: spec.gateways[1]: degraded for meshframe: not served yet: rules of gateways wait for gateways
test.yaml:9: VirtualService default/reviews: spec.http[0].match[0].withoutHeaders[trace-bin]: degraded for meshframe: without ` + "`te`, `grpc-…` and `…-bin`" + ` always holds
test.yaml:10: VirtualService default/reviews: spec.http[0].match[0].queryParams[v]: degraded for meshframe: the match is never true: gRPC calls have no query
test.yaml:14: VirtualService default/reviews: spec.http[0].corsPolicy: degraded for meshframe: left out: browsers make no gRPC calls
test.yaml:30: DestinationRule default/reviews: spec.trafficPolicy.portLevelSettings[0].tls: rejected for meshframe: calls fail: there is no TLS yet, and plaintext would break what the rule asks for
test.yaml:38: Gateway default/edge: degraded for meshframe: not served yet: no gateway is configured by it`,
		{Type: GRPCCore}: `
test.yaml:6: VirtualService default/reviews: spec.gateways[1]: degraded for grpc-core: not served yet: rules of gateways wait for gateways
test.yaml:9: VirtualService default/reviews: spec.http[0].match[0].headers[user-agent]: degraded for grpc-core: ` + "`user-agent`, `te`, `grpc-…` and `…-bin` never match" + `
test.yaml:9: VirtualService default/reviews: spec.http[0].match[0].withoutHeaders[trace-bin]: degraded for grpc-core: without ` + "`user-agent`, `te`, `grpc-…` and `…-bin`" + ` always holds
test.yaml:10: VirtualService default/reviews: spec.http[0].match[0].queryParams[v]: degraded for grpc-core: the match is never true: gRPC calls have no query
test.yaml:12: VirtualService default/reviews: spec.http[0].retries.perTryTimeout: degraded for grpc-core: attempts have no timeout of their own
test.yaml:12: VirtualService default/reviews: spec.http[0].retries.retryOn: degraded for grpc-core: gRPC retries by gRPC status only: 5xx stand for the statuses that they mean, or for nothing
test.yaml:13: VirtualService default/reviews: spec.http[0].mirror: degraded for grpc-core: calls are not mirrored
test.yaml:14: VirtualService default/reviews: spec.http[0].corsPolicy: degraded for grpc-core: left out: gRPC would refuse every route of the service over it
test.yaml:17: VirtualService default/reviews: spec.http[1].route[0].headers: degraded for grpc-core: headers are sent and received as they are
test.yaml:25: DestinationRule default/reviews: spec.trafficPolicy.loadBalancer.simple: degraded for grpc-core: round robin is used: this gRPC implementation refuses LEAST_REQUEST
test.yaml:29: DestinationRule default/reviews: spec.trafficPolicy.portLevelSettings[0].loadBalancer.simple: degraded for grpc-core: round robin is used: gRPC refuses RANDOM
test.yaml:30: DestinationRule default/reviews: spec.trafficPolicy.portLevelSettings[0].tls: rejected for grpc-core: calls fail: there is no TLS yet, and plaintext would break what the rule asks for
test.yaml:35: DestinationRule default/reviews: spec.subsets[0].trafficPolicy.loadBalancer.consistentHash.ringHash.minimumRingSize: degraded for grpc-core: the ring has 4096 entries, which is the most that gRPC takes
test.yaml:36: DestinationRule default/reviews: spec.subsets[0].trafficPolicy.outlierDetection.interval: degraded for grpc-core: for failurePercentageThreshold only: gRPC cannot count consecutive errors
test.yaml:38: Gateway default/edge: degraded for grpc-core: not served yet: no gateway is configured by it
test.yaml:48: MeshPolicy default/reviews: spec.breaker: degraded for grpc-core: no call is refused
test.yaml:49: MeshPolicy default/reviews: spec.rateLimit.client: degraded for grpc-core: calls are not limited
test.yaml:50: MeshPolicy default/reviews: spec.loadBalancer.policy: degraded for grpc-core: round robin is used: gRPC has no PEAK_EWMA`,
	} {
		var lines []string
		for _, e := range Report(m, c) {
			lines = append(lines, e.String())
		}
		if d := cmp.Diff(strings.TrimSpace(want), strings.Join(lines, "\n")); d != "" {
			t.Errorf("%s: -want +got\n%s", c, d)
		}
	}
}

func TestClientsThatAreNotServed(t *testing.T) {
	m := read(t, reportYAML)
	for _, name := range []string{"envoy", "sidecar", "grpc-go@1.36", "grpc-java@1.37", "grpc-core@1.36.4", "grpc-node@1.3"} {
		c, err := ParseClient(name)
		if err != nil || c.Served() {
			t.Fatal(name, err)
		}
		for _, o := range m.Objects() {
			for e := range Fields(o, c) {
				if e.Outcome != Rejected || !strings.Contains(e.Reason, c.Refusal()) {
					t.Errorf("%s", e)
				}
			}
		}
		for _, r := range Rows() {
			if v := r.Verdict(c); v.Outcome != Rejected || !strings.Contains(v.Reason, "xdsserver serves Meshframe's library and gRPC's own clients") {
				t.Errorf("%s %s: %s", r.Kind, r.Field, v)
			}
		}
	}
}

func TestFieldsCanBeCutShort(t *testing.T) {
	n := 0
	rule, _, _ := strings.Cut(reportYAML, "---")
	for range Fields(read(t, rule).Objects()[0], Client{}) {
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Error(n)
	}
}

// TestZonesAreReportedUnlessTheyAreSwitchedOff: the setting asks for zones whether or not it says so.
func TestZonesAreReportedUnlessTheyAreSwitchedOff(t *testing.T) {
	m := read(t, `apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    loadBalancer:
      zoneAwareLbSetting: {}
    portLevelSettings:
    - port: {number: 9080}
      loadBalancer: {zoneAwareLbSetting: {enabled: false}}
    - port: {number: 9081}
      loadBalancer: {simple: RANDOM}
  subsets:
  - name: v1
    trafficPolicy:
      loadBalancer: {zoneAwareLbSetting: {failover: [{from: eu, to: us}]}}
  - name: v2
    trafficPolicy:
      loadBalancer: {zoneAwareLbSetting: {enabled: true, minClusterSize: 3}}
`)
	want := []string{
		"8 spec.trafficPolicy.loadBalancer.zoneAwareLbSetting.enabled",
		"17 spec.subsets[0].trafficPolicy.loadBalancer.zoneAwareLbSetting.enabled",
		"20 spec.subsets[1].trafficPolicy.loadBalancer.zoneAwareLbSetting.enabled",
		"20 spec.subsets[1].trafficPolicy.loadBalancer.zoneAwareLbSetting.minClusterSize",
	}
	var got []string
	for _, e := range Report(m, Client{}) {
		got = append(got, fmt.Sprint(e.Line, " ", e.Field))
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error("-want +got\n" + d)
	}
}

func TestNamesAreReadAsTheyAreWritten(t *testing.T) {
	for _, c := range everyClient() {
		if got, err := ParseClient(c.String()); err != nil || got != c {
			t.Errorf("%s: %v, %v", c, got, err)
		}
	}
	for _, s := range []string{"grpc", "envoy@1.30", "grpc-go@", "grpc-go@new", "grpc-go@1", "grpc-go@1.x", "grpc-go@1.5.y", "grpc-go@99999.1"} {
		if c, err := ParseClient(s); err == nil {
			t.Errorf("%s: no error, but %v", s, c)
		}
	}
}

// TestEveryValueIsJudged gives every judge values of the types that its field may have.
func TestEveryValueIsJudged(t *testing.T) {
	for _, k := range config.Kinds() {
		table := tableOf(k.Name)
		for _, r := range table.rows {
			for _, c := range everyClient() {
				if v := r.about(c, "x"); v.Outcome != Supported && v.Reason == "" {
					t.Errorf("%s: %s: %s has no reason", k.Name, r.field, c)
				}
			}
		}
	}
}

// TestTheDocumentationHasTheTables holds that docs/support.md has what is generated.
func TestTheDocumentationHasTheTables(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "support.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begun := strings.Cut(string(data), Begin)
	body, _, ended := strings.Cut(rest, End)
	if !begun || !ended {
		t.Fatalf("docs/support.md has no lines %q and %q", Begin, End)
	}
	if d := cmp.Diff(Markdown(), Begin+body+End+"\n"); d != "" {
		t.Errorf("run go run ./cmd/meshctl support --markdown: -want +got\n%s", d)
	}
}

func TestWhatIsWalkedIsWhatIsListed(t *testing.T) {
	// Every field of our own spec, set to something, is found under a name that the list of fields has.
	spec := &config.MeshPolicySpec{}
	fill(reflect.ValueOf(spec).Elem())
	var found []string
	w := walker{table: tableOf("MeshPolicy"), found: func(r *row, _ string, _ any) { found = append(found, r.field) }}
	w.object(spec)
	slices.Sort(found)
	if d := cmp.Diff(slices.Sorted(maps.Keys(w.table.byField)), slices.Compact(found)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// fill sets everything in a value.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0))
	case reflect.Struct:
		for _, f := range v.Fields() {
			fill(f)
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Uint32:
		v.SetUint(1)
	default:
		v.SetInt(1)
	}
}
