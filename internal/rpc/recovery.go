package rpc

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"google.golang.org/grpc"
)

// stack is a text of our own, which a log does not cut as it does those from
// outside.
type stack string

// panics logs a panic in a handler, and makes it an error, so that it does not end all other calls.
// A goroutine that a handler starts must look after itself. The error wraps nothing, so that no
// rule can match what was panicked with: its text is not for clients.
func panics(log *slog.Logger) recovery.Option {
	return recovery.WithRecoveryHandlerContext(func(ctx context.Context, value any) error {
		method, _ := grpc.Method(ctx)
		log.ErrorContext(ctx, "panic in a handler", "method", method, "panic", fmt.Sprint(value), "stack",
			stack(debug.Stack()))
		return fmt.Errorf("panic: %v", value)
	})
}
