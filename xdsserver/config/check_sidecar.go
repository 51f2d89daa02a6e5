package config

import (
	"net"
	"strconv"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

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
	listeners := map[string]bool{}
	for i, out := range s.Egress {
		checkEgress(r, element("spec.egress", i), out, listeners, i == len(s.Egress)-1)
	}
	if p := s.GetOutboundTrafficPolicy().GetEgressProxy(); p != nil {
		checkEgressProxy(r, "spec.outboundTrafficPolicy.egressProxy", s.OutboundTrafficPolicy.Mode, p)
	}
}

func checkEgressProxy(r *reader, path string, mode networking.OutboundTrafficPolicy_Mode, p *networking.Destination) {
	if mode != networking.OutboundTrafficPolicy_ALLOW_ANY {
		r.errorf(path, "needs mode: ALLOW_ANY")
	}
	if isWildcard(p.Host) {
		r.errorf(field(path, "host"), "a proxy is one host, not %q", shorten(p.Host))
	} else {
		r.judge(field(path, "host"), badFQDN(p.Host))
	}
	if p.Subset != "" {
		r.judge(field(path, "subset"), badSubset(p.Subset))
	}
	if p.Port == nil {
		r.errorf(field(path, "port"), "missing, but required")
	} else {
		r.judge(field(path, "port.number"), badPort(p.Port.Number))
	}
}

// checkSidecarPort checks what ports of both directions have in common.
func checkSidecarPort(r *reader, path string, p *networking.SidecarPort) {
	r.judge(field(path, "protocol"), badProtocol(p.Protocol))
	noTarget(r, field(path, "targetPort"), p.TargetPort) //nolint:staticcheck // deprecated by Istio, and refused
	if p.Name != "" {
		r.judge(field(path, "name"), badPortName(p.Name))
	}
}

func checkIngress(r *reader, path string, in *networking.IstioIngressListener, seen map[uint32]bool) {
	checkConnectionPool(r, field(path, "connectionPool"), in.ConnectionPool)
	checkIngressTLS(r, field(path, "tls"), in)
	if p := in.Port; p != nil {
		checkSidecarPort(r, field(path, "port"), p)
		r.judge(field(path, "port.number"), badPort(p.Number))
		if in.GetConnectionPool().GetHttp() != nil && !protocolIsHTTP(p.Protocol) {
			r.warnf(field(path, "connectionPool.http"), "does nothing at a port that is not HTTP")
		}
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

func checkIngressTLS(r *reader, path string, in *networking.IstioIngressListener) {
	t := in.Tls
	if t == nil {
		return
	}
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"subjectAltNames", len(t.SubjectAltNames) > 0}, {"httpsRedirect", t.HttpsRedirect}, {"credentialName", t.CredentialName != ""},
		{"credentialNames", len(t.CredentialNames) > 0}, {"tlsCertificates", len(t.TlsCertificates) > 0},
	} {
		if f.set {
			r.errorf(field(path, f.name), "is for gateways only")
		}
	}
	if t.Mode == networking.ServerTLSSettings_ISTIO_MUTUAL || t.Mode == networking.ServerTLSSettings_AUTO_PASSTHROUGH {
		r.errorf(field(path, "mode"), "%s is for gateways only", t.Mode)
	}
	if p := in.Port.GetProtocol(); !protocolIsTLS(p) {
		r.errorf(path, "a port with protocol %s has no TLS settings", p)
	}
	checkServerTLS(r, path, t)
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

// checkEgress checks one listener; listeners are the ports and sockets of those before it.
func checkEgress(r *reader, path string, out *networking.IstioEgressListener, listeners map[string]bool, last bool) {
	p := out.Port
	if p == nil && !last {
		r.errorf(path, "a listener without port takes everything, so it must be the last")
	}
	if p != nil {
		checkSidecarPort(r, field(path, "port"), p)
		checkListener(r, path, out, listeners)
	}
	for i, h := range out.Hosts {
		r.judge(element(field(path, "hosts"), i), badImport(h))
	}
	checkImports(r, field(path, "hosts"), out.Hosts)
}

func checkListener(r *reader, path string, out *networking.IstioEgressListener, listeners map[string]bool) {
	number := field(path, "port.number")
	if n := out.Port.Number; n != 0 {
		r.judge(number, badPort(n))
		if key := strconv.Itoa(int(n)); listeners[key] {
			r.errorf(number, "the port %d is written twice", n)
		} else {
			listeners[key] = true
		}
		if out.Bind != "" && !isIP(out.Bind) {
			r.errorf(field(path, "bind"), "want an IP address, have %q", shorten(out.Bind))
		}
		return
	}
	socket, unix := strings.CutPrefix(out.Bind, unixPrefix)
	switch {
	case !unix:
		r.errorf(number, "0 goes with bind: unix://path only")
	case listeners[out.Bind]:
		r.errorf(field(path, "bind"), "the socket %s is written twice", shorten(out.Bind))
	default:
		r.judge(field(path, "bind"), badUnixPath(socket))
	}
	listeners[out.Bind] = true
	if m := out.CaptureMode; m != networking.CaptureMode_DEFAULT && m != networking.CaptureMode_NONE {
		r.errorf(field(path, "captureMode"), "want DEFAULT or NONE for a unix socket, have %s", m)
	}
}

// checkImports warns about hosts that others in the list include.
func checkImports(r *reader, path string, hosts []string) {
	seen := map[string]map[string]bool{} // hosts by namespace
	for i, h := range hosts {
		ns, name, cut := strings.Cut(h, "/")
		if !cut || strings.HasPrefix(ns, "~") {
			continue
		}
		if ns == "." {
			ns = r.meta.Namespace
		}
		all := seen[ns]
		if all == nil {
			all = map[string]bool{}
			seen[ns] = all
		}
		if all[name] || all["*"] || name == "*" && len(all) > 0 {
			r.warnf(element(path, i), "%s is written twice, or another one includes it", shorten(h))
		}
		all[name] = true
	}
	if seen["*"]["*"] && len(seen) > 1 {
		r.warnf(path, "*/* includes all the others")
	}
}
