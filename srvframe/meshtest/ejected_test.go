package meshtest_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/srvframe/meshtest"
)

// TestCallsThatWaitSeeHostsReturn: with all hosts ejected, a call that may wait
// goes on as soon as one is back.
func TestCallsThatWaitSeeHostsReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mesh := meshtest.New(t, `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: greeter}
spec:
  host: greeter
  trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 30s, maxEjectionPercent: 100}}
`, meshtest.InMemory())
		var healthy atomic.Bool
		mesh.Server("greeter:9080", nil, func(r grpc.ServiceRegistrar) {
			r.RegisterService(&grpc.ServiceDesc{
				ServiceName: "test.Greeter",
				HandlerType: (*any)(nil),
				Methods: []grpc.MethodDesc{{MethodName: "Greet", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
					if !healthy.Load() {
						return nil, errors.New("sick")
					}
					var request wrapperspb.StringValue
					return wrapperspb.String("hello"), decode(&request)
				}}},
			}, struct{}{})
		})
		client := mesh.Client("greeter:9080")
		if _, err := greet(t, client); status.Code(err) != codes.Unknown {
			t.Fatalf("the first call ends with %v", err)
		}
		healthy.Store(true)
		if _, err := greet(t, client); status.Code(err) != codes.Unavailable {
			t.Fatalf("with all hosts ejected a call ends with %v, want UNAVAILABLE", err)
		}
		start := time.Now()
		var reply wrapperspb.StringValue
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		if err := client.Invoke(ctx, "/test.Greeter/Greet", wrapperspb.String(""), &reply, grpc.WaitForReady(true)); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took < 28*time.Second || took > 32*time.Second {
			t.Errorf("the call waited %v, want until the end of the ejection, 30 s", took)
		}
	})
}
