// Package srvframe is what an application imports to be in the mesh: the
// package google.golang.org/grpc with Istio's traffic management inside.
//
//	import grpc "github.com/meshframe/meshframe/srvframe"
//
// Every exported identifier of grpc is here under the same name. Types are
// aliases, so values pass to and from code that imports grpc itself, generated
// code and [ClientConn] included; only [Server] is a type of its own, because
// serving and stopping register and withdraw it.
//
// # Joining
//
// Without more than the import, [NewClient] and [NewServer] look at the
// environment:
//
//	MESH_XDS=127.0.0.1:15010        the control plane, or in its place gRPC's own
//	GRPC_XDS_BOOTSTRAP=file         bootstrap file, or
//	GRPC_XDS_BOOTSTRAP_CONFIG=json  bootstrap
//	MESH_SERVICE=reviews:9080       the service that servers of this process stand for
//	MESH_NAMESPACE=default          the namespace that completes short names
//	MESH_LABELS=version=v2          labels that subsets select by; commas between several
//	MESH_ADDRESS=10.0.0.7           the IP address at which others reach this process
//	MESH_LOCALITY=region/zone       where this process runs
//	MESH_STATE=dir                  keeps the last configuration for a start without the control plane
//
// Where none of the first three is set, everything is plain gRPC, and one line
// in the log says so: the import can be swapped first and the mesh joined later.
// [Join] makes a mesh from options in place of the environment, and several in a
// process where that is wanted.
//
// # The way of a call
//
// A client of the mesh is an ordinary [ClientConn] with three things of ours:
// a resolver that subscribes to the target's configuration (resolver,
// resolver/watch), an interceptor that decides the call by it (interceptors,
// mesh) and a balancer that picks the endpoint (balancer, mesh/pick). This
// package only puts them together: it is the one place that starts and stops
// things, and it never links the control plane. Tests of applications find both
// halves in srvframe/meshtest.
package srvframe

//go:generate go run ./internal/gen
