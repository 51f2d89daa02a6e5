package conformance

import (
	"errors"
	"fmt"
	"net"

	"github.com/pires/go-proxyproto"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// introduced are the credentials of a server whose connections must begin with a header of the PROXY protocol, of one
// version.
type introduced struct {
	credentials.TransportCredentials

	version byte
}

func introducedBy(version byte) credentials.TransportCredentials {
	return introduced{insecure.NewCredentials(), version}
}

var errNoHeader = errors.New("the connection has no header of the PROXY protocol")

// ServerHandshake implements credentials.TransportCredentials.
func (c introduced) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	conn := proxyproto.NewConn(raw, proxyproto.WithPolicy(proxyproto.REQUIRE))
	switch h := conn.ProxyHeader(); {
	case h == nil:
		return nil, nil, errNoHeader
	case h.Version != c.version:
		return nil, nil, fmt.Errorf("the header is of version %d, want %d", h.Version, c.version)
	}
	return c.TransportCredentials.ServerHandshake(conn)
}

// Clone implements credentials.TransportCredentials.
func (c introduced) Clone() credentials.TransportCredentials { return c }
