// Package interceptor is a library as it is written against package grpc: the
// test builds it with the import swapped.
package interceptor

import (
	"context"

	"google.golang.org/grpc"
)

// Counted counts what passes.
type Counted struct {
	grpc.ClientStream

	received int
}

// RecvMsg counts a message.
func (c *Counted) RecvMsg(m any) error {
	c.received++
	return c.ClientStream.RecvMsg(m)
}

// Stream is an interceptor.
func Stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := streamer(ctx, desc, cc, method, opts...)
	return &Counted{ClientStream: stream}, err
}

// Generic wraps a generic stream.
func Generic[Req, Res any](stream grpc.ClientStream) grpc.BidiStreamingClient[Req, Res] {
	return &grpc.GenericClientStream[Req, Res]{ClientStream: stream}
}

// Options are options of one's own.
type Options struct {
	grpc.EmptyDialOption
	grpc.EmptyCallOption
}

// Dial reads a call's options.
func Dial(opts []grpc.CallOption) (header any) {
	for _, opt := range opts {
		switch opt := opt.(type) {
		case grpc.HeaderCallOption:
			header = opt.HeaderAddr
		case grpc.FailFastCallOption, grpc.OnFinishCallOption:
		}
	}
	return header
}
