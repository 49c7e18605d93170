package call

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// session makes the spans of one stream of a conversation. The span of the RPC itself is exported when the stream ends,
// which may be days from now. So there is a short one for the join, below it, and a short one for every message, which
// belongs to the trace of whoever says it and only links to the join.
type session struct {
	tracer     trace.Tracer
	joined     trace.SpanContext
	attributes []attribute.KeyValue
}

// What is the same for all spans of a kind is made once: a span that is not sampled allocates no options, and gets its
// attributes only if somebody will see them.
var (
	joinSpan    = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindInternal)}
	sendSpan    = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindProducer)}
	receiveSpan = []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer)}
)

// newSession notes that the channel was entered; ctx is that of the stream.
func newSession(ctx context.Context, tracer trace.Tracer, options JoinOptions) *session {
	_, span := tracer.Start(ctx, "join", joinSpan...)
	defer span.End()
	s := &session{
		tracer: tracer,
		joined: span.SpanContext(),
		attributes: []attribute.KeyValue{
			semconv.MessagingSystemKey.String("quartet"),
			semconv.MessagingDestinationName(options.Channel),
			semconv.MessagingClientID(options.Participant),
		},
	}
	span.SetAttributes(s.attributes...)
	return s
}

// send begins the span of a message that is being said, below that in ctx, and has the message carry its context. Without
// tracing the message carries whatever is in ctx.
func (s *session) send(ctx context.Context, m *quartetv1.SendMessage) trace.Span {
	ctx, span := s.tracer.Start(ctx, "send", sendSpan...)
	propagation.TraceContext{}.Inject(ctx, &outgoingTrace{m})
	if span.IsRecording() {
		s.describe(span, semconv.MessagingOperationTypeSend, "send", m)
	}
	return span
}

// receive begins the span of a message that is being handed over, in the trace that came with it.
func (s *session) receive(m *quartetv1.ChannelMessage) trace.Span {
	ctx := propagation.TraceContext{}.Extract(context.Background(), &incomingTrace{m.GetTraceContext()})
	_, span := s.tracer.Start(ctx, "receive", receiveSpan...)
	if span.IsRecording() {
		s.describe(span, semconv.MessagingOperationTypeReceive, "receive", m)
		span.SetAttributes(sequenceAttribute(m.GetSequence()))
	}
	return span
}

func (s *session) describe(span trace.Span, operation attribute.KeyValue, name string, m interface {
	GetMessageId() string
	GetBody() []byte
}) {
	span.SetAttributes(s.attributes...)
	span.SetAttributes(
		operation,
		semconv.MessagingOperationName(name),
		semconv.MessagingMessageID(m.GetMessageId()),
		semconv.MessagingMessageBodySize(len(m.GetBody())),
	)
	if s.joined.IsSampled() {
		span.AddLink(trace.Link{SpanContext: s.joined})
	}
}

// endSend ends the span of a message that was said, with its receipt.
func endSend(span trace.Span, receipt *quartetv1.Receipt, err error) {
	if receipt != nil && span.IsRecording() {
		span.SetAttributes(sequenceAttribute(receipt.GetSequence()))
	}
	endSpan(span, err)
}

func sequenceAttribute(sequence uint64) attribute.KeyValue {
	return attribute.Int64("quartet.sequence", int64(sequence))
}

// outgoingTrace writes a trace context into a message, as metadata carries that of a call.
type outgoingTrace struct{ message *quartetv1.SendMessage }

// Set implements propagation.TextMapCarrier.
func (c *outgoingTrace) Set(key, value string) {
	if !c.message.HasTraceContext() {
		c.message.SetTraceContext(&quartetv1.TraceContext{})
	}
	switch key {
	case "traceparent":
		c.message.GetTraceContext().SetTraceparent(value)
	case "tracestate":
		c.message.GetTraceContext().SetTracestate(value)
	}
}

// Get implements propagation.TextMapCarrier.
func (*outgoingTrace) Get(string) string { return "" }

// Keys implements propagation.TextMapCarrier.
func (*outgoingTrace) Keys() []string { return nil }

// incomingTrace reads the trace context of a message.
type incomingTrace struct{ context *quartetv1.TraceContext }

// Get implements propagation.TextMapCarrier.
func (c *incomingTrace) Get(key string) string {
	switch key {
	case "traceparent":
		return c.context.GetTraceparent()
	case "tracestate":
		return c.context.GetTracestate()
	default:
		return ""
	}
}

// Set implements propagation.TextMapCarrier.
func (*incomingTrace) Set(string, string) {}

// Keys implements propagation.TextMapCarrier.
func (*incomingTrace) Keys() []string { return nil }
