package channel_test

import (
	"context"
	"encoding/hex"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"example.com/quartet/client/channel"
	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/app/apptest"
	"example.com/quartet/internal/clienttest"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/test/process/processtest"
)

// traced is a participant whose spans can be read.
type traced struct {
	*channel.Conversation
	recorder *tracetest.SpanRecorder
	tracer   trace.Tracer
}

func joinTraced(t *testing.T, address, participant string) *traced {
	t.Helper()
	tele, recorder := clienttest.Traced()
	client := newClient(t, address, channel.Options{Telemetry: tele})
	v, err := client.Join(clienttest.Deadline(t),
		channel.JoinOptions{Channel: "room", Participant: participant})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.Close)
	return &traced{v, recorder, tele.Tracer}
}

// join is the one span of the participant's join, which has to be there while its stream still
// runs.
func (p *traced) join(t *testing.T) sdktrace.ReadOnlySpan {
	t.Helper()
	join := clienttest.Spans(t, p.recorder, "join", 1)[0]
	rpc := p.recorder.Started()[0]
	if rpc.Name() != "quartet.v1.ChannelService/Exchange" || !rpc.EndTime().IsZero() ||
		join.Parent().SpanID() != rpc.SpanContext().SpanID() {
		t.Errorf("the join is below %v, the stream is %q and ended %v", join.Parent(), rpc.Name(),
			rpc.EndTime())
	}
	return join
}

func TestAMessageIsOneTraceFromItsSenderOverTheServerToEverybody(t *testing.T) {
	collector := clienttest.NewCollector(t)
	server := processtest.Start(t, collector.Environment()...)
	alice, bob := joinTraced(t, server.Address, "alice"), joinTraced(t, server.Address, "bob")
	ctx, work := alice.tracer.Start(clienttest.Deadline(t), "work")
	sent := make(chan error, 1)
	go func() {
		_, err := alice.Send(ctx, []byte("hello"))
		sent <- err
	}()
	for _, p := range []*traced{alice, bob} {
		if _, err := p.Receive(clienttest.Deadline(t)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}

	send := clienttest.Spans(t, alice.recorder, "send", 1)[0]
	if send.Parent().SpanID() != work.SpanContext().SpanID() ||
		send.SpanKind() != trace.SpanKindProducer {
		t.Errorf("the message is said below %v, kind %v", send.Parent(), send.SpanKind())
	}
	wantLink(t, send, alice.join(t))
	keep := collector.Wait(t, "keep", 1)[0]
	if hex.EncodeToString(keep.GetParentSpanId()) != send.SpanContext().SpanID().String() ||
		keep.GetKind() != tracepb.Span_SPAN_KIND_CONSUMER {
		t.Errorf("the server keeps it below %x, kind %v", keep.GetParentSpanId(), keep.GetKind())
	}
	wantServerLink(t, collector, keep, alice)
	for _, p := range []*traced{alice, bob} {
		receive := clienttest.Spans(t, p.recorder, "receive", 1)[0]
		if receive.Parent().SpanID().String() != hex.EncodeToString(keep.GetSpanId()) ||
			receive.SpanKind() != trace.SpanKindConsumer {
			t.Errorf("it is received below %v, kind %v", receive.Parent(), receive.SpanKind())
		}
		if receive.SpanContext().TraceID() != work.SpanContext().TraceID() {
			t.Errorf("it is received in trace %v, want %v", receive.SpanContext().TraceID(),
				work.SpanContext().TraceID())
		}
		wantLink(t, receive, p.join(t))
		for name, want := range map[string]string{
			"messaging.system": "test", "messaging.destination.name": "room",
			"messaging.operation.type":    "receive",
			"messaging.message.id":        clienttest.Attributes(send)["messaging.message.id"],
			"messaging.message.body.size": "5",
			"test.sequence":               clienttest.Attributes(send)["test.sequence"],
		} {
			if got := clienttest.Attributes(receive)[name]; got != want || got == "" {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
	}
}

func wantLink(t *testing.T, span, to sdktrace.ReadOnlySpan) {
	t.Helper()
	if links := span.Links(); len(links) != 1 ||
		links[0].SpanContext.SpanID() != to.SpanContext().SpanID() {
		t.Errorf("%s links to %v, want %v", span.Name(), links, to.SpanContext().SpanID())
	}
}

// wantServerLink checks that the server's span of a message links to its join of the participant,
// which is below the participant's own stream.
func wantServerLink(t *testing.T, c *clienttest.Collector, keep *tracepb.Span, p *traced) {
	t.Helper()
	for _, join := range c.Wait(t, "join", 2) {
		if len(keep.GetLinks()) == 1 &&
			string(join.GetSpanId()) == string(keep.GetLinks()[0].GetSpanId()) {
			got := p.join(t).SpanContext().TraceID().String()
			if hex.EncodeToString(join.GetTraceId()) != got {
				t.Errorf("the server's join is in trace %x, the participant's in %s", join.GetTraceId(), got)
			}
			return
		}
	}
	t.Errorf("keep links to %v, which is no join", keep.GetLinks())
}

// echo is a server that hands every message around as it is.
func echo(s grpc.BidiStreamingServer[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]) error {
	last := uint64(0)
	for {
		request, err := s.Recv()
		if err != nil {
			return nil
		}
		reply := quartetv1.ExchangeResponse_builder{Joined: &quartetv1.Joined{}}.Build()
		if m := request.GetMessage(); m != nil {
			reply = quartetv1.ExchangeResponse_builder{Message: quartetv1.ChannelMessage_builder{
				Sequence: last + 1, PreviousSequence: last, MessageId: m.GetMessageId(),
				TraceContext: m.GetTraceContext(),
			}.Build()}.Build()
			last++
		}
		if err := s.Send(reply); err != nil {
			return err
		}
	}
}

func TestAClientWithoutTracingPassesOnWhatItIsGiven(t *testing.T) {
	client := (&faulty{exchange: echo}).client(t)
	v, err := client.Join(clienttest.Deadline(t),
		channel.JoinOptions{Channel: "room", Participant: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	state, err := trace.ParseTraceState("vendor=state")
	if err != nil {
		t.Fatal(err)
	}
	given := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1},
		SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled, TraceState: state})
	for _, c := range []struct {
		ctx         context.Context
		parent      string
		statePassed string
	}{
		{trace.ContextWithSpanContext(clienttest.Deadline(t), given),
			"00-" + given.TraceID().String() + "-" + given.SpanID().String() + "-01", "vendor=state"},
		{clienttest.Deadline(t), "", ""},
	} {
		ctx, cancel := context.WithCancel(c.ctx)
		go func() { _, _ = v.Send(ctx, nil) }() // This server gives no receipts.
		m, err := v.Receive(clienttest.Deadline(t))
		cancel()
		if err != nil || m.GetTraceContext().GetTraceparent() != c.parent ||
			m.GetTraceContext().GetTracestate() != c.statePassed {
			t.Errorf("got %v, %v; want %s", m, err, c.parent)
		}
	}
}

func TestJoiningAgainIsCounted(t *testing.T) {
	server := processtest.Start(t)
	proxy := clienttest.NewProxy(t, server.Address)
	tele := telemetry.Discard()
	client := newClient(t, proxy.Address, channel.Options{Telemetry: tele})
	v, err := client.Join(clienttest.Deadline(t),
		channel.JoinOptions{Channel: "room", Participant: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	clienttest.WantNumbers(t, tele, map[string]float64{"client_exchange_rejoins_total": 0})
	proxy.CutAll()
	apptest.Eventually(t,
		func() bool { return apptest.Numbers(t, tele)["client_exchange_rejoins_total"] == 1 },
		func() string { return "the second join is not counted" })
}

func TestAMessageBeforeTheJoinBreaksTheContract(t *testing.T) {
	client := (&faulty{exchange: func(s grpc.BidiStreamingServer[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]) error {
		return s.Send(quartetv1.ExchangeResponse_builder{Message: quartetv1.ChannelMessage_builder{Sequence: 1}.Build()}.Build())
	}}).client(t)
	if _, err := client.Join(clienttest.Deadline(t),
		channel.JoinOptions{Channel: "room", Participant: "alice", After: new(uint64(0))}); err == nil {
		t.Error("it is accepted")
	}
}
