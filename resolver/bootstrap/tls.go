package bootstrap

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"

	"google.golang.org/grpc/credentials"
)

// fileTLS is the credentials type "tls" of gRFC A65: TLS, with a client
// certificate if one is named. The files are read at each handshake, so renewed
// ones need no refresh interval; a connection to a control plane lives long.
type fileTLS struct {
	roots     string // CA certificates; "" means the system's
	cert, key string // the client's; "" means none
}

// ClientHandshake implements credentials.TransportCredentials.
func (t *fileTLS) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	cfg, err := t.config()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(cfg).ClientHandshake(ctx, authority, conn)
}

// config reads the files.
func (t *fileTLS) config() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.roots != "" {
		pem, err := os.ReadFile(t.roots)
		if err != nil {
			return nil, fmt.Errorf("ca_certificate_file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_certificate_file %s: no PEM certificate in it", t.roots)
		}
	}
	if t.cert != "" {
		pair, err := tls.LoadX509KeyPair(t.cert, t.key)
		if err != nil {
			return nil, fmt.Errorf("certificate_file, private_key_file: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// ServerHandshake implements credentials.TransportCredentials; it fails.
func (t *fileTLS) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("bootstrap: these credentials are for clients")
}

// Info implements credentials.TransportCredentials.
func (t *fileTLS) Info() credentials.ProtocolInfo {
	return credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12}).Info()
}

// Clone implements credentials.TransportCredentials.
func (t *fileTLS) Clone() credentials.TransportCredentials {
	c := *t
	return &c
}

// OverrideServerName implements credentials.TransportCredentials. gRPC calls it
// no more; grpc.WithAuthority serves.
func (t *fileTLS) OverrideServerName(string) error {
	return errors.New("bootstrap: use grpc.WithAuthority")
}
