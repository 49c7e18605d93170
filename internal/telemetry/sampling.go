package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// sampling is what is known about a tracer before it is asked for a span.
type sampling struct {
	never   bool // It records nothing at all.
	follows bool // It records nothing in a trace that is not sampled already.
}

// samplingOf asks the tracer once, about a trace that is not sampled and that
// every ratio includes. A tracer that does not record that one leaves the
// decision to the caller, as those of OpenTelemetry do unless OTEL_TRACES_SAMPLER
// says otherwise.
func samplingOf(t trace.Tracer) sampling {
	if _, none := t.(noop.Tracer); none {
		return sampling{never: true}
	}
	unsampled := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, Remote: true})
	_, span := t.Start(trace.ContextWithSpanContext(context.Background(), unsampled), "sampled?")
	return sampling{follows: !span.IsRecording()} // It is never ended, and so never exported.
}

// skips tells whether a span would record nothing, so that none is needed. The
// identity of the trace passes through the context all the same.
func (s sampling) skips(ctx context.Context) bool {
	if s.never || !s.follows {
		return s.never
	}
	parent := trace.SpanContextFromContext(ctx)
	return parent.IsValid() && !parent.IsSampled()
}

// startSpan starts the span of a call. Its attributes are all set at the end,
// in one go and only if they are recorded; the samplers of OpenTelemetry do not
// look at them.
func (c *call) startSpan() {
	if c.side.sampling.skips(c.ctx) {
		return
	}
	c.ctx, c.span = c.side.Tracer.Start(c.ctx, c.method.name, c.method.span...)
}
