package bootstrap_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/meshframe/meshframe/resolver/bootstrap"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) issue(tmpl *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl.SerialNumber, tmpl.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: "test"}
	tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// write stores a certificate and, if key is not nil, its key.
func (a *authority) write(dir, name string, cert *x509.Certificate, key *ecdsa.PrivateKey) {
	a.t.Helper()
	save := func(file, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	save(name+".pem", "CERTIFICATE", cert.Raw)
	if key != nil {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			a.t.Fatal(err)
		}
		save(name+"-key.pem", "PRIVATE KEY", der)
	}
}

// handshake has creds talk to a server of authority a that wants a client
// certificate of the same.
func (a *authority) handshake(creds credentials.TransportCredentials) error {
	cert, key := a.issue(&x509.Certificate{DNSNames: []string{"xds.example"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatal(err)
	}
	defer lis.Close()
	done := make(chan error, 1)
	go func() {
		server, err := lis.Accept()
		if err != nil {
			done <- err
			return
		}
		defer server.Close()
		done <- tls.Server(server, &tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}},
			ClientAuth:   tls.RequireAndVerifyClientCert, ClientCAs: pool, NextProtos: []string{"h2"},
		}).Handshake()
	}()
	client, err := net.Dial("tcp", lis.Addr().String())
	if err != nil {
		a.t.Fatal(err)
	}
	defer client.Close()
	_, _, err = creds.ClientHandshake(context.Background(), "xds.example", client)
	if err != nil {
		return err
	}
	return <-done
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	text := fmt.Sprintf(`{"xds_servers": [{"server_uri": "xds.example:443", "channel_creds": [{"type": "tls", "config": {
		"ca_certificate_file": %q, "certificate_file": %q, "private_key_file": %q, "refresh_interval": "600s"}}]}]}`,
		filepath.Join(dir, "ca.pem"), filepath.Join(dir, "client.pem"), filepath.Join(dir, "client-key.pem"))
	c, err := bootstrap.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	creds := c.Servers[0].Creds.Clone()

	a := newAuthority(t)
	if err := a.handshake(creds); err == nil || !strings.Contains(err.Error(), "ca_certificate_file: open") {
		t.Errorf("without files: error %v, want one that names ca_certificate_file", err)
	}
	install := func(a *authority) {
		a.write(dir, "ca", a.cert, nil)
		cert, key := a.issue(&x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		a.write(dir, "client", cert, key)
	}
	install(a)
	if err := a.handshake(creds); err != nil {
		t.Errorf("with files: %v", err)
	}
	renewed := newAuthority(t)
	if err := renewed.handshake(creds); err == nil {
		t.Error("a server of another authority was trusted")
	}
	install(renewed)
	if err := renewed.handshake(creds); err != nil {
		t.Errorf("with renewed files: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := renewed.handshake(creds); err == nil || !strings.Contains(err.Error(), "no PEM certificate") {
		t.Errorf("with an empty CA file: error %v, want one that says so", err)
	}
}
