package srvframe

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
)

// Stop waits for the withdrawal to leave the process. That takes a fraction of a
// millisecond: until it is handed to the connection, which is noted here, and
// until gRPC has written it, of which nobody is told.
const (
	// withdrawalPatience bounds the first: a control plane that does not read must
	// not hold a stopping program up.
	withdrawalPatience = 50 * time.Millisecond
	// withdrawalWrite is enough for the second.
	withdrawalWrite = 5 * time.Millisecond
)

// listenerType ends the type URL of the resources that register servers.
const listenerType = ".Listener"

// withdrawals watches the streams to the control plane for the end of
// subscriptions, which is what withdraws a server. A program that ends too soon
// would take the message with it, and its endpoint would stay until the control
// plane gives it up.
type withdrawals struct {
	mu      sync.Mutex
	streams int // open
	waiting []*withdrawal
}

// withdrawal is a set of subscriptions that are about to end.
type withdrawal struct {
	names []string // those whose end was not sent yet
	sent  chan struct{}
}

// expect returns a channel that is closed once the end of every subscription was
// sent. It must be called before they end. Without a stream there is nobody to
// tell, and nothing to wait for.
func (w *withdrawals) expect(names []string) (sent <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	expected := &withdrawal{names: names, sent: make(chan struct{})}
	w.waiting = append(w.waiting, expected)
	w.release()
	return expected.sent
}

// await waits until the withdrawal has left, as far as that can be known.
func await(sent <-chan struct{}) {
	timer := time.NewTimer(withdrawalPatience)
	defer timer.Stop()
	select {
	case <-sent:
		timer.Reset(withdrawalWrite)
		<-timer.C
	case <-timer.C:
	}
}

// release tells those who have nothing more to wait for. The caller holds the lock.
func (w *withdrawals) release() {
	w.waiting = slices.DeleteFunc(w.waiting, func(expected *withdrawal) bool {
		done := len(expected.names) == 0 || w.streams == 0
		if done {
			close(expected.sent)
		}
		return done
	})
}

// note takes a request that was sent.
func (w *withdrawals) note(request any) {
	var ended func(name string) bool
	switch r := request.(type) {
	case *discoveryv3.DeltaDiscoveryRequest:
		if len(r.GetResourceNamesUnsubscribe()) == 0 {
			return
		}
		ended = func(name string) bool { return slices.Contains(r.GetResourceNamesUnsubscribe(), name) }
	case *discoveryv3.DiscoveryRequest:
		if !strings.HasSuffix(r.GetTypeUrl(), listenerType) {
			return
		}
		ended = func(name string) bool { return !slices.Contains(r.GetResourceNames(), name) }
	default:
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, expected := range w.waiting {
		expected.names = slices.DeleteFunc(expected.names, ended)
	}
	w.release()
}

// intercept is a grpc.StreamClientInterceptor for the connections to control
// planes.
func (w *withdrawals) intercept(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	var open, ended bool // guarded by w.mu
	finish := grpc.OnFinish(func(error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if ended = true; open {
			w.streams--
			w.release()
		}
	})
	stream, err := streamer(ctx, desc, cc, method, append(slices.Clone(opts), finish)...)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !ended {
		open = true
		w.streams++
	}
	return withdrawalStream{ClientStream: stream, withdrawals: w}, nil
}

// withdrawalStream is a stream whose requests are noted.
type withdrawalStream struct {
	grpc.ClientStream

	withdrawals *withdrawals
}

// SendMsg implements grpc.ClientStream.
func (s withdrawalStream) SendMsg(request any) error {
	err := s.ClientStream.SendMsg(request)
	if err == nil {
		s.withdrawals.note(request)
	}
	return err
}
