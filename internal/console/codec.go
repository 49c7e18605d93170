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
	"google.golang.org/protobuf/reflect/protoregistry"
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

// messageType is the generated type of a message where the program has one, and otherwise a dynamic
// one, which takes several times as long: a console needs no more than the descriptors of services.
func messageType(d protoreflect.MessageDescriptor) protoreflect.MessageType {
	generated, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err == nil && generated.Descriptor() == d {
		return generated
	}
	return dynamicpb.NewMessageType(d)
}

// converter turns messages into JSON and back, a few at the same time, which bounds the memory that
// it takes. Each value in a channel is a conversion under way.
type converter struct{ small, large chan struct{} }

const (
	// maxConversions is how many there are of messages with at most smallBytes. There is one of a
	// larger message, which may be a hundred times as large while it is converted.
	maxConversions = 4
	smallBytes     = 64 << 10
)

func newConverter() converter {
	return converter{make(chan struct{}, maxConversions), make(chan struct{}, 1)}
}

// enter waits for a place for a message of a size, until leave.
func (c converter) enter(ctx context.Context, size int) (leave func(), err error) {
	places := c.small
	if size > smallBytes {
		places = c.large
	}
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// encode reads a message from protobuf's JSON. wrong is what the JSON has wrong with it.
func (c converter) encode(
	ctx context.Context,
	t protoreflect.MessageType,
	text json.RawMessage,
) (message encoded, wrong, err error) {
	leave, err := c.enter(ctx, len(text))
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	decoded := t.New().Interface()
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
	t protoreflect.MessageType,
	message encoded,
) (text json.RawMessage, wrong, err error) {
	leave, err := c.enter(ctx, len(message))
	if err != nil {
		return nil, nil, err
	}
	defer leave()
	decoded := t.New().Interface()
	if err := proto.Unmarshal(message, decoded); err != nil {
		return nil, err, nil
	}
	text, wrong = protojson.Marshal(decoded)
	return text, wrong, nil
}
