// Package meshtest runs a whole mesh inside a test: an embedded xdsserver with
// the YAML that the test gives, and servers and clients that are members of it,
// on the same path from YAML to a call as in production. It is to srvframe what
// net/http/httptest is to net/http.
//
//	const weights = `
//	apiVersion: networking.istio.io/v1
//	kind: VirtualService
//	metadata: {name: greeter}
//	spec:
//	  hosts: [greeter]
//	  http:
//	  - match: [{headers: {user: {exact: jason}}}]
//	    route: [{destination: {host: greeter, subset: v2}}]
//	  - route: [{destination: {host: greeter, subset: v1}}]
//	---
//	apiVersion: networking.istio.io/v1
//	kind: DestinationRule
//	metadata: {name: greeter}
//	spec:
//	  host: greeter
//	  subsets:
//	  - {name: v1, labels: {version: v1}}
//	  - {name: v2, labels: {version: v2}}
//	`
//
//	func TestJasonGetsV2(t *testing.T) {
//		mesh := meshtest.New(t, weights)
//		for _, version := range []string{"v1", "v2"} {
//			mesh.Server("greeter:9080", map[string]string{"version": version}, func(r grpc.ServiceRegistrar) {
//				pb.RegisterGreeterServer(r, &greeter{version: version})
//			})
//		}
//		client := pb.NewGreeterClient(mesh.Client("greeter:9080"))
//		ctx := metadata.AppendToOutgoingContext(t.Context(), "user", "jason")
//		reply, err := client.Greet(ctx, &pb.GreetRequest{})
//		...
//	}
//
// Nothing in such a test waits for time to pass: New, Apply and Server return
// when what they did is in force, so that the next call sees it. Control plane
// and members talk in memory; servers listen on loopback, on a port of their own
// each, or in memory too (InMemory), where a bubble of testing/synctest makes
// timeouts and ejections pass at once. Everything ends with the test.
package meshtest
