package interceptors

import (
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// frame is an encoded message: what is sent more than once is encoded once,
// and what may lose is received without being decoded.
type frame struct{ data []byte }

// frameCodec is the codec of a call, except that frames pass as they are.
type frameCodec struct {
	inner encoding.CodecV2
	name  string
}

// Name becomes the content-subtype. It is empty where the caller chose no codec,
// as gRPC then has it.
func (c frameCodec) Name() string { return c.name }

func (c frameCodec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		return mem.BufferSlice{mem.SliceBuffer(f.data)}, nil
	}
	return c.inner.Marshal(v)
}

func (c frameCodec) Unmarshal(data mem.BufferSlice, v any) error {
	if f, ok := v.(*frame); ok {
		f.data = data.Materialize()
		return nil
	}
	return c.inner.Unmarshal(data, v)
}

// encode returns v as a frame, or the error that gRPC would end the call with.
// No message at all is an empty one, as gRPC has it.
func (c frameCodec) encode(v any) (*frame, error) {
	switch v := v.(type) {
	case nil:
		return &frame{}, nil
	case *frame:
		return v, nil
	}
	data, err := c.inner.Marshal(v)
	if err != nil {
		return nil, status.Errorf(codes.Internal, "grpc: error while marshaling: %v", err)
	}
	defer data.Free()
	return &frame{data: data.Materialize()}, nil
}

// decode reads v from a frame. Its error is the one of gRPC.
func (c frameCodec) decode(f *frame, v any) error {
	if err := c.inner.Unmarshal(mem.BufferSlice{mem.SliceBuffer(f.data)}, v); err != nil {
		return status.Errorf(codes.Internal, "grpc: failed to unmarshal the received message: %v", err)
	}
	return nil
}

// codecOf returns the codec that gRPC would choose for a call with opts.
func codecOf(opts []grpc.CallOption) (frameCodec, error) {
	subtype, name := proto.Name, ""
	var chosen encoding.CodecV2
	for _, o := range opts {
		switch o := o.(type) {
		case grpc.ForceCodecV2CallOption:
			chosen = o.CodecV2
		case grpc.ForceCodecCallOption:
			chosen = codecV1{o.Codec}
		case grpc.CustomCodecCallOption:
			chosen = codecV1{customCodec{o.Codec}}
		case grpc.ContentSubtypeCallOption:
			subtype = strings.ToLower(o.ContentSubtype)
			name = subtype
		}
	}
	if chosen != nil && name == "" {
		name = chosen.Name()
	}
	if chosen == nil {
		chosen = encoding.GetCodecV2(subtype)
	}
	if chosen == nil {
		if c := encoding.GetCodec(subtype); c != nil {
			chosen = codecV1{c}
		}
	}
	if chosen == nil {
		return frameCodec{}, fmt.Errorf("no codec is registered for content-subtype %s", subtype)
	}
	return frameCodec{inner: chosen, name: name}, nil
}

// customCodec lets a codec from before there were names stand for one.
type customCodec struct{ grpc.Codec }

// Name is empty, as gRPC has it.
func (customCodec) Name() string { return "" }

// codecV1 lets an older codec stand for a newer one.
type codecV1 struct{ encoding.Codec }

func (c codecV1) Marshal(v any) (mem.BufferSlice, error) {
	b, err := c.Codec.Marshal(v)
	if err != nil {
		return nil, err
	}
	return mem.BufferSlice{mem.SliceBuffer(b)}, nil
}

func (c codecV1) Unmarshal(data mem.BufferSlice, v any) error {
	return c.Codec.Unmarshal(data.Materialize(), v)
}
