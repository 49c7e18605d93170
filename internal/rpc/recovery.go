package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"

	"example.com/quartet/internal/telemetry"
)

// stack is a text of our own, which a log does not cut as it does those from
// outside.
type stack string

// panics makes a panic in a handler an error, so that it does not end all other calls. A goroutine
// that a handler starts needs Receive or Recovered.
func panics(log *slog.Logger) recovery.Option {
	return recovery.WithRecoveryHandlerContext(func(ctx context.Context, value any) error {
		return panicked(ctx, log, value)
	})
}

// recoverTo is deferred by what works on a call outside of its handler. It makes a panic the error
// of the call.
func recoverTo(ctx context.Context, log *slog.Logger, err *error) {
	if value := recover(); value != nil {
		*err = panicked(ctx, log, value)
	}
}

// panicked logs a panic and makes it an error. That one wraps nothing, so that no rule can match
// what was panicked with: its text is not for clients.
func panicked(ctx context.Context, log *slog.Logger, value any) error {
	method, _ := grpc.Method(ctx)
	log.ErrorContext(ctx, "panic in a call", "method", telemetry.MethodName(method), "panic",
		fmt.Sprint(value), "stack", stack(debug.Stack()))
	return fmt.Errorf("panic: %v", value)
}
