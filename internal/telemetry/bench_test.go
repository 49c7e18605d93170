package telemetry

import (
	"context"
	"fmt"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"
)

// BenchmarkSizeOf shows that counting bytes costs the same for any chunk.
func BenchmarkSizeOf(b *testing.B) {
	for _, size := range []int{1 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			msg := &grpc_testing.StreamingInputCallRequest{Payload: payload(size)}
			b.ReportAllocs()
			for b.Loop() {
				sizeOf(msg)
			}
		})
	}
}

// BenchmarkUnary is what the interceptors add to a call that does nothing.
func BenchmarkUnary(b *testing.B) {
	never, _ := recorded(sdktrace.WithSampler(sdktrace.NeverSample()))
	for name, telemetry := range map[string]*Telemetry{"no tracer": Discard(), "unsampled": never} {
		b.Run("server "+name, func(b *testing.B) {
			calls := telemetry.NewServerCalls(testService())
			info := &grpc.UnaryServerInfo{FullMethod: "/" + testServiceName + "/UnaryCall"}
			handler := func(context.Context, any) (any, error) { return &grpc_testing.SimpleResponse{}, nil }
			b.ReportAllocs()
			for b.Loop() {
				_, _ = calls.UnaryInterceptor(context.Background(), &grpc_testing.SimpleRequest{}, info, handler)
			}
		})
	}
}
