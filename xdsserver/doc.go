// Package xdsserver is the control plane: Istio YAML and the registry of services in, standard xDS v3 out, over
// aggregated discovery streams in both protocols, to Meshframe's own library and to any xDS client that gRPC ships.
//
// The way of the data, with the types that carry it:
//
//	files, Apply ─▶ config.Model ─▶ registry.Index ─▶ translate.World ─▶ Cache ─▶ go-control-plane ─▶ stream
//	registrations ────────────────▶
//
// A Server owns the way. It translates a resource when the first client asks for it, for the view that the client has
// (its type, its namespace and those of its labels that a rule reads), remembers what the translation looked at, and
// translates it again only when that changes. The Cache holds the encoded results and delivers each change to those who
// subscribe to it; it can be used alone.
//
// Embedded in a process, a Server needs no socket:
//
//	s, err := xdsserver.New(ctx, xdsserver.Options{Config: []string{"mesh.yaml"}})
//	mesh, err := srvframe.Join(ctx, srvframe.Options{Dialer: s.Dialer()})
package xdsserver
