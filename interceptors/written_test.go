package interceptors

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/meshframe/meshframe/mesh/breaker"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/retry"
	"github.com/meshframe/meshframe/mesh/snapshot"
	"github.com/meshframe/meshframe/resolver/watch"
)

// endedStream is a stream that has ended in another goroutine, which has written
// the options that ask for headers and has yet to say so.
type endedStream struct {
	grpc.ClientStream // nil

	ends func()
	last error // of RecvMsg
}

func (s *endedStream) Header() (metadata.MD, error) { return metadata.Pairs("from", "server"), nil }

func (s *endedStream) RecvMsg(any) error { return s.last }

func (s *endedStream) CloseSend() error { return nil }

// TestHeadersAreWrittenWhenAStreamEnds has the caller receive the end of a stream
// before OnFinish is called, and looks at the headers then, and in OnFinish.
func TestHeadersAreWrittenWhenAStreamEnds(t *testing.T) {
	t.Parallel()
	cc, err := grpc.NewClient("passthrough:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	for name, last := range map[string]error{"end": io.EOF, "only message": nil} {
		for _, retries := range []*retry.Policy{nil, {On: outcome.GRPCUnavailable, NumRetries: 1}} {
			c := (&Client{target: &watch.Target{}}).newCall(t.Context())
			c.Decision.Actions = &snapshot.Actions{ResponseHeaders: []*snapshot.HeaderEdits{{Edits: []snapshot.HeaderEdit{{Name: "edited", Value: "yes"}}}}}
			c.Decision.Upstream = &snapshot.Upstream{State: &snapshot.ClusterState{}, Cluster: &snapshot.Cluster{Limits: breaker.NoLimits}}
			c.Decision.Retry = retries
			inner := &endedStream{last: last}
			streamer := func(_ context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
				for _, o := range opts {
					if o, ok := o.(grpc.HeaderCallOption); ok {
						*o.HeaderAddr = metadata.Pairs("from", "server")
					}
				}
				inner.ends = func() { finish(opts, nil) }
				return inner, nil
			}
			var header, heard metadata.MD
			st, err := c.stream(breaker.Permit{}, &grpc.StreamDesc{ServerStreams: last != nil}, cc, "/a.B/C", streamer, []grpc.CallOption{
				grpc.Header(&header), grpc.OnFinish(func(error) { heard = header.Copy() }),
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := st.RecvMsg(&emptypb.Empty{}); !errors.Is(err, last) {
				t.Errorf("received %v", err)
			}
			if len(header["edited"]) != 1 || len(header["from"]) != 1 {
				t.Errorf("%s, retries %v: when the end was received the headers were %v", name, retries != nil, header)
			}
			inner.ends()
			if len(heard["edited"]) != 1 || len(heard["from"]) != 1 {
				t.Errorf("%s, retries %v: OnFinish found the headers %v", name, retries != nil, heard)
			}
		}
	}
}

// TestCommittedStreamKnowsItsServer has a stream that is left to an attempt hear of
// the answer: its caller may look at the headers from then on, and who sent them is
// known.
func TestCommittedStreamKnowsItsServer(t *testing.T) {
	t.Parallel()
	a := &attempt{call: *newCall(t.Context()), stream: &endedStream{}}
	a.Picked, a.PickedHost = &snapshot.Upstream{}, 2
	s := &retriedStream{}
	s.call, s.news = newCall(t.Context()), sync.NewCond(&s.mu)
	s.over, s.best = true, a
	if err := s.answer(a); err != nil {
		t.Fatal(err)
	}
	if s.Picked != a.Picked || s.PickedHost != a.PickedHost {
		t.Errorf("picked host %d of %v, want host %d of %v", s.PickedHost, s.Picked, a.PickedHost, a.Picked)
	}
}
