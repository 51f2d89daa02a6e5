package translate

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// httpProtocolOptions is the key of the options of HTTP upstreams.
const httpProtocolOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// protocolOptions writes options of HTTP upstreams, beside those that the cluster has.
func protocolOptions(m *clusterv3.Cluster, set func(*httpv3.HttpProtocolOptions)) {
	o := &httpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
				},
			},
		},
	}
	if a := m.GetTypedExtensionProtocolOptions()[httpProtocolOptions]; a != nil {
		_ = a.UnmarshalTo(o) // it was written here
	}
	set(o)
	if m.TypedExtensionProtocolOptions == nil {
		m.TypedExtensionProtocolOptions = map[string]*anypb.Any{}
	}
	m.TypedExtensionProtocolOptions[httpProtocolOptions] = packed(o)
}
