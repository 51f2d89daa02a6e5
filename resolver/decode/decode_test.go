package decode_test

import (
	"regexp"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	// Types that only appear inside Any in these tests.
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/cookie/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/envelope/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/header/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/client_side_weighted_round_robin/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/cluster_provided/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/pick_first/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/subset/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/meshframe/meshframe/resolver/decode"
)

// verdict is what a case expects of a Result, errors as text.
type verdict[T any] struct {
	value  T
	unused bool // not usable
	err    string
	notes  []string
}

// check decodes the resource that a protojson literal describes.
func check[T any, M proto.Message](t *testing.T, m M, json string, fn func(string, []byte) decode.Result[T], want verdict[T]) {
	t.Helper()
	got := fn("", marshal(t, m, json))
	if got.Usable == want.unused {
		t.Errorf("Usable = %v, err %v", got.Usable, got.Err)
	}
	if text := errText(got.Err); text != want.err {
		t.Errorf("Err:\n got %s\nwant %s", text, want.err)
	}
	if diff := cmp.Diff(want.notes, got.Notes); diff != "" {
		t.Errorf("Notes (-want +got):\n%s", diff)
	}
	if !want.unused {
		if diff := cmp.Diff(want.value, got.Value, byText...); diff != "" {
			t.Errorf("Value (-want +got):\n%s", diff)
		}
	}
}

// probes are what conditions on header values are compared with.
var probes = []string{"", "a", "aa", "ab", "ba", "abc", "x", "X", "503", "s", "v"}

var byText = []cmp.Option{
	cmp.Comparer(func(a, b func(func(string) (string, bool)) bool) bool {
		if a == nil || b == nil {
			return a == nil && b == nil
		}
		for _, headers := range []map[string]string{
			nil, {"h": "x"}, {"h": "y"}, {"n": ""}, {"h": "x", "n": ""}, {":path": "/p"}, {"h": ""}, {"h": "s"}, {"s": ""}, {"s": "s"},
			{"x-envoy-downstream-service-node": "a"}, {"x-envoy-downstream-service-node": "s"}, {"h": "x", "x-envoy-downstream-service-node": "a"},
		} {
			header := func(name string) (string, bool) { v, ok := headers[name]; return v, ok }
			if a(header) != b(header) {
				return false
			}
		}
		return true
	}),
	cmp.Comparer(func(a, b func(string) bool) bool {
		return !slices.ContainsFunc(probes, func(p string) bool { return a(p) != b(p) })
	}),
	cmp.Comparer(func(a, b *regexp.Regexp) bool { return a == b || a != nil && b != nil && a.String() == b.String() }),
	cmp.Comparer(func(a, b error) bool { return errText(a) == errText(b) }),
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func marshal[M proto.Message](tb testing.TB, m M, json string) []byte {
	tb.Helper()
	if err := protojson.Unmarshal([]byte(json), m); err != nil {
		tb.Fatalf("test literal: %v", err)
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	return body
}

// text is an error that compares by its text.
type text string

func (e text) Error() string { return string(e) }
