// Package translate turns Istio's configuration and the registry's services into xDS resources. It is the third stage
// of the control plane:
//
//	config.Model  ─▶
//	registry.Index ─▶ World ─▶ Listener, Route, Cluster, Endpoints ─▶ xdsserver.Cache
//
// The package is pure: the same World, Client and name give the same Result, byte for byte. A Result says what the
// translation looked at (Result.Deps), so that its owner knows when to translate again, and which objects it was made of
// (Result.Objects): what the client will not do of what they say is known to package support, field by field. What a client
// cannot do is never sent to it silently wrong: where leaving something out would send a call elsewhere, the call is made
// to fail with a text that names the rule.
//
// This project's clients are sent Envoy's fields, and in filter_metadata["meshframe"] what Envoy has no field for: of a
// cluster error, fallback, half_open, session, peak_ewma, slow_start and subset_size, of a route rate_limit, of a server's
// listener max_concurrent. gRPC's own clients are sent only fields that they interpret as they are meant.
//
// Names and shapes are istiod's: listeners "host:port", routes "outbound|port||host", clusters and assignments
// "outbound|port|subset|host", inbound listeners "xds.istio.io/grpc/lds/inbound/ip:port".
//
// This package makes no promise of a stable API.
package translate
