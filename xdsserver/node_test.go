package xdsserver

import (
	"fmt"
	"net/netip"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/meshframe/meshframe/xdsserver/support"
	"github.com/meshframe/meshframe/xdsserver/translate"
)

func TestParseNode(t *testing.T) {
	for in, want := range map[string]node{
		`{}`: {kind: translate.Client{Type: support.GRPCCore, Namespace: "default"}},
		`{"id": "sidecar~10.0.0.1~reviews-1.prod~prod.svc.cluster.local", "user_agent_name": "gRPC Go"}`: {
			id: "sidecar~10.0.0.1~reviews-1.prod~prod.svc.cluster.local", workload: "reviews-1", addresses: []string{"10.0.0.1"},
			kind: translate.Client{Type: support.GRPCGo, Namespace: "prod"},
		},
		`{"id": "sidecar~10.0.0.1~reviews-1.prod~x", "user_agent_name": "meshframe", "locality": {"region": "r", "zone": "z"},
		  "metadata": {"NAMESPACE": "other", "WORKLOAD_NAME": "w", "SERVICE_ACCOUNT": "a", "INSTANCE_IPS": "0.0.0.0,10.0.0.2, fd00::1,x",
		  "LABELS": {"app": "reviews", "n": 3}, "MESH_SERVICES": ["reviews:9080", 7, " ratings:80 "]}}`: {
			id: "sidecar~10.0.0.1~reviews-1.prod~x", workload: "w", account: "a", addresses: []string{"10.0.0.2", "fd00::1"},
			services: []string{"reviews:9080", "ratings:80"},
			kind: translate.Client{
				Type: support.Meshframe, Namespace: "other", Labels: map[string]string{"app": "reviews"}, Locality: "r/z",
				Serves: []translate.Served{{Host: "reviews", Port: 9080}, {Host: "ratings", Port: 80}},
			},
		},
		`{"user_agent_name": "gRPC Java"}`:         {kind: translate.Client{Type: support.GRPCJava, Namespace: "default"}},
		`{"user_agent_name": "gRPC Node Pure JS"}`: {kind: translate.Client{Type: support.GRPCNode, Namespace: "default"}},
		`{"user_agent_name": "gRPC C-core linux"}`: {kind: translate.Client{Type: support.GRPCCore, Namespace: "default"}},

		`{"metadata": {"NODE_NAME": "n1", "LABELS": {"a": "b"}}}`: {
			kind: translate.Client{Type: support.GRPCCore, Namespace: "default", Labels: map[string]string{"a": "b", "kubernetes.io/hostname": "n1"}},
		},
		`{"metadata": {"NODE_NAME": "n1", "LABELS": {"kubernetes.io/hostname": "n2"}}}`: {
			kind: translate.Client{Type: support.GRPCCore, Namespace: "default", Labels: map[string]string{"kubernetes.io/hostname": "n2"}},
		},
		`{"metadata": {"MESH_SERVICES": "a:1,b:2=3,c", "LABELS": 1}}`: {
			services: []string{"a:1", "b:2=3", "c"},
			kind:     translate.Client{Type: support.GRPCCore, Namespace: "default", Serves: []translate.Served{{Host: "a", Port: 1}, {Host: "b", Port: 2, Listen: 3}}},
		},
	} {
		n := &corev3.Node{}
		if err := protojson.Unmarshal([]byte(in), n); err != nil {
			t.Fatal(err)
		}
		got, err := parseNode(n)
		if err != nil {
			t.Errorf("%s: %v", in, err)
		}
		got.agent = "" // another test's
		if len(got.kind.Labels) == 0 {
			got.kind.Labels = nil
		}
		if diff := cmp.Diff(fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got)); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
	}
}

// Clients are told apart by what they call themselves, in any of the forms that are in use.
func TestClientsAreToldApart(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                               "grpc-core",
		`{"user_agent_name": "meshframe"}`: "meshframe",
		`{"user_agent_name": "meshframe", "user_agent_version": "1.2.3"}`:                                                                "meshframe",
		`{"user_agent_name": "gRPC Go", "user_agent_version": "1.85.0-dev"}`:                                                             "grpc-go@1.85",
		`{"user_agent_name": "gRPC Go", "user_agent_version": "devel"}`:                                                                  "grpc-go",
		`{"user_agent_name": "gRPC Java", "user_agent_version": "1.48.1"}`:                                                               "grpc-java@1.48.1",
		`{"user_agent_name": "gRPC Node Pure JS", "user_agent_version": "1.9.3"}`:                                                        "grpc-node@1.9.3",
		`{"user_agent_name": "gRPC C-core linux", "user_agent_version": "C-core 29.0.0"}`:                                                "grpc-core@1.51",
		`{"user_agent_name": "gRPC C-core osx x", "user_agent_version": "C-core 39.0.0 x y"}`:                                            "grpc-core@1.61",
		`{"user_agent_name": "other", "user_agent_version": "9.0.0"}`:                                                                    "grpc-core",
		`{"user_agent_name": "gRPC Java", "user_agent_build_version": {"version": {"major_number": 1, "minor_number": 40, "patch": 1}}}`: "grpc-java@1.40.1",
		// Refused.
		`{"user_agent_name": "envoy", "user_agent_build_version": {"version": {"major_number": 1, "minor_number": 36}}}`: "envoy",
		`{"user_agent_name": "Envoy"}`:                                                    "envoy",
		`{"user_agent_name": "meshframe sidecar"}`:                                        "sidecar",
		`{"user_agent_name": "gRPC Go", "user_agent_version": "1.36.1"}`:                  "grpc-go@1.36.1",
		`{"user_agent_name": "gRPC C-core linux", "user_agent_version": "C-core 14.0.0"}`: "grpc-core@1.36",
	} {
		n := &corev3.Node{}
		if err := protojson.Unmarshal([]byte(in), n); err != nil {
			t.Fatal(err)
		}
		got, err := parseNode(n)
		if got.kind.Kind().String() != want {
			t.Errorf("%s: %s, want %s", in, got.kind.Kind(), want)
		}
		if c := got.kind.Kind(); c.Served() != (err == nil) || err != nil && err.Error() != c.Refusal() {
			t.Errorf("%s: %v", in, err)
		}
	}
}

func FuzzNode(f *testing.F) {
	f.Add(`{"id": "sidecar~10.0.0.1~reviews-1.prod~x", "metadata": {"INSTANCE_IPS": "10.0.0.2", "LABELS": {"app": "reviews"}, "MESH_SERVICES": ["reviews:9080=1"]}}`, "0.0.0.0:80")
	f.Add(`{"id": "~~~", "metadata": {"MESH_SERVICES": [":", "=", "a:1=", "a:b=c"]}}`, "[::]:1")
	f.Fuzz(func(t *testing.T, in, address string) {
		n := &corev3.Node{}
		if protojson.Unmarshal([]byte(in), n) != nil {
			return
		}
		parsed, err := parseNode(n)
		if err != nil {
			return
		}
		c := &client{node: parsed, kind: parsed.kind}
		instances, err := c.instances(address)
		for _, i := range instances {
			if i.Host == "" || i.Port == 0 || i.Address == "" {
				t.Errorf("%+v, %v", i, err)
			}
		}
	})
}

// A node that knows only its loopback address says less than a peer that is elsewhere.
func TestReachable(t *testing.T) {
	for _, c := range []struct {
		listen string
		node   []string
		peer   string
		want   string
	}{
		{"10.0.0.1:80", []string{"10.0.0.2"}, "10.0.0.3", "10.0.0.1:80"},
		{"127.0.0.1:80", nil, "10.0.0.3", "127.0.0.1:80"},
		{"0.0.0.0:80", []string{"10.0.0.2", "10.0.0.4"}, "10.0.0.3", "10.0.0.2:80"},
		{"0.0.0.0:80", []string{"127.0.0.1"}, "10.0.0.3", "10.0.0.3:80"},
		{"0.0.0.0:80", []string{"127.0.0.1", "10.0.0.2"}, "10.0.0.3", "10.0.0.2:80"},
		{"0.0.0.0:80", []string{"127.0.0.1"}, "127.0.0.1", "127.0.0.1:80"},
		{"[::]:80", []string{"::1"}, "fd00::3", "[fd00::3]:80"},
		{"[::]:80", []string{"::ffff:127.0.0.1"}, "", "[::ffff:127.0.0.1]:80"},
		{"[::]:80", nil, "fd00::3", "[fd00::3]:80"},
		{"[::]:80", nil, "", ""},
	} {
		got, err := (&client{node: node{addresses: c.node}, peerIP: c.peer}).reachable(netip.MustParseAddrPort(c.listen))
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: got %q, %v", c, got, err)
		}
	}
}
