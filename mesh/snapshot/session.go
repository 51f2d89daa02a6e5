package snapshot

import (
	"encoding/base64"
	"encoding/binary"
	"strings"

	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/route"
)

// effectiveSession returns the most specific policy; nil is none. Without the
// listener's filter there is none.
func effectiveSession(listener *Session, specific ...*Session) *Session {
	if listener == nil {
		return nil
	}
	session := listener
	for _, s := range specific {
		if s != nil {
			session = s
		}
	}
	if session.Cookie == "" && session.Header == "" {
		return nil
	}
	return session
}

// Covers reports whether the session is one for requests with a path: those that
// a cookie's path is for.
func (s *Session) Covers(path string) bool {
	if s.Header != "" || s.Path == "" || s.Path == "/" {
		return true
	}
	rest, ok := strings.CutPrefix(path, s.Path)
	return ok && (rest == "" || strings.HasSuffix(s.Path, "/") || strings.IndexByte("/?#", rest[0]) >= 0)
}

// Host returns the address that a request is bound to; "" if to none.
func (s *Session) Host(r *route.Request) string {
	var value string
	if s.Header != "" {
		value, _ = r.Header(s.Header)
	} else {
		value = cookieOf(r, s.Cookie)
	}
	return decodeAddress(value)
}

// Bind returns the response header that binds a client to the host of an
// address. It is to be sent unless the request was bound to that host already.
// As in Envoy a header holds the address in Base64, and a cookie a message of it.
func (s *Session) Bind(address string) (header, value string) {
	if s.Header != "" {
		return s.Header, base64.StdEncoding.EncodeToString([]byte(address))
	}
	raw := binary.AppendUvarint([]byte{addressField}, uint64(len(address)))
	b := strings.Builder{}
	writeCookie(&b, s.Cookie, base64.StdEncoding.EncodeToString(append(raw, address...)), s.TTL, s.Path)
	writeAttributes(&b, s.Attributes)
	return "set-cookie", b.String()
}

// The fields of the message in Envoy's cookies, envoy.Cookie. The time of the
// second is that of the clock of the proxy that wrote it, and so is not read.
const (
	addressField = 1<<3 | 2 // a string
	expiresField = 2 << 3   // a number
)

// decodeAddress reads an address as Envoy writes it, before 1.25 and since, and
// as gRPC does (gRFC A55 and A60), which lets more addresses and the name of the
// cluster follow.
func decodeAddress(value string) string {
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return ""
	}
	address := string(raw)
	if len(raw) > 0 && (raw[0] == addressField || raw[0] == expiresField) { // no address begins so
		address = readMessage(raw)
	}
	address, _, _ = strings.Cut(address, ";")
	address, _, _ = strings.Cut(address, ",")
	return address
}

// readMessage reads an envoy.Cookie; "" if it is none.
func readMessage(raw []byte) (address string) {
	for len(raw) > 0 {
		field := raw[0]
		n, size := binary.Uvarint(raw[1:])
		if size <= 0 {
			return ""
		}
		raw = raw[1+size:]
		switch {
		case field == addressField && n <= uint64(len(raw)):
			address, raw = string(raw[:n]), raw[n:]
		case field != expiresField:
			return ""
		}
	}
	return address
}

// Override returns the state of the host with the given address, for a call
// that is bound to it; nil if there is none.
func (u *Upstream) Override(address string) *pick.HostState {
	if address == "" {
		return nil
	}
	if i, ok := u.byAddress()[address]; ok {
		return &u.Hosts[i].State.HostState
	}
	return nil
}

// index finds hosts by address.
func (u *Upstream) index() map[string]int {
	byAddress := make(map[string]int, len(u.Hosts))
	for i := range u.Hosts {
		byAddress[u.Hosts[i].Address] = i
	}
	return byAddress
}
