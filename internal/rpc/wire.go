package rpc

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
)

// wire is a stream whose messages are received within the limits. It remembers what the stream has
// ended with: when SendMsg fails, grpc-go sends that as the status of the call at once, and ends
// the context of the stream before it returns: a handler that waits for both may well hear of the
// context first. What it returns then does not reach the client, and must not be what is counted,
// logged and traced.
type wire struct {
	grpc.ServerStream
	ctx       context.Context // with the identity of the caller, and admission
	admission admission
	incoming  *incoming
	call      *incomingCall
	sent      *sent

	sending sync.Mutex // held during SendMsg of the transport
	mu      sync.Mutex
	failed  error // the first error of SendMsg
}

// stream is the interceptor that has a stream end with what was sent, by the rules of its service.
func (s *Server) stream(
	srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	err := s.limited(srv, stream, info, handler)
	if err != nil {
		err = s.incoming.errs.of(info.FullMethod).translate(err, stream.SetTrailer)
	}
	return err
}

// limited runs the handler of a stream if its caller may call it, and if there is a place for it.
func (s *Server) limited(
	srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	ctx, callers, err := s.access.admit(stream.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	leave, err := s.load.enter(ctx, info.FullMethod, true)
	if err != nil {
		return err
	}
	sent, err := s.unread.begin(ctx, info.FullMethod, leave)
	if err != nil {
		return err
	}
	defer sent.end()
	w := &wire{ServerStream: stream, incoming: s.incoming, sent: sent}
	w.admission.log, w.admission.access = s.incoming.log, s.access
	w.admission.callers, w.admission.method = callers, info.FullMethod
	w.ctx = context.WithValue(sent, admissionKey{}, &w.admission)
	// With names in its context, so that the call ends when one of them is not permitted any more.
	w.call, err = s.incoming.begin(w.ctx, info.FullMethod, !info.IsClientStream)
	if err != nil {
		return err
	}
	if err = handler(srv, w); err == nil {
		err = w.admission.mayAnswer()
	}
	return w.ended(err)
}

// Context implements grpc.ServerStream.
func (w *wire) Context() context.Context { return w.ctx }

// RecvMsg implements grpc.ServerStream. The streams below, which it does not ask for the message,
// count it.
func (w *wire) RecvMsg(msg any) error {
	err := w.incoming.receive(w.Context(), w.call, msg)
	if counter, ok := w.ServerStream.(interface{ Received(msg any) }); ok && err == nil {
		counter.Received(msg)
	}
	return err
}

// SendMsg implements grpc.ServerStream.
func (w *wire) SendMsg(msg any) error {
	w.sending.Lock()
	defer w.sending.Unlock()
	if err := w.admission.mayAnswer(); err != nil {
		return err
	}
	reply, err := w.incoming.encode(w.ctx, msg)
	if err != nil {
		return err
	}
	w.call.begun.Store(true)
	if !w.call.limitSend(sinceEpoch(time.Now().Add(w.incoming.send))) {
		return w.incoming.wasEnded(w.call)
	}
	err = w.sent.send(w.ServerStream, reply)
	if !w.call.limitSend(0) {
		return w.incoming.wasEnded(w.call)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.failed == nil {
			w.failed = err
		}
	}
	return err
}

// ended is what the call has ended with, in place of what the handler returned. When the context is
// done, what grpc-go is sending still ends at once.
func (w *wire) ended(returned error) error {
	if err := w.incoming.end(w.call); err != nil {
		return err
	}
	if w.Context().Err() != nil {
		w.sending.Lock()
		defer w.sending.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return w.failed
	}
	return returned
}

// receiveRequests has requests of unary calls received inside the chain of interceptors. grpc-go
// calls those with the request, and answers by itself if it gets none. To it the calls are streams
// in neither direction, as its own unary calls are, so that the reply is sent here.
func (s *Server) receiveRequests(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	own := *desc
	own.Methods, own.Streams = nil, slices.Clone(desc.Streams)
	for _, method := range desc.Methods {
		handler, fullMethod := method.Handler, "/"+desc.ServiceName+"/"+method.MethodName
		own.Streams = append(own.Streams, grpc.StreamDesc{StreamName: method.MethodName,
			Handler: func(srv any, stream grpc.ServerStream) error {
				ctx := stream.Context()
				sent, failure := s.enter(ctx, fullMethod)
				if failure == nil {
					defer sent.end()
					ctx = sent
					reply, err := handler(srv, ctx, func(msg any) error {
						failure = s.receiveRequest(ctx, fullMethod, msg)
						return failure
					}, s.unary)
					if reply, ok := reply.(*encoded); ok && failure == nil && err == nil {
						return sent.send(stream, reply)
					}
					if failure == nil {
						return err
					}
				}
				_, err := s.unary(ctx, nil, &grpc.UnaryServerInfo{Server: srv, FullMethod: fullMethod},
					func(context.Context, any) (any, error) { return nil, failure })
				return err
			}})
	}
	return &own
}

// encodeReply is the innermost interceptor of unary calls, so that a reply that cannot be encoded,
// or must not be sent, is an error like any other.
func (s *Server) encodeReply(
	ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	reply, err := handler(ctx, req)
	if err != nil {
		return nil, err
	}
	a, _ := ctx.Value(admissionKey{}).(*admission)
	if err := a.mayAnswer(); err != nil {
		return nil, err
	}
	return s.incoming.encode(ctx, reply)
}

// enter takes a place for a unary call, if its caller may make it.
func (s *Server) enter(ctx context.Context, fullMethod string) (*sent, error) {
	admitted, callers, err := s.access.admit(ctx, fullMethod)
	if err != nil {
		return nil, err
	}
	if s.access.restrictsNames() {
		admitted = context.WithValue(admitted, admissionKey{}, &admission{
			log: s.incoming.log, access: s.access, callers: callers, method: fullMethod,
		})
	}
	leave, err := s.load.enter(admitted, fullMethod, false)
	if err != nil {
		return nil, err
	}
	return s.unread.begin(admitted, fullMethod, leave)
}

// receiveRequest receives the request of a unary call.
func (s *Server) receiveRequest(ctx context.Context, fullMethod string, msg any) error {
	call, err := s.incoming.begin(ctx, fullMethod, true)
	if err != nil {
		return err
	}
	err = s.incoming.receive(ctx, call, msg)
	if ended := s.incoming.end(call); ended != nil {
		return ended
	}
	return err
}
