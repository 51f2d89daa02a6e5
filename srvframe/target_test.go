package srvframe

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
)

func TestResolve(t *testing.T) {
	manualXDS := grpc.WithResolvers(manual.NewBuilderWithScheme("xds"))
	for _, test := range []struct {
		target string
		opts   []DialOption
		host   string // empty: outside
		fails  bool
	}{
		{target: "reviews:9080", host: "reviews:9080"},
		{target: "reviews.default.svc.cluster.local:9080", host: "reviews.default.svc.cluster.local:9080"},
		{target: "Reviews:9080", host: "reviews:9080"},
		{target: "my_service:80", host: "my_service:80"},
		{target: "reviews", host: "reviews:443"},
		{target: "api.example.com", host: "api.example.com:443"},
		{target: "mesh:///reviews:9080", host: "reviews:9080"},
		{target: "mesh:///10.0.0.1:80", host: "10.0.0.1:80"},
		{target: "mesh:reviews:9080", host: "reviews:9080"},
		{target: "MESH:///reviews:9080", host: "reviews:9080"},
		{target: "mesh://reviews:9080", fails: true},
		{target: "mesh://authority/reviews:9080", fails: true},
		{target: "mesh:///", fails: true},
		{target: "xds:///a-Listener", host: "a-Listener"},
		{target: "mesh:///reviews:http", fails: true},
		{target: "xds:///reviews:9080", host: "reviews:9080"},
		{target: "xds://authority/reviews:9080"},
		{target: "xds:///reviews:9080", opts: []DialOption{WithResolvers(manual.NewBuilderWithScheme("xds"))}},
		{target: "xds:///reviews:9080", opts: []DialOption{manualXDS}, host: "reviews:9080"}, // opaque
		{target: "dns:///reviews:9080"},
		{target: "passthrough:///reviews:9080"},
		{target: "unix:///run/reviews.sock"},
		{target: "unix:run/reviews.sock"},
		{target: "consul://reviews/prod"},
		{target: "zk:reviews", opts: []DialOption{WithResolvers(manual.NewBuilderWithScheme("zk"))}},
		{target: "reviews:9080", opts: []DialOption{WithContextDialer(nil)}},
		{target: "reviews:9080", opts: []DialOption{WithDialer(nil)}},
		{target: "mesh:///reviews:9080", opts: []DialOption{WithContextDialer(nil)}, host: "reviews:9080"},
		{target: "localhost:9080"},
		{target: "LOCALHOST"},
		{target: "reviews.localhost:80"},
		{target: "127.0.0.1:9080"},
		{target: "10.1.2.3"},
		{target: "[::1]:9080"},
		{target: "[fe80::1%eth0]:9080"},
		{target: "::1"},
		{target: ":9080"},
		{target: ""},
		{target: "reviews:http"},
		{target: "reviews:0"},
		{target: "reviews:70000"},
		{target: "/run/reviews.sock"},
		{target: "reviews:9080/path"},
		{target: "re views:80"},
	} {
		t.Run(test.target, func(t *testing.T) {
			got, err := resolve(test.target, readDialOptions(test.opts))
			if (err != nil) != test.fails {
				t.Fatalf("error %v, should fail: %v", err, test.fails)
			}
			if got.host != test.host {
				t.Errorf("host %q, want %q (outside: %q)", got.host, test.host, got.outside)
			}
			if err == nil && (got.host == "") != (got.outside != "") {
				t.Errorf("host %q and outside %q: want one of them", got.host, got.outside)
			}
		})
	}
}

// TestResolveRegistered shows that a name before a colon is a scheme once a
// resolver is registered for it, as in gRPC.
func TestResolveRegistered(t *testing.T) {
	resolver.Register(manual.NewBuilderWithScheme("srvframe-test"))
	if got, err := resolve("srvframe-test:80", dialRecord{}); err != nil || got.outside == "" {
		t.Errorf("resolve = %+v, %v; want outside", got, err)
	}
}
