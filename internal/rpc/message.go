package rpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry"
)

var errUndecodable = errors.New("the message does not decode")

// receive puts the next message of a call into msg. It returns io.EOF when the client has closed
// its side of a stream.
//
// The codes for what a client sends wrong are those of gRPC's specification, see statuscodes.md and
// compression.md there, and the same as grpc-go's; but one that breaks the rules of protobuf is the
// INVALID_ARGUMENT of every table.
func (in *incoming) receive(ctx context.Context, c *incomingCall, msg any) error {
	err := in.readMessage(ctx, c, msg)
	if err == nil && c.request {
		err = c.noMore()
	}
	if err != nil {
		err = c.exchange.failure(err)
	}
	if !c.limitReceive(0) {
		return in.wasEnded(c)
	}
	if err == nil {
		c.begun.Store(true)
	}
	return c.attribute(err)
}

// attribute marks what a client did wrong as its fault: the code alone, INTERNAL for most, would
// not.
func (c *incomingCall) attribute(err error) error {
	switch code := status.Code(err); {
	case errors.Is(err, io.EOF) && c.request:
		return clientFault(codes.Internal, "the call ended before its request")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return clientFault(codes.Internal, "the call ended in the middle of a message")
	case code == codes.DeadlineExceeded && c.request: // The client left no time for its own request.
		return &telemetry.ClientFault{Status: status.Convert(err)}
	default:
		return err
	}
}

func (in *incoming) readMessage(ctx context.Context, c *incomingCall, msg any) (err error) {
	defer recoverTo(ctx, in.log, &err)
	c.exchange.want(len(c.prefix))
	if err := c.stream.ReadMessageHeader(c.prefix[:]); err != nil {
		return err
	}
	flag, size := c.prefix[0], int64(binary.BigEndian.Uint32(c.prefix[1:]))
	var compressor encoding.Compressor
	if flag == 1 {
		compressor = encoding.GetCompressor(c.stream.RecvCompress())
	}
	switch {
	case flag > 1:
		return clientFault(codes.Internal, "a message begins with the unknown flag %d", flag)
	case flag == 1 && compressor == nil:
		return clientFault(codes.Internal, "a message is compressed, and the headers name no encoding")
	case size > int64(c.limit):
		return c.tooLarge(fmt.Sprintf("a message of %d bytes", size))
	}
	held := size
	if flag == 1 {
		held += int64(c.limit) // It is not known before how large it is.
	}
	if held > in.window {
		release, err := in.takeRoom(ctx, c, held)
		if err != nil {
			return err
		}
		defer release()
	}
	if !c.limitReceive(sinceEpoch(time.Now().Add(in.first +
		time.Duration(size)*time.Second/minRate))) {
		return in.wasEnded(c)
	}
	// A message that begins after the drain has begun gets the time of firstDeadline, as if stop had
	// found it. stop sets stopping before it looks at calls, so either this or stop shortens the
	// time.
	if in.stopping.Load() && !c.begun.Load() &&
		!c.limitReceive(sinceEpoch(in.firstDeadline(c, time.Now()))) {
		return in.wasEnded(c)
	}
	c.exchange.want(int(size))
	data, err := c.stream.Read(int(size))
	if err != nil {
		return err
	}
	defer func() { data.Free() }()
	if flag == 1 {
		compressed := data
		data, err = decompress(compressor, compressed, c)
		compressed.Free()
		if err != nil {
			return err
		}
	}
	if err := c.codec.Unmarshal(data, msg); err != nil {
		return fmt.Errorf("%w: %w", errUndecodable, err)
	}
	return nil
}

// takeRoom has a message wait until there is memory for it. Meanwhile the client cannot send it,
// and is not late.
func (in *incoming) takeRoom(
	ctx context.Context, c *incomingCall, size int64,
) (release func(), err error) {
	if !c.limitReceive(0) {
		return nil, in.wasEnded(c)
	}
	return in.room.take(ctx, CallerOf(ctx), size)
}

func (c *incomingCall) tooLarge(what string) error {
	return clientFault(codes.ResourceExhausted, "%s is more than %s accepts, %d bytes", what,
		telemetry.MethodName(c.method), c.limit)
}

// noMore expects the end of a call whose client sends one message.
func (c *incomingCall) noMore() error {
	c.exchange.want(len(c.prefix))
	switch err := c.stream.ReadMessageHeader(c.prefix[:]); {
	case err == nil:
		return clientFault(codes.Internal, "the call has more than one request")
	case errors.Is(err, io.EOF):
		return nil
	default:
		return err
	}
}

// decompress gives back what a message is, unless it is larger than the call accepts.
func decompress(
	compressor encoding.Compressor, compressed mem.BufferSlice, c *incomingCall,
) (mem.BufferSlice, error) {
	reader, err := compressor.Decompress(compressed.Reader())
	if err != nil {
		return nil, clientFault(codes.Internal, "a message does not decompress: %s",
			telemetry.Text(err.Error()))
	}
	data, err := mem.ReadAll(io.LimitReader(reader, int64(c.limit)+1), mem.DefaultBufferPool())
	switch {
	case err != nil:
		data.Free()
		return nil, clientFault(codes.Internal, "a message does not decompress: %s",
			telemetry.Text(err.Error()))
	case data.Len() > c.limit:
		data.Free()
		return nil, c.tooLarge("a message that was compressed")
	default:
		return data, nil
	}
}
