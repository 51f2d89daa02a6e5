package balancer

import (
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	grpcbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/pick"
)

// TestRefusedStreams has the texts by which gRPC tells of streams that the server
// did not take. A row of internal/conformance holds that it still says the first.
func TestRefusedStreams(t *testing.T) {
	for _, c := range []struct {
		err     error
		refused bool
	}{
		{status.Error(codes.Unavailable, "stream terminated by RST_STREAM with error code: REFUSED_STREAM"), true},
		{status.Error(codes.Unavailable, "the stream is rejected because server is draining the connection"), true},
		{status.Error(codes.Unavailable, "error reading from server: EOF"), false},
		{status.Error(codes.Canceled, "stream terminated by RST_STREAM with error code: CANCEL"), false},
		{status.Error(codes.Unknown, "REFUSED_STREAM"), false},
		{errors.New("REFUSED_STREAM"), false},
	} {
		a := attemptOf(&grpcbalancer.DoneInfo{Err: c.err, BytesSent: true})
		if got := a.Conditions&outcome.RefusedStream != 0; got != c.refused {
			t.Errorf("%v: %t", c.err, got)
		}
		if a := attemptOf(&grpcbalancer.DoneInfo{Err: c.err, BytesSent: true, BytesReceived: true}); a.Conditions&outcome.RefusedStream != 0 {
			t.Errorf("%v, said by the server: it was taken", c.err)
		}
	}
}

// TestMeasure holds that peak EWMA learns of a stream how long its answer took, and of
// an attempt that was given up not that the host is fast.
func TestMeasure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for name, test := range map[string]struct {
			answered time.Duration // 0 is never
			took     time.Duration
			info     grpcbalancer.DoneInfo
			second   bool // the second host is preferred, which takes half a second
			slow     bool // what is known of the host
		}{
			"slow":                  {took: time.Second, info: grpcbalancer.DoneInfo{BytesReceived: true}, second: true},
			"fast":                  {took: time.Millisecond, info: grpcbalancer.DoneInfo{BytesReceived: true}},
			"a stream that lasts":   {answered: time.Millisecond, took: time.Hour, info: grpcbalancer.DoneInfo{BytesReceived: true}},
			"cancelled at last":     {answered: time.Millisecond, took: time.Hour, info: grpcbalancer.DoneInfo{Err: status.Error(codes.Canceled, ""), BytesReceived: true}},
			"cancelled":             {took: time.Millisecond, info: grpcbalancer.DoneInfo{Err: status.Error(codes.Canceled, ""), BytesSent: true}, second: true, slow: true},
			"cancelled, for longer": {took: time.Minute, info: grpcbalancer.DoneInfo{Err: status.Error(codes.Canceled, ""), BytesSent: true}, second: true, slow: true},
		} {
			states := []pick.ConnState{pick.Ready, pick.Ready}
			hosts := []pick.Host{{Address: "a", State: &pick.HostState{}}, {Address: "b", State: &pick.HostState{}}}
			p := &clusterPicker{picker: pick.New(pick.Config{Policy: pick.PeakEWMA, Decay: 1000 * time.Hour}, &pick.State{}, hosts, states, 0)}
			if test.slow {
				p.picker.DoneAfter(0, time.Now(), time.Second, false)
				time.Sleep(1000 * time.Hour)
			}
			p.picker.DoneAfter(1, time.Now(), time.Second/2, false)
			began, call := time.Now(), &mesh.Call{}
			if time.Sleep(test.answered); test.answered > 0 {
				call.Answer(time.Now())
			}
			time.Sleep(test.took - test.answered)
			p.measure(call, 0, began, &test.info)
			i, _ := p.picker.Pick(&pick.Input{Rand: rand.Uint64, Now: time.Now()})
			if (i == 1) != test.second {
				t.Errorf("%s: host %d is preferred", name, i)
			}
		}
	})
}

// TestUnsendable tells what this side could not send from what became of connections
// and from what servers say.
func TestUnsendable(t *testing.T) {
	tooLarge := status.Error(codes.ResourceExhausted, "trying to send message larger than max (2 vs. 1)")
	for _, c := range []struct {
		info   grpcbalancer.DoneInfo
		unsent bool
	}{
		{grpcbalancer.DoneInfo{Err: tooLarge, BytesSent: true}, true},
		{grpcbalancer.DoneInfo{Err: tooLarge, BytesSent: true, BytesReceived: true}, false}, // it may be the server's word
		{grpcbalancer.DoneInfo{Err: status.Error(codes.Internal, "grpc: error while marshaling: no"), BytesSent: true}, true},
		{grpcbalancer.DoneInfo{Err: status.Error(codes.Internal, "stream terminated by RST_STREAM with error code: PROTOCOL_ERROR"), BytesSent: true}, false},
		{grpcbalancer.DoneInfo{Err: status.Error(codes.ResourceExhausted, "stream terminated by RST_STREAM with error code: ENHANCE_YOUR_CALM"), BytesSent: true}, false},
		{grpcbalancer.DoneInfo{Err: status.Error(codes.Unauthenticated, "transport: per-RPC creds failed")}, true},
		{grpcbalancer.DoneInfo{Err: status.Error(codes.Unavailable, "transport is closing")}, false},
		{grpcbalancer.DoneInfo{Err: status.Error(codes.DeadlineExceeded, "context deadline exceeded")}, false},
		{grpcbalancer.DoneInfo{Err: status.Error(codes.Unknown, "x"), BytesSent: true}, false},
		{grpcbalancer.DoneInfo{BytesSent: true, BytesReceived: true}, false},
	} {
		if a := attemptOf(&c.info); a.Unsent() != c.unsent || c.unsent && a.Failed() {
			t.Errorf("%v: %+v", c.info.Err, a)
		}
	}
}
