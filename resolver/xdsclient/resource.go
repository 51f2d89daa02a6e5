package xdsclient

// ResourceType describes one kind of xDS resource, whose decoded form is T. It
// is registered with a client by the first Watch that uses it and must not be
// changed afterwards. Within one client a type URL belongs to one
// *ResourceType: a Watch with another one gets an Error.
type ResourceType[T any] struct {
	// TypeURL is the full type URL, such as
	// "type.googleapis.com/envoy.config.cluster.v3.Cluster".
	TypeURL string

	// Name is used in errors and logs, such as "Cluster". Default: the last
	// element of TypeURL.
	Name string

	// FullState says that in the state-of-the-world protocol each response
	// carries every resource of the type, so that an absent one does not exist.
	// True for Listener and Cluster, false for the rest.
	FullState bool

	// Decode reads and validates one resource. body is the serialized message
	// and must not be changed; the result may refer to it. name is the name
	// under which the server sent it, or "" where the protocol does not say
	// (state-of-the-world): then Decoded.Name must be set, even for a resource
	// that is refused, if it can be read at all.
	//
	// Decode runs on a goroutine of the client, for one resource at a time, and
	// must not call the client. Bytes that were decoded before are not decoded
	// again. A panic refuses the resource.
	Decode func(name string, body []byte) Decoded[T]
}

// Decoded is what Decode makes of one resource.
type Decoded[T any] struct {
	// Name is the resource's own name.
	Name string
	// Value is the decoded resource. It is shared by all watchers.
	Value T
	// Usable is false when the resource is refused as a whole: then Value is
	// ignored and the last good version stays.
	Usable bool
	// Err says what was refused and why; nil accepts the resource. It becomes
	// the detail of the NACK, even when the rest is usable.
	Err error
}

// Update is a new version of a resource.
type Update[T any] struct {
	// Name is the name that was watched.
	Name string
	// Value is the decoded resource, shared by all watchers: it must not be
	// changed.
	Value T
	// Version is the server's name for this version.
	Version string
	// Err is nil, or a *RefusedError if a part of this version was refused;
	// Value holds the rest.
	Err error
	// Stale says that this is a saved copy from Config.Cache, as no server could
	// be reached. Once one has confirmed it, an update says so.
	Stale bool
}

// Watcher is told what becomes of a resource. A client calls its watchers one
// at a time and in order, from one goroutine of its own; a callback may call
// Watch, a cancel function and Client.Status, but not Client.Close, which
// waits for it.
//
// Each callback carries a function done, to be called once its work is
// finished, from any goroutine; further calls of it do nothing. Until then the
// client reads no further response, so a watcher that never calls it stops the
// stream (until it is cancelled). Callbacks for different causes may follow one
// another before done is called.
type Watcher[T any] interface {
	// Update delivers a new version, or to a new watcher the one at hand, or a
	// saved copy.
	Update(u Update[T], done func())

	// Missing says that the resource does not exist: the server said so or did
	// not answer. An earlier value is void. err is a *MissingError.
	Missing(name string, err error, done func())

	// Error says that no new version could be had: no server could be reached
	// (*ServerError, the most preferred server's where there are several), the
	// server answered with an error for this resource (*ServerError with Resource
	// set), or a version was refused as a whole (*RefusedError). An earlier value
	// stays good.
	Error(name string, err error, done func())
}

// Watch tells w about the named resource of type t until cancel is called.
// What the client already knows is delivered at once; the call itself does not
// block and delivers nothing before it returns to the client's goroutine.
// Watches of one name share one subscription.
//
// Names are literal: the wildcard "*" is not interpreted.
//
// cancel may be called from anywhere, also from a callback, and more than once;
// it does not block. When it has returned, no further callback begins, but one
// that is running on the client's goroutine may still finish.
func Watch[T any](c *Client, t *ResourceType[T], name string, w Watcher[T]) (cancel func()) {
	return c.watch(eraseType(t), name, eraseWatcher(w))
}
