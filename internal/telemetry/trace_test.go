package telemetry

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	otelcodes "go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// recorded is telemetry whose spans can be read.
func recorded(options ...sdktrace.TracerProviderOption) (*Telemetry, *tracetest.SpanRecorder) {
	recorder := tracetest.NewSpanRecorder()
	t := Discard()
	t.Tracer = sdktrace.NewTracerProvider(
		append(options, sdktrace.WithSpanProcessor(recorder))...).Tracer(
		"test",
	)
	return t, recorder
}

// sampled is the same with a sampler, as exports have one.
func sampled(s *sampler) (*Telemetry, *tracetest.SpanRecorder) {
	t, recorder := recorded(sdktrace.WithSampler(s))
	t.sampler = s
	return t, recorder
}

// lookup is an environment.
func lookup(variables ...string) func(string) string {
	return func(name string) string {
		for _, variable := range variables {
			if value, ok := strings.CutPrefix(variable, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

func attributesOf(span sdktrace.ReadOnlySpan) map[attribute.Key]attribute.Value {
	attributes := map[attribute.Key]attribute.Value{}
	for _, kv := range span.Attributes() {
		attributes[kv.Key] = kv.Value
	}
	return attributes
}

func TestSpansInFourModes(t *testing.T) {
	for _, mode := range modes {
		t.Run(string(mode.kind), func(t *testing.T) {
			server, inServer := recorded()
			client, inClient := recorded()
			p := start(t, &service{}, server, client)
			if err := mode.call(p, testContext(t)); err != nil {
				t.Fatal(err)
			}
			p.settle()
			if len(inServer.Ended()) != 1 || len(inClient.Ended()) != 1 {
				t.Fatalf(
					"%d server and %d client spans, want one each",
					len(inServer.Ended()),
					len(inClient.Ended()),
				)
			}
			parent, child := inClient.Ended()[0], inServer.Ended()[0]
			if child.Parent().SpanID() != parent.SpanContext().SpanID() ||
				child.SpanContext().TraceID() != parent.SpanContext().TraceID() {
				t.Errorf("the server's parent is %v, want %v", child.Parent(), parent.SpanContext())
			}
			if parent.SpanKind() != trace.SpanKindClient || child.SpanKind() != trace.SpanKindServer {
				t.Errorf("kinds are %v and %v", parent.SpanKind(), child.SpanKind())
			}
			name := testServiceName + "/" + mode.method
			for _, span := range []sdktrace.ReadOnlySpan{parent, child} {
				attributes := attributesOf(span)
				if span.Name() != name || attributes["rpc.method"].AsString() != name {
					t.Errorf(
						"span %q of method %q, want %q",
						span.Name(),
						attributes["rpc.method"].AsString(),
						name,
					)
				}
				if attributes["rpc.system.name"].AsString() != "grpc" ||
					attributes["rpc.response.status_code"].AsString() != "OK" {
					t.Errorf("attributes are %v", attributes)
				}
			}
			sent, received := messages(parent)
			if sent != mode.sent || received != mode.received {
				t.Errorf("client span has %v sent and %v received", sent, received)
			}
			if sent, received = messages(child); sent != mode.received || received != mode.sent {
				t.Errorf("server span has %v sent and %v received", sent, received)
			}
			if attributesOf(parent)["server.address"].AsString() != "127.0.0.1" ||
				attributesOf(parent)["server.port"].AsInt64() == 0 {
				t.Errorf("the client span's server is unknown: %v", parent.Attributes())
			}
		})
	}
}

func messages(span sdktrace.ReadOnlySpan) (sent, received float64) {
	attributes := attributesOf(span)
	return float64(
			attributes["test.messages_sent"].AsInt64(),
		), float64(
			attributes["test.messages_received"].AsInt64(),
		)
}

// TestContextPassesUnsampled proves that a call whose trace is not recorded,
// and a process that traces nothing at all, still hand on trace identity,
// tracestate and baggage.
func TestContextPassesUnsampled(t *testing.T) {
	for name, both := range unsampledTelemetry() {
		t.Run(name, func(t *testing.T) {
			var header metadata.MD
			var inHandler context.Context
			s := &service{
				unary: func(ctx context.Context, _ *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
					header, _ = metadata.FromIncomingContext(ctx)
					inHandler = ctx
					return &grpc_testing.SimpleResponse{}, nil
				},
			}
			p := start(t, s, both, both)
			ctx, parent := unsampledParent(t)
			if err := p.callUnary(ctx); err != nil {
				t.Fatal(err)
			}
			got := trace.SpanContextFromContext(inHandler)
			if got.TraceID() != parent.TraceID() || got.IsSampled() ||
				got.TraceState().Get("vendor") != "state" {
				t.Errorf("the handler has %v, want the trace %v", got, parent)
			}
			if got := baggage.FromContext(inHandler).Member("tenant").Value(); got != "blue" {
				t.Errorf("baggage tenant is %q", got)
			}
			if len(header.Get("traceparent")) != 1 {
				t.Errorf("traceparent is %v", header.Get("traceparent"))
			}
		})
	}
}

func unsampledParent(t *testing.T) (context.Context, trace.SpanContext) {
	t.Helper()
	state, err := trace.ParseTraceState("vendor=state")
	if err != nil {
		t.Fatal(err)
	}
	member, err := baggage.NewMember("tenant", "blue")
	if err != nil {
		t.Fatal(err)
	}
	bag, err := baggage.New(member)
	if err != nil {
		t.Fatal(err)
	}
	parent := trace.NewSpanContext(
		trace.SpanContextConfig{
			TraceID:    trace.TraceID{1},
			SpanID:     trace.SpanID{2},
			TraceState: state,
			Remote:     true,
		},
	)
	return baggage.ContextWithBaggage(
		trace.ContextWithSpanContext(testContext(t), parent),
		bag,
	), parent
}

func TestSpanStatus(t *testing.T) {
	tests := []struct {
		code           codes.Code
		server, client otelcodes.Code
	}{
		{codes.OK, otelcodes.Unset, otelcodes.Unset},
		{codes.NotFound, otelcodes.Unset, otelcodes.Error},
		{codes.Internal, otelcodes.Error, otelcodes.Error},
	}
	for _, test := range tests {
		t.Run(test.code.String(), func(t *testing.T) {
			server, inServer := recorded()
			client, inClient := recorded()
			s := &service{
				unary: func(context.Context, *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
					return &grpc_testing.SimpleResponse{}, status.Error(test.code, "as told")
				},
			}
			p := start(t, s, server, client)
			_ = p.callUnary(testContext(t))
			p.settle()
			if got := inServer.Ended()[0].Status().Code; got != test.server {
				t.Errorf("server span is %v, want %v", got, test.server)
			}
			if got := inClient.Ended()[0].Status().Code; got != test.client {
				t.Errorf("client span is %v, want %v", got, test.client)
			}
			var got codes.Code
			name := attributesOf(inServer.Ended()[0])["rpc.response.status_code"].AsString()
			if err := got.UnmarshalJSON([]byte(strconv.Quote(name))); err != nil || got != test.code {
				t.Errorf("status code is %q (%v)", name, err)
			}
		})
	}
}

// TestUnknownMethodsHaveOneSpanName keeps the callers' inventions out of span
// names, and in the attribute that is meant for them.
func TestUnknownMethodsHaveOneSpanName(t *testing.T) {
	client, spans := recorded()
	p := start(t, &service{}, Discard(), client)
	err := p.conn.Invoke(testContext(t), "/no.such.Service/Method", &grpc_testing.Empty{},
		&grpc_testing.Empty{})
	if status.Code(err) != codes.Unimplemented {
		t.Error(err)
	}
	span := spans.Ended()[0]
	attributes := attributesOf(span)
	if span.Name() != other || attributes["rpc.method"].AsString() != "_OTHER" ||
		attributes["rpc.method_original"].AsString() != "no.such.Service/Method" {
		t.Errorf("span %q has %v", span.Name(), span.Attributes())
	}
}

func TestServerAddress(t *testing.T) {
	for target, want := range map[string]string{
		"dns:///server-headless.shop.svc:50051": "server-headless.shop.svc:50051",
		"127.0.0.1:80":                          "127.0.0.1:80",
		"dns://1.1.1.1/host:80":                 "host:80",
		"unix:///run/sock":                      "sock",
	} {
		got := ""
		for _, kv := range serverAddress(target) {
			if got != "" {
				got += ":"
			}
			got += kv.Value.String()
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", target, got, want)
		}
	}
}
