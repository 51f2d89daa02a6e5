package main

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/meshframe/meshframe/srvframe"
)

// baseline is what every other contender is compared with.
const baseline = "plain-round_robin"

// environment is where the servers are.
type environment struct {
	Backends []string // host:port of the echo servers
	XDS      string   // host:port of the ADS server
}

// contender is one way to make the calls.
type contender struct {
	name, what string
	dial       func(environment) (grpc.ClientConnInterface, func(), error)
}

var contenders = []contender{
	{baseline, "grpc-go, round_robin over a fixed list", plain(`{"loadBalancingConfig":[{"round_robin":{}}]}`)},
	{"plain-retry-timeout", "the same with retries and a timeout by service config", plain(`{"loadBalancingConfig":[{"round_robin":{}}],
		"methodConfig":[{"name":[{}],"timeout":"2s","retryPolicy":{"maxAttempts":4,"initialBackoff":"0.025s","maxBackoff":"0.25s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}`)},
	{"meshframe-routing", "Meshframe: one route, one cluster", meshframe("routing")},
	{"meshframe-full", "Meshframe with everything that grpc-xds-full has", meshframe("full")},
	{"meshframe-policies", "Meshframe: the same with every policy that can be configured and do nothing in a call, mirrors at 0 % among them", meshframe("policies")},
	{"meshframe-untimed", "Meshframe: the same without a timeout", meshframe("untimed")},
	{"meshframe-1000-routes", "Meshframe: the same as the last of 1,000 routes by path", meshframe("routes")},
	{"meshframe-1000-headers", "Meshframe: the same as the last of 1,000 routes by header", meshframe("headers")},
}

func channel(target string, opts ...grpc.DialOption) (grpc.ClientConnInterface, func(), error) {
	cc, err := grpc.NewClient(target, append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return nil, nil, err
	}
	return cc, func() { cc.Close() }, nil
}

func plain(serviceConfig string) func(environment) (grpc.ClientConnInterface, func(), error) {
	return func(e environment) (grpc.ClientConnInterface, func(), error) {
		var s resolver.State
		for _, b := range e.Backends {
			s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: b}}})
		}
		r := manual.NewBuilderWithScheme("fixed")
		r.InitialState(s)
		return channel("fixed:///echo", grpc.WithResolvers(r), grpc.WithDefaultServiceConfig(serviceConfig))
	}
}

func bootstrap(e environment) []byte {
	return fmt.Appendf(nil, `{"xds_servers":[{"server_uri":%q,"channel_creds":[{"type":"insecure"}],"server_features":["xds_v3"]}],"node":{"id":%q}}`, e.XDS, nodeID)
}

func meshframe(listener string) func(environment) (grpc.ClientConnInterface, func(), error) {
	return func(e environment) (grpc.ClientConnInterface, func(), error) {
		m, err := srvframe.Join(context.Background(), srvframe.Options{Bootstrap: bootstrap(e)})
		if err != nil {
			return nil, nil, err
		}
		cc, err := m.NewClient("mesh:///" + listener)
		if err != nil {
			m.Close()
			return nil, nil, err
		}
		return cc, func() { cc.Close(); m.Close() }, nil
	}
}
