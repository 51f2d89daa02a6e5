package snapshot

import (
	"encoding/base64"
	"strings"

	"github.com/meshframe/meshframe/mesh/pick"
	"github.com/meshframe/meshframe/mesh/route"
)

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
func (s *Session) Bind(address string) (header, value string) {
	value = base64.StdEncoding.EncodeToString([]byte(address))
	if s.Header != "" {
		return s.Header, value
	}
	b := strings.Builder{}
	writeCookie(&b, s.Cookie, value, s.TTL, s.Path)
	b.WriteString("; HttpOnly")
	return "set-cookie", b.String()
}

// decodeAddress reads an address as Bind writes it, or as Envoy does since 1.25:
// a protobuf message whose first field it is.
func decodeAddress(value string) string {
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return ""
	}
	const firstField = 1<<3 | 2 // of a message: a string
	if len(raw) > 2 && raw[0] == firstField {
		n := int(raw[1])
		if n > len(raw)-2 {
			return ""
		}
		raw = raw[2 : 2+n]
	}
	return string(raw)
}

// Override returns the state of the host with the given address, for a call
// that is bound to it; nil if there is none.
func (u *Upstream) Override(address string) *pick.HostState {
	if i, ok := u.byAddress[address]; ok {
		return &u.Hosts[i].State.HostState
	}
	return nil
}
