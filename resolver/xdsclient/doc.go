// Package xdsclient is an ADS client: it keeps one stream to a control plane
// and tells any number of watchers about the resources they name. It speaks
// both variants of the xDS v3 transport protocol, delta (incremental) and
// state-of-the-world, and knows nothing of listeners, routes or clusters: only
// bytes and type URLs. It is the step between the wire and resolver/decode,
// and it can be used without the rest of Meshframe.
//
// # A tour
//
// A [ResourceType] says how one kind of resource is read. It is plain data and
// is registered by its first use:
//
//	var clusters = &xdsclient.ResourceType[*Cluster]{
//		TypeURL:   "type.googleapis.com/envoy.config.cluster.v3.Cluster",
//		Name:      "Cluster",
//		FullState: true,
//		Decode:    decodeCluster,
//	}
//
// A [Client] is made from the servers and the node identity, which usually come
// from gRPC's bootstrap file. It connects when the first resource is watched:
//
//	client, err := xdsclient.New(xdsclient.Config{
//		Servers: []xdsclient.Server{{URI: "127.0.0.1:15010", Credentials: insecure.NewCredentials()}},
//		Node:    &corev3.Node{Id: "sidecar~10.0.0.7~web.shop~shop.svc.cluster.local"},
//	})
//	defer client.Close()
//
// [Watch] subscribes to one resource by name and delivers what becomes of it to
// a [Watcher], until the returned function is called:
//
//	cancel := xdsclient.Watch(client, clusters, "outbound|80||web.shop.svc.cluster.local", watcher)
//	defer cancel()
//
// # What the client takes care of
//
// One stream: all watches of all types share it, several watches of a name
// share one subscription, and subscriptions that change together go out in one
// request per type.
//
// Acceptance: what Decode accepts is acknowledged (ACK); what it refuses is
// refused alone (NACK), the refusal names each resource with its reason, and
// the last good version stays. A version is reported as accepted only where
// all of it was. Identical refusals go out at most once a second, so that a
// server that answers each of them at once causes no storm.
//
// Existence: a resource is missing when the server says so (removed_resources,
// a NOT_FOUND resource error, or absence from a response of a FullState type),
// or when it stays silent for Config.WatchExpiry on a live stream.
//
// Outages: last good values stay for ever, the stream is opened again with
// jittered exponential backoff, and watchers are told when a connection
// attempt fails. Delta streams resume where they stopped: the versions already
// held are named in the first request.
//
// Pressure: the next response is read when every watcher has finished with the
// previous one; a slow application slows the server down, instead of growing a
// queue. Memory is bounded by what is watched.
//
// # Where it can grow
//
// Two seams are deliberate. Fallback servers (gRFC A71): Config.Servers is a
// list in order of preference, everything that belongs to one connection lives
// in one unexported type per server, and resources do not know which server
// they came from; today the first entry is used. Last-known-good on disk: each
// resource keeps the bytes it was decoded from together with its version, one
// function accepts them and one creates a subscription; a store is written in
// the first and read in the second.
package xdsclient
