package balancer

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	grpcbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh"
	"github.com/meshframe/meshframe/mesh/outcome"
	"github.com/meshframe/meshframe/mesh/retry"
)

// started reports whether the call got as far as the transport: gRPC calls
// Done with an empty DoneInfo when the picked connection was gone.
func started(info *grpcbalancer.DoneInfo) bool {
	return info.Err != nil || info.Trailer != nil || info.BytesSent || info.BytesReceived
}

// succeeded is the end of an attempt that went well.
var succeeded = outcome.OfGRPC(int32(codes.OK))

// attemptOf reads the end of an attempt from what the transport saw:
//
//	status  bytes received  bytes sent   conditions beside the status's own
//	error   yes             any          none: the server answered
//	error   no              yes          reset; refused-stream too, if the error says so
//	error   no              no           reset, reset-before-request, refused-stream
//
// A local deadline or cancellation is not a reset, and neither is what the caller
// could not send.
func attemptOf(info *grpcbalancer.DoneInfo) outcome.Attempt {
	if info.Err == nil {
		return succeeded
	}
	code := status.Code(info.Err)
	a := outcome.OfGRPC(int32(code))
	if info.BytesReceived {
		return a
	}
	a.LocalOrigin = true
	switch {
	case code == codes.Canceled || code == codes.DeadlineExceeded:
	case unsendable(info):
		return outcome.Attempt{GRPCStatus: int32(code), LocalOrigin: true}
	case info.BytesSent:
		a.Conditions |= outcome.Reset
		if refused(info.Err) {
			a.Conditions |= outcome.RefusedStream
		}
	default:
		a.Conditions |= outcome.Reset | outcome.ResetBeforeRequest | outcome.RefusedStream
	}
	return a
}

// unsendable reports whether an attempt that no server answered ended because there was
// nothing that could be sent: credentials failed, or a message was too large or of no
// type that the codec knows. gRPC calls what becomes of connections unavailable, and
// tells the rest apart by the text of the status only.
func unsendable(info *grpcbalancer.DoneInfo) bool {
	s := status.Convert(info.Err)
	switch s.Code() {
	case codes.Unavailable:
		return false
	case codes.Internal, codes.ResourceExhausted:
		return !info.BytesSent || slices.ContainsFunc(unsendableTexts, func(text string) bool { return strings.HasPrefix(s.Message(), text) })
	default:
		return !info.BytesSent
	}
}

var unsendableTexts = []string{
	"grpc: error while marshaling", "grpc: error while compressing", "grpc: message too large", "trying to send message larger than max",
}

// refused reports whether the server did not take the stream: by RST_STREAM, or by a GOAWAY that leaves it out. gRPC
// keeps what it knows of that to itself, but for the text of the status.
func refused(err error) bool {
	s := status.Convert(err)
	return s.Code() == codes.Unavailable &&
		(strings.HasSuffix(s.Message(), "REFUSED_STREAM") || strings.Contains(s.Message(), "server is draining the connection"))
}

// pushbackOf reads gRPC's retry pushback (gRFC A6): absent is 0, a number of
// milliseconds is that long (at least a nanosecond, to tell 0 from absent), and
// everything else forbids a retry.
func pushbackOf(trailer metadata.MD) time.Duration {
	v := trailer["grpc-retry-pushback-ms"]
	if len(v) == 0 {
		return 0
	}
	ms, err := strconv.ParseInt(v[0], 10, 32)
	if len(v) > 1 || err != nil || ms < 0 {
		return -1
	}
	return max(time.Duration(ms)*time.Millisecond, 1)
}

// readTrailer notes what the trailer of a failed attempt says about trying again.
func readTrailer(call *mesh.Call, trailer metadata.MD) {
	call.Pushback = pushbackOf(trailer)
	if call.Decision.Retry == nil {
		return
	}
	header := func(name string) (string, bool) {
		v := trailer[name]
		return strings.Join(v, ","), len(v) > 0
	}
	if _, limited := header("x-envoy-ratelimited"); limited {
		call.Last.Conditions |= outcome.EnvoyRateLimited
	}
	if call.Decision.Retry.RetriableResponse(header) {
		call.Last.Conditions |= outcome.RetriableHeaders
	}
	if call.Pushback == 0 {
		if after, ok := call.Decision.Retry.ResetAfter(header, time.Now()); ok {
			call.Pushback = retry.ResetBackoff(after, rand.Uint64)
		}
	}
}

// reported reports whether the engine knows that the attempt took too long, which
// is all that there is to say of it.
func reported(call *mesh.Call) bool {
	return call.Attempting != nil && call.Attempting.Overdue.Load() &&
		call.Last.LocalOrigin && codes.Code(call.Last.GRPCStatus) == codes.DeadlineExceeded
}

// report tells the engine of an attempt. Calls that their caller gave up, or could not
// send, say nothing about the host.
func (p *clusterPicker) report(i int, a *outcome.Attempt) {
	if p.up.Cluster.Outlier == nil {
		return
	}
	if codes.Code(a.GRPCStatus) == codes.OK {
		p.engine.ReportGood(p.up, i)
		return
	}
	if a.Unsent() || a.LocalOrigin && codes.Code(a.GRPCStatus) == codes.Canceled {
		return
	}
	p.engine.Report(p.up, i, a, time.Now())
}

// errorPicker fails every pick; calls that wait for ready wait.
type errorPicker struct{ err error }

func (p errorPicker) Pick(grpcbalancer.PickInfo) (grpcbalancer.PickResult, error) {
	return grpcbalancer.PickResult{}, p.err
}
