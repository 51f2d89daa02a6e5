// Package decode reads xDS resources: the bytes of one Listener,
// RouteConfiguration, Cluster or ClusterLoadAssignment go in, the plain types
// of mesh/snapshot come out. It stands between the xDS client, which knows
// bytes and type URLs only, and the engine, which knows neither Envoy's
// messages nor protobuf.
//
// A resource is judged part by part, and only the bad part is refused:
//
//   - a route whose match can be read and whose action cannot stays in its
//     place and carries the reason (Route.Refused), so that its calls never
//     fall through to a broader route;
//   - a virtual host with a match that cannot be read is refused as a whole
//     (VirtualHost.Refused), because its first match is unknown;
//   - a cluster or an assignment is one part (Cluster.Refused,
//     ClusterLoadAssignment.Refused);
//   - a listener that asks for a filter that must not be skipped, and bytes
//     that are not the message, are wholly unusable (Result.Usable is false).
//
// Whatever is refused is named in Result.Err by its field. What is read
// correctly and must fail calls, such as a cluster that asks for TLS, is
// refused with a *DeniedError: the last good version must not take its place.
// Fields that are valid and not honoured yet are listed in Result.Notes; none
// is dropped silently.
//
// Where Envoy and gRPC differ, the functions of this package say which is
// followed. The values returned share no memory with the bytes and are not
// written again by this package.
//
// This package makes no promise of a stable API.
package decode
