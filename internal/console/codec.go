package console

import (
	"context"
	"encoding/json"
	"fmt"

	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// encoded is a message as it is on the wire. A message that waits is kept so: decoded, it may be a
// hundred times as large.
type encoded []byte

// Size is asked for by telemetry.
func (e encoded) Size() int { return len(e) }

// codec sends and receives messages that are encoded.
type codec struct{}

// Name implements encoding.CodecV2. It is protobuf's, so that servers see no difference.
func (codec) Name() string { return encodingproto.Name }

// Marshal implements encoding.CodecV2.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	if message, ok := v.(encoded); ok {
		// The message is handed over without a copy: it is not changed afterwards.
		return mem.BufferSlice{mem.SliceBuffer(message)}, nil
	}
	return encoding.GetCodecV2(encodingproto.Name).Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	if message, ok := v.(*encoded); ok {
		// Materialize copies, since grpc-go uses the buffers again.
		*message = data.Materialize()
		return nil
	}
	return encoding.GetCodecV2(encodingproto.Name).Unmarshal(data, v)
}

// converter turns messages into JSON and back, a few at the same time, which bounds the memory that
// it takes. Each value in the channel is a conversion under way.
type converter chan struct{}

// mostConversions is how many.
const mostConversions = 4

// enter waits for a place. The conversion gives it back by receiving.
func (c converter) enter(ctx context.Context) error {
	select {
	case c <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// encode reads a message from protobuf's JSON. wrong is what the JSON has wrong with it.
func (c converter) encode(
	ctx context.Context,
	d protoreflect.MessageDescriptor,
	text json.RawMessage,
) (message encoded, wrong, err error) {
	if err := c.enter(ctx); err != nil {
		return nil, nil, err
	}
	defer func() { <-c }()
	// A dynamic message: the console has the descriptors of services, and not their generated types.
	decoded := dynamicpb.NewMessage(d)
	if err := protojson.Unmarshal(text, decoded); err != nil {
		return nil, fmt.Errorf("message: %w", err), nil
	}
	// Required fields of proto2, for example, may be missing.
	message, wrong = proto.Marshal(decoded)
	return message, wrong, nil
}

// decode writes a message as protobuf's JSON. wrong says why there is none: it is not as the
// contract says, or has an Any of an unknown type.
func (c converter) decode(
	ctx context.Context,
	d protoreflect.MessageDescriptor,
	message encoded,
) (text json.RawMessage, wrong, err error) {
	if err := c.enter(ctx); err != nil {
		return nil, nil, err
	}
	defer func() { <-c }()
	decoded := dynamicpb.NewMessage(d)
	if err := proto.Unmarshal(message, decoded); err != nil {
		return nil, err, nil
	}
	text, wrong = protojson.Marshal(decoded)
	return text, wrong, nil
}
