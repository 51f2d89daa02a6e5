package srvframe_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/srvframe"
	"github.com/meshframe/meshframe/srvframe/meshtest"
)

// TestCallersDialersKeepTheConnectTimeout has dialers of both kinds, and the last
// of several.
func TestCallersDialersKeepTheConnectTimeout(t *testing.T) {
	t.Parallel()
	const limit = 3 * time.Second
	synctest.Test(t, func(t *testing.T) {
		m := meshtest.New(t, `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s}}}}
`, meshtest.InMemory())
		m.Server("reviews:9080", nil, func(grpc.ServiceRegistrar) {}, grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
			return ss.SendMsg(wrapperspb.String("ok"))
		}))
		var mu sync.Mutex
		var given []time.Duration
		note := func(d time.Duration) {
			mu.Lock()
			defer mu.Unlock()
			given = append(given, d)
		}
		never := srvframe.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			t.Error("a dialer was used that a later one replaces")
			return nil, net.ErrClosed
		})
		byContext := srvframe.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			deadline, _ := ctx.Deadline()
			note(time.Until(deadline))
			return m.Dial(ctx, address)
		})
		byTimeout := srvframe.WithDialer(func(address string, timeout time.Duration) (net.Conn, error) {
			note(timeout)
			return m.Dial(t.Context(), address)
		})
		for _, opts := range [][]grpc.DialOption{{byContext}, {byTimeout}, {never, byContext}, {never, byTimeout}} {
			var reply wrapperspb.StringValue
			if err := m.Client("mesh:///reviews:9080", opts...).Invoke(t.Context(), "/shop.Reviews/Get", wrapperspb.String("?"), &reply); err != nil {
				t.Fatal(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		if len(given) != 4 {
			t.Fatalf("%d connections, want 4", len(given))
		}
		for i, d := range given {
			if d != limit {
				t.Errorf("dialer %d was given %v, want %v", i, d, limit)
			}
		}
	})
}
