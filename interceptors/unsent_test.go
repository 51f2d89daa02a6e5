package interceptors_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/internal/xdstest"
)

// token are credentials of a call, which each attempt asks for.
type token struct {
	asked *atomic.Int32
	err   error
}

func (c token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	c.asked.Add(1)
	return nil, c.err
}

func (token) RequireTransportSecurity() bool { return false }

// TestNobodyIsBlamedForWhatCannotBeSent makes calls that end on this side: no server is
// ejected for them, no breaker opens, and they are not made again. gRPC tells of them by
// texts, which this holds.
func TestNobodyIsBlamedForWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	for name, bad := range map[string]struct {
		message any
		token   error
		opt     grpc.CallOption
		code    codes.Code
	}{
		"message too large": {message: wrapperspb.String(strings.Repeat("x", 100)), opt: grpc.MaxCallSendMsgSize(10), code: codes.ResourceExhausted},
		"not a message":     {message: 7, code: codes.Internal},
		"no credentials":    {message: wrapperspb.String("x"), token: errors.New("no token"), code: codes.Internal},
	} {
		for kind, edit := range map[string]func(*routev3.Route){
			"once": func(*routev3.Route) {}, "retry": retry("5xx,reset,refused-stream,internal,resource-exhausted", 3),
		} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				t.Parallel()
				f := newFixture(t, nil)
				c := xdstest.Cluster("c")
				c.Metadata = gated(t, "3600s", 1)
				c.OutlierDetection = &clusterv3.OutlierDetection{
					Consecutive_5Xx: wrapperspb.UInt32(2), MaxEjectionPercent: wrapperspb.UInt32(100),
					BaseEjectionTime: durationpb.New(time.Hour), MaxEjectionTime: durationpb.New(time.Hour),
				}
				c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{}}
				f.Set(c, xdstest.Endpoints("c", server(t, "ok").Addr))
				f.serve(nil, xdstest.Route(edit, "c"))
				var asked atomic.Int32
				opts := []grpc.CallOption{grpc.PerRPCCredentials(token{&asked, bad.token})}
				if bad.opt != nil {
					opts = append(opts, bad.opt)
				}
				const calls = 12
				for i := range calls {
					wantCode(t, f.cc.Invoke(t.Context(), "/a.B/C", bad.message, &wrapperspb.StringValue{}, opts...), bad.code)
					if n := asked.Load(); n != int32(i)+1 {
						t.Fatalf("%d attempts at %d unary calls", n, i+1)
					}
				}
				for range calls {
					st, err := f.cc.NewStream(t.Context(), bidi, "/a.B/C", opts...)
					if err == nil {
						err = st.SendMsg(bad.message)
					}
					wantCode(t, err, bad.code)
				}
				if _, err := f.call(t.Context()); err != nil {
					t.Errorf("a good call after bad ones: %v", err)
				}
			})
		}
	}
}
