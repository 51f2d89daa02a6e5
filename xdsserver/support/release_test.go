package support

import (
	"slices"
	"strings"
	"testing"
)

func TestReleasesAreRead(t *testing.T) {
	for s, want := range map[string]Release{
		"1.85.0-dev": {1, 85, 0}, "v1.50": {1, 50, 0}, "1.37.1": {1, 37, 1}, "1.37.1-SNAPSHOT": {1, 37, 1}, "1.9.0": {1, 9, 0}, "1.48-x": {1, 48, 0},
	} {
		if got, ok := ParseRelease(s); !ok || got != want {
			t.Errorf("%s: %v, %t", s, got, ok)
		}
	}
	for s, want := range map[string]Release{"15.0.0": {1, 37, 0}, "29.0.0": {1, 51, 0}, "39.0.0": {1, 61, 0}, "14.0.0": {1, 36, 0}} {
		if got, ok := ParseCoreRelease(s); !ok || got != want {
			t.Errorf("core %s: %v, %t", s, got, ok)
		}
	}
	for _, s := range []string{"", "core"} {
		if got, ok := ParseCoreRelease(s); ok {
			t.Errorf("core %s: %v", s, got)
		}
	}
}

// Releases that know the same are one client, and the report of one is that of the other.
func TestReleasesThatKnowTheSameAreOne(t *testing.T) {
	for in, want := range map[string]string{
		"grpc-go": "grpc-go", "grpc-go@1.85": "grpc-go", "grpc-go@1.73": "grpc-go", "grpc-go@1.72.2": "grpc-go@1.56", "grpc-go@1.51": "grpc-go@1.50",
		"grpc-go@1.49": "grpc-go@1.48", "grpc-go@1.47": "grpc-go@1.41", "grpc-go@1.40": "grpc-go@1.37", "grpc-go@1.20": "grpc-go@1.20",
		"grpc-core@1.55": "grpc-core", "grpc-core@1.51": "grpc-core@1.51", "grpc-core@1.50.1": "grpc-core@1.47", "grpc-core@1.46": "grpc-core@1.40", "grpc-java@1.64": "grpc-java",
		"grpc-java@1.48.2": "grpc-java@1.48", "grpc-node@1.9.1": "grpc-node@1.9", "grpc-node@1.14": "grpc-node", "meshframe": "meshframe", "envoy": "envoy",
	} {
		c, err := ParseClient(in)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Canonical(); got.String() != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
		for f := range features {
			if f := features[f].Feature; c.Knows(f) != c.Canonical().Knows(f) {
				t.Errorf("%s: %s is not the same", in, f.row().name)
			}
		}
		if c.Served() != c.Canonical().Served() {
			t.Errorf("%s is served, or is not", in)
		}
	}
	for i, f := range features {
		if f.row() != &features[i] {
			t.Errorf("%s is out of place", f.name)
		}
	}
}

// What a release does not know is said where a rule asks for it, and only there.
func TestOlderReleasesAreTold(t *testing.T) {
	m := read(t, `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: [a.example.com]
  http:
  - route: [{destination: {host: a.example.com}}]
    retries: {attempts: 1, retryOn: unavailable, backoff: 1s}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: d}
spec:
  host: a.example.com
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x, ringHash: {minimumRingSize: 8}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: e}
spec: {host: b.example.com, trafficPolicy: {loadBalancer: {simple: LEAST_REQUEST}}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: s}
spec: {hosts: [a.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: t}
spec: {hosts: [b.example.com], ports: [{number: 80, name: http, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 10.0.0.1}]}
---
apiVersion: networking.meshframe.dev/v1alpha1
kind: MeshPolicy
metadata: {name: p}
spec: {host: a.example.com, outlierDetection: {successRate: {}}}
`)
	for name, want := range map[string]int{
		"meshframe": 0, "grpc-go": 0, "grpc-go@1.72": 1, "grpc-go@1.49": 2, "grpc-go@1.47": 3, "grpc-go@1.40": 8,
		"grpc-java@1.49": 0, "grpc-java@1.48": 1, "grpc-java@1.47": 2, "grpc-java@1.38": 8,
		"grpc-core@1.51": 1, "grpc-core@1.50": 2, "grpc-core@1.46": 3, "grpc-core@1.39": 8,
		"grpc-node@1.10": 1, "grpc-node@1.9": 3, "grpc-node@1.8": 4, "grpc-node@1.7": 7, "grpc-node@1.6": 8,
	} {
		c, err := ParseClient(name)
		if err != nil {
			t.Fatal(err)
		}
		if entries := Report(m, c); len(entries) != want {
			t.Errorf("%s: %d, want %d: %v", name, len(entries), want, entries)
		}
	}
}

// The C core does not count timeouts from the beginning of a call, in any release.
func TestTimeoutsThatAreNotExactAreTold(t *testing.T) {
	m := read(t, `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: v}
spec:
  hosts: [a.example.com]
  http:
  - match: [{uri: {prefix: /a}}]
    timeout: 1s
    route: [{destination: {host: a.example.com}}]
  - timeout: 0s
    route: [{destination: {host: a.example.com}}]
---
apiVersion: networking.meshframe.dev/v1alpha1
kind: MeshPolicy
metadata: {name: p}
spec: {host: a.example.com, timeouts: {maxStreamDuration: 1s, maxGRPCTimeout: 1s}}
`)
	want := []string{"spec.http[0].timeout", "spec.timeouts.maxGRPCTimeout", "spec.timeouts.maxStreamDuration"}
	for name, late := range map[string]bool{"grpc-core": true, "grpc-core@1.51": true, "grpc-core@1.37": true, "grpc-go": false, "grpc-java": false, "grpc-node": false, "meshframe": false} {
		c, err := ParseClient(name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, e := range Report(m, c) {
			got = append(got, e.Field)
			if e.Outcome != Degraded {
				t.Errorf("%s", e)
			}
		}
		slices.Sort(got)
		if late && !slices.Equal(got, want) || !late && got != nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// A resolution that is not written is NONE, by looking names up.
func TestWhatIsNotWrittenIsJudged(t *testing.T) {
	const entry = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: s}
spec: {hosts: ["*.example.com"], ports: [{number: 80, name: http, protocol: HTTP}]`
	for rest, want := range map[string]string{
		"}": "rejected for grpc-go@1.40", ", resolution: NONE}": "rejected for grpc-go@1.40", ", resolution: STATIC, endpoints: [{address: 10.0.0.1}]}": "",
		", resolution: DYNAMIC_DNS}": "rejected for grpc-go@1.40",
	} {
		got := ""
		for _, e := range Report(read(t, entry+rest), Client{GRPCGo, Release{1, 40, 0}}) {
			got += e.String()
		}
		if want == "" && got != "" || !strings.Contains(got, want) || !strings.Contains(got, "spec.resolution") && want != "" {
			t.Errorf("%s: %q, want %q", rest, got, want)
		}
	}
	if got := Report(read(t, entry+", resolution: DYNAMIC_DNS}"), Client{}); len(got) != 1 || got[0].Outcome != Degraded {
		t.Errorf("DYNAMIC_DNS: %v", got)
	}
}
