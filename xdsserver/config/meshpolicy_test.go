package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const meshPolicyYAML = `
apiVersion: networking.meshframe.dev/v1alpha1
kind: MeshPolicy
metadata: {name: reviews, namespace: shop}
spec:
  host: reviews
  breaker: {}
  fallback: {destination: {subset: v1}}
  rateLimit:
    server: {maxTokens: 5, fillInterval: 1s, keyed: [{maxTokens: 2, fillInterval: 5s, keys: [{source: true}, {header: x-user, value: jason}]}]}
  maxConcurrentRequests: 100
  loadBalancer: {policy: PEAK_EWMA, subsetSize: 20, slowStart: {window: 1m}}
  outlierDetection: {successRate: {stdevFactor: 1.5}, failurePercentage: {}}
  retry: {retriableHeaders: [{name: x-retry}], resetHeaders: [{name: retry-after}, {name: x-reset, format: UNIX_TIMESTAMP}]}
  hedge: {onPerTryTimeout: true}
  sessionAffinity: {cookie: {name: session, ttl: 1h}, strict: true}
  timeouts: {idle: 5m}
  fault: {maxActive: 3, byHeader: true}
`

func TestAMeshPolicyIsCompleted(t *testing.T) {
	m := mustLoad(t, nil, "a.yaml", meshPolicyYAML)
	want := &MeshPolicySpec{
		Host:     "reviews.shop.svc.cluster.local",
		Breaker:  &Breaker{MinVolume: 10, ErrorPercent: 10, Window: 10 * time.Second, OpenFor: 10 * time.Second, Probes: 3},
		Fallback: &Fallback{Destination: &FallbackDestination{Host: "reviews.shop.svc.cluster.local", Subset: "v1"}},
		RateLimit: &RateLimits{Server: &RateLimit{
			TokenBucket: TokenBucket{MaxTokens: 5, TokensPerFill: 1, FillInterval: time.Second},
			Keyed: []KeyedBucket{{
				TokenBucket: TokenBucket{MaxTokens: 2, TokensPerFill: 1, FillInterval: 5 * time.Second},
				Keys:        []RateKey{{Source: true}, {Header: "x-user", Value: "jason"}},
			}},
			MaxKeys: 10_000, Status: 429,
		}},
		MaxConcurrentRequests: 100,
		LoadBalancer: &LoadBalancer{
			Policy: PeakEWMA, Decay: 10 * time.Second, ChoiceCount: 2, SubsetSize: 20,
			SlowStart: &SlowStart{Window: time.Minute, Aggression: 1, MinimumPercent: 10},
		},
		OutlierDetection: &OutlierDetection{
			SuccessRate:       &SuccessRate{MinimumHosts: 5, RequestVolume: 100, StdevFactor: 1.5},
			FailurePercentage: &FailurePercentage{Threshold: 85, MinimumHosts: 5, RequestVolume: 50},
		},
		Retry: &Retry{
			RetriableHeaders: []HeaderCondition{{Name: "x-retry"}},
			ResetHeaders:     []ResetHeader{{"retry-after", ResetSeconds}, {"x-reset", ResetUnixTimestamp}},
			MaxResetInterval: 300 * time.Second,
		},
		Hedge:           &Hedge{OnPerTryTimeout: true},
		SessionAffinity: &SessionAffinity{Cookie: &SessionCookie{Name: "session", Path: "/", TTL: time.Hour}, Strict: true},
		Timeouts:        &Timeouts{Idle: 5 * time.Minute},
		Fault:           &FaultControl{MaxActive: 3, ByHeader: true},
	}
	if d := cmp.Diff(want, m.Policies[0].Spec); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestAMeshPolicyKeepsItsIdentity(t *testing.T) {
	m := mustLoad(t, nil, "a.yaml", meshPolicyYAML)
	same := mustLoad(t, m, "a.yaml", "# moved by a line\n"+meshPolicyYAML)
	if same.Policies[0].Spec != m.Policies[0].Spec || same.Policies[0].Source.Line != m.Policies[0].Source.Line+1 {
		t.Error("a policy at another place is taken for another policy")
	}
	other := mustLoad(t, m, "a.yaml", meshPolicyYAML+"  port: 80\n")
	if other.Policies[0].Spec == m.Policies[0].Spec {
		t.Error("another policy is taken for the same")
	}
}

func TestStatusesHaveTheirNumbers(t *testing.T) {
	for name, want := range map[string]uint32{"CANCELLED": 1, "RESOURCE_EXHAUSTED": 8, "UNAVAILABLE": 14, "UNAUTHENTICATED": 16} {
		if got := (&GRPCStatus{Code: name}).Number(); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}

// TestTheDocumentedExampleIsRight reads the configuration in docs/mesh-policy.md.
func TestTheDocumentedExampleIsRight(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "..", "docs", "mesh-policy.md"))
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for block := range strings.SplitSeq(string(data), "```yaml\n") {
		yaml, _, ok := strings.Cut(block, "```")
		if !ok {
			continue
		}
		n++
		m, problems := load(nil, "mesh-policy.md", yaml)
		if err := AsError(problems); err != nil || len(m.Policies) == 0 {
			t.Errorf("%v\n%s", err, yaml)
		}
	}
	if n == 0 {
		t.Error("docs/mesh-policy.md has no example")
	}
}

// policies writes MeshPolicies, given as namespace, name and spec in turn.
func policies(parts ...string) string {
	out := ""
	for i := 0; i+2 < len(parts); i += 3 {
		out += "apiVersion: networking.meshframe.dev/v1alpha1\nkind: MeshPolicy\nmetadata: {namespace: " + parts[i] + ", name: " + parts[i+1] + "}\nspec: " + parts[i+2] + "\n---\n"
	}
	return out
}

func TestPoliciesAreJoined(t *testing.T) {
	m := mustLoad(t, nil, "a.yaml", policies(
		"shop", "a-host", `{host: reviews, breaker: {probes: 1}, maxConcurrentRequests: 7, timeouts: {idle: 1s}, rateLimit: {client: {maxTokens: 1, fillInterval: 1s}}}`,
		"shop", "b-host-too", `{host: reviews, breaker: {probes: 2}, hedge: {onPerTryTimeout: true}}`,
		"shop", "c-port", `{host: reviews, port: 80, breaker: {probes: 3}, timeouts: {idle: 3s}}`,
		"shop", "d-subset", `{host: reviews, subset: v1, breaker: {probes: 4}}`,
		"shop", "e-wildcard", `{host: "*.example.com", breaker: {probes: 5}}`,
		"shop", "f-own", `{host: a.b.example.com, breaker: {probes: 6}, exportTo: ["."]}`,
		"client", "g-client", `{host: reviews.shop.svc.cluster.local, breaker: {probes: 7}}`,
		"root", "h-root", `{host: "*", breaker: {probes: 8}}`,
	))
	const reviews = "reviews.shop.svc.cluster.local"
	for _, c := range []struct {
		subject Subject
		probes  uint32
		from    string
		idle    time.Duration
	}{
		{Subject{Host: reviews, Port: 81, Client: "shop"}, 1, "a-host", time.Second},
		{Subject{Host: reviews, Port: 80, Client: "shop"}, 3, "c-port", 3 * time.Second},
		{Subject{Host: reviews, Port: 80, Subset: "v1", Client: "other"}, 4, "d-subset", 3 * time.Second},
		{Subject{Host: reviews, Port: 80, Subset: "v2"}, 3, "c-port", 3 * time.Second},
		{Subject{Host: reviews, Port: 80, Client: "client"}, 7, "g-client", 0},
		{Subject{Host: "a.example.com", Client: "other"}, 5, "e-wildcard", 0},
		{Subject{Host: "a.b.example.com", Client: "shop"}, 6, "f-own", 0},
		{Subject{Host: "a.b.example.com", Client: "other"}, 5, "e-wildcard", 0},
		{Subject{Host: "*.b.example.com", Client: "other"}, 5, "e-wildcard", 0},
		{Subject{Host: "elsewhere.org", Client: "other"}, 8, "h-root", 0},
	} {
		c.subject.Namespace, c.subject.Root = "shop", "root"
		p := m.Policy(c.subject)
		if p == nil || p.Breaker.Value.Probes != c.probes || p.Breaker.Policy.Name != c.from || p.Breaker.Field != "spec.breaker" {
			t.Errorf("%+v: %+v", c.subject, p)
			continue
		}
		var idle time.Duration
		if p.Timeouts.Value != nil {
			idle = p.Timeouts.Value.Idle
		}
		if idle != c.idle {
			t.Errorf("%+v: idle %s", c.subject, idle)
		}
	}
	whole := m.Policy(Subject{Host: reviews, Port: 81, Namespace: "shop"})
	if whole.Hedge.Policy.Name != "b-host-too" || whole.MaxConcurrentRequests.Value != 7 || whole.ClientRateLimit.Field != "spec.rateLimit.client" ||
		whole.ServerRateLimit.Value != nil {
		t.Errorf("%+v", whole)
	}
	if p := m.Policy(Subject{Host: "elsewhere.org", Namespace: "x", Client: "y"}); p != nil {
		t.Errorf("%+v", p)
	}
}
