package decode_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"

	"github.com/meshframe/meshframe/resolver/decode"
)

// capturesEnv names a directory with what an istiod sent: one directory per
// scenario, in it one per node, in it lds.json, rds.json, cds.json, eds.json.
const capturesEnv = "XDS_CAPTURES"

var captureKinds = map[string]struct {
	decoder string
	message func() proto.Message
}{
	"lds.json": {"Listener", func() proto.Message { return &listenerv3.Listener{} }},
	"rds.json": {"RouteConfiguration", func() proto.Message { return &routev3.RouteConfiguration{} }},
	"cds.json": {"Cluster", func() proto.Message { return &clusterv3.Cluster{} }},
	"eds.json": {"ClusterLoadAssignment", func() proto.Message { return &endpointv3.ClusterLoadAssignment{} }},
}

// What istiod sends to gRPC nodes is accepted, but for what must be refused;
// what it sends to Envoy is at least never a surprise.
func TestCaptures(t *testing.T) {
	dir := os.Getenv(capturesEnv)
	if dir == "" {
		t.Skipf("%s does not name a directory with captured xDS resources", capturesEnv)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*", "*", "?ds.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no captures in %s: %v", dir, err)
	}
	for _, file := range files {
		kind, ok := captureKinds[filepath.Base(file)]
		if !ok {
			continue
		}
		node := filepath.Base(filepath.Dir(file))
		t.Run(strings.TrimPrefix(file, dir), func(t *testing.T) {
			for _, raw := range resources(t, file) {
				m := kind.message()
				if err := protojson.Unmarshal(raw, m); err != nil {
					if strings.HasPrefix(node, "grpc-") {
						t.Fatalf("cannot parse: %v", err)
					}
					continue // an extension of Envoy's that this test does not link
				}
				checkCapture(t, kind.decoder, m, strings.HasPrefix(node, "grpc-"))
			}
		})
	}
}

func resources(t *testing.T, file string) []json.RawMessage {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var capture struct {
		Resources []json.RawMessage `json:"resources"`
	}
	if err := json.Unmarshal(data, &capture); err != nil {
		t.Fatal(err)
	}
	return capture.Resources
}

func checkCapture(t *testing.T, decoder string, m proto.Message, grpc bool) {
	t.Helper()
	body, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	got := decoders[decoder]("", body)
	if !got.usable && got.err == nil {
		t.Errorf("%s %q is neither usable nor refused", decoder, got.name)
	}
	var denial *decode.DeniedError
	if grpc && got.err != nil && !errors.As(got.err, &denial) && !mustRefuse(got.err) {
		t.Errorf("%s %q: %v", decoder, got.name, got.err)
	}
}

// mustRefuse reports refusals that are right even for what istiod sends to
// gRPC nodes.
func mustRefuse(err error) bool {
	return strings.Contains(err.Error(), "rbac")
}
