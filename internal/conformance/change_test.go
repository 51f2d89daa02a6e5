package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/srvframe"
	"github.com/meshframe/meshframe/srvframe/meshtest"
)

// changing is what the tests of changes begin with.
const changing = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http: [{route: [{destination: {host: reviews, subset: v1}}], retries: {attempts: 3, retryOn: unavailable, backoff: 10s}}]
`

// changes are what befalls a mesh while calls are under way.
var changes = map[string]string{
	"nothing is left": ``,
	"the subset has another name": `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: one, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: one}}]}]}
`,
	"another policy chooses": `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: user}}}
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}
`,
	"calls go elsewhere": `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v2, labels: {version: v2}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v2}}]}]}
`,
	"calls are refused": `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], http: [{directResponse: {status: 403}}]}
`,
}

// changeable is a mesh of a server of each version, which fail the first call to
// each.
func changeable(t *testing.T) (m *meshtest.Mesh, cc *grpc.ClientConn, servers map[string]*meshtest.Server) {
	t.Helper()
	m = meshtest.New(t, "", meshtest.InMemory())
	servers = map[string]*meshtest.Server{}
	m.Batch(func() {
		for _, version := range []string{"v1", "v2"} {
			var n atomic.Int32
			servers[version] = m.Server("reviews:9080", map[string]string{"version": version}, func(grpc.ServiceRegistrar) {}, grpc.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
				if n.Add(1) == 1 {
					return status.Error(codes.Unavailable, "the first")
				}
				for {
					var in wrapperspb.StringValue
					if err := ss.RecvMsg(&in); errors.Is(err, io.EOF) {
						return nil
					} else if err != nil {
						return err
					}
					if err := ss.SendMsg(wrapperspb.String(version + " " + in.GetValue())); err != nil {
						return err
					}
				}
			}))
		}
		m.Apply(changing)
	})
	return m, m.Member(srvframe.Options{}).Client("reviews:9080"), servers
}

// TestChangesBetweenAttempts changes the mesh while calls wait to be tried again:
// they go by what they began with.
func TestChangesBetweenAttempts(t *testing.T) {
	t.Parallel()
	for what, yaml := range changes {
		for _, kind := range []string{"unary", "stream"} {
			t.Run(what+"/"+kind, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					m, cc, _ := changeable(t)
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					go func() {
						time.Sleep(time.Millisecond)
						m.Apply(yaml)
					}()
					var out wrapperspb.StringValue
					var err error
					if kind == "unary" {
						err = cc.Invoke(ctx, "/shop.Reviews/Get", wrapperspb.String("a"), &out)
					} else {
						var st grpc.ClientStream
						if st, err = cc.NewStream(ctx, bidi, "/shop.Reviews/Watch"); err == nil {
							_ = st.SendMsg(wrapperspb.String("a"))
							_ = st.CloseSend()
							err = st.RecvMsg(&out)
						}
					}
					if err != nil || out.GetValue() != "v1 a" {
						t.Errorf("%q, %v", out.GetValue(), err)
					}
				})
			})
		}
	}
}

// TestChangesUnderStreams changes the mesh, time and again, under a stream.
func TestChangesUnderStreams(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, cc, servers := changeable(t)
		st, err := cc.NewStream(t.Context(), bidi, "/shop.Reviews/Watch")
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		echo := func(after string) {
			t.Helper()
			n++
			var out wrapperspb.StringValue
			if err := st.SendMsg(wrapperspb.String(fmt.Sprint(n))); err != nil {
				t.Fatalf("%s: %v", after, err)
			}
			if err := st.RecvMsg(&out); err != nil || out.GetValue() != fmt.Sprintf("v1 %d", n) {
				t.Fatalf("%s: %q, %v", after, out.GetValue(), err)
			}
		}
		echo("at first")
		for what, yaml := range changes {
			m.Apply(yaml)
			echo(what)
			time.Sleep(2 * time.Hour)
			echo(what + ", later")
			m.Apply(changing)
			echo(what + ", and back")
		}
		servers["v2"].Kill()
		echo("the other server is gone")
		if err := st.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := st.RecvMsg(&wrapperspb.StringValue{}); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
}
