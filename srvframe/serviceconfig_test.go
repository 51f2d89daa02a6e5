package srvframe

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMeshServiceConfig(t *testing.T) {
	const balancer = `"loadBalancingConfig":[{"meshframe":{}}]`
	for _, test := range []struct {
		name, callers, want string
		dropped             []string
		fails               bool
	}{
		{name: "none", want: `{` + balancer + `}`},
		{
			name:    "a balancer gives way",
			callers: `{"loadBalancingConfig":[{"round_robin":{}}]}`,
			want:    `{` + balancer + `}`, dropped: []string{"loadBalancingConfig"},
		},
		{
			name:    "the old way to name a balancer too, in any case",
			callers: `{"LoadBalancingPolicy":"round_robin"}`,
			want:    `{` + balancer + `}`, dropped: []string{"loadBalancingPolicy"},
		},
		{
			name: "method configurations stay less their retries",
			callers: `{"methodConfig":[
				{"name":[{"service":"a"}],"timeout":"1s","retryPolicy":{"maxAttempts":3}},
				{"name":[{}],"waitForReady":true,"hedgingPolicy":{"maxAttempts":3}},
				{"name":[{"service":"b"}],"retryPolicy":{"maxAttempts":2}}],
				"retryThrottling":{"maxTokens":10,"tokenRatio":0.1}}`,
			want: `{` + balancer + `,"methodConfig":[` +
				`{"name":[{"service":"a"}],"timeout":"1s"},{"name":[{}],"waitForReady":true},{"name":[{"service":"b"}]}]}`,
			dropped: []string{"retryThrottling", "retryPolicy", "hedgingPolicy"},
		},
		{
			name:    "what else it says stays",
			callers: `{"healthCheckConfig":{"serviceName":"x"}}`,
			want:    `{"healthCheckConfig":{"serviceName":"x"},` + balancer + `}`,
		},
		{name: "not JSON", callers: `{`, fails: true},
		{name: "not a list of methods", callers: `{"methodConfig":7}`, fails: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, dropped, err := meshServiceConfig(test.callers)
			if (err != nil) != test.fails {
				t.Fatalf("error %v, should fail: %v", err, test.fails)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("service config (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.dropped, dropped); diff != "" {
				t.Errorf("dropped (-want +got):\n%s", diff)
			}
		})
	}
}
