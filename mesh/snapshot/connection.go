package snapshot

import "time"

// ConnectionPool is what a cluster asks of each connection to one of its
// endpoints. The zero value asks for nothing.
type ConnectionPool struct {
	// MaxRequests is how many requests a connection serves in all; 0 means no
	// limit (Envoy max_requests_per_connection).
	MaxRequests uint32
	// MaxStreams is how many requests a connection serves at once: with more,
	// there are further connections. 0 means no limit but the server's (Envoy
	// Http2ProtocolOptions.max_concurrent_streams).
	MaxStreams uint32
	// MaxDuration is how long a connection gets new requests; 0 means no limit
	// (Envoy max_connection_duration).
	MaxDuration time.Duration
	// IdleTimeout closes a connection that served no request for so long; 0 means
	// never (Envoy idle_timeout).
	IdleTimeout time.Duration
	// Keepalive are the probes of TCP; nil means those of the dialer.
	Keepalive *TCPKeepalive
	// ProxyProtocol is the version of the header that a new connection begins with,
	// 1 or 2; 0 is none (Envoy ProxyProtocolUpstreamTransport).
	ProxyProtocol uint8
}

// TCPKeepalive is Envoy's core.v3.TcpKeepalive. A field that is 0 is left to the
// operating system.
type TCPKeepalive struct {
	Off            bool // there are no probes
	Probes         uint32
	Time, Interval time.Duration
}

// Limits reports whether connections must be looked after. Keepalive and
// ProxyProtocol are for those who make them.
func (p *ConnectionPool) Limits() bool {
	return p.MaxRequests != 0 || p.MaxStreams != 0 || p.MaxDuration != 0 || p.IdleTimeout != 0
}

// Tighten makes p the strictest of both, setting by setting. That is what holds
// for a connection which several clusters share: of versions of the PROXY protocol
// it is the greater.
func (p *ConnectionPool) Tighten(o *ConnectionPool) {
	p.MaxRequests = stricter(p.MaxRequests, o.MaxRequests)
	p.MaxStreams = stricter(p.MaxStreams, o.MaxStreams)
	p.MaxDuration = stricter(p.MaxDuration, o.MaxDuration)
	p.IdleTimeout = stricter(p.IdleTimeout, o.IdleTimeout)
	p.ProxyProtocol = max(p.ProxyProtocol, o.ProxyProtocol)
	switch {
	case o.Keepalive == nil || o.Keepalive.Off && p.Keepalive != nil:
	case p.Keepalive == nil || p.Keepalive.Off:
		p.Keepalive = o.Keepalive
	default:
		p.Keepalive = &TCPKeepalive{
			Probes:   stricter(p.Keepalive.Probes, o.Keepalive.Probes),
			Time:     stricter(p.Keepalive.Time, o.Keepalive.Time),
			Interval: stricter(p.Keepalive.Interval, o.Keepalive.Interval),
		}
	}
}

// stricter returns the smaller of two limits, of which 0 is none.
func stricter[T uint32 | time.Duration](a, b T) T {
	if a == 0 || b != 0 && b < a {
		return b
	}
	return a
}
