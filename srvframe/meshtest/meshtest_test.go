package meshtest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/srvframe"
	"github.com/meshframe/meshframe/srvframe/meshtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// says returns a registration of a service that answers every call with the text.
func says(text string) func(grpc.ServiceRegistrar) {
	return func(r grpc.ServiceRegistrar) {
		r.RegisterService(&grpc.ServiceDesc{
			ServiceName: "test.Greeter",
			HandlerType: (*any)(nil),
			Methods: []grpc.MethodDesc{{MethodName: "Greet", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				var request wrapperspb.StringValue
				if err := decode(&request); err != nil {
					return nil, err
				}
				return wrapperspb.String(text), nil
			}}},
		}, struct{}{})
	}
}

// greet makes a call, with pairs of header names and values.
func greet(t *testing.T, cc grpc.ClientConnInterface, headers ...string) (string, error) {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), headers...)
	var reply wrapperspb.StringValue
	err := cc.Invoke(ctx, "/test.Greeter/Greet", wrapperspb.String(""), &reply)
	return reply.GetValue(), err
}

// wants checks that ten calls in a row get the answer.
func wants(t *testing.T, cc grpc.ClientConnInterface, want string, headers ...string) {
	t.Helper()
	for range 10 {
		if got, err := greet(t, cc, headers...); err != nil || got != want {
			t.Fatalf("call = %q, %v; want %q", got, err, want)
		}
	}
}

// TestBatch starts servers and changes the YAML at once: when Batch returns all of
// it is in force, for a member that was there before, too.
func TestBatch(t *testing.T) {
	mesh := meshtest.New(t, route("v2", "v1"))
	early := mesh.Client("greeter:9080")
	mesh.Batch(func() {
		for _, version := range []string{"v1", "v2"} {
			mesh.Server("greeter:9080", map[string]string{"version": version}, says(version))
		}
		mesh.Apply(route("v1", "v2"))
	})
	for _, cc := range []grpc.ClientConnInterface{early, mesh.Member(srvframe.Options{}).Client("greeter:9080")} {
		wants(t, cc, "v1")
		wants(t, cc, "v2", "user", "jason")
	}
}

const subsets = `
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: greeter}
spec:
  host: greeter
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
---
`

// route sends all calls to one subset, but those of jason to another.
func route(all, jasons string) string {
	return fmt.Sprintf(subsets+`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: greeter}
spec:
  hosts: [greeter]
  http:
  - match: [{headers: {user: {exact: jason}}}]
    route: [{destination: {host: greeter, subset: %s}}]
  - route: [{destination: {host: greeter, subset: %s}}]
`, jasons, all)
}

// TestApplyIsInForce flips a route back and forth: the call after an Apply goes
// by it, every time.
func TestApplyIsInForce(t *testing.T) {
	mesh := meshtest.New(t, route("v1", "v2"))
	mesh.Server("greeter:9080", map[string]string{"version": "v1"}, says("v1"))
	mesh.Server("greeter:9080", map[string]string{"version": "v2"}, says("v2"))
	client := mesh.Client("greeter:9080")
	for range 20 {
		mesh.Apply(route("v1", "v2"))
		wants(t, client, "v1")
		wants(t, client, "v2", "user", "jason")
		mesh.Apply(route("v2", "v1"))
		wants(t, client, "v2")
		wants(t, client, "v1", "user", "jason")
	}
}

// TestServersComeAndGo shows that calls see a server as soon as Server returns,
// and that none is lost when it stops.
func TestServersComeAndGo(t *testing.T) {
	mesh := meshtest.New(t, "")
	client := mesh.Client("greeter:9080")
	if _, err := greet(t, client); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "greeter") {
		t.Errorf("without a server: %v, want UNAVAILABLE that names the host", err)
	}
	one := mesh.Server("greeter:9080", nil, says("one"))
	wants(t, client, "one")
	two := mesh.Server("greeter:9080", nil, says("two"))
	seen := map[string]int{}
	// The second is used as soon as it is connected.
	for n := 0; n < 10_000 && (seen["one"] == 0 || seen["two"] == 0); n++ {
		got, err := greet(t, client)
		if err != nil {
			t.Fatal(err)
		}
		seen[got]++
	}
	if seen["one"] == 0 || seen["two"] == 0 {
		t.Errorf("the calls went to %v, want both", seen)
	}
	one.Stop()
	mesh.Sync()
	wants(t, client, "two")
	two.Stop()
}

// TestServerCallsOthers shows that a server's own client is a member with its
// labels.
func TestServerCallsOthers(t *testing.T) {
	mesh := meshtest.New(t, subsets+`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: greeter}
spec:
  hosts: [greeter]
  http:
  - match: [{sourceLabels: {app: front}}]
    route: [{destination: {host: greeter, subset: v2}}]
  - route: [{destination: {host: greeter, subset: v1}}]
`)
	mesh.Server("greeter:9080", map[string]string{"version": "v1"}, says("v1"))
	mesh.Server("greeter:9080", map[string]string{"version": "v2"}, says("v2"))
	front := mesh.Server("front:80", map[string]string{"app": "front"}, func(grpc.ServiceRegistrar) {})
	wants(t, front.Client("greeter:9080"), "v2")
	wants(t, mesh.Client("greeter:9080"), "v1")
}

// TestKill shows that a server that crashed is retried elsewhere.
func TestKill(t *testing.T) {
	mesh := meshtest.New(t, "")
	crashing := mesh.Server("greeter:9080", nil, says("one"))
	mesh.Server("greeter:9080", nil, says("two"))
	client := mesh.Client("greeter:9080")
	if _, err := greet(t, client); err != nil {
		t.Fatal(err)
	}
	crashing.Kill()
	wants(t, client, "two")
}

// recorder stands in for a test that is expected to fail.
type recorder struct {
	testing.TB

	text string
}

func (r *recorder) Helper() {}

func (r *recorder) Fatalf(format string, args ...any) {
	r.text = fmt.Sprintf(format, args...)
	panic(r)
}

// TestBadYAML shows that every error of the YAML is listed with its line.
func TestBadYAML(t *testing.T) {
	r := &recorder{TB: t}
	defer func() {
		if recover() != r {
			t.Error("YAML with errors was taken")
		}
		for _, want := range []string{"meshtest.yaml:7", "meshtest.yaml:8"} {
			if !strings.Contains(r.text, want) {
				t.Errorf("the failure does not have %s:\n%s", want, r.text)
			}
		}
	}()
	meshtest.New(r, `apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: greeter}
spec:
  hosts: [greeter]
  http:
  - rout: []
  - timeout: soon
`)
}
