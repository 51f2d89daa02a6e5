package config

import (
	"net"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

func checkGateway(r *reader, g *networking.Gateway) {
	if !isLabel(r.meta.Name) {
		r.errorf("metadata.name", "a gateway's name has no dots")
	}
	if len(g.Servers) == 0 {
		r.errorf("spec.servers", "missing, but required")
	}
	names := map[string]bool{}
	for i, s := range g.Servers {
		path := element("spec.servers", i)
		checkServer(r, path, s)
		if p := s.Port; p != nil {
			if names[p.Name] {
				r.errorf(field(path, "port.name"), "the port name %q is written twice", shorten(p.Name))
			}
			names[p.Name] = true
		}
	}
}

func checkServer(r *reader, path string, s *networking.Server) {
	for i, h := range s.Hosts {
		r.judge(element(field(path, "hosts"), i), badScopedHost(h, false))
	}
	checkServerTLS(r, field(path, "tls"), s.Tls)
	p := s.Port
	if p == nil {
		return
	}
	r.judge(field(path, "port.protocol"), badProtocol(p.Protocol))
	unix := strings.HasPrefix(s.Bind, unixPrefix)
	switch {
	case unix:
		r.judge(field(path, "bind"), badUnixPath(strings.TrimPrefix(s.Bind, unixPrefix)))
	case s.Bind != "" && !isIP(s.Bind):
		r.errorf(field(path, "bind"), "want an IP address or unix://path, have %q", shorten(s.Bind))
	}
	if p.Number > 0 || !unix {
		r.judge(field(path, "port.number"), badPort(p.Number))
	}
	switch redirectOnly := s.GetTls().GetHttpsRedirect() && s.Tls.GetMode() == networking.ServerTLSSettings_PASSTHROUGH; {
	case protocolIsTLS(p.Protocol) && s.Tls == nil:
		r.errorf(field(path, "tls"), "missing, but required by the protocol %s", p.Protocol)
	case !protocolIsTLS(p.Protocol) && s.Tls != nil && !redirectOnly:
		r.errorf(field(path, "tls"), "a port with protocol %s has no TLS settings other than httpsRedirect", p.Protocol)
	}
}

// badScopedHost judges a host that may have a namespace before it: "ns/host.example.com", "*/host", "./host".
func badScopedHost(h string, needNamespace bool) string {
	ns, name, cut := strings.Cut(h, "/")
	if !cut {
		if needNamespace {
			return "want namespace/host, where each may be *"
		}
		ns, name = "*", h
	}
	ns = strings.TrimPrefix(ns, "~")
	switch {
	case ns != "" && ns != "*" && ns != "." && !isLabel(ns):
		return "want a namespace, * or . before the slash"
	case name != "*" && !strings.Contains(name, "."):
		return "short names are not allowed here: write the whole host name"
	}
	return badHost(name)
}

func checkServerTLS(r *reader, path string, t *networking.ServerTLSSettings) {
	if t == nil {
		return
	}
	sources := 0
	for _, given := range []bool{t.CredentialName != "", len(t.CredentialNames) > 0, t.ServerCertificate != "" || t.PrivateKey != "", len(t.TlsCertificates) > 0} {
		if given {
			sources++
		}
	}
	named := t.CredentialName != "" || len(t.CredentialNames) > 0
	switch t.Mode {
	case networking.ServerTLSSettings_ISTIO_MUTUAL:
		if sources > 0 || t.CaCertificates != "" {
			r.errorf(path, "ISTIO_MUTUAL brings its own certificates, others cannot be named")
		}
	case networking.ServerTLSSettings_SIMPLE, networking.ServerTLSSettings_MUTUAL, networking.ServerTLSSettings_OPTIONAL_MUTUAL:
		switch {
		case sources == 0:
			r.errorf(path, "want a certificate: credentialName, or serverCertificate and privateKey")
		case sources > 1:
			r.errorf(path, "want one of credentialName, credentialNames, serverCertificate with privateKey, tlsCertificates")
		case len(t.TlsCertificates) == 0 && !named && (t.ServerCertificate == "" || t.PrivateKey == ""):
			r.errorf(path, "want both serverCertificate and privateKey")
		case t.Mode != networking.ServerTLSSettings_SIMPLE && !named && t.CaCertificates == "":
			r.errorf(field(path, "caCertificates"), "missing, but required by %s", t.Mode)
		}
	}
}

func checkSidecar(r *reader, s *networking.Sidecar) {
	if sel := s.WorkloadSelector; sel != nil {
		checkSelectorLabels(r, "spec.workloadSelector", sel.Labels)
	}
	if len(s.Egress) == 0 && len(s.Ingress) == 0 && s.OutboundTrafficPolicy == nil && s.InboundConnectionPool == nil {
		r.errorf("spec", "is empty")
	}
	seen := map[uint32]bool{}
	for i, in := range s.Ingress {
		checkIngress(r, element("spec.ingress", i), in, seen)
	}
	checkConnectionPool(r, "spec.inboundConnectionPool", s.InboundConnectionPool)
	seen = map[uint32]bool{}
	for i, out := range s.Egress {
		checkEgress(r, element("spec.egress", i), out, seen, i == len(s.Egress)-1)
	}
	if p := s.GetOutboundTrafficPolicy().GetEgressProxy(); p != nil {
		checkDestination(r, "spec.outboundTrafficPolicy.egressProxy", p)
		if s.OutboundTrafficPolicy.Mode != networking.OutboundTrafficPolicy_ALLOW_ANY {
			r.errorf("spec.outboundTrafficPolicy.egressProxy", "needs mode: ALLOW_ANY")
		}
	}
}

func checkIngress(r *reader, path string, in *networking.IstioIngressListener, seen map[uint32]bool) {
	checkConnectionPool(r, field(path, "connectionPool"), in.ConnectionPool)
	checkServerTLS(r, field(path, "tls"), in.Tls)
	if p := in.Port; p != nil {
		r.judge(field(path, "port.number"), badPort(p.Number))
		r.judge(field(path, "port.protocol"), badProtocol(p.Protocol))
		if seen[p.Number] {
			r.errorf(field(path, "port.number"), "the port %d is written twice", p.Number)
		}
		seen[p.Number] = true
	}
	if in.Bind != "" && !isIP(in.Bind) {
		r.errorf(field(path, "bind"), "want an IP address, have %q", shorten(in.Bind))
	}
	r.judge(field(path, "defaultEndpoint"), badDefaultEndpoint(in.DefaultEndpoint))
}

func badDefaultEndpoint(e string) string {
	const want = "want 127.0.0.1:port, 0.0.0.0:port, [::1]:port, [::]:port or unix://path"
	if e == "" {
		return ""
	}
	if socket, ok := strings.CutPrefix(e, unixPrefix); ok {
		return badUnixPath(socket)
	}
	host, port, err := net.SplitHostPort(e)
	n, bad := strconv.ParseUint(port, 10, 16)
	if err != nil || bad != nil || n == 0 {
		return want
	}
	switch host {
	case "", "127.0.0.1", "0.0.0.0", "::1", "::":
		return ""
	}
	return want
}

func checkEgress(r *reader, path string, out *networking.IstioEgressListener, seen map[uint32]bool, last bool) {
	p := out.Port
	switch {
	case p == nil && !last:
		r.errorf(path, "a listener without port takes everything, so it must be the last")
	case p == nil:
	case p.Number == 0:
		if !strings.HasPrefix(out.Bind, unixPrefix) {
			r.errorf(field(path, "port.number"), "0 goes with bind: unix://path only")
		}
	default:
		r.judge(field(path, "port.number"), badPort(p.Number))
		r.judge(field(path, "port.protocol"), badProtocol(p.Protocol))
		if seen[p.Number] {
			r.errorf(field(path, "port.number"), "the port %d is written twice", p.Number)
		}
		seen[p.Number] = true
		if out.Bind != "" && !isIP(out.Bind) {
			r.errorf(field(path, "bind"), "want an IP address, have %q", shorten(out.Bind))
		}
	}
	for i, h := range out.Hosts {
		r.judge(element(field(path, "hosts"), i), badScopedHost(h, true))
	}
}
