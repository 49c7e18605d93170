package telemetry_test

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/trace"

	"example.com/quartet/internal/telemetry"
)

// A text from outside is cut and made valid before it goes into a span, a log line or a status.
func ExampleText() {
	fmt.Println(telemetry.Text("caf\xe9"))
	// Output: caf�
}

// On a stream that lives for hours each message carries a trace of its own.
func ExampleTraceContextOf() {
	ctx := trace.ContextWithSpanContext(
		context.Background(),
		trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID{15: 1}, SpanID: trace.SpanID{7: 2}, TraceFlags: trace.FlagsSampled,
		}),
	)
	fmt.Println(telemetry.TraceContextOf(ctx).Traceparent)
	// Output: 00-00000000000000000000000000000001-0000000000000002-01
}
