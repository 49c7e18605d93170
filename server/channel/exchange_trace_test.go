package channel

import (
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/telemetry"
)

const (
	testTrace   = "4bf92f3577b34da6a3ce929d0e0e4736"
	testSampled = "00-" + testTrace + "-00f067aa0ba902b7-01"
	testQuiet   = "00-" + testTrace + "-00f067aa0ba902b7-00"
)

// recorded is telemetry whose spans can be read.
func recorded() (*telemetry.Telemetry, *tracetest.SpanRecorder) {
	recorder := tracetest.NewSpanRecorder()
	tele := telemetry.Discard()
	tele.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test")
	return tele, recorder
}

// ended are the spans of a name that have ended.
func ended(recorder *tracetest.SpanRecorder, name string) []sdktrace.ReadOnlySpan {
	return slices.DeleteFunc(recorder.Ended(),
		func(s sdktrace.ReadOnlySpan) bool { return s.Name() != name })
}

// sayIn says something in a trace, and returns the message as it comes around.
func (p *testParticipant) sayIn(t *testing.T, id, traceparent,
	tracestate string) *quartetv1.ChannelMessage {
	t.Helper()
	request := sendRequest(id, "body")
	if traceparent != "" {
		request.GetMessage().SetTraceContext(quartetv1.TraceContext_builder{Traceparent: traceparent,
			Tracestate: tracestate}.Build())
	}
	if err := p.Send(request); err != nil {
		t.Fatal(err)
	}
	var message *quartetv1.ChannelMessage
	for range 2 { // The receipt may come first.
		reply, err := p.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if reply.HasMessage() {
			message = reply.GetMessage()
		}
	}
	return message
}

func TestAJoinIsSeenWhileItsStreamRuns(t *testing.T) {
	tele, recorder := recorded()
	ts := startObserved(t, tele, t.TempDir())
	ts.join(t, "room", "alice", nil)
	apptest.Eventually(t, func() bool { return len(ended(recorder, "join")) == 1 },
		func() string { return "no span of the join has ended" })
	join, rpc := ended(recorder, "join")[0], recorder.Started()[0]
	if join.Parent().SpanID() != rpc.SpanContext().SpanID() ||
		rpc.Name() != "quartet.v1.ChannelService/Exchange" || !rpc.EndTime().IsZero() {
		t.Errorf("the join is below %v, the stream is %s and ended %v", join.Parent(), rpc.Name(),
			rpc.EndTime())
	}
	want := []attribute.KeyValue{
		attribute.String("messaging.system", "test"),
		attribute.String("messaging.destination.name", "room"),
		attribute.String("messaging.client.id", "alice"),
	}
	if !slices.Equal(join.Attributes(), want) {
		t.Errorf("attributes are %v, want %v", join.Attributes(), want)
	}
}

func TestAMessageIsKeptInTheTraceItCameWithOrInOneOfItsOwn(t *testing.T) {
	tele, recorder := recorded()
	ts := startObserved(t, tele, t.TempDir())
	alice := ts.join(t, "room", "alice", nil)
	for id, c := range map[string]struct{ traceparent, tracestate, trace, state string }{
		"its own":            {testSampled, "vendor=state", testTrace, "vendor=state"},
		"a broken state":     {testSampled, "no state", testTrace, ""},
		"none":               {},
		"malformed":          {traceparent: "00-" + testTrace},
		"of zeroes":          {traceparent: "00-" + strings.Repeat("0", 32) + "-00f067aa0ba902b7-01"},
		"too long":           {traceparent: testSampled + strings.Repeat("-0", 100)},
		"with a long state":  {traceparent: testSampled, tracestate: strings.Repeat("k=v,", 200)},
		"not ASCII":          {traceparent: "00-" + strings.Repeat("é", 16) + "-00f067aa0ba902b7-01"},
		"a line break in it": {traceparent: testSampled + "\r\nX: y"},
	} {
		t.Run(id, func(t *testing.T) {
			recorder.Reset()
			message := alice.sayIn(t, strings.ReplaceAll(id, " ", "-"), c.traceparent, c.tracestate)
			apptest.Eventually(t, func() bool { return len(ended(recorder, "keep")) == 1 },
				func() string { return "no span of the message" })
			keep := ended(recorder, "keep")[0]
			got := keep.SpanContext()
			if c.trace == "" && keep.Parent().IsValid() || c.trace != "" &&
				got.TraceID().String() != c.trace {
				t.Errorf("it is kept in trace %v below %v", got.TraceID(), keep.Parent())
			}
			if len(keep.Links()) != 1 || keep.SpanKind() != trace.SpanKindConsumer {
				t.Errorf("%d links, kind %v", len(keep.Links()), keep.SpanKind())
			}
			carried := message.GetTraceContext()
			if want := "00-" + got.TraceID().String() + "-" + got.SpanID().String() + "-01"; carried.GetTraceparent() != want || carried.GetTracestate() != c.state {
				t.Errorf("%v travels on, want %s and %q", carried, want, c.state)
			}
		})
	}
}

func TestWithoutTracingOrSamplingAContextPassesAndNothingIsRecorded(t *testing.T) {
	t.Run("without tracing", func(t *testing.T) {
		ts := startServer(t, t.TempDir())
		carried := ts.join(t, "room", "alice", nil).sayIn(t, "1", testSampled,
			"vendor=state").GetTraceContext()
		if carried.GetTraceparent() != testSampled || carried.GetTracestate() != "vendor=state" {
			t.Errorf("%v travels on", carried)
		}
		if message := ts.join(t, "other", "bob", nil).sayIn(t, "1", "nonsense",
			""); message.HasTraceContext() {
			t.Errorf("%v travels on, out of nothing", message.GetTraceContext())
		}
	})
	t.Run("not sampled", func(t *testing.T) {
		tele, recorder := recorded()
		ts := startObserved(t, tele, t.TempDir())
		carried := ts.join(t, "room", "alice", nil).sayIn(t, "1", testQuiet,
			"vendor=state").GetTraceContext()
		if got := carried.GetTraceparent(); !strings.HasPrefix(got, "00-"+testTrace) ||
			!strings.HasSuffix(got, "-00") || carried.GetTracestate() != "vendor=state" {
			t.Errorf("%v travels on", carried)
		}
		if spans := ended(recorder, "keep"); len(spans) != 0 {
			t.Errorf("%d spans of the message", len(spans))
		}
	})
}

func TestAMessageThatIsRefusedShowsInItsTrace(t *testing.T) {
	tele, recorder := recorded()
	ts := startObserved(t, tele, t.TempDir())
	alice := ts.exchange(t, joinRequest("room", "alice", nil), sendRequest("", "no id"))
	var err error
	for err == nil {
		_, err = alice.Recv()
	}
	apptest.Eventually(t, func() bool { return len(ended(recorder, "keep")) == 1 },
		func() string { return "no span of the message" })
	keep := ended(recorder, "keep")[0]
	attributes := attribute.NewSet(keep.Attributes()...)
	if got, _ := attributes.Value("error.type"); got.AsString() != "INVALID_ARGUMENT" ||
		keep.Status().Description == "" {
		t.Errorf("error.type is %q, status %v", got.AsString(), keep.Status())
	}
}
