package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Messages makes the spans of messages that a long stream carries. The span of the RPC itself is
// exported when the stream ends, which may be days from now. So there is a short span for the
// beginning of the stream, below that of the RPC, and a short one for every message, which belongs
// to the trace of its sender and only links to that beginning.
type Messages struct {
	tracer  trace.Tracer
	sampler *sampler
	// joined is the span of the beginning, to which the spans of messages link.
	joined trace.SpanContext
	// apart is the context of the stream without its span, so that a message without a trace begins
	// its own.
	apart context.Context
	// attributes are those of each span: the system, the destination and the participant.
	attributes []attribute.KeyValue
}

// MessageOperation is what is done with a message. There is one value of each, with the options of
// its spans, so that a span that is not sampled allocates none.
type MessageOperation struct {
	name    string
	kind    attribute.KeyValue
	options []trace.SpanStartOption
}

// The operations on messages: a client sends and receives, and a server keeps what it gets.
var (
	SendMessage = &MessageOperation{
		"send",
		semconv.MessagingOperationTypeSend,
		[]trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindProducer)},
	}
	ReceiveMessage = &MessageOperation{
		"receive",
		semconv.MessagingOperationTypeReceive,
		[]trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer)},
	}
	KeepMessage = &MessageOperation{
		"keep",
		semconv.MessagingOperationTypeProcess,
		[]trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer)},
	}
)

// NewMessages notes that a participant has joined a destination; ctx is that of the stream.
func (t *Telemetry) NewMessages(ctx context.Context, destination, participant string) *Messages {
	_, span := t.Tracer.Start(ctx, "join")
	defer span.End()
	m := &Messages{
		tracer:  t.Tracer,
		sampler: t.sampler,
		joined:  span.SpanContext(),
		apart:   trace.ContextWithSpanContext(ctx, trace.SpanContext{}),
		attributes: []attribute.KeyValue{
			semconv.MessagingSystemKey.String(t.Namespace),
			semconv.MessagingDestinationName(destination),
			semconv.MessagingClientID(participant),
		},
	}
	span.SetAttributes(m.attributes...)
	return m
}

// Start begins the span of an operation on a message, which has an id and a body of so many bytes,
// below the one in ctx.
func (m *Messages) Start(
	ctx context.Context,
	operation *MessageOperation,
	id string,
	bytes int,
) (context.Context, trace.Span) {
	ctx, span := m.tracer.Start(ctx, operation.name, operation.options...)
	if span.IsRecording() {
		span.SetAttributes(m.attributes...)
		span.SetAttributes(
			operation.kind,
			semconv.MessagingOperationName(operation.name),
			semconv.MessagingMessageID(id),
			semconv.MessagingMessageBodySize(bytes),
		)
		// A link to a span that was not recorded would lead nowhere.
		if m.joined.IsSampled() {
			span.AddLink(trace.Link{SpanContext: m.joined})
		}
	}
	return ctx, span
}

// From returns a context with the trace that came with a message, recorded or not. One that is
// malformed or too long is none.
func (m *Messages) From(carried TraceContext) context.Context {
	// The sizes come from a peer: parsing anything longer would cost memory for nothing.
	if len(carried.Traceparent) > maxTraceparent || len(carried.Tracestate) > maxTracestate {
		return m.apart
	}
	return m.sampler.admit(propagation.TraceContext{}.Extract(m.apart, &carried))
}

// TraceContext is the W3C trace context of one message: metadata carries only that of the whole
// call.
type TraceContext struct{ Traceparent, Tracestate string }

// TraceContextOf is what of ctx travels with a message. It is empty without a trace.
func TraceContextOf(ctx context.Context) TraceContext {
	var carried TraceContext
	propagation.TraceContext{}.Inject(ctx, &carried)
	return carried
}

// Limits of the W3C trace context in bytes: a traceparent of version 00 has 55, and those of later
// versions may have a field more; a tracestate of 512 is what every participant must pass on.
const (
	maxTraceparent = 64
	maxTracestate  = 512
)

// Get implements propagation.TextMapCarrier.
func (c *TraceContext) Get(key string) string {
	switch key {
	case "traceparent":
		return c.Traceparent
	case "tracestate":
		return c.Tracestate
	default:
		return ""
	}
}

// Set implements propagation.TextMapCarrier.
func (c *TraceContext) Set(key, value string) {
	switch key {
	case "traceparent":
		c.Traceparent = value
	case "tracestate":
		c.Tracestate = value
	}
}

// Keys implements propagation.TextMapCarrier.
func (*TraceContext) Keys() []string { return []string{"traceparent", "tracestate"} }
