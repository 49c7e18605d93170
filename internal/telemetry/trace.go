package telemetry

import (
	"context"
	"net"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	rpccode "google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// scope names this package as the origin of its spans.
const scope = "example.com/quartet/internal/telemetry"

// noTracer makes no spans, and costs nothing.
func noTracer() trace.Tracer { return noop.NewTracerProvider().Tracer(scope) }

// spanAttributes are the same for every call of a method.
func spanAttributes(name string) []attribute.KeyValue {
	if name == other {
		name = "_OTHER" // the conventions' word
	}
	return []attribute.KeyValue{semconv.RPCSystemNameGRPC, semconv.RPCMethod(name)}
}

// endSpan ends a span that is recorded, with its attributes and what became of the call.
func endSpan(span trace.Span, st *status.Status, isError bool, attributes []attribute.KeyValue) {
	code := rpccode.Code(st.Code()).String() // as the conventions spell it
	attributes = append(attributes, semconv.RPCResponseStatusCode(code))
	if isError {
		span.SetStatus(otelcodes.Error, st.Message())
		attributes = append(attributes, semconv.ErrorTypeKey.String(code))
	}
	span.SetAttributes(attributes...)
	span.End()
}

// isError is what a call's span says. A server's is an error only for the codes
// that the gRPC conventions call the server's fault, unless it was its client's.
func (c *call) isError(st *status.Status, fault string) bool {
	// On a client each code but OK is an error: it did not get what it called for.
	return st.Code() != codes.OK && (!c.side.isServer || fault == "" && isServerFault(st.Code()))
}

// isServerFault tells which codes OpenTelemetry's conventions for gRPC spans of a server call
// errors.
func isServerFault(code codes.Code) bool {
	switch code {
	case codes.Unknown,
		codes.DeadlineExceeded,
		codes.Unimplemented,
		codes.Internal,
		codes.Unavailable,
		codes.DataLoss:
		return true
	default:
		return false
	}
}

// serverAddress splits a target such as dns:///host:port for a client's span.
// The resolved address is left out: it changes with every pod.
func serverAddress(target string) []attribute.KeyValue {
	// The part after the last slash, or the whole of a target without one.
	address := target[strings.LastIndexByte(target, '/')+1:]
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return []attribute.KeyValue{semconv.ServerAddress(address)}
	}
	// A port that is a name, or none, is 0.
	number, _ := strconv.Atoi(port)
	return []attribute.KeyValue{semconv.ServerAddress(host), semconv.ServerPort(number)}
}

// incoming reads a trace context from the metadata of a call that arrived. It
// looks keys up one by one, because taking the metadata as a map copies it. A
// tracestate that is too long is left out: it would be exported with each span.
type incoming struct{ ctx context.Context }

// Get implements propagation.TextMapCarrier.
func (c *incoming) Get(key string) string {
	values := c.Values(key)
	if len(values) == 0 || key == "tracestate" && len(values[0]) > maxTracestate {
		return ""
	}
	return values[0]
}

// Values implements propagation.ValuesGetter, by which baggage is read from several headers.
func (c *incoming) Values(
	key string,
) []string {
	return metadata.ValueFromIncomingContext(c.ctx, key)
}

// Set and Keys complete propagation.TextMapCarrier; Extract calls neither.
func (*incoming) Set(string, string) {}
func (*incoming) Keys() []string     { return nil }

// extract takes the trace context that came with a call, and settles whether it is recorded.
func (c *call) extract() {
	c.incoming.ctx = c.ctx
	c.ctx = c.side.sampler.admit(c.side.Propagator.Extract(c.ctx, &c.incoming))
}

// outgoing collects a trace context as the pairs that gRPC wants.
type outgoing struct {
	pairs []string
	// room is the array of pairs, so that the usual three of them allocate nothing.
	room [6]string // for traceparent, tracestate and baggage
}

// Get, Set and Keys implement propagation.TextMapCarrier, of which Inject calls only Set.
func (*outgoing) Get(string) string       { return "" }
func (c *outgoing) Set(key, value string) { c.pairs = append(c.pairs, key, value) }
func (*outgoing) Keys() []string          { return nil }

// injected is the context of a call with its trace context as metadata, sampled
// or not, with tracestate and baggage: a later process may decide
// otherwise.
func (c *call) injected() context.Context {
	c.outgoing.pairs = c.outgoing.room[:0]
	c.side.Propagator.Inject(c.ctx, &c.outgoing)
	if len(c.outgoing.pairs) == 0 {
		return c.ctx
	}
	return metadata.AppendToOutgoingContext(c.ctx, c.outgoing.pairs...)
}
