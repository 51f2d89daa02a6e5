// Package xdsserver is the control plane: Istio YAML and the registry of services in, standard xDS v3 out, over
// aggregated discovery streams in both protocols, to Meshframe's own library and to any xDS client that gRPC ships.
//
// The way of the data, with the types that carry it:
//
//	files, Apply ─▶ config.Model ─▶ registry.Index ─▶ translate.World ─▶ Cache ─▶ go-control-plane ─▶ stream
//	registrations ────────────────▶
//
// A Server owns the way. It translates a resource when the first client asks for it, for the view that the client has
// (its type, its namespace and what a rule reads of its labels, its locality and the services that it serves), remembers
// what the translation looked at, and translates it again only when that changes. The Cache holds the encoded results and delivers each change to those who
// subscribe to it; it can be used alone.
//
// Embedded in a process, a Server needs no socket:
//
//	s, err := xdsserver.New(ctx, xdsserver.Options{Config: []string{"mesh.yaml"}})
//	mesh, err := srvframe.Join(ctx, srvframe.Options{Dialer: s.Dialer()})
//
// # Clients
//
// A node says who it is in Istio's terms: the metadata NAMESPACE and LABELS, else the namespace in its id. What a client
// type cannot do is left out or made to fail. It is logged once, and listed in /debug/support for every type of client and
// in /debug/clients for each that is connected. Clients ask for listeners by name, "reviews:9080", short names meaning the
// client's own namespace, and follow from there. What the Sidecar for a client hides does not exist for it.
//
// # What does not exist
//
// It is said at once. Clients of the incremental protocol find the name in removed_resources. Those of the
// state-of-the-world protocol, which has no words for it, are sent a listener whose inline route configuration has no
// virtual host (the call fails and names the host), routes without a virtual host, a cluster or an assignment without endpoints.
//
// # Changes
//
// The first change of a burst is served at once, the rest of it together, ten milliseconds later. Clusters and
// endpoints are sent before listeners and routes. A cluster that the configuration no longer has is kept for those who
// still subscribe to it, until they have left it or Options.Retention is over; one that must not be used any more,
// because a rule asks for TLS, goes at once.
//
// # Registration
//
// A server registers by subscribing to its inbound listener, "xds.istio.io/grpc/lds/inbound/IP:PORT". The metadata
// MESH_SERVICES of its node lists what the listener stands for: "host:port", or "host:port=listenPort" where the node has
// several. It is registered once it has accepted the listener. The registration ends with the subscription; when the stream is lost it ends Options.LeaseGrace later.
package xdsserver
