package rpc

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
)

// wire remembers what a stream has ended with. When RecvMsg or SendMsg fails, grpc-go sends that as the status of the call at
// once, and ends the context of the stream before it returns: a handler that waits for both may well hear of the context first.
// What it returns then does not reach the client, and must not be what is counted, logged and traced.
type wire struct {
	grpc.ServerStream
	codec *tolerant

	receiving, sending sync.Mutex // while grpc-go does so
	mu                 sync.Mutex
	first              error
}

// RecvMsg implements grpc.ServerStream.
func (w *wire) RecvMsg(msg any) error {
	w.receiving.Lock()
	defer w.receiving.Unlock()
	err := w.note(w.ServerStream.RecvMsg(msg))
	return cmp.Or(err, w.codec.failure(msg))
}

// SendMsg implements grpc.ServerStream.
func (w *wire) SendMsg(msg any) error {
	w.sending.Lock()
	defer w.sending.Unlock()
	return w.note(w.ServerStream.SendMsg(msg))
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
