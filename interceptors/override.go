package interceptors

import (
	"context"
	"maps"

	"google.golang.org/grpc/metadata"

	"github.com/meshframe/meshframe/mesh/retry"
	"github.com/meshframe/meshframe/mesh/route"
)

// override makes the decision what is asked for by Envoy's request headers: by the
// edits of the route, and by the call if it may, from which it takes them. A call that
// asks for nothing costs no more than the copy that gRPC makes of its metadata, and
// one without metadata nothing.
func (c *call) override(method string) {
	if !c.client.asking {
		c.overrideBy(unasked{c}, method)
		return
	}
	md := c.outgoingMetadata()
	asks := asks(md)
	if !asks && !c.Decision.Actions.Asks() {
		return
	}
	c.overrideBy(c, method)
	if !asks {
		return
	}
	maps.DeleteFunc(md, func(name string, _ []string) bool { return retry.IsRequestHeader(name) })
	c.Context = metadata.NewOutgoingContext(c.Context, md)
}

// overrideBy is apart from override because here the request moves to the heap.
func (c *call) overrideBy(h route.Headers, method string) {
	r := c.request(c.client.target.Name(), method)
	r.Headers = h
	c.Decision.Override(&r)
	c.observe()
}

// unasked are the headers of a call without those by which it might ask for something.
type unasked struct{ *call }

func (u unasked) Header(name string) (string, bool) {
	if retry.IsRequestHeader(name) {
		return "", false
	}
	return u.call.Header(name)
}

// asks reports whether a call has any header by which it asks for something.
func asks(md metadata.MD) bool {
	for name := range md {
		if retry.IsRequestHeader(name) {
			return true
		}
	}
	return false
}

// withoutRetryHeaders takes from a call what the edits of its route ask for. The
// timeout stays: Envoy has looked at it by then.
func withoutRetryHeaders(ctx context.Context) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	maps.DeleteFunc(md, func(name string, _ []string) bool {
		return name != retry.TimeoutHeader && retry.IsRequestHeader(name)
	})
	return metadata.NewOutgoingContext(ctx, md)
}
