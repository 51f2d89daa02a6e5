package translate

import (
	"math"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	proxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

// Istio's defaults.
const (
	defaultConnectTimeout = 10 * time.Second
	defaultBudgetPercent  = 20
	defaultBudgetRetries  = 3
)

// limits writes connection limits, the budget of retries and the connect timeout. What is not set does not limit: gRPC
// would take 1024 requests for that.
func (t *translation) limits(m *clusterv3.Cluster, p trafficPolicy) {
	tcp, http := p.pool.value.GetTcp(), p.pool.value.GetHttp()
	limits := &clusterv3.CircuitBreakers_Thresholds{MaxRequests: limit(http.GetHttp2MaxRequests())}
	m.CircuitBreakers = &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{limits}}
	if !t.client.ours() {
		return
	}
	limits.MaxConnections = limit(tcp.GetMaxConnections())
	limits.MaxPendingRequests = limit(http.GetHttp1MaxPendingRequests())
	limits.MaxRetries = limit(http.GetMaxRetries())
	limits.RetryBudget = retryBudget(p.budget.value)
	m.ConnectTimeout = durationpb.New(defaultConnectTimeout)
	if d := tcp.GetConnectTimeout(); d != nil {
		m.ConnectTimeout = d
	}
	m.UpstreamConnectionOptions = keepalive(tcp.GetTcpKeepalive())
	if proxy := p.proxy.value; proxy != nil {
		m.TransportSocket = proxyProtocol(proxy)
	}
	common, streams := commonOptions(tcp, http), http.GetMaxConcurrentStreams()
	if proto.Size(common) == 0 && streams <= 0 {
		return
	}
	protocolOptions(m, func(o *httpv3.HttpProtocolOptions) {
		o.CommonHttpProtocolOptions = common
		if streams > 0 {
			o.GetExplicitHttpConfig().GetHttp2ProtocolOptions().MaxConcurrentStreams = wrapperspb.UInt32(uint32(streams))
		}
	})
}

// proxyProtocol begins connections with a header, and leaves them bare otherwise.
func proxyProtocol(p *networking.TrafficPolicy_ProxyProtocol) *corev3.TransportSocket {
	version := corev3.ProxyProtocolConfig_V1
	if p.GetVersion() == networking.TrafficPolicy_ProxyProtocol_V2 {
		version = corev3.ProxyProtocolConfig_V2
	}
	return transportSocket("envoy.transport_sockets.upstream_proxy_protocol", &proxyv3.ProxyProtocolUpstreamTransport{
		Config:          &corev3.ProxyProtocolConfig{Version: version},
		TransportSocket: transportSocket("envoy.transport_sockets.raw_buffer", &rawv3.RawBuffer{}),
	})
}

func transportSocket(name string, m proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{Name: name, ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: packed(m)}}
}

// keepalive writes the probes of TCP. What is not set is the operating system's.
func keepalive(k *networking.ConnectionPoolSettings_TCPSettings_TcpKeepalive) *clusterv3.UpstreamConnectionOptions {
	if k == nil {
		return nil
	}
	out := &corev3.TcpKeepalive{}
	if n := k.GetProbes(); n > 0 {
		out.KeepaliveProbes = wrapperspb.UInt32(n)
	}
	if d := k.GetTime(); d != nil {
		out.KeepaliveTime = seconds(d)
	}
	if d := k.GetInterval(); d != nil {
		out.KeepaliveInterval = seconds(d)
	}
	return &clusterv3.UpstreamConnectionOptions{TcpKeepalive: out}
}

// seconds rounds up: 0 would turn the probes off.
func seconds(d *durationpb.Duration) *wrapperspb.UInt32Value {
	return wrapperspb.UInt32(uint32((d.AsDuration() + time.Second - 1) / time.Second))
}

// commonOptions are what holds for each HTTP connection. The idle timeout of TCP counts where HTTP has none.
func commonOptions(tcp *networking.ConnectionPoolSettings_TCPSettings, http *networking.ConnectionPoolSettings_HTTPSettings) *corev3.HttpProtocolOptions {
	out := &corev3.HttpProtocolOptions{IdleTimeout: http.GetIdleTimeout(), MaxConnectionDuration: tcp.GetMaxConnectionDuration()}
	if out.IdleTimeout == nil {
		out.IdleTimeout = tcp.GetIdleTimeout()
	}
	if n := http.GetMaxRequestsPerConnection(); n > 0 {
		out.MaxRequestsPerConnection = wrapperspb.UInt32(uint32(n))
	}
	return out
}

func limit(n int32) *wrapperspb.UInt32Value {
	if n <= 0 {
		return wrapperspb.UInt32(math.MaxUint32)
	}
	return wrapperspb.UInt32(uint32(n))
}

func retryBudget(b *networking.TrafficPolicy_RetryBudget) *clusterv3.CircuitBreakers_Thresholds_RetryBudget {
	if b == nil {
		return nil
	}
	out := &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
		BudgetPercent:       &typev3.Percent{Value: defaultBudgetPercent},
		BudgetInterval:      b.GetBudgetInterval(),
		MinRetryConcurrency: wrapperspb.UInt32(defaultBudgetRetries),
	}
	if p := b.GetPercent(); p != nil {
		out.BudgetPercent.Value = p.GetValue()
	}
	if n := b.GetMinRetryConcurrency(); n > 0 {
		out.MinRetryConcurrency.Value = n
	}
	return out
}
