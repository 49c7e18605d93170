package telemetry

import (
	"context"
	"fmt"
	"testing"
	"time"

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

// BenchmarkMessage is what a message costs, counted only and timed as well.
func BenchmarkMessage(b *testing.B) {
	table := Discard().NewServerCalls(testService()).side.methods
	m := table.find("/"+testServiceName+"/StreamingInputCall", clientStream)
	msg := &grpc_testing.StreamingInputCallRequest{Payload: payload(1 << 10)}
	for name, d := range map[string]*direction{"counted": &m.sent, "timed": &m.received} {
		b.Run(name, func(b *testing.B) {
			var f flow
			began := time.Now()
			b.ReportAllocs()
			for b.Loop() {
				f.pass(msg, d, began)
			}
		})
	}
}

// BenchmarkUnary is what the interceptors add to a call that does nothing.
func BenchmarkUnary(b *testing.B) {
	for name, telemetry := range benchmarked() {
		b.Run("server "+name, func(b *testing.B) {
			calls := telemetry.NewServerCalls(testService())
			info := &grpc.UnaryServerInfo{FullMethod: "/" + testServiceName + "/UnaryCall"}
			handler := func(context.Context, any) (any, error) { return &grpc_testing.SimpleResponse{}, nil }
			b.ReportAllocs()
			for b.Loop() {
				_, _ = calls.UnaryInterceptor(
					context.Background(),
					&grpc_testing.SimpleRequest{},
					info,
					handler,
				)
			}
		})
	}
}

// benchmarked is telemetry that records nothing, and one that records all.
func benchmarked() map[string]*Telemetry {
	all := unsampledTelemetry()
	all["sampled"] = Discard()
	all["sampled"].Tracer = sdktrace.NewTracerProvider().Tracer("test")
	return all
}

// BenchmarkCall is a whole unary call over a loopback connection, both sides
// together, from one caller.
func BenchmarkCall(b *testing.B) {
	benchmarkBoth(b, unaryOf)
}

// BenchmarkRoundTrip is a message there and one back in a stream.
func BenchmarkRoundTrip(b *testing.B) {
	benchmarkBoth(b, roundTripOf)
}

func benchmarkBoth(b *testing.B, of func(testing.TB, *pair) func(testing.TB)) {
	b.Helper()
	run := func(name string, start func(testing.TB) *pair) {
		b.Run(name, func(b *testing.B) {
			do := of(b, start(b))
			b.ReportAllocs()
			for b.Loop() {
				do(b)
			}
		})
	}
	run("bare", func(tb testing.TB) *pair { tb.Helper(); return startBare(tb, &service{}) })
	for name, telemetry := range benchmarked() {
		run(
			name,
			func(tb testing.TB) *pair { tb.Helper(); return start(tb, &service{}, telemetry, telemetry) },
		)
	}
}
