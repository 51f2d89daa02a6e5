package interceptors_test

import (
	"context"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/internal/xdstest"
)

// header is a matcher of a fixed value.
func header(name, value string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: name, HeaderMatchSpecifier: &routev3.HeaderMatcher_ExactMatch{ExactMatch: value}}
}

// TestNarrowedFaults gives faults to the calls that a policy is for.
func TestNarrowedFaults(t *testing.T) {
	t.Parallel()
	const node = "x-envoy-downstream-service-node"
	onEachRoad(t, func(t *testing.T, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
		s := server(t, "ok")
		for name, test := range map[string]struct {
			narrow  func(*faultv3.HTTPFault)
			headers []string
			faulty  bool
		}{
			"a header":      {func(f *faultv3.HTTPFault) { f.Headers = []*routev3.HeaderMatcher{header("x-a", "1")} }, []string{"x-a", "1"}, true},
			"another value": {func(f *faultv3.HTTPFault) { f.Headers = []*routev3.HeaderMatcher{header("x-a", "1")} }, []string{"x-a", "2"}, false},
			"one of two headers": {func(f *faultv3.HTTPFault) {
				f.Headers = []*routev3.HeaderMatcher{header("x-a", "1"), header("x-b", "1")}
			}, []string{"x-a", "1"}, false},
			"the path":                 {func(f *faultv3.HTTPFault) { f.Headers = []*routev3.HeaderMatcher{header(":path", "/a.B/C")} }, nil, true},
			"another path":             {func(f *faultv3.HTTPFault) { f.Headers = []*routev3.HeaderMatcher{header(":path", "/a.B/D")} }, nil, false},
			"the cluster":              {func(f *faultv3.HTTPFault) { f.UpstreamCluster = "c" }, nil, true},
			"another cluster":          {func(f *faultv3.HTTPFault) { f.UpstreamCluster = "d" }, nil, false},
			"a node":                   {func(f *faultv3.HTTPFault) { f.DownstreamNodes = []string{"m", "n"} }, []string{node, "n"}, true},
			"another node":             {func(f *faultv3.HTTPFault) { f.DownstreamNodes = []string{"m", "n"} }, []string{node, "o"}, false},
			"a node that is not known": {func(f *faultv3.HTTPFault) { f.DownstreamNodes = []string{"m", "n"} }, nil, false},
		} {
			f := newFixture(t, nil)
			policy := &faultv3.HTTPFault{Abort: &faultv3.FaultAbort{
				ErrorType: &faultv3.FaultAbort_GrpcStatus{GrpcStatus: uint32(codes.Aborted)}, Percentage: &typev3.FractionalPercent{Numerator: 100},
			}}
			test.narrow(policy)
			f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(faults(policy), "c"))
			_, err := call(metadata.AppendToOutgoingContext(t.Context(), test.headers...), f, "/a.B/C")
			if got := status.Code(err); got != map[bool]codes.Code{true: codes.Aborted, false: codes.OK}[test.faulty] {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// TestRetriableRequestHeaders retries the requests that have one of the headers.
func TestRetriableRequestHeaders(t *testing.T) {
	t.Parallel()
	onEachRoad(t, func(t *testing.T, call func(context.Context, *fixture, string, ...grpc.CallOption) (string, error)) {
		for name, test := range map[string]struct {
			headers  []string
			path     string
			attempts int64
		}{
			"one of them":  {[]string{"x-b", "1"}, "/a.B/C", 3},
			"the path":     {nil, "/a.B/Get", 3},
			"none of them": {[]string{"x-a", "2"}, "/a.B/C", 1},
		} {
			s := xdstest.NewServer(t, xdstest.Answer("", status.Error(codes.Unavailable, "no")))
			f := newFixture(t, nil)
			f.serve(map[string][]string{"c": {s.Addr}}, xdstest.Route(func(r *routev3.Route) {
				retry("unavailable", 2)(r)
				r.GetRoute().RetryPolicy.RetriableRequestHeaders = []*routev3.HeaderMatcher{header("x-a", "1"), header("x-b", "1"), header(":path", "/a.B/Get")}
			}, "c"))
			_, err := call(metadata.AppendToOutgoingContext(t.Context(), test.headers...), f, test.path)
			wantCode(t, err, codes.Unavailable)
			if n := s.Calls.Load(); n != test.attempts {
				t.Errorf("%s: %d attempts, want %d", name, n, test.attempts)
			}
		}
	})
}
