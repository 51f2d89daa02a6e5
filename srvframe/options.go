package srvframe

import (
	"context"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"

	"github.com/meshframe/meshframe/interceptors"
)

// gRPC's options are opaque: nobody but gRPC can read what one sets. The
// constructors of this file return the real option together with a record of
// what it sets, so that NewClient and NewServer can put the mesh in its place
// among the caller's options. An option made by package grpc itself passes too;
// what it would have recorded is then not known.

// dialOption is a real option and what it says about a client.
type dialOption struct {
	grpc.DialOption

	record func(*dialRecord)
	// within is the option with a dialer that keeps to the connect timeouts of
	// clusters; nil for options that set none.
	within func(*interceptors.Client) grpc.DialOption
}

// dialRecord is what a client's options say, as far as they were made here.
type dialRecord struct {
	credentials   bool                        // some transport credentials are given
	secure        bool                        // they encrypt
	userAgent     string                      // the caller's part of the user agent
	dialer        bool                        // a custom dialer is given
	resolvers     map[string]resolver.Builder // by scheme
	serviceConfig string                      // the default service config, JSON; empty means none
	envoyHeaders  bool                        // calls may ask for timeouts and retries by Envoy's headers
}

// readDialOptions collects the records of the options; as in gRPC, the last of
// two options that set the same thing wins.
func readDialOptions(opts []grpc.DialOption) dialRecord {
	record := dialRecord{resolvers: map[string]resolver.Builder{}}
	for _, opt := range opts {
		if recorded, ok := opt.(dialOption); ok {
			recorded.record(&record)
		}
	}
	return record
}

func recordDialer(r *dialRecord) { r.dialer = true }

// within puts the callers' dialers within the connect timeouts of clusters.
func within(calls *interceptors.Client, opts []grpc.DialOption) []grpc.DialOption {
	opts = slices.Clone(opts)
	for i, opt := range opts {
		if recorded, ok := opt.(dialOption); ok && recorded.within != nil {
			opts[i] = recorded.within(calls)
		}
	}
	return opts
}

// recordCredentials records that there are credentials, and whether they encrypt.
func recordCredentials(creds credentials.TransportCredentials) func(*dialRecord) {
	return func(r *dialRecord) {
		r.credentials = creds != nil
		r.secure = creds != nil && creds.Info().SecurityProtocol != insecureProtocol
	}
}

// insecureProtocol is how credentials that do not encrypt call themselves.
const insecureProtocol = "insecure"

// WithTransportCredentials calls [grpc.WithTransportCredentials]. On a mesh
// target the credentials are used in place of the mesh's own.
func WithTransportCredentials(creds credentials.TransportCredentials) DialOption {
	return dialOption{DialOption: grpc.WithTransportCredentials(creds), record: recordCredentials(creds)}
}

// WithCredentialsBundle calls [grpc.WithCredentialsBundle]. On a mesh target
// the bundle is used in place of the mesh's own credentials.
func WithCredentialsBundle(b credentials.Bundle) DialOption {
	if b == nil {
		return grpc.WithCredentialsBundle(b)
	}
	return dialOption{DialOption: grpc.WithCredentialsBundle(b), record: recordCredentials(b.TransportCredentials())}
}

// WithInsecure calls [grpc.WithInsecure].
//
// Deprecated: as [grpc.WithInsecure] is, whose comment names the replacement.
func WithInsecure() DialOption {
	return dialOption{DialOption: grpc.WithInsecure(), record: recordCredentials(insecure.NewCredentials())}
}

// WithContextDialer calls [grpc.WithContextDialer]. A bare target with a custom
// dialer stays outside the mesh, since the dialer expects the target as it
// stands; a mesh:/// target goes through the mesh, which dials its endpoints
// with f. The context that f gets ends with the connect timeout that the mesh has
// for the endpoint, and the mesh sets the probes of TCP on a *net.TCPConn.
func WithContextDialer(f func(context.Context, string) (net.Conn, error)) DialOption {
	return dialOption{grpc.WithContextDialer(f), recordDialer, func(calls *interceptors.Client) grpc.DialOption {
		if f == nil {
			return grpc.WithContextDialer(calls.Dial)
		}
		return grpc.WithContextDialer(calls.Within(f))
	}}
}

// WithDialer calls [grpc.WithDialer]; see WithContextDialer for targets of the mesh.
//
// Deprecated: as [grpc.WithDialer] is, whose comment names the replacement.
func WithDialer(f func(string, time.Duration) (net.Conn, error)) DialOption {
	if f == nil {
		return dialOption{DialOption: grpc.WithDialer(f), record: recordDialer}
	}
	timed := func(ctx context.Context, address string) (net.Conn, error) {
		if deadline, ok := ctx.Deadline(); ok {
			return f(address, time.Until(deadline))
		}
		return f(address, 0)
	}
	return dialOption{grpc.WithDialer(f), recordDialer, func(calls *interceptors.Client) grpc.DialOption {
		return grpc.WithContextDialer(calls.Within(timed))
	}}
}

// WithResolvers calls [grpc.WithResolvers]. A target whose scheme one of the
// resolvers serves stays outside the mesh, xds:/// included; mesh:/// is the
// mesh's in any case.
func WithResolvers(rs ...resolver.Builder) DialOption {
	return dialOption{DialOption: grpc.WithResolvers(rs...), record: func(r *dialRecord) {
		for _, builder := range rs {
			r.resolvers[builder.Scheme()] = builder
		}
	}}
}

// WithDefaultServiceConfig calls [grpc.WithDefaultServiceConfig]. On a mesh
// target the method configurations are kept less their retry and hedging
// policies, and the load balancing policy gives way: both are the mesh's, and
// what was left out is logged.
func WithDefaultServiceConfig(s string) DialOption {
	return dialOption{DialOption: grpc.WithDefaultServiceConfig(s), record: func(r *dialRecord) { r.serviceConfig = s }}
}

// WithUserAgent calls [grpc.WithUserAgent].
func WithUserAgent(s string) DialOption {
	return dialOption{DialOption: grpc.WithUserAgent(s), record: func(r *dialRecord) { r.userAgent = s }}
}

// WithEnvoyRequestHeaders lets calls to a target of the mesh ask for other timeouts
// and retries than their route has, by the headers of Envoy's router in their
// outgoing metadata, as calls behind Istio's sidecar may:
//
//	x-envoy-upstream-rq-timeout-ms, x-envoy-upstream-rq-per-try-timeout-ms,
//	x-envoy-max-retries, x-envoy-retry-on, x-envoy-retry-grpc-on,
//	x-envoy-retriable-status-codes, x-envoy-retriable-header-names,
//	x-envoy-hedge-on-per-try-timeout
//
// They mean what they mean to Envoy, and are not sent to the server. A value that
// cannot be read asks for nothing. The caller's own deadline holds in any case.
//
// By default these headers are sent as they are and ask for nothing, because gRPC
// copies the metadata of a call for whoever looks at it: with this option each call
// that has metadata costs such a copy, unless its routes are matched by headers, for
// which there is one already. Do not use it where the metadata of calls comes from
// requests of strangers, who could then ask for retries without end.
//
// A target outside the mesh is as without the option.
func WithEnvoyRequestHeaders() DialOption {
	return dialOption{DialOption: grpc.EmptyDialOption{}, record: func(r *dialRecord) { r.envoyHeaders = true }}
}

// serverOption is a real option and the interceptor that it sets.
type serverOption struct {
	grpc.ServerOption

	unary  grpc.UnaryServerInterceptor
	stream grpc.StreamServerInterceptor
}

// UnaryInterceptor calls [grpc.UnaryInterceptor]. The mesh's own interceptor
// runs before i, and i before those of ChainUnaryInterceptor.
func UnaryInterceptor(i UnaryServerInterceptor) ServerOption {
	return serverOption{ServerOption: grpc.UnaryInterceptor(i), unary: i}
}

// StreamInterceptor calls [grpc.StreamInterceptor]. The mesh's own interceptor
// runs before i, and i before those of ChainStreamInterceptor.
func StreamInterceptor(i StreamServerInterceptor) ServerOption {
	return serverOption{ServerOption: grpc.StreamInterceptor(i), stream: i}
}

// serverOptions returns the options with the mesh's interceptors as the first
// of the server. gRPC runs the interceptor of UnaryInterceptor before all that
// are chained, so the recorded one is chained instead, right after the mesh's.
// Of two recorded ones both are kept as they are: gRPC refuses them.
func serverOptions(opts []grpc.ServerOption, unary grpc.UnaryServerInterceptor, stream grpc.StreamServerInterceptor) []grpc.ServerOption {
	unaries := []grpc.UnaryServerInterceptor{unary}
	streams := []grpc.StreamServerInterceptor{stream}
	rest := make([]grpc.ServerOption, 0, len(opts)+2)
	for _, opt := range opts {
		recorded, ok := opt.(serverOption)
		switch {
		case ok && recorded.unary != nil && len(unaries) == 1:
			unaries = append(unaries, recorded.unary)
		case ok && recorded.stream != nil && len(streams) == 1:
			streams = append(streams, recorded.stream)
		default:
			rest = append(rest, opt)
		}
	}
	return append([]grpc.ServerOption{
		grpc.ChainUnaryInterceptor(unaries...),
		grpc.ChainStreamInterceptor(streams...),
	}, rest...)
}
