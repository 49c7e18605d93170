package main

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/genproto/googleapis/rpc/code"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/server/channel"
)

// session makes the spans of one exchange. The span of the RPC itself is exported when the stream ends, which may be days
// from now. So there is a short one for the join, below it, and a short one for every message, which belongs to the trace
// of whoever says it and only links to the join.
type session struct {
	tracer trace.Tracer
	joined trace.SpanContext
	// messages is the context of the stream without its span, so that a message without a trace begins its own.
	messages   context.Context
	attributes []attribute.KeyValue
}

// What is the same for all spans of a kind is made once: a span that is not sampled allocates no options, and gets its
// attributes only if somebody will see them.
var (
	joinSpan = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindInternal)}
	keepSpan = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer)}
)

func newSession(ctx context.Context, tracer trace.Tracer, join *quartetv1.Join) *session {
	_, span := tracer.Start(ctx, "join", joinSpan...)
	defer span.End()
	s := &session{
		tracer:   tracer,
		joined:   span.SpanContext(),
		messages: trace.ContextWithSpanContext(ctx, trace.SpanContext{}),
		attributes: []attribute.KeyValue{
			semconv.MessagingSystemKey.String("quartet"),
			semconv.MessagingDestinationName(join.GetChannel()),
			semconv.MessagingClientID(join.GetParticipant()),
		},
	}
	span.SetAttributes(s.attributes...)
	return s
}

// keep begins the span of a message that is being kept, and returns its context and what of it travels on with the
// message. A trace context that is malformed or too long is none.
func (s *session) keep(m *quartetv1.SendMessage) (context.Context, trace.Span, envelope) {
	carrier := newEnvelope(m.GetTraceContext())
	ctx := propagation.TraceContext{}.Extract(s.messages, carrier)
	ctx, span := s.tracer.Start(ctx, "keep", keepSpan...)
	*carrier = envelope{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	if span.IsRecording() {
		span.SetAttributes(s.attributes...)
		span.SetAttributes(
			semconv.MessagingOperationName("keep"),
			semconv.MessagingOperationTypeProcess,
			semconv.MessagingMessageID(m.GetMessageId()),
			semconv.MessagingMessageBodySize(len(m.GetBody())),
		)
		if s.joined.IsSampled() {
			span.AddLink(trace.Link{SpanContext: s.joined})
		}
	}
	return ctx, span, *carrier
}

// endKeep ends the span of a message, with what became of it.
func endKeep(span trace.Span, receipt channel.Receipt, err error) {
	defer span.End()
	switch {
	case !span.IsRecording():
	case err != nil:
		span.SetStatus(otelcodes.Error, err.Error())
		span.SetAttributes(semconv.ErrorTypeKey.String(code.Code(errorTable.Status(err).Code()).String()))
	default:
		span.SetAttributes(
			attribute.Int64("quartet.sequence", int64(receipt.Sequence)),
			attribute.Bool("quartet.duplicate", receipt.Duplicate),
		)
	}
}

// envelope carries the trace context of one message, as metadata carries that of a call.
type envelope struct{ traceparent, tracestate string }

// Limits of the W3C trace context: a traceparent of version 00 has 55 bytes, and later versions may have more; a
// tracestate of 512 bytes is what everybody must pass on.
const (
	maxTraceparent = 128
	maxTracestate  = 512
)

// newEnvelope takes the trace context of a message if it is of a sane size.
func newEnvelope(t *quartetv1.TraceContext) *envelope {
	if len(t.GetTraceparent()) > maxTraceparent || len(t.GetTracestate()) > maxTracestate {
		return &envelope{}
	}
	return &envelope{t.GetTraceparent(), t.GetTracestate()}
}

// Get implements propagation.TextMapCarrier.
func (e *envelope) Get(key string) string {
	switch key {
	case "traceparent":
		return e.traceparent
	case "tracestate":
		return e.tracestate
	default:
		return ""
	}
}

// Set implements propagation.TextMapCarrier.
func (e *envelope) Set(key, value string) {
	switch key {
	case "traceparent":
		e.traceparent = value
	case "tracestate":
		e.tracestate = value
	}
}

// Keys implements propagation.TextMapCarrier.
func (e *envelope) Keys() []string { return []string{"traceparent", "tracestate"} }
