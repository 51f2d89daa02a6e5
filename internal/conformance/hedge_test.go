package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/srvframe"
	"github.com/meshframe/meshframe/srvframe/meshtest"
)

// hedged is a mesh in which an attempt at reviews:9080 that is not answered within
// perTry gets another beside it, up to three more.
func hedged(perTry string) string {
	return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http: [{retries: {attempts: 3, perTryTimeout: %s, retryOn: "unavailable"}, route: [{destination: {host: reviews}}]}]
---
apiVersion: networking.meshframe.dev/v1alpha1
kind: MeshPolicy
metadata: {name: reviews}
spec: {host: reviews, hedge: {onPerTryTimeout: true}}
`, perTry)
}

// serve starts a server that treats the attempts in turn, the last all the rest,
// and returns a client of it.
func serve(mesh *meshtest.Mesh, attempts ...grpc.StreamHandler) *grpc.ClientConn {
	var n atomic.Int64
	mesh.Server("reviews:9080", nil, func(grpc.ServiceRegistrar) {}, smallWindow, wideConnection, grpc.UnknownServiceHandler(func(srv any, stream grpc.ServerStream) error {
		i := int(n.Add(1))
		err := errors.Join(stream.SetHeader(metadata.Pairs("attempt", fmt.Sprint(i))))
		stream.SetTrailer(metadata.Pairs("attempt", fmt.Sprint(i)))
		return errors.Join(err, attempts[min(i, len(attempts))-1](srv, stream))
	}))
	return mesh.Client("reviews:9080")
}

// smallWindow is as much as a server lets through on a stream that it does not
// read, and wideConnection is so much that its streams do not wait for each other.
// Without both gRPC widens windows as it sees fit.
var (
	smallWindow    = grpc.InitialWindowSize(64 << 10)
	wideConnection = grpc.InitialConnWindowSize(16 << 20)
)

// deaf is a server that reads nothing until its caller has gone.
func deaf(gone chan<- error) grpc.StreamHandler {
	return func(_ any, stream grpc.ServerStream) error {
		<-stream.Context().Done()
		gone <- stream.Context().Err()
		return status.FromContextError(stream.Context().Err()).Err()
	}
}

// gather answers with all that it was sent, once there is no more.
func gather(_ any, stream grpc.ServerStream) error {
	var all []string
	for {
		var message wrapperspb.StringValue
		err := stream.RecvMsg(&message)
		if errors.Is(err, io.EOF) {
			return stream.SendMsg(wrapperspb.String(strings.Join(all, " ")))
		}
		if err != nil {
			return err
		}
		all = append(all, message.GetValue())
	}
}

var bidi = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// told are what a caller's options hear of.
type told struct {
	header, trailer metadata.MD
	peer            peer.Peer
	ends            chan error
}

func (o *told) options() []grpc.CallOption {
	o.ends = make(chan error, 10)
	return []grpc.CallOption{
		grpc.Header(&o.header), grpc.Trailer(&o.trailer), grpc.Peer(&o.peer), grpc.OnFinish(func(err error) { o.ends <- err }),
	}
}

// by checks that the options heard of one end, without an error, of the attempt.
func (o *told) by(t *testing.T, attempt string) {
	t.Helper()
	if err := <-o.ends; err != nil || len(o.ends) > 0 {
		t.Errorf("OnFinish(%v), and %d times more", err, len(o.ends))
	}
	header, trailer := strings.Join(o.header.Get("attempt"), ","), strings.Join(o.trailer.Get("attempt"), ",")
	if header != attempt || trailer != attempt || o.peer.Addr == nil {
		t.Errorf("header of attempt %q, trailer of %q, peer %v; want %s", header, trailer, o.peer.Addr, attempt)
	}
}

// send sends n messages of so many bytes and returns them.
func send(t *testing.T, stream grpc.ClientStream, n, bytes int) []string {
	t.Helper()
	var sent []string
	for i := range n {
		text := fmt.Sprintf("%0*d", bytes, i)
		if err := stream.SendMsg(wrapperspb.String(text)); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		sent = append(sent, text)
	}
	return sent
}

// ends receives to the good end of a stream and returns what came.
func ends(t *testing.T, stream grpc.ClientStream) string {
	t.Helper()
	var got []string
	for {
		var message wrapperspb.StringValue
		err := stream.RecvMsg(&message)
		if errors.Is(err, io.EOF) {
			return strings.Join(got, "|")
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, message.GetValue())
	}
}

// TestHedgedStreamSendsAllToEach sends before and after a second attempt has
// begun, which gets it all, and wins.
func TestHedgedStreamSendsAllToEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan error, 1)
		cc := serve(meshtest.New(t, hedged("1s"), meshtest.InMemory()), deaf(gone), gather)
		var told told
		stream, err := cc.NewStream(t.Context(), bidi, "/shop.Reviews/Get", told.options()...)
		if err != nil {
			t.Fatal(err)
		}
		sent := send(t, stream, 10, 4)
		time.Sleep(1500 * time.Millisecond)
		sent = append(sent, send(t, stream, 10, 4)...)
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if got, want := ends(t, stream), strings.Join(sent, " "); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		told.by(t, "2")
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Errorf("the attempt that lost ended with %v", err)
		}
		if got := stream.Trailer().Get("attempt"); len(got) != 1 || got[0] != "2" {
			t.Errorf("trailer of attempt %v", got)
		}
	})
}

// TestHedgedStreamDoesNotWaitForTheDeaf sends more than the first server lets
// through that does not read: less than is kept, and more.
func TestHedgedStreamDoesNotWaitForTheDeaf(t *testing.T) {
	for _, n := range []int{100, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cc := serve(meshtest.New(t, hedged("1s"), meshtest.InMemory()), deaf(make(chan error, 1)), gather)
				var told told
				began := time.Now()
				stream, err := cc.NewStream(t.Context(), bidi, "/shop.Reviews/Get", append(told.options(), grpc.MaxCallRecvMsgSize(8<<20))...)
				if err != nil {
					t.Fatal(err)
				}
				sent := send(t, stream, n, 2000)
				if err := stream.CloseSend(); err != nil {
					t.Fatal(err)
				}
				if ends(t, stream) != strings.Join(sent, " ") {
					t.Error("the server was not sent what the caller sent")
				}
				if took := time.Since(began); took != time.Second {
					t.Errorf("it took %v", took)
				}
				told.by(t, "2")
			})
		})
	}
}

// TestHedgedStreamHeaders shows that headers alone are an answer, and that the
// attempt which sent them goes on for as long as it likes.
func TestHedgedStreamHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan error, 1)
		cc := serve(meshtest.New(t, hedged("1s"), meshtest.InMemory()), deaf(gone), func(srv any, stream grpc.ServerStream) error {
			if err := stream.SendHeader(nil); err != nil {
				return err
			}
			time.Sleep(time.Hour)
			return gather(srv, stream)
		})
		var told told
		stream, err := cc.NewStream(t.Context(), bidi, "/shop.Reviews/Get", told.options()...)
		if err != nil {
			t.Fatal(err)
		}
		header, err := stream.Header()
		if err != nil || strings.Join(header.Get("attempt"), ",") != "2" {
			t.Errorf("headers %v, %v", header, err)
		}
		<-gone
		send(t, stream, 1, 1)
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if got := ends(t, stream); got != "0" {
			t.Errorf("got %q", got)
		}
		told.by(t, "2")
	})
}

// TestHedgedStreamsContext shows that who asks for the context of a stream has it
// left to the attempt that has taken most.
func TestHedgedStreamsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan error, 3)
		cc := serve(meshtest.New(t, hedged("1s"), meshtest.InMemory()), deaf(gone), gather, deaf(gone))
		var told told
		stream, err := cc.NewStream(t.Context(), bidi, "/shop.Reviews/Get", told.options()...)
		if err != nil {
			t.Fatal(err)
		}
		sent := send(t, stream, 100, 2000)
		if stream.Context() == nil {
			t.Error("no context")
		}
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if ends(t, stream) != strings.Join(sent, " ") {
			t.Error("the server was not sent what the caller sent")
		}
		told.by(t, "2")
	})
}

// TestHedgedStreamIsGivenUp ends a stream with several attempts by its caller.
func TestHedgedStreamIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := make(chan error, 4)
		cc := serve(meshtest.New(t, hedged("1s"), meshtest.InMemory()), deaf(gone))
		var told told
		ctx, cancel := context.WithCancel(t.Context())
		stream, err := cc.NewStream(ctx, bidi, "/shop.Reviews/Get", told.options()...)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(10*time.Second, cancel)
		if err := stream.RecvMsg(&wrapperspb.StringValue{}); status.Code(err) != codes.Canceled {
			t.Errorf("received %v", err)
		}
		for range 4 {
			<-gone
		}
		synctest.Wait()
		if err := <-told.ends; status.Code(err) != codes.Canceled || len(told.ends) > 0 {
			t.Errorf("OnFinish(%v), and %d times more", err, len(told.ends))
		}
	})
}

// TestHedgedStreamThatNobodyReceivesFrom ends with its channel, though every
// attempt has failed before.
func TestHedgedStreamThatNobodyReceivesFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		member := meshtest.New(t, hedged("1s"), meshtest.InMemory()).Member(srvframe.Options{Service: "reviews:9080"})
		member.Server(func(grpc.ServiceRegistrar) {}, grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
			return status.Error(codes.NotFound, "no")
		}))
		cc := member.Client("reviews:9080")
		var told told
		stream, err := cc.NewStream(t.Context(), bidi, "/shop.Reviews/Get", told.options()...)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(told.ends) > 0 {
			t.Errorf("OnFinish(%v) before anybody received", <-told.ends)
		}
		if err := cc.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-told.ends; status.Code(err) != codes.NotFound {
			t.Errorf("OnFinish(%v)", err)
		}
		if err := stream.RecvMsg(&wrapperspb.StringValue{}); status.Code(err) != codes.NotFound {
			t.Errorf("received %v", err)
		}
	})
}

// TestHedgedStreamRefusesWhatIsTooLarge ends a stream by what this side cannot
// send, though it is sent beside the caller.
func TestHedgedStreamRefusesWhatIsTooLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cc := serve(meshtest.New(t, hedged("1s"), meshtest.InMemory()), deaf(make(chan error, 1)))
		var told told
		stream, err := cc.NewStream(t.Context(), bidi, "/shop.Reviews/Get", append(told.options(), grpc.MaxCallSendMsgSize(10))...)
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.SendMsg(wrapperspb.String(strings.Repeat("x", 20))); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("sent with %v", err)
		}
		if err := <-told.ends; status.Code(err) != codes.ResourceExhausted || len(told.ends) > 0 {
			t.Errorf("OnFinish(%v), and %d times more", err, len(told.ends))
		}
		if err := stream.RecvMsg(&wrapperspb.StringValue{}); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("received %v", err)
		}
	})
}

// moody is a server that takes a while, reads little or all, and may fail.
func moody(rnd *rand.Rand, unit time.Duration) grpc.StreamHandler {
	var mu sync.Mutex
	draw := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rnd.IntN(n)
	}
	return func(srv any, stream grpc.ServerStream) error {
		wait := func() error {
			timer := time.NewTimer(time.Duration(draw(4)) * unit)
			defer timer.Stop()
			select {
			case <-timer.C:
				return nil
			case <-stream.Context().Done():
				return status.FromContextError(stream.Context().Err()).Err()
			}
		}
		if err := wait(); err != nil {
			return err
		}
		switch draw(4) {
		case 0:
			return status.Error(codes.Unavailable, "not now")
		case 1:
			if err := stream.SendHeader(nil); err != nil {
				return err
			}
		}
		if err := wait(); err != nil {
			return err
		}
		return gather(srv, stream)
	}
}

// TestHedgedStreamsUnderLoad makes many hedged streams at once at moody servers:
// each gets a right answer or the error that servers give, and ends once.
func TestHedgedStreamsUnderLoad(t *testing.T) {
	load := func(t *testing.T, cc *grpc.ClientConn, streams int) {
		var all sync.WaitGroup
		for i := range streams {
			all.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(i), 1))
				if err := oneStream(t, cc, rnd); err != nil {
					t.Errorf("stream %d: %v", i, err)
				}
			})
		}
		all.Wait()
	}
	t.Run("time passes", func(t *testing.T) {
		mesh := meshtest.New(t, hedged("2ms"))
		cc := serve(mesh, moody(rand.New(rand.NewPCG(1, 2)), time.Millisecond))
		for range 3 {
			load(t, cc, 50)
		}
	})
	t.Run("time stands still", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			mesh := meshtest.New(t, hedged("1s"), meshtest.InMemory())
			load(t, serve(mesh, moody(rand.New(rand.NewPCG(1, 2)), time.Second)), 200)
		})
	})
}

// oneStream plays a stream of some messages, some of which are large, and reports
// what is not as it must be.
func oneStream(t *testing.T, cc *grpc.ClientConn, rnd *rand.Rand) error {
	var told told
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	givesUp := rnd.IntN(10) == 0
	stream, err := cc.NewStream(ctx, bidi, "/shop.Reviews/Get", told.options()...)
	if err != nil {
		return err
	}
	var sent []string
	for i := range rnd.IntN(30) {
		text := strings.Repeat(fmt.Sprint(i%10), 1+rnd.IntN(2)*rnd.IntN(rnd.IntN(40_000)+1))
		if err := stream.SendMsg(wrapperspb.String(text)); err != nil {
			break // receiving says why
		}
		sent = append(sent, text)
	}
	if givesUp {
		cancel()
	}
	err = stream.CloseSend()
	var got wrapperspb.StringValue
	for ; err == nil; err = stream.RecvMsg(&got) {
	}
	code := status.Code(err)
	switch {
	case errors.Is(err, io.EOF) && got.GetValue() != strings.Join(sent, " "):
		return fmt.Errorf("got %d bytes of %d messages", len(got.GetValue()), len(sent))
	case errors.Is(err, io.EOF), code == codes.Unavailable && strings.Contains(err.Error(), "not now"), givesUp && code == codes.Canceled:
	default:
		return err
	}
	end := <-told.ends
	if givesUp && status.Code(end) == codes.Canceled {
		end = err // gRPC may say so, although all had been received
	}
	if ok := errors.Is(err, io.EOF); ok != (end == nil || errors.Is(end, io.EOF)) || len(told.ends) > 0 {
		return fmt.Errorf("ended with %w, OnFinish(%w) and %d times more", err, end, len(told.ends))
	}
	if header, trailer := told.header.Get("attempt"), told.trailer.Get("attempt"); errors.Is(err, io.EOF) && !givesUp && (len(header) != 1 || strings.Join(header, "") != strings.Join(trailer, "")) {
		return fmt.Errorf("header of attempt %v, trailer of %v", header, trailer)
	}
	return nil
}
