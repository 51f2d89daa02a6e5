// Package xdsclient is an ADS client: it keeps one stream to a control plane
// and tells any number of watchers about the resources they name. It speaks
// both variants of the xDS v3 transport protocol, delta (incremental) and
// state-of-the-world, falls back to other servers and to a copy on disk, and
// knows nothing of listeners, routes or clusters: only bytes and type URLs. It is
// the step between the wire and resolver/decode, and it can be used without the
// rest of Meshframe.
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
// or when it stays silent for Config.WatchExpiry on a live stream. Any other
// resource error (gRFC A88) is an Error that names the resource, and leaves the
// last good version.
//
// Outages: last good values stay for ever, the stream is opened again with
// jittered exponential backoff up to DefaultMaxDelay, and watchers are told when no server can be
// reached. Delta streams resume where they stopped: the versions already
// held are named in the first request.
//
// Pressure: the next response is read when every watcher has finished with the
// previous one; a slow application slows the server down, instead of growing a
// queue. Memory is bounded by what is watched.
//
// # Several servers
//
// Config.Servers is a list in order of preference, used by the rules of gRFC A71.
// When a server cannot be reached (no connection, or a stream that ended before
// its first response) and a watched resource is not cached, the next one is asked
// for everything that is watched, and its word counts. Cached is what has a value
// or is known to be missing: whoever has everything stays with what it has, and
// only hears of the outage. The servers before the one in charge are tried on and
// on; the first response of one of them puts it back in charge and closes the
// connections to those after it. What was heard from those stays until it has
// said otherwise. Watchers hear of an outage when there is no server left to ask.
//
// A71 leaves some things open, or has them otherwise in gRPC:
//
//   - gRPC keeps one client for each target, so that the fallback of one does not
//     touch the others. Here whoever shares a Client shares its fallback; make one
//     for each target where there are several servers, as srvframe does.
//   - A watch that begins during an outage has the next server asked at once,
//     without waiting for the next attempt to fail. Only the failure of the server
//     in charge has the next one asked: those before it fail every time.
//   - A server that takes over is not told which versions are at hand: one that is
//     up to date would have nothing to say, and never be back.
//   - What another server said, and the one in charge does not confirm within
//     Config.WatchExpiry of taking over, is missing. (gRFC A57 has no such limit
//     for what is cached; gRPC's Go client has it, too.) A server that has not said
//     anything at all takes nothing away.
//   - When nothing is watched any more, the servers after the first are left when
//     their streams end, and the next watch begins at the top of the list.
//
// # A copy on disk
//
// With Config.Cache, what was accepted as a whole is saved, at most once a second
// and never on the way of a response. The copies are delivered, with Update.Stale,
// where there is no value: when no server can be reached, also for watches that
// begin later; when a server takes the connection but says nothing within
// Config.WatchExpiry; and when what it sends is refused. They pass Decode like
// anything else. Servers come first, all of them: for A71 a copy is not cached.
// Whatever a server says replaces it, the same version included, which then comes
// as an update that is not stale. What a server says is missing is deleted; what
// is missing because of silence is not. [NewFileStore] makes a store in a
// directory. It guards against a crash of the process; after a crash of the
// machine a file may turn out damaged, which is reported, and the resource is
// waited for.
package xdsclient
