package conformance_test

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/srvframe/meshtest"
)

const (
	messageBytes = 512 << 10
	// sentBytes is what a stream sends in the test, and keptBytes what may be left
	// of it in memory while the stream goes on: gRPC's own buffers of both sides,
	// replay buffers and queues for copies.
	sentBytes = 64 << 20
	keptBytes = 12 << 20
)

// TestStreamsKeepMemoryBounded sends much on one stream whose server says nothing
// until the end, so that it could still be retried, and whose copy nobody reads.
func TestStreamsKeepMemoryBounded(t *testing.T) {
	for name, rules := range map[string]string{
		"plain":    ``,
		"retried":  `retries: {attempts: 3, retryOn: "unavailable,5xx,reset"}`,
		"mirrored": `mirror: {host: shadow, port: {number: 80}}, retries: {attempts: 0}`,
		"both":     `mirror: {host: shadow, port: {number: 80}}, retries: {attempts: 3, perTryTimeout: 1h, retryOn: "unavailable,5xx,reset"}`,
	} {
		t.Run(name, func(t *testing.T) {
			mesh := meshtest.New(t, fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: uploads}
spec:
  hosts: [uploads]
  http: [{route: [{destination: {host: uploads}}], %s}]
`, rules))
			var read sync.WaitGroup
			read.Add(sentBytes / messageBytes)
			mesh.Server("uploads:9080", nil, func(grpc.ServiceRegistrar) {}, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
				for {
					var message wrapperspb.BytesValue
					switch err := stream.RecvMsg(&message); {
					case errors.Is(err, io.EOF):
						return stream.SendMsg(&emptypb.Empty{})
					case err != nil:
						return err
					}
					read.Done()
				}
			}))
			mesh.Server("shadow:80", nil, func(grpc.ServiceRegistrar) {}, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
				<-stream.Context().Done() // it reads nothing
				return stream.Context().Err()
			}))
			cc := mesh.Client("uploads:9080")
			before := heap()
			stream, err := cc.NewStream(t.Context(), &grpc.StreamDesc{ClientStreams: true}, "/uploads.Uploads/Put")
			if err != nil {
				t.Fatal(err)
			}
			for range sentBytes / messageBytes {
				if err := stream.SendMsg(wrapperspb.Bytes(make([]byte, messageBytes))); err != nil {
					t.Fatalf("send: %v, %v", err, stream.RecvMsg(&emptypb.Empty{}))
				}
			}
			read.Wait()
			var wrong []string
			if kept := heap() - before; kept > keptBytes {
				wrong = append(wrong, fmt.Sprintf("%d KiB of %d are kept, want at most %d", kept>>10, sentBytes>>10, keptBytes>>10))
			}
			judge(t, wrong, "")
			if err := stream.CloseSend(); err != nil {
				t.Fatal(err)
			}
			if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
				t.Errorf("after the last message: %v", err)
			}
		})
	}
}

// heap is what is in use after a collection. Pools give back what they hold in
// the second.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
