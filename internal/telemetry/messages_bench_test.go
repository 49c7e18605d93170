package telemetry

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// BenchmarkMessageUnsampled is what tracing costs a message that is not sampled: its span, and its
// trace that travels on.
func BenchmarkMessageUnsampled(b *testing.B) {
	unsampled := Discard()
	unsampled.Tracer = sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sdktrace.NeverSample()),
	).Tracer(
		"test",
	)
	carried := TraceContext{Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"}
	for name, t := range map[string]*Telemetry{"no tracing": Discard(), "not sampled": unsampled} {
		m := t.NewMessages(b.Context(), "room", "alice")
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				ctx, span := m.Start(m.From(carried), KeepMessage, "1", 4)
				_ = TraceContextOf(ctx)
				span.End()
			}
		})
	}
}
