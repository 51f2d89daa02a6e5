package interceptors

import (
	"context"

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

// edit applies edits to md, each set of them after the one before.
func edit(md metadata.MD, edits []*snapshot.HeaderEdits) {
	for _, e := range edits {
		for _, name := range e.Remove {
			delete(md, name)
		}
		for _, h := range e.Edits {
			present := len(md[h.Name]) > 0
			switch h.Action {
			case snapshot.AppendOrAdd:
				md[h.Name] = append(md[h.Name], h.Value)
			case snapshot.AddIfAbsent:
				if !present {
					md[h.Name] = []string{h.Value}
				}
			case snapshot.OverwriteOrAdd:
				md[h.Name] = []string{h.Value}
			case snapshot.OverwriteIfExists:
				if present {
					md[h.Name] = []string{h.Value}
				}
			}
		}
	}
}
