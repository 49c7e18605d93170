package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// ServerCalls puts metrics, a span and a log line around every call that a
// server handles.
//
// It sees what reaches an interceptor, which package rpc brings about for more
// calls than grpc-go does. The rest is in none of the numbers but in that of
// Arrived: it is what arrived and was not started.
type ServerCalls struct{ side *side }

// NewServerCalls prepares the metrics of the services' methods; every other
// method is counted as "other". Its interceptors belong first in the chain, so
// that they see the status which the client gets.
func (t *Telemetry) NewServerCalls(services ...protoreflect.ServiceDescriptor) *ServerCalls {
	return &ServerCalls{newSide(t, true, newMethods(t.server, trace.SpanKindServer, services))}
}

// UnaryInterceptor observes unary calls. One whose request could not be received has none: req is
// nil.
func (s *ServerCalls) UnaryInterceptor(
	ctx context.Context,
	req any,
	info *grpc.UnaryServerInfo,
	handler grpc.UnaryHandler,
) (any, error) {
	c := s.begin(ctx, info.FullMethod, unary)
	defer c.release()
	if req != nil {
		c.didReceive(req)
	}
	reply, err := handler(c.ctx, req)
	if err == nil {
		c.didSend(reply)
	}
	c.end(err)
	return reply, err
}

// StreamInterceptor observes streams of all three kinds.
func (s *ServerCalls) StreamInterceptor(
	srv any,
	stream grpc.ServerStream,
	info *grpc.StreamServerInfo,
	handler grpc.StreamHandler,
) error {
	// A method that is not registered comes as a bidirectional stream here.
	c := s.begin(stream.Context(), info.FullMethod, kindOf(info.IsClientStream, info.IsServerStream))
	err := handler(srv, &serverStreamCall{stream, c})
	c.end(err)
	return err
}

// Refused observes a call that is refused on arrival, with err.
func (s *ServerCalls) Refused(ctx context.Context, fullMethod string, err error) {
	c := s.begin(ctx, fullMethod, bidiStream)
	c.end(err)
	c.release()
}

// begin counts a call and takes the trace that came with it.
func (s *ServerCalls) begin(ctx context.Context, fullMethod string, k kind) *call {
	c := s.side.arrive(ctx, s.side.methods.find(fullMethod, k), fullMethod)
	// A quiet call has no span below which the trace would go on.
	if !c.method.quiet {
		c.extract()
	}
	c.begin()
	return c
}

// serverStreamCall counts the messages of a stream.
type serverStreamCall struct {
	grpc.ServerStream
	call *call
}

// Context implements grpc.ServerStream. It has the span, which handlers add their own spans to.
func (s *serverStreamCall) Context() context.Context { return s.call.ctx }

// SendMsg implements grpc.ServerStream.
func (s *serverStreamCall) SendMsg(msg any) error {
	err := s.ServerStream.SendMsg(msg)
	if err == nil {
		s.call.didSend(msg)
	}
	return err
}

// Received counts a message that came in another way than by RecvMsg.
func (s *serverStreamCall) Received(msg any) { s.call.didReceive(msg) }

// RecvMsg implements grpc.ServerStream.
func (s *serverStreamCall) RecvMsg(msg any) error {
	err := s.ServerStream.RecvMsg(msg)
	if err == nil {
		s.call.didReceive(msg)
	}
	return err
}

// Arrived counts the calls that reach the server, in its grpc.InTapHandle. It
// runs before grpc-go reads a message, where methods that are not registered are
// not yet the bidirectional streams as which they are handled.
func (s *ServerCalls) Arrived(info *tap.Info) {
	m := s.side.methods.find(info.FullMethodName, bidiStream)
	m.arrived.Inc()
	// gRPC clients send this header with each retry by their policy (gRFC A6).
	if attempts := info.Header["grpc-previous-rpc-attempts"]; len(attempts) > 0 && attempts[0] != "0" {
		m.retried.Inc()
	}
}
