package telemetry

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/status"
)

// side is what the calls of a server, or of a client, have in common.
type side struct {
	*Telemetry
	// lines is the log of calls. Each kind of them has a limit of its own, so that only the budget of
	// the whole log is left to apply.
	lines passedLog // of calls
	// methods finds what is counted of a method by its name.
	methods  methods
	isServer bool
	keys     keys
	// calls are calls that have ended, to be used again, see arrive.
	calls sync.Pool
}

// keys are the span attributes of our own, in the namespace of the product.
type keys struct{ messagesSent, messagesReceived, bytesSent, bytesReceived attribute.Key }

// Key names a span attribute of the product: "shop.bytes_sent".
func (t *Telemetry) Key(
	name string,
) attribute.Key {
	return attribute.Key(t.Namespace + "." + name)
}

// newSide makes one side of t, with the methods of table.
func newSide(t *Telemetry, isServer bool, table methods) *side {
	return &side{
		Telemetry: t,
		lines:     withinBudget(t.Log),
		methods:   table,
		isServer:  isServer,
		keys: keys{
			t.Key("messages_sent"),
			t.Key("messages_received"),
			t.Key("bytes_sent"),
			t.Key("bytes_received"),
		},
		calls: sync.Pool{New: func() any { return new(call) }},
	}
}

// call is one RPC: it begins once, ends once, and has messages in between.
type call struct {
	side   *side
	method *method
	called string // gRPC's full name, as the caller wrote it
	ctx    context.Context
	// span is noSpan if the trace is not recorded or the method is quiet.
	span   trace.Span
	began  time.Time
	target string // of a client

	sent, received flow
	// ended is set by the first end.
	ended atomic.Bool

	// A call is its own carrier of trace contexts, which saves two allocations.
	incoming incoming
	outgoing outgoing
}

// noSpan is a span that does nothing.
var noSpan = trace.SpanFromContext(context.Background())

// arrive prepares a call. Those with one message each way come from a pool and
// are put back by release; it is not known when a stream was used for the last
// time, so streams are left to the garbage collector.
func (s *side) arrive(ctx context.Context, m *method, fullMethod string) *call {
	c := s.calls.Get().(*call)
	c.side, c.method, c.called, c.ctx, c.span = s, m, fullMethod, ctx, noSpan
	return c
}

// name is that of the method, which for an unknown one is the caller's choice.
func (c *call) name() string {
	if c.method.name == other {
		return MethodName(strings.TrimPrefix(c.called, "/"))
	}
	return c.method.name
}

// release gives the call back to the pool. No goroutine may use it from then on, so that only calls
// without a stream are released.
func (c *call) release() {
	pool := &c.side.calls
	*c = call{}
	pool.Put(c)
}

// begin counts the call and starts its span, as a child of the span in its
// context.
func (c *call) begin() {
	c.began = time.Now()
	c.method.started.Inc()
	c.method.inFlight.Inc()
	if !c.method.quiet {
		c.startSpan()
	}
}

// didSend counts a message that was handed to the transport.
func (c *call) didSend(msg any) { c.sent.pass(msg, &c.method.sent, c.began) }

// didReceive counts a message that was taken from the transport and decoded.
func (c *call) didReceive(msg any) { c.received.pass(msg, &c.method.received, c.began) }

// end settles the call. Only the first end counts, because a stream can come
// to its end in several places at once.
func (c *call) end(err error) {
	if !c.ended.CompareAndSwap(false, true) {
		return
	}
	st, fault := status.Convert(err), faultIn(err)
	took := time.Since(c.began)
	c.method.inFlight.Dec()
	// Metrics count quiet calls, too; logs and spans do not.
	c.observeEnd(st, fault, took)
	if c.method.quiet {
		return
	}
	c.log(st, err, took)
	c.endSpan(st, fault)
}

// observeEnd counts the end, with the trace as an example of what is counted
// where a handler has recorded one.
func (c *call) observeEnd(st *status.Status, fault string, took time.Duration) {
	m, code, now := c.method, known(st.Code()), c.began.Add(took)
	// It is the span of the call, or one that a handler or a caller has put into the context.
	span := trace.SpanContextFromContext(c.ctx)
	// An exemplar whose trace was not recorded would lead nowhere.
	recorded := span.IsSampled() && !m.quiet
	if recorded && m.examples.lacks(took.Seconds(), now) {
		m.seconds.(prometheus.ExemplarObserver).ObserveWithExemplar(took.Seconds(), exemplar(span))
	} else {
		m.seconds.Observe(took.Seconds())
	}
	if recorded && m.examples.lacksCode(code, now) {
		m.countOf(code, fault).(prometheus.ExemplarAdder).AddWithExemplar(1, exemplar(span))
	} else {
		m.countOf(code, fault).Inc()
	}
}

// endSpan ends the span with the attributes of a call. One that does not record is ended all the
// same, and costs no attributes.
func (c *call) endSpan(st *status.Status, fault string) {
	if !c.span.IsRecording() {
		c.span.End()
		return
	}
	// Twelve is room for all that are added below.
	attributes := append(make([]attribute.KeyValue, 0, 12), c.method.attributes...)
	attributes = append(attributes,
		c.side.keys.messagesSent.Int64(c.sent.messages.Load()),
		c.side.keys.messagesReceived.Int64(c.received.messages.Load()),
		c.side.keys.bytesSent.Int64(c.sent.bytes.Load()),
		c.side.keys.bytesReceived.Int64(c.received.bytes.Load()),
	)
	// The span of an unknown method is named _OTHER, so that the caller's name is an attribute.
	if c.method.name == other {
		attributes = append(attributes, semconv.RPCMethodOriginal(c.name()))
	}
	if c.target != "" {
		attributes = append(attributes, serverAddress(c.target)...)
	}
	endSpan(c.span, st, c.isError(st, fault), attributes)
}
