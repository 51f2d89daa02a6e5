package config

import (
	"fmt"
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
		r.judge(element(field(path, "hosts"), i), badServerHost(h))
	}
	checkServerTLS(r, field(path, "tls"), s.Tls)
	p := s.Port
	if p == nil {
		return
	}
	r.judge(field(path, "port.protocol"), badProtocol(p.Protocol))
	noTarget(r, field(path, "port.targetPort"), p.TargetPort) //nolint:staticcheck // deprecated by Istio, and refused
	unix := strings.HasPrefix(s.Bind, unixPrefix)
	switch {
	case unix && p.Number != 0:
		r.errorf(field(path, "port.number"), "want 0: a unix socket has no port")
	case unix:
		r.judge(field(path, "bind"), badUnixPath(strings.TrimPrefix(s.Bind, unixPrefix)))
	case s.Bind != "" && !isIP(s.Bind):
		r.errorf(field(path, "bind"), "want an IP address or unix://path, have %q", shorten(s.Bind))
	}
	if !unix {
		r.judge(field(path, "port.number"), badPort(p.Number))
	}
	checkServerProtocol(r, field(path, "tls"), p.Protocol, s.Tls)
}

// checkServerProtocol checks that TLS settings go with the protocol. A port without TLS has those that only redirect.
func checkServerProtocol(r *reader, path, protocol string, t *networking.ServerTLSSettings) {
	redirect := field(path, "httpsRedirect")
	switch {
	case t == nil && protocolIsTLS(protocol):
		r.errorf(path, "missing, but required by the protocol %s", protocol)
	case t == nil:
	case protocolIsTLS(protocol):
		if t.HttpsRedirect {
			r.warnf(redirect, "does nothing at a port with protocol %s: only HTTP is redirected", protocol)
		}
	case !protocolIsHTTP(protocol):
		r.errorf(path, "a port with protocol %s has no TLS settings", protocol)
	case !passesThrough(t) || t.CaCertificates+t.PrivateKey+t.ServerCertificate != "":
		r.errorf(path, "a port with protocol %s has no TLS settings other than httpsRedirect", protocol)
	}
}

// noTarget refuses a target port where nothing is forwarded to one.
func noTarget(r *reader, path string, port uint32) {
	if port != 0 {
		r.errorf(path, "does nothing here; leave it out")
	}
}

// badServerHost judges a host of a gateway, which may be an IP address.
func badServerHost(h string) string {
	ns, name, cut := strings.Cut(h, "/")
	switch {
	case !cut:
		name = h
	case ns != "*" && ns != "." && !isLabel(ns):
		return "want a namespace, * or . before the slash"
	}
	if isIP(name) && strings.Contains(name, ".") {
		return ""
	}
	return badWholeHost(name)
}

// badImport judges a host of a Sidecar's egress: "ns/host.example.com", "*/host", "./host", and with ~ before it what is
// left out of the others.
func badImport(h string) string {
	ns, name, cut := strings.Cut(h, "/")
	switch plain := strings.TrimPrefix(ns, "~"); {
	case !cut || ns == "":
		return "want namespace/host, where each may be *"
	case plain != "" && plain != "*" && plain != "." && !isLabel(plain):
		return "want a namespace, * or . before the slash"
	}
	return badWholeHost(name)
}

// badWholeHost judges a host that is not completed with a namespace.
func badWholeHost(h string) string {
	switch {
	case h != "*" && !strings.Contains(h, "."):
		return "short names are not allowed here: write the whole host name"
	case isWildcard(h) && h != "*" && !strings.HasPrefix(h, "*."):
		return fmt.Sprintf("wildcards stand for whole parts of a name here: write *.example.com, not %q", shorten(h))
	}
	return badHost(h)
}
