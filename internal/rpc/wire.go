package rpc

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"

	"example.com/quartet/internal/telemetry"
)

// wire remembers what a stream has ended with. When RecvMsg or SendMsg fails, grpc-go sends that as the status of the call at
// once, and ends the context of the stream before it returns: a handler that waits for both may well hear of the context first.
// What it returns then does not reach the client, and must not be what is counted, logged and traced.
type wire struct {
	grpc.ServerStream
	codec   *tolerant
	unbegun *unbegun
	call    unbegunCall
	begun   atomic.Bool // no longer known to unbegun, so that most messages need no lock

	receiving, sending sync.Mutex // while grpc-go does so
	mu                 sync.Mutex
	first              error
}

// stream is the interceptor that has a stream end with what was sent, by the rules of its service.
func (u *unbegun) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	w := &wire{ServerStream: stream, codec: u.errs.codec, unbegun: u, call: unbegunCall{method: info.FullMethod, request: !info.IsClientStream}}
	u.add(stream.Context(), &w.call)
	err := w.ended(handler(srv, w))
	if err != nil {
		err = u.errs.of(info.FullMethod).translate(err, stream.SetTrailer)
	}
	return err
}

// RecvMsg implements grpc.ServerStream.
func (w *wire) RecvMsg(msg any) error {
	w.receiving.Lock()
	defer w.receiving.Unlock()
	err := w.note(refused(w.ServerStream.RecvMsg(msg), w.call.request))
	return cmp.Or(w.begin(err), err, w.codec.failure(msg))
}

// SendMsg implements grpc.ServerStream.
func (w *wire) SendMsg(msg any) error {
	if err := w.begin(nil); err != nil {
		return err
	}
	w.sending.Lock()
	defer w.sending.Unlock()
	return w.note(w.ServerStream.SendMsg(msg))
}

// begin notes that a message has passed, or was refused. If the call was ended before, it returns with what.
func (w *wire) begin(received error) error {
	if w.begun.Load() {
		return nil
	}
	defer w.begun.Store(true)
	return w.unbegun.begin(&w.call, received)
}

// refused marks what grpc-go says of a message that it does not take as the client's fault: it is cut off, larger than the
// limit, compressed though no encoding was named, not compressed as it was said to be, or not the only one where one is
// expected. RecvMsg sends the status by itself, before anything of ours can choose another code; INTERNAL is also what gRPC's
// specification wants for most of these, see statuscodes.md and compression.md there. A request for which the client left no
// time is its fault too.
func refused(err error, request bool) error {
	if errors.Is(err, io.ErrUnexpectedEOF) { // RecvMsg does not return all that it sends.
		err = status.Error(codes.Internal, err.Error())
	}
	st := status.Convert(err)
	switch code := st.Code(); {
	case code == codes.Internal, code == codes.ResourceExhausted, request && code == codes.DeadlineExceeded:
		return &telemetry.ClientFault{Status: st}
	default:
		return err
	}
}

func (w *wire) note(err error) error {
	if err != nil && !errors.Is(err, io.EOF) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.first == nil {
			w.first = err
		}
	}
	return err
}

// ended is what the call has ended with, in place of what the handler returned. When the context is done, what grpc-go is doing
// still ends at once.
func (w *wire) ended(returned error) error {
	if err := w.unbegun.begin(&w.call, nil); err != nil {
		return err
	}
	if w.Context().Err() != nil {
		w.receiving.Lock()
		defer w.receiving.Unlock()
		w.sending.Lock()
		defer w.sending.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.first != nil {
		return w.first
	}
	return returned
}

// tolerant is the codec of a server, whose failures reach the interceptors. To grpc-go a message that it cannot decode is
// INTERNAL, as if it were the server's fault, and a unary one is answered out of telemetry's sight.
type tolerant struct {
	encoding.CodecV2

	count    atomic.Int64 // of failures, so that most messages need no look-up
	failures sync.Map     // by the message that was to be filled, until the interceptor takes it
}

var errUndecodable = errors.New("the message does not decode")

// Unmarshal implements encoding.CodecV2.
func (c *tolerant) Unmarshal(data mem.BufferSlice, msg any) error {
	if err := c.CodecV2.Unmarshal(data, msg); err != nil {
		c.failures.Store(msg, err)
		c.count.Add(1)
	}
	return nil
}

// failure is what was wrong with a message.
func (c *tolerant) failure(msg any) error {
	if c.count.Load() == 0 {
		return nil
	}
	err, failed := c.failures.LoadAndDelete(msg)
	if !failed {
		return nil
	}
	c.count.Add(-1)
	return fmt.Errorf("%w: %v", errUndecodable, err)
}
