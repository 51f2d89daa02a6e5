// Package translate turns Istio's configuration and the registry's services into xDS resources. It is the third stage
// of the control plane:
//
//	config.Model  ─▶
//	registry.Index ─▶ World ─▶ Listener, Route, Cluster, Endpoints ─▶ xdsserver.Cache
//
// The package is pure: the same World, Client and name give the same Result, byte for byte. A Result says what the
// translation looked at (Result.Deps), so that its owner knows when to translate again, and where the client will not do
// all that the configuration asks for (Result.Notes). What a client cannot do is never sent to it silently wrong: where
// leaving something out would send a call elsewhere, the call is made to fail with a text that names the rule.
//
// Names and shapes are istiod's: listeners "host:port", routes "outbound|port||host", clusters and assignments
// "outbound|port|subset|host", inbound listeners "xds.istio.io/grpc/lds/inbound/ip:port".
//
// This package makes no promise of a stable API.
package translate
