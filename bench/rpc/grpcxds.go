//go:build !nogrpcxds

package main

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/xds"
)

// gRPC's own xDS makes the clients of the whole process look for a load report in the
// trailers of each call whose balancer wants to hear of the end; the build tag leaves
// it out.
func init() {
	contenders = append(contenders,
		contender{"grpc-xds-full", "grpc-go xds:///: header route, weights, retries, timeout, fault at 0 %, breaker, outlier detection", grpcXDS("full")},
		contender{"grpc-xds-1000-routes", "the same as the last of 1,000 routes", grpcXDS("routes")},
	)
}

func grpcXDS(listener string) func(environment) (grpc.ClientConnInterface, func(), error) {
	return func(e environment) (grpc.ClientConnInterface, func(), error) {
		r, err := xds.NewXDSResolverWithConfigForTesting(bootstrap(e))
		if err != nil {
			return nil, nil, err
		}
		return channel("xds:///"+listener, grpc.WithResolvers(r))
	}
}
