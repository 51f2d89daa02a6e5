package config

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// cipherSuites are those that Envoy knows by name.
var cipherSuites = []string{
	"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
	"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA",
	"ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA", "AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA", "DES-CBC3-SHA",
}

// maxCertificates is how many a server has at most, one for each kind of key.
const maxCertificates = 2

// passesThrough reports whether connections are forwarded as they are.
func passesThrough(t *networking.ServerTLSSettings) bool {
	return t.Mode == networking.ServerTLSSettings_PASSTHROUGH || t.Mode == networking.ServerTLSSettings_AUTO_PASSTHROUGH
}

func checkServerTLS(r *reader, path string, t *networking.ServerTLSSettings) {
	if t == nil {
		return
	}
	checkCiphers(r, path, t)
	named := t.CredentialName != "" || len(t.CredentialNames) > 0
	files := t.ServerCertificate != "" || t.PrivateKey != ""
	switch {
	case t.Mode == networking.ServerTLSSettings_ISTIO_MUTUAL:
		if named || files || t.CaCertificates != "" || len(t.TlsCertificates) > 0 {
			r.errorf(path, "ISTIO_MUTUAL brings its own certificates, others cannot be named")
		}
		return
	case passesThrough(t) && (named || files || t.CaCertificates+t.CaCrl != "" || len(t.TlsCertificates) > 0):
		r.warnf(path, "%s uses no certificates: those named do nothing", t.Mode)
	}
	checkCertificates(r, path, t)
	if named && !passesThrough(t) {
		return
	}
	if t.CaCrl != "" {
		switch {
		case t.CredentialName != "":
			r.errorf(field(path, "caCrl"), "is a part of the credential, and cannot be written beside credentialName")
		case t.Mode == networking.ServerTLSSettings_SIMPLE:
			r.errorf(field(path, "caCrl"), "SIMPLE checks no certificate of callers; write mode: MUTUAL")
		}
	}
}

// checkCertificates checks that the certificates come from one place, and are whole.
func checkCertificates(r *reader, path string, t *networking.ServerTLSSettings) {
	sources := 0
	for _, given := range []bool{t.CredentialName != "", len(t.CredentialNames) > 0, t.ServerCertificate != "" && t.PrivateKey != "", len(t.TlsCertificates) > 0} {
		if given {
			sources++
		}
	}
	if sources > 1 {
		r.errorf(path, "want one of credentialName, credentialNames, serverCertificate with privateKey, tlsCertificates")
	}
	if n := len(t.CredentialNames); n > maxCertificates {
		r.errorf(field(path, "credentialNames"), "want at most %d, have %d", maxCertificates, n)
	}
	if n := len(t.TlsCertificates); n > maxCertificates {
		r.errorf(field(path, "tlsCertificates"), "want at most %d, have %d", maxCertificates, n)
	}
	if passesThrough(t) || t.CredentialName != "" || len(t.CredentialNames) > 0 {
		return
	}
	switch {
	case len(t.TlsCertificates) > 0:
		for i, c := range t.TlsCertificates {
			if c.ServerCertificate == "" || c.PrivateKey == "" {
				r.errorf(element(field(path, "tlsCertificates"), i), "want both serverCertificate and privateKey")
			}
		}
	case t.ServerCertificate == "" && t.PrivateKey == "":
		r.errorf(path, "want a certificate: credentialName, or serverCertificate and privateKey")
	case t.ServerCertificate == "" || t.PrivateKey == "":
		r.errorf(path, "want both serverCertificate and privateKey")
	}
	if t.Mode != networking.ServerTLSSettings_SIMPLE && t.CaCertificates == "" {
		r.errorf(field(path, "caCertificates"), "missing, but required by %s", t.Mode)
	}
}

// checkCiphers warns about ciphers that are left out.
func checkCiphers(r *reader, path string, t *networking.ServerTLSSettings) {
	old := t.MinProtocolVersion == networking.ServerTLSSettings_TLSV1_0 || t.MinProtocolVersion == networking.ServerTLSSettings_TLSV1_1
	if old && len(t.CipherSuites) == 0 {
		r.warnf(field(path, "minProtocolVersion"), "no cipher that is on by default goes with %s: write cipherSuites too", t.MinProtocolVersion)
	}
	seen := map[string]bool{}
	for i, c := range t.CipherSuites {
		at := element(field(path, "cipherSuites"), i)
		// What begins with a sign is an expression that Envoy reads by itself.
		plain := c != "" && c != "ALL" && !strings.ContainsAny(c[:1], "-+!@[")
		switch {
		case plain && !slices.Contains(cipherSuites, c):
			r.warnf(at, "left out: unknown cipher %q; want some of %s", shorten(c), strings.Join(cipherSuites, ", "))
		case seen[c]:
			r.warnf(at, "left out: %s is written twice", c)
		}
		seen[c] = true
	}
}
