package xdsserver

import (
	"slices"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/meshframe/meshframe/xdsserver/translate"
)

// inbound is what a stream has said of the inbound listeners that it subscribes to. A server serves once it has
// accepted a listener, and goes on by that one when it refuses a later one (gRFC A36): with the first acceptance it is
// registered, and until then it is not.
//
// A client's mutex guards it.
type inbound struct {
	listeners map[string]*inboundListener // by name
	response  string                      // nonce of the last response with listeners
	names     []string                    // in that response

	// What the client had when the stream began: all that its first request for listeners asks for, or listeners by name.
	// What it asks for later is new.
	asked  bool
	hadAll bool
	had    map[string]string
}

type inboundListener struct {
	nonce    string // of the last response that it was in; "" if that was answered
	accepted bool
}

// had notes what the first request of a stream for listeners says that the client has accepted before.
func (c *client) had(typeURL string, versions map[string]string, all bool) {
	if typeURL != resource.ListenerType {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inbound.asked {
		versions, all = nil, false
	}
	c.inbound.asked, c.inbound.had, c.inbound.hadAll = true, versions, all
}

// listening notes a subscription to an inbound listener.
func (c *client) listening(name string) {
	c.mu.Lock()
	l := &inboundListener{accepted: c.inbound.hadAll || c.inbound.had[name] != ""}
	if c.inbound.listeners == nil {
		c.inbound.listeners = map[string]*inboundListener{}
	}
	c.inbound.listeners[name] = l
	c.mu.Unlock()
	if l.accepted {
		c.server.leases.acquire(c, strings.TrimPrefix(name, translate.InboundPrefix))
	}
}

// notListening notes the end of a subscription.
func (c *client) notListening(name string, lost bool) {
	c.mu.Lock()
	delete(c.inbound.listeners, name)
	c.mu.Unlock()
	c.server.leases.release(c, strings.TrimPrefix(name, translate.InboundPrefix), lost)
}

// sentListeners notes a response.
func (c *client) sentListeners(nonce string, names []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inbound.response, c.inbound.names = nonce, names
	for _, name := range names {
		if l := c.inbound.listeners[name]; l != nil {
			l.nonce = nonce
		}
	}
}

// answered notes that the client has accepted a response, or refused it for a reason; "" is none.
func (c *client) answered(nonce, refusal string) {
	var serving, refused []string
	c.mu.Lock()
	others := c.inbound.response == nonce && slices.ContainsFunc(c.inbound.names, func(name string) bool { return mentions(refusal, name) })
	for name, l := range c.inbound.listeners {
		if l.nonce != nonce {
			continue
		}
		l.nonce = ""
		switch {
		case l.accepted:
		case refusal == "" || others && !mentions(refusal, name):
			l.accepted = true
			serving = append(serving, name)
		default:
			refused = append(refused, name)
		}
	}
	c.mu.Unlock()
	for _, name := range serving {
		c.server.leases.acquire(c, strings.TrimPrefix(name, translate.InboundPrefix))
	}
	for _, name := range refused {
		c.server.log.Warn("a server is not registered, because it does not accept its listener", "node", c.node.id,
			"remote", c.remote, "listener", strings.TrimPrefix(name, translate.InboundPrefix), "error", refusal)
	}
}

// mentions reports whether a text has the name of a listener, which ends with a port.
func mentions(text, name string) bool {
	for name != "" {
		_, rest, ok := strings.Cut(text, name)
		if !ok {
			return false
		}
		if rest == "" || rest[0] < '0' || rest[0] > '9' {
			return true
		}
		text = rest
	}
	return false
}

// namesOf are the names of the resources of a response with listeners.
func namesOf(list []*discoveryv3.Resource) []string {
	names := make([]string, 0, len(list))
	for _, r := range list {
		names = append(names, r.GetName())
	}
	return names
}

// namesIn are likewise, of the protocol that has the names in the resources only. They are looked into where there is
// an inbound listener that is not accepted yet.
func (c *client) namesIn(list []*anypb.Any) []string {
	c.mu.Lock()
	waiting := false
	for _, l := range c.inbound.listeners {
		waiting = waiting || !l.accepted
	}
	c.mu.Unlock()
	if !waiting {
		return nil
	}
	names := make([]string, 0, len(list))
	for _, r := range list {
		var l listenerv3.Listener
		if r.UnmarshalTo(&l) == nil {
			names = append(names, l.GetName())
		}
	}
	return names
}
