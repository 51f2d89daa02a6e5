package interceptors_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/internal/xdstest"
)

// TestLargeRequestOfAStreamIsMirrored calls a method whose only request is larger than
// what may wait for a copy: unary calls of any size are mirrored, too.
func TestLargeRequestOfAStreamIsMirrored(t *testing.T) {
	t.Parallel()
	const size = 1 << 20
	copied := make(chan int, 1)
	m := xdstest.NewServer(t, func(_ any, ss grpc.ServerStream) error {
		var request wrapperspb.StringValue
		err := ss.RecvMsg(&request)
		copied <- len(request.GetValue())
		return err
	})
	f := newFixture(t, nil)
	f.serve(map[string][]string{"c": {server(t, "c").Addr}, "m": {m.Addr}}, xdstest.Route(func(r *routev3.Route) {
		r.GetRoute().RequestMirrorPolicies = []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: "m"}}
	}, "c"))
	st, err := f.cc.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/a.B/C")
	if err != nil {
		t.Fatal(err)
	}
	if err := st.SendMsg(wrapperspb.String(strings.Repeat("x", size))); err != nil {
		t.Fatal(err)
	}
	if err := st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	var answer wrapperspb.StringValue
	for err == nil {
		err = st.RecvMsg(&answer)
	}
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if n := <-copied; n != size {
		t.Errorf("the copy had %d bytes of %d", n, size)
	}
}
