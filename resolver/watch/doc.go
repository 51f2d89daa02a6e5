// Package watch subscribes to everything that a target needs, joins listener,
// routes, clusters and endpoints, and applies them to the engine as one
// snapshot. It owns the subscriptions of a whole mesh: gRPC's resolvers, HTTP
// transports and proxies borrow a Target and read its snapshot.
//
// New routes are published only when every cluster they name has its
// endpoints (an empty answer counts), or after a time limit: until then calls
// use what was published before. So a call never sees half of a change.
//
// This package makes no promise of a stable API.
package watch
