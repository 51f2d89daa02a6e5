package interceptors

import (
	"context"
	"maps"

	"google.golang.org/grpc/metadata"

	"github.com/meshframe/meshframe/mesh/retry"
)

// override makes the decision what the call asks for by Envoy's request headers, and
// takes those from what is sent. A call that asks for nothing costs no more than the
// copy that gRPC makes of its metadata, and one without metadata nothing.
func (c *call) override(method string) {
	md := c.outgoingMetadata()
	asks := asks(md)
	if !asks && !c.Decision.Actions.Asks() {
		return
	}
	r := c.request(c.client.target.Name(), method)
	c.Decision.Override(&r)
	c.observe()
	if !asks {
		return
	}
	maps.DeleteFunc(md, func(name string, _ []string) bool { return retry.IsRequestHeader(name) })
	c.Context = metadata.NewOutgoingContext(c.Context, md)
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
