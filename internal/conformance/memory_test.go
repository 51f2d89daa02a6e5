package conformance_test

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/meshframe/meshframe/srvframe/meshtest"
)

const (
	// sentBytes is what a stream sends in the test, and keptBytes what may be left
	// of it in memory while the stream goes on: gRPC's own buffers of both sides,
	// replay buffers and queues for copies.
	sentBytes = 16 << 20
	keptBytes = 4 << 20
)

// uploads is a mesh with some rules for uploads:9080, whose copies go to shadow:80.
func uploads(rules string) string {
	return fmt.Sprintf(`
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: uploads}
spec:
  hosts: [uploads]
  http: [{route: [{destination: {host: uploads}}], %s}]
---
apiVersion: networking.meshframe.dev/v1alpha1
kind: MeshPolicy
metadata: {name: uploads}
spec: {host: uploads, hedge: {onPerTryTimeout: %v}}
`, rules, strings.Contains(rules, "hedged"))
}

// TestStreamsKeepMemoryBounded sends much on one stream whose server says nothing
// until the end, so that it could still be retried, and whose copy nobody reads.
// Messages are larger than what is kept to send them again, or much smaller.
func TestStreamsKeepMemoryBounded(t *testing.T) {
	for name, rules := range map[string]string{
		"plain":           ``,
		"retried":         `retries: {attempts: 3, retryOn: "unavailable,5xx,reset"}`,
		"mirrored":        `mirror: {host: shadow, port: {number: 80}}, retries: {attempts: 0}`,
		"both":            `mirror: {host: shadow, port: {number: 80}}, retries: {attempts: 3, perTryTimeout: 1h, retryOn: "unavailable,5xx,reset"}`,
		"side by side":    `name: hedged, retries: {attempts: 3, perTryTimeout: 1h, retryOn: "unavailable,5xx,reset"}`,
		"several at once": `name: hedged, mirror: {host: shadow, port: {number: 80}}, retries: {attempts: 3, perTryTimeout: 1ms, retryOn: "unavailable,5xx,reset"}`,
	} {
		for _, bytes := range []int{4 << 10, 512 << 10} {
			t.Run(fmt.Sprintf("%s/%d KiB", name, bytes>>10), func(t *testing.T) { keepsBounded(t, rules, bytes) })
		}
	}
}

// keepsBounded sends messages of so many bytes. Where there are several attempts
// the last is the one that reads.
func keepsBounded(t *testing.T, rules string, bytes int) {
	mesh := meshtest.New(t, uploads(rules))
	attempts := int64(1)
	if strings.Contains(rules, "1ms") {
		attempts = 4
	}
	reading := make(chan struct{})
	var began atomic.Int64
	var read sync.WaitGroup
	first := 0 // messages that only a server which reads can be sent, so that its attempt is ahead
	if attempts > 1 {
		first = 48
	}
	read.Add(first + sentBytes/bytes)
	mesh.Server("uploads:9080", nil, func(grpc.ServiceRegistrar) {}, smallWindow, wideConnection, grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		if began.Add(1) < attempts {
			<-stream.Context().Done() // it reads nothing
			return stream.Context().Err()
		}
		close(reading)
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
	if attempts > 1 {
		<-reading // all attempts are under way
	}
	for i := range first + sentBytes/bytes {
		size := bytes
		if i < first {
			size = 4 << 10
		}
		if err := stream.SendMsg(wrapperspb.Bytes(make([]byte, size))); err != nil {
			t.Fatalf("send: %v, %v", err, stream.RecvMsg(&emptypb.Empty{}))
		}
	}
	read.Wait()
	if kept := heap() - before; kept > keptBytes {
		t.Errorf("%d KiB of %d are kept, want at most %d", kept>>10, sentBytes>>10, keptBytes>>10)
	} else {
		t.Logf("%d KiB of %d are kept", kept>>10, sentBytes>>10)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if err := stream.RecvMsg(&emptypb.Empty{}); err != nil {
		t.Errorf("after the last message: %v", err)
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
