package telemetry

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// side is what the calls of a server, or of a client, have in common.
type side struct {
	*Telemetry
	methods  methods
	isServer bool
}

// call is the life of one RPC: begun once, ended once, messages between.
// A stream sends and receives on different goroutines, so its own counts are
// atomic.
type call struct {
	side   *side
	method *method
	name   string // as called, even if the method is unknown
	ctx    context.Context
	span   trace.Span
	began  time.Time
	target string // of a client

	sent, received           atomic.Int64
	bytesSent, bytesReceived atomic.Int64
	ended                    atomic.Bool
}

// begin counts the call and starts its span, as a child of the span in ctx.
func (s *side) begin(ctx context.Context, m *method, fullMethod string) *call {
	c := &call{side: s, method: m, name: strings.TrimPrefix(fullMethod, "/"), ctx: ctx, span: noSpan, began: time.Now()}
	m.started.Inc()
	m.inFlight.Inc()
	if !m.quiet {
		c.ctx, c.span = s.Tracer.Start(ctx, m.name, m.start...)
	}
	return c
}

// noSpan is a span that does nothing.
var noSpan = trace.SpanFromContext(context.Background())

// didSend counts a message that was handed to the transport.
func (c *call) didSend(msg any) {
	size := sizeOf(msg)
	c.sent.Add(1)
	c.bytesSent.Add(size)
	c.method.msgSent.Inc()
	c.method.bytesSent.Add(float64(size))
}

// didReceive counts a message that was taken from the transport and decoded.
func (c *call) didReceive(msg any) {
	size := sizeOf(msg)
	c.received.Add(1)
	c.bytesReceived.Add(size)
	c.method.msgReceived.Inc()
	c.method.bytesReceived.Add(float64(size))
}

// sizeOf is the message's encoded size. It does not look at the content of
// bytes fields, so a chunk of 1 MiB costs as little as one of 1 KiB (see
// BenchmarkSizeOf). What is no protobuf message counts as empty.
func sizeOf(msg any) int64 {
	if m, ok := msg.(proto.Message); ok {
		return int64(proto.Size(m))
	}
	return 0
}

// end settles the call. Only the first end counts, because a stream can come
// to its end in several places at once.
func (c *call) end(err error) {
	if !c.ended.CompareAndSwap(false, true) {
		return
	}
	st := status.Convert(err)
	took := time.Since(c.began)
	c.method.inFlight.Dec()
	c.method.seconds.Observe(took.Seconds())
	c.method.countOf(st.Code()).Inc()
	if c.method.quiet {
		return
	}
	c.log(st, err, took)
	c.endSpan(st)
}

func (c *call) endSpan(st *status.Status) {
	if !c.span.IsRecording() {
		c.span.End()
		return
	}
	attributes := []attribute.KeyValue{
		attribute.Int64("quartet.messages_sent", c.sent.Load()),
		attribute.Int64("quartet.messages_received", c.received.Load()),
		attribute.Int64("quartet.bytes_sent", c.bytesSent.Load()),
		attribute.Int64("quartet.bytes_received", c.bytesReceived.Load()),
	}
	if c.method.name == other {
		attributes = append(attributes, semconv.RPCMethodOriginal(c.name))
	}
	if c.target != "" {
		attributes = append(attributes, serverAddress(c.target)...)
	}
	endSpan(c.span, st, c.side.isServer, attributes...)
}

// log writes the one line of the call.
func (c *call) log(st *status.Status, err error, took time.Duration) {
	level := severity(st.Code())
	if !c.side.Log.Enabled(c.ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("method", c.name),
		slog.String("code", st.Code().String()),
		slog.Duration("took", took),
		slog.Int64("sent", c.sent.Load()),
		slog.Int64("received", c.received.Load()),
	}
	if st.Message() != "" {
		attrs = append(attrs, slog.String("message", st.Message()))
	}
	// A status that hides its cause from the client wraps it.
	if cause := errors.Unwrap(err); cause != nil {
		attrs = append(attrs, slog.Any("cause", cause))
	}
	c.side.Log.LogAttrs(c.ctx, level, c.side.callLine(), append(attrs, c.remote()...)...)
}

func (s *side) callLine() string {
	if s.isServer {
		return "served call"
	}
	return "called"
}

// remote is the other end: for a server the peer's address, for a client the
// target it was told.
func (c *call) remote() []slog.Attr {
	if !c.side.isServer {
		return []slog.Attr{slog.String("target", c.target)}
	}
	if p, ok := peer.FromContext(c.ctx); ok {
		return []slog.Attr{slog.String("peer", p.Addr.String())}
	}
	return nil
}
