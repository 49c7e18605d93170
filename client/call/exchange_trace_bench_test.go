package call

import (
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// BenchmarkMessageUnsampled is what tracing costs a message that is not sampled, where it is said and where it is received.
func BenchmarkMessageUnsampled(b *testing.B) {
	for name, tracer := range map[string]trace.Tracer{
		"no tracing":  noop.NewTracerProvider().Tracer(""),
		"not sampled": sdktrace.NewTracerProvider(sdktrace.WithSampler(sdktrace.NeverSample())).Tracer("test"),
	} {
		s := newSession(b.Context(), tracer, JoinOptions{Channel: "room", Participant: "alice"})
		b.Run(name+"/send", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s.send(b.Context(), &quartetv1.SendMessage{}).End()
			}
		})
		b.Run(name+"/receive", func(b *testing.B) {
			m := quartetv1.ChannelMessage_builder{TraceContext: quartetv1.TraceContext_builder{
				Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
			}.Build()}.Build()
			b.ReportAllocs()
			for b.Loop() {
				s.receive(m).End()
			}
		})
	}
}
