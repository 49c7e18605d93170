package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"google.golang.org/grpc"
)

// recovery keeps a panic in one handler from ending all other calls. It
// covers the handler's own goroutine; one that a handler starts must look
// after itself.
type recovery struct{ log *slog.Logger }

// stack is a text of our own, which a log does not cut as it does those from
// outside.
type stack string

// rescue replaces the handler's error after a panic. The error wraps nothing,
// so that no rule can match what was panicked with: its text is not for
// clients.
func (r recovery) rescue(ctx context.Context, method string, err *error) {
	if value := recover(); value != nil {
		r.log.ErrorContext(ctx, "panic in a handler", "method", method, "panic", fmt.Sprint(value), "stack", stack(debug.Stack()))
		*err = fmt.Errorf("panic: %v", value)
	}
}

func (r recovery) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
	defer r.rescue(ctx, info.FullMethod, &err)
	return handler(ctx, req)
}

func (r recovery) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer r.rescue(stream.Context(), info.FullMethod, &err)
	return handler(srv, stream)
}
