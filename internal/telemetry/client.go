package telemetry

import (
	"context"
	"errors"
	"io"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// ClientCalls puts metrics, a span and a log line around every call that a
// client makes. A call is what the caller sees: the attempts that grpc-go makes
// for it by its retry policy are one call.
type ClientCalls struct{ side *side }

// NewClientCalls prepares the metrics of the services' methods; every other
// method is counted as "other". Clients of one process share their numbers.
func (t *Telemetry) NewClientCalls(services ...protoreflect.ServiceDescriptor) *ClientCalls {
	return &ClientCalls{newSide(t, false, newMethods(t.client, trace.SpanKindClient, services))}
}

// UnaryInterceptor observes unary calls.
func (s *ClientCalls) UnaryInterceptor(
	ctx context.Context,
	fullMethod string,
	req, reply any,
	conn *grpc.ClientConn,
	invoker grpc.UnaryInvoker,
	opts ...grpc.CallOption,
) error {
	c := s.begin(ctx, fullMethod, unary, conn)
	// The pool may have it back: an invoker does not use the call after it has returned.
	defer c.release()
	// grpc-go serializes the request after this, so that one that cannot be is counted as sent.
	c.didSend(req)
	err := invoker(c.injected(), fullMethod, req, reply, conn, opts...)
	if err == nil {
		c.didReceive(reply)
	}
	c.end(err)
	return err
}

// StreamInterceptor observes streams of all three kinds.
//
// A stream that is not read to its end ends when its context is cancelled or
// its connection closed; grpc-go tells us through OnFinish, the only hook that
// fires on every way out. It does not fire before that when a caller gives up
// after SendMsg returned io.EOF, because to grpc-go the status is still to be
// read: such a call counts as in flight until its context is cancelled, and
// then as Canceled.
func (s *ClientCalls) StreamInterceptor(
	ctx context.Context,
	desc *grpc.StreamDesc,
	conn *grpc.ClientConn,
	fullMethod string,
	streamer grpc.Streamer,
	opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	c := s.begin(ctx, fullMethod, kindOf(desc.ClientStreams, desc.ServerStreams), conn)
	stream, err := streamer(c.injected(), desc, conn, fullMethod,
		// The slice is clipped, so that append does not write into the array of the caller.
		append(opts[:len(opts):len(opts)], grpc.OnFinish(c.endIfFailed))...)
	// OnFinish may not have been called for a stream that was never there.
	if err != nil {
		c.end(err)
		return nil, err
	}
	return &clientStreamCall{stream, c, desc.ServerStreams}, nil
}

// begin finds the method and counts the call. k counts only for a method that is not known.
func (s *ClientCalls) begin(
	ctx context.Context,
	fullMethod string,
	k kind,
	conn *grpc.ClientConn,
) *call {
	c := s.side.arrive(ctx, s.side.methods.find(fullMethod, k), fullMethod)
	c.target = conn.Target()
	c.begin()
	return c
}

// endIfFailed leaves success to RecvMsg, the only place where a stream can
// succeed: grpc-go calls OnFinish before RecvMsg returns the message of a
// single-response stream, and that message has to be counted first.
func (c *call) endIfFailed(err error) {
	if err != nil {
		c.end(err)
	}
}

// clientStreamCall counts the messages of a stream and notices its success. It
// leaves Context and Header alone: calling them commits the attempt and so
// ends the retries.
type clientStreamCall struct {
	grpc.ClientStream
	call *call
	// manyResponses says that only io.EOF is success, and not the first reply.
	manyResponses bool
}

// SendMsg implements grpc.ClientStream. An error is counted by RecvMsg or OnFinish, which know the
// status.
func (s *clientStreamCall) SendMsg(msg any) error {
	err := s.ClientStream.SendMsg(msg)
	if err == nil {
		s.call.didSend(msg)
	}
	return err
}

// RecvMsg implements grpc.ClientStream.
func (s *clientStreamCall) RecvMsg(msg any) error {
	err := s.ClientStream.RecvMsg(msg)
	if err == nil {
		s.call.didReceive(msg)
	}
	switch {
	// Of one reply it is the reply, and of many the end after them, that says OK.
	case errors.Is(err, io.EOF) && s.manyResponses, err == nil && !s.manyResponses:
		s.call.end(nil)
	case err != nil:
		s.call.end(err)
	}
	return err
}
