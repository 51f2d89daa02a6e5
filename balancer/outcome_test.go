package balancer

import (
	"errors"
	"testing"

	grpcbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/meshframe/meshframe/mesh/outcome"
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
