package interceptors

import (
	"context"
	"encoding/base64"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/meshframe/meshframe/mesh/snapshot"
)

// edited returns ctx with the edits applied to its outgoing metadata. gRPC keeps
// some headers to itself, user-agent among them: edits of those have no effect.
func edited(ctx context.Context, edits []*snapshot.HeaderEdits) context.Context {
	if len(edits) == 0 {
		return ctx
	}
	md, ok := metadata.FromOutgoingContext(ctx)
	if !ok {
		md = metadata.MD{}
	}
	edit(md, edits)
	return metadata.NewOutgoingContext(ctx, md)
}

// headers lets edits change metadata.
type headers metadata.MD

func (h headers) Header(name string) (string, bool) { return joined(name, h[name]) }
func (h headers) Set(name, value string)            { h[name] = []string{unwired(name, value)} }
func (h headers) Add(name, value string)            { h[name] = append(h[name], unwired(name, value)) }
func (h headers) Del(name string)                   { delete(h, name) }

// unwired is what gRPC has of a header in its metadata: edits are of what goes over the
// wire, which of binary headers is in base64. What is not stays as it is.
func unwired(name, value string) string {
	if !strings.HasSuffix(name, "-bin") {
		return value
	}
	data, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
	if err != nil {
		return value
	}
	return string(data)
}

// joined is how matchers see a header with several values.
func joined(name string, values []string) (string, bool) {
	switch {
	case len(values) == 0:
		return "", false
	case len(values) == 1:
		return values[0], true
	case name == "cookie":
		return strings.Join(values, "; "), true
	}
	return strings.Join(values, ","), true
}

// edit applies edits to md, each set of them after the one before.
func edit(md metadata.MD, edits []*snapshot.HeaderEdits) {
	for _, e := range edits {
		e.Apply(headers(md))
	}
}

// editResponse applies edits to the headers of a response, of which either may be
// nil. gRPC shows those of a response that has nothing else as its trailer; a call
// that no server answered has none.
func editResponse(header, trailer *metadata.MD, edits func(metadata.MD) metadata.MD) {
	switch {
	case edits == nil:
	case header != nil && len(*header) > 0:
		*header = edits(*header)
	case trailer != nil && isHeader(*trailer):
		*trailer = edits(*trailer)
	}
}

// isHeader reports whether a trailer is all that there is of a response: only the
// headers of one name the type of its content.
func isHeader(trailer metadata.MD) bool { return len(trailer["content-type"]) > 0 }
