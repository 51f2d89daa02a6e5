package decode

import (
	"maps"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	proxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

// httpOptions is the key of a cluster's HTTP options among those of extensions.
const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// defaultIdleTimeout is Envoy's. It counts where streams may need more than one
// connection, so that those that were needed once do not stay for ever.
const defaultIdleTimeout = time.Hour

// anyStreams is what control planes write for any number of streams.
const anyStreams = 1 << 29

var (
	connectionFields = newFields("tcp_keepalive")
	keepaliveFields  = newFields("keepalive_probes", "keepalive_time", "keepalive_interval")
	httpFields       = newFields("common_http_protocol_options", "outlier_detection", "explicit_http_config",
		"use_downstream_protocol_config", "auto_config")
	commonHTTPFields = newFields("idle_timeout", "max_connection_duration", "max_requests_per_connection")
	explicitFields   = newFields("http_protocol_options", "http2_protocol_options")
	downstreamFields = newFields("http_protocol_options", "http2_protocol_options")
	http2Fields      = newFields("max_concurrent_streams")
	noFields         = newFields()
	// A process that calls for itself has no header to pass on, and always an address.
	proxySocketFields = newFields("config", "transport_socket", "allow_unspecified_address")
	proxyConfigFields = newFields("version", "pass_through_tlvs")
)

// connections reads what holds for single connections, and what is written beside
// it: which statuses outlier detection takes for errors.
func (s *scope) connections(m *clusterv3.Cluster, out *snapshot.Cluster) error {
	if err := s.at("transport_socket").socket(m.GetTransportSocket(), &out.Connections); err != nil {
		return err
	}
	tcp, at := m.GetUpstreamConnectionOptions(), s.at("upstream_connection_options")
	at.noteRest(tcp, connectionFields)
	if k := tcp.GetTcpKeepalive(); k != nil {
		at.at("tcp_keepalive").noteRest(k, keepaliveFields)
		out.Connections.Keepalive = keepalive(k)
	}
	options := m.GetTypedExtensionProtocolOptions()
	for _, name := range slices.Sorted(maps.Keys(options)) {
		at := s.item("typed_extension_protocol_options", -1, name)
		if name != httpOptions {
			at.notef("is not honoured yet")
			continue
		}
		h := &httpv3.HttpProtocolOptions{}
		if url := options[name].GetTypeUrl(); url != typePrefix+httpOptions {
			return at.errorf("%q is not supported", url)
		}
		if err := proto.Unmarshal(options[name].GetValue(), h); err != nil {
			return at.errorf("not an HttpProtocolOptions: %w", err)
		}
		if err := at.http(h, &out.Connections); err != nil {
			return err
		}
		if errs := at.at("outlier_detection").errorStatuses(h.GetOutlierDetection()); out.Outlier != nil {
			out.Outlier.Errors = errs
		}
	}
	return nil
}

// socket reads what a connection begins with. What is not bare and no PROXY
// protocol was denied.
func (s *scope) socket(t *corev3.TransportSocket, out *snapshot.ConnectionPool) error {
	if t == nil || bare(t) {
		s.bareSettings(t)
		return nil
	}
	s.noteRest(t, extensionFields)
	m, at := &proxyv3.ProxyProtocolUpstreamTransport{}, s.at("typed_config")
	if err := proto.Unmarshal(t.GetTypedConfig().GetValue(), m); err != nil {
		return at.errorf("not a ProxyProtocolUpstreamTransport: %w", err)
	}
	at.noteRest(m, proxySocketFields)
	inner, where := m.GetTransportSocket(), at.at("transport_socket")
	switch {
	case inner == nil:
		return where.errorf("must be set")
	case !bare(inner):
		return where.deny("%q: TLS is not supported yet", inner.GetName())
	}
	where.bareSettings(inner)
	where = at.at("config")
	where.noteRest(m.GetConfig(), proxyConfigFields)
	switch v := m.GetConfig().GetVersion(); v {
	case corev3.ProxyProtocolConfig_V1:
		out.ProxyProtocol = 1
	case corev3.ProxyProtocolConfig_V2:
		out.ProxyProtocol = 2
	default:
		return where.at("version").errorf("%d is not known", v)
	}
	return nil
}

func keepalive(m *corev3.TcpKeepalive) *snapshot.TCPKeepalive {
	out := &snapshot.TCPKeepalive{
		Probes:   m.GetKeepaliveProbes().GetValue(),
		Time:     time.Duration(m.GetKeepaliveTime().GetValue()) * time.Second,
		Interval: time.Duration(m.GetKeepaliveInterval().GetValue()) * time.Second,
	}
	for _, v := range []*wrapperspb.UInt32Value{m.GetKeepaliveProbes(), m.GetKeepaliveTime(), m.GetKeepaliveInterval()} {
		out.Off = out.Off || v != nil && v.GetValue() == 0
	}
	return out
}

func (s *scope) http(m *httpv3.HttpProtocolOptions, out *snapshot.ConnectionPool) (err error) {
	s.noteRest(m, httpFields)
	common, at := m.GetCommonHttpProtocolOptions(), s.at("common_http_protocol_options")
	at.noteRest(common, commonHTTPFields)
	out.MaxRequests = common.GetMaxRequestsPerConnection().GetValue()
	if out.MaxDuration, err = at.at("max_connection_duration").duration(common.GetMaxConnectionDuration()); err != nil {
		return err
	}
	if out.IdleTimeout, err = at.at("idle_timeout").duration(common.GetIdleTimeout()); err != nil {
		return err
	}
	explicit, downstream, auto := m.GetExplicitHttpConfig(), m.GetUseDownstreamProtocolConfig(), m.GetAutoConfig()
	idles := common.GetIdleTimeout() != nil
	if err := s.at("explicit_http_config").protocol(explicit, explicitFields, explicit, idles, out); err != nil {
		return err
	}
	if err := s.at("use_downstream_protocol_config").protocol(downstream, downstreamFields, downstream, idles, out); err != nil {
		return err
	}
	return s.at("auto_config").protocol(auto, downstreamFields, auto, idles, out)
}

// protocol reads what is asked of the protocol itself. Which one does not matter:
// gRPC is HTTP/2.
func (s *scope) protocol(m proto.Message, read fields, options interface {
	GetHttpProtocolOptions() *corev3.Http1ProtocolOptions
	GetHttp2ProtocolOptions() *corev3.Http2ProtocolOptions
}, hasIdleTimeout bool, out *snapshot.ConnectionPool,
) error {
	s.noteRest(m, read)
	s.at("http_protocol_options").noteRest(options.GetHttpProtocolOptions(), noFields)
	http2, at := options.GetHttp2ProtocolOptions(), s.at("http2_protocol_options")
	at.noteRest(http2, http2Fields)
	n := http2.GetMaxConcurrentStreams()
	if n == nil {
		return nil
	}
	return at.at("max_concurrent_streams").maxStreams(n.GetValue(), hasIdleTimeout, out)
}

func (s *scope) maxStreams(n uint32, hasIdleTimeout bool, out *snapshot.ConnectionPool) error {
	switch {
	case n == 0:
		return s.errorf("is 0, must be positive")
	case n >= anyStreams:
		return nil
	}
	out.MaxStreams = n
	if !hasIdleTimeout {
		out.IdleTimeout = defaultIdleTimeout
	}
	return nil
}
