package srvframe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/meshframe/meshframe/internal/xdstest"
)

// openStream is a stream that takes everything.
type openStream struct{ grpc.ClientStream }

func (openStream) SendMsg(any) error { return nil }

// TestWithdrawals shows which requests tell that subscriptions have ended, in
// either variant of the protocol.
func TestWithdrawals(t *testing.T) {
	const listeners = "type.googleapis.com/envoy.config.listener.v3.Listener"
	for name, test := range map[string]struct {
		before, last any // nothing is withdrawn before the last
	}{
		"delta": {
			&discoveryv3.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{"a", "other"}},
			&discoveryv3.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{"b"}},
		},
		"state of the world": {
			&discoveryv3.DiscoveryRequest{TypeUrl: listeners, ResourceNames: []string{"b", "other"}},
			&discoveryv3.DiscoveryRequest{TypeUrl: listeners, ResourceNames: []string{"other"}},
		},
		"another type": {
			&discoveryv3.DiscoveryRequest{TypeUrl: "type.googleapis.com/envoy.config.cluster.v3.Cluster"},
			&discoveryv3.DiscoveryRequest{TypeUrl: listeners},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := &withdrawals{}
			stream, end := openTo(t, w)
			sent := w.expect([]string{"a", "b"})
			for i, request := range []any{test.before, test.last} {
				select {
				case <-sent:
					t.Errorf("withdrawn before request %d", i)
				default:
				}
				if err := stream.SendMsg(request); err != nil {
					t.Fatal(err)
				}
			}
			<-sent
			end()
		})
	}
}

// TestNobodyToTell shows that nothing is waited for without a stream.
func TestNobodyToTell(t *testing.T) {
	w := &withdrawals{}
	<-w.expect([]string{"a"})
	_, end := openTo(t, w)
	sent := w.expect([]string{"a"})
	end()
	<-sent
	_, err := w.intercept(t.Context(), nil, nil, "", func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, ...grpc.CallOption) (grpc.ClientStream, error) {
		return nil, errors.New("refused")
	})
	if err == nil {
		t.Error("a stream that could not be opened was")
	}
	<-w.expect([]string{"a"})
}

// TestStreamsOfTargets shows that targets which have streams of their own tell
// nothing of the withdrawal of servers: none of their requests names those.
func TestStreamsOfTargets(t *testing.T) {
	const name = "reviews:9080"
	first, next := xdstest.NewControlPlane(t), xdstest.NewControlPlane(t)
	first.Set(xdstest.Listener(name), xdstest.Routes(name, xdstest.Route(nil, "c")), xdstest.Cluster("c"), xdstest.Endpoints("c"))
	m, err := Join(t.Context(), Options{Logger: slog.New(slog.DiscardHandler), Bootstrap: fmt.Appendf(nil,
		`{"xds_servers":[{"server_uri":%q,"channel_creds":[{"type":"insecure"}]},{"server_uri":%q,"channel_creds":[{"type":"insecure"}]}]}`,
		first.Addr(), next.Addr())})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	target := m.watch.Target(name)
	defer target.Return()
	defer target.Acquire().Release()
	for p, _, changed := target.Current(); p.Snapshot == nil; p, _, changed = target.Current() {
		<-changed
	}
	select {
	case <-m.withdrawals.expect([]string{"a server"}):
	default:
		t.Error("the stream of a target counts as one that a server is withdrawn on")
	}
}

// TestWithdrawnOnce shows that a Stop after GracefulStop does not wait for what
// was sent already, and that nobody waits for ever.
func TestWithdrawnOnce(t *testing.T) {
	w := &withdrawals{}
	stream, end := openTo(t, w)
	defer end()
	s := newServer(nil)
	s.mesh = &Mesh{withdrawals: w}
	s.leases[&lease{name: "a", cancel: func() {}}] = struct{}{}
	s.deregister()
	if err := stream.SendMsg(&discoveryv3.DeltaDiscoveryRequest{ResourceNamesUnsubscribe: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.deregister():
	default:
		t.Error("it waits for a second withdrawal")
	}
	if len(w.waiting) != 0 {
		t.Errorf("%d wait", len(w.waiting))
	}
}

// openTo opens a stream that is noted, and returns what ends it.
func openTo(t *testing.T, w *withdrawals) (stream grpc.ClientStream, end func()) {
	t.Helper()
	var onFinish func(error)
	stream, err := w.intercept(t.Context(), nil, nil, "", func(_ context.Context, _ *grpc.StreamDesc, _ *grpc.ClientConn, _ string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		for _, opt := range opts {
			if finish, ok := opt.(grpc.OnFinishCallOption); ok {
				onFinish = finish.OnFinish
			}
		}
		return openStream{}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return stream, func() { onFinish(nil) }
}
