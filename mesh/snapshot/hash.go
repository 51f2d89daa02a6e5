package snapshot

import (
	"encoding/hex"
	"math/bits"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/meshframe/meshframe/mesh/route"
)

// Hash computes the key by which hashing policies choose a host from the
// route's hash policies (Envoy RouteAction.hash_policy, gRFC A42): each value is
// hashed by xxHash64 and mixed into the ones before it. ok is false if no policy
// gave a value. setCookie is the Set-Cookie header that a policy generated, for
// the response; "" is none.
func (s *Snapshot) Hash(e *RouteEntry, r *route.Request, rnd func() uint64) (hash uint64, ok bool, setCookie string) {
	for i := range e.hash {
		p := &e.hash[i]
		h, given := p.hash(r)
		switch {
		case given:
		case p.Kind == HashChannel:
			h, given = s.routes.defaults.live.channel(), true
		case p.Kind == HashCookie && p.HasTTL && setCookie == "":
			value := hexOf(rnd())
			setCookie = p.setCookie(value)
			h, given = xxhash.Sum64String(value), true
		}
		if given {
			if ok {
				h ^= bits.RotateLeft64(hash, 1)
			}
			hash, ok = h, true
		}
		if ok && p.Terminal {
			break
		}
	}
	return hash, ok, setCookie
}

// hash hashes what the policy reads of a request, if it is there.
func (p *HashPolicy) hash(r *route.Request) (hash uint64, ok bool) {
	var value string
	switch p.Kind {
	case HashHeader:
		if value, ok = r.Header(p.Name); ok && p.Regex != nil {
			value = p.Regex.replace(value)
		}
	case HashCookie:
		value = cookieOf(r, p.Name)
		ok = value != ""
	case HashSourceIP:
		if r.Source != nil {
			value = r.Source.SourceIP()
		}
		ok = value != ""
	case HashQuery:
		value, ok = r.QueryParameter(p.Name)
	case HashChannel:
		return r.Channel, r.Channel != 0
	}
	if !ok {
		return 0, false
	}
	return xxhash.Sum64String(value), true
}

// setCookie is the Set-Cookie header that gives a client the generated value.
func (p *HashPolicy) setCookie(value string) string {
	b := strings.Builder{}
	writeCookie(&b, p.Name, value, p.TTL, p.Path)
	writeAttributes(&b, p.Attributes)
	return b.String()
}

// writeAttributes ends a cookie.
func writeAttributes(b *strings.Builder, list []HeaderEdit) {
	for i := range list {
		b.WriteString("; " + list[i].Name)
		if v := list[i].Value; v != "" {
			b.WriteString("=" + v)
		}
	}
	b.WriteString("; HttpOnly")
}

// writeCookie writes a cookie as Envoy does; a TTL of 0 is that of the session.
func writeCookie(b *strings.Builder, name, value string, ttl time.Duration, path string) {
	b.WriteString(name + `="` + value + `"`)
	if ttl > 0 {
		b.WriteString("; Max-Age=" + strconv.FormatInt(int64(ttl/time.Second), 10))
	}
	if path != "" {
		b.WriteString("; Path=" + path)
	}
}

// cookieOf returns the value of a request's cookie; "" if it is absent.
func cookieOf(r *route.Request, name string) string {
	header, ok := r.Header("cookie")
	if !ok {
		return ""
	}
	return cookieValue(header, name)
}

// cookieValue finds a cookie in a cookie header. The first of a name counts;
// double quotes around its value are no part of it.
func cookieValue(header, name string) string {
	for len(header) > 0 {
		var pair string
		pair, header, _ = strings.Cut(header, ";")
		key, value, ok := strings.Cut(strings.Trim(pair, " \t"), "=")
		if !ok || key != name {
			continue
		}
		if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
			value = value[1 : len(value)-1]
		}
		return value
	}
	return ""
}

func hexOf(n uint64) string {
	var b [8]byte
	for i := range b {
		b[i] = byte(n >> (56 - 8*i))
	}
	return hex.EncodeToString(b[:])
}
