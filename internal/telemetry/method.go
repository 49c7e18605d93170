package telemetry

import (
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// kind is the mode of a method, spelled as the label grpc_type.
type kind string

const (
	unary        kind = "unary"
	clientStream kind = "client_stream"
	serverStream kind = "server_stream"
	bidiStream   kind = "bidi_stream"
)

// kinds are all modes.
var kinds = []kind{unary, clientStream, serverStream, bidiStream}

// kindOf is the mode of a method by which of its sides stream.
func kindOf(clientStreams, serverStreams bool) kind {
	switch {
	case clientStreams && serverStreams:
		return bidiStream
	case clientStreams:
		return clientStream
	case serverStreams:
		return serverStream
	default:
		return unary
	}
}

// method holds everything about an RPC method that is the same for each of its
// calls, resolved once, so that a call or a message costs no look-up.
type method struct {
	name     string // service/method, or other
	quiet    bool   // neither spans nor log lines
	lines    *callLimits
	families *callMetrics
	labels   []string // grpc_type, grpc_service, grpc_method
	// span and attributes are made once: each call would otherwise allocate the same ones.
	span       []trace.SpanStartOption
	attributes []attribute.KeyValue

	arrived, retried prometheus.Counter // of a server
	started          prometheus.Counter
	inFlight         prometheus.Gauge
	seconds          prometheus.Observer
	examples         *examples
	// handled has a counter for each of expectedCodes, nil for the others, see countOf.
	handled        [codes.Unauthenticated + 1]prometheus.Counter
	sent, received direction
}

// method makes the entry of a method, whose metrics are at 0 from then on.
func (f *callMetrics) method(k kind, service, name string, span trace.SpanKind) *method {
	labels := []string{string(k), service, name}
	m := &method{
		name:     service + "/" + name,
		quiet:    IsBuiltIn(service),
		lines:    newCallLimits(f.isServer),
		families: f,
		labels:   labels,
		span:     []trace.SpanStartOption{trace.WithSpanKind(span)},
		started:  f.started.WithLabelValues(labels...),
		inFlight: f.inFlight.WithLabelValues(labels...),
		seconds:  f.seconds[k].WithLabelValues(labels[1:]...),
		examples: newExamples(boundsOf(k)),
		sent: direction{
			messages: f.msgSent.WithLabelValues(labels...),
			bytes:    f.bytesSent.WithLabelValues(labels...),
		},
		received: direction{
			messages: f.msgReceived.WithLabelValues(labels...),
			bytes:    f.bytesReceived.WithLabelValues(labels...),
		},
	}
	for _, code := range expectedCodes {
		m.handled[code] = m.countOf(code, "")
	}
	// All unknown methods have one name, and no service in front of it.
	if service == other {
		m.name = other
	}
	m.attributes = spanAttributes(m.name)
	if f.isServer {
		// The counter is there before its first event, which rate() would miss.
		for _, end := range excused {
			m.countOf(end.code, end.fault)
		}
		m.arrived, m.retried = f.arrived.WithLabelValues(labels...), f.retried.WithLabelValues(labels...)
	}
	m.timeMessages(k)
	return m
}

// timeMessages chooses the directions in which messages are timed. What comes
// from the server answers the call; the gaps are those of the direction that
// streams, and of a conversation those in what one hears.
func (m *method) timeMessages(k kind) {
	// On a client what it receives is the server's, and on a server what it sends.
	fromServer, fromClient := &m.received, &m.sent
	if m.families.isServer {
		fromServer, fromClient = fromClient, fromServer
	}
	// A bidirectional stream has gaps both ways; those of what is received show how the peer is doing.
	streaming := map[kind]*direction{
		serverStream: fromServer, clientStream: fromClient, bidiStream: &m.received,
	}[k]
	if streaming != nil {
		streaming.gap = m.families.gap.WithLabelValues(m.labels...)
	}
	if k == serverStream || k == bidiStream {
		fromServer.first = m.families.first.WithLabelValues(m.labels...)
	}
}

// MethodLabels are the labels that name an RPC, with its mode, in every metric.
func MethodLabels() []string { return slices.Clone(methodLabels) }

// MethodLabelValues are the values of MethodLabels for an RPC.
func MethodLabelValues(method protoreflect.MethodDescriptor) []string {
	k := kindOf(method.IsStreamingClient(), method.IsStreamingServer())
	return []string{string(k), string(method.Parent().FullName()), string(method.Name())}
}

// IsBuiltIn is true for health and reflection, by the full name of the service or of a method of it
// without the first slash. They are called every few seconds or by tools, so that their spans and
// lines would hide those of services.
func IsBuiltIn(name string) bool {
	return strings.HasPrefix(name, "grpc.health.") || strings.HasPrefix(name, "grpc.reflection.")
}

// known is code, or Unknown if it is none of gRPC's 17: a peer may send any
// number, and must not choose how many series there are.
func known(code codes.Code) codes.Code {
	if code > codes.Unauthenticated {
		return codes.Unknown
	}
	return code
}

// countOf is the counter of calls that ended with code, by whose fault.
func (m *method) countOf(code codes.Code, fault string) prometheus.Counter {
	if counter := m.handled[code]; counter != nil && fault == "" {
		return counter
	}
	return m.families.ended(m.labels, code.String(), fault)
}

// ended returns the counter for a code and, on a server, whose fault it was.
func (f *callMetrics) ended(labels []string, code, fault string) prometheus.Counter {
	labels = append(slices.Clip(labels), code)
	if f.isServer {
		labels = append(labels, fault)
	}
	return f.handled.WithLabelValues(labels...)
}

// other stands for every method that was not in the table from the start: the
// names of unknown methods are the caller's choice, so they are no labels.
const other = "other"

// methods finds a call's method by gRPC's full name, "/service/method".
type methods struct {
	known map[string]*method
	other map[kind]func() *method // by a client made when first needed, which is rarely
}

// newMethods makes the table for services, whose methods have their metrics from the start.
func newMethods(
	f *callMetrics,
	span trace.SpanKind,
	services []protoreflect.ServiceDescriptor,
) methods {
	table := methods{known: map[string]*method{}, other: map[kind]func() *method{}}
	for _, service := range services {
		for i := range service.Methods().Len() {
			md := service.Methods().Get(i)
			m := f.method(
				kindOf(md.IsStreamingClient(), md.IsStreamingServer()),
				string(service.FullName()),
				string(md.Name()),
				span,
			)
			// The key is as gRPC writes it, so that finding it makes no string.
			table.known["/"+m.name] = m
		}
	}
	for _, k := range kinds {
		// Calls of several goroutines may need it first at the same time.
		table.other[k] = sync.OnceValue(func() *method { return f.method(k, other, other, span) })
	}
	if f.isServer {
		table.other[bidiStream]() // The only kind there is on a server, see Arrived.
	}
	return table
}

// find returns the entry of a method, or that of unknown ones of the mode k.
func (t methods) find(fullMethod string, k kind) *method {
	if m, ok := t.known[fullMethod]; ok {
		return m
	}
	return t.other[k]()
}
