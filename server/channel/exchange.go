package channel

import (
	"errors"
	"fmt"
	"io"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
	"example.com/quartet/server/channel/broker"
)

// rejoinDelay is what goodbye asks participants to wait.
const rejoinDelay = 500 * time.Millisecond

// Exchange (bidirectional) carries the conversation of one participant.
func (s *service) Exchange(stream grpc.BidiStreamingServer[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return rpc.FirstMessage(err)
	}
	if !first.HasJoin() {
		return fmt.Errorf("%w: the first message of an exchange is its join", rpc.ErrMessageOrder)
	}
	join := first.GetJoin()
	if err := broker.CheckName(join.GetParticipant()); err != nil {
		return fmt.Errorf("participant: %w", err)
	}
	start, err := startOf(join)
	if err != nil {
		return err
	}
	subscription, err := s.broker.Subscribe(stream.Context(), join.GetChannel(), start)
	if err != nil {
		return err
	}
	defer subscription.Close()
	if err := stream.Send(joined(subscription)); err != nil {
		return err
	}
	c := conversation{
		broker:       s.broker,
		stream:       stream,
		channel:      join.GetChannel(),
		participant:  join.GetParticipant(),
		subscription: subscription,
		telemetry:    s.host.Telemetry,
		messages:     s.host.Telemetry.NewMessages(stream.Context(), join.GetChannel(), join.GetParticipant()),
		seen:         subscription.After().Sequence,
	}
	return c.run(s.host.Draining)
}

// conversation is one participant in one channel. All replies are sent by one goroutine, as gRPC wants it.
type conversation struct {
	broker       *broker.Broker
	stream       grpc.BidiStreamingServer[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]
	channel      string
	participant  string
	subscription *broker.Subscription
	telemetry    *telemetry.Telemetry
	messages     *telemetry.Messages
	// seen is the sequence of the last message sent to the participant.
	seen uint64
}

// run serves both directions until the participant has left, the stream breaks or the server drains. A participant that
// reads slowly holds up its own messages only: they wait in the store, not in memory.
func (c *conversation) run(draining <-chan struct{}) error {
	requests := rpc.Receive(c.stream.Context(), c.stream.Recv)
	deliveries := rpc.Receive(c.stream.Context(), c.next)
	for {
		select {
		case r := <-requests:
			if errors.Is(r.Err, io.EOF) {
				return c.leave(deliveries)
			}
			if r.Err != nil {
				return r.Err
			}
			if err := c.publish(r.Message); err != nil {
				return err
			}
		case d := <-deliveries:
			if err := c.forward(d); err != nil {
				return err
			}
		case <-draining:
			return c.stream.Send(goodbye())
		case <-c.stream.Context().Done():
			return c.stream.Context().Err()
		}
	}
}

// next waits for the next message of the channel.
func (c *conversation) next() (*broker.Message, error) {
	message, err := c.subscription.Next(c.stream.Context())
	return &message, err
}

// publish keeps one message and confirms it.
func (c *conversation) publish(r *quartetv1.ExchangeRequest) error {
	if !r.HasMessage() {
		return fmt.Errorf("%w: after the join of an exchange come messages", rpc.ErrMessageOrder)
	}
	m := r.GetMessage()
	carried := telemetry.TraceContext{Traceparent: m.GetTraceContext().GetTraceparent(), Tracestate: m.GetTraceContext().GetTracestate()}
	ctx, span := c.messages.Start(c.messages.From(carried), telemetry.KeepMessage, m.GetMessageId(), len(m.GetBody()))
	carried = telemetry.TraceContextOf(ctx)
	receipt, err := c.broker.Publish(ctx, c.channel, broker.Message{
		Participant: c.participant,
		ID:          m.GetMessageId(),
		Body:        m.GetBody(),
		Traceparent: carried.Traceparent,
		Tracestate:  carried.Tracestate,
	})
	c.endKeep(span, receipt, err)
	if err != nil {
		return err
	}
	return c.stream.Send(quartetv1.ExchangeResponse_builder{Receipt: quartetv1.Receipt_builder{
		MessageId: m.GetMessageId(),
		Sequence:  receipt.Sequence,
		Duplicate: receipt.Duplicate,
	}.Build()}.Build())
}

// endKeep ends the span of a message, with what became of it.
func (c *conversation) endKeep(span trace.Span, receipt broker.Receipt, err error) {
	switch {
	case err != nil:
		err = status.Error(errorTable.Status(err).Code(), err.Error())
	case span.IsRecording():
		span.SetAttributes(c.telemetry.Key("sequence").Int64(int64(receipt.Sequence)), c.telemetry.Key("duplicate").Bool(receipt.Duplicate))
	}
	rpc.EndSpan(span, err)
}

// forward sends one message to the participant.
func (c *conversation) forward(d rpc.Received[broker.Message]) error {
	if d.Err != nil {
		return d.Err
	}
	c.seen = d.Message.Sequence
	return c.stream.Send(channelMessage(*d.Message))
}

// leave sends what is in the channel at this moment, for a participant that has nothing more to say.
func (c *conversation) leave(deliveries <-chan rpc.Received[broker.Message]) error {
	last, err := c.broker.LastSequence(c.stream.Context(), c.channel)
	if err != nil {
		return err
	}
	for c.seen < last {
		select {
		case d := <-deliveries:
			if err := c.forward(d); err != nil {
				return err
			}
		case <-c.stream.Context().Done():
			return c.stream.Context().Err()
		}
	}
	return c.subscription.End(c.stream.Context(), c.seen)
}

// startOf is where a participant wants to begin.
func startOf(join *quartetv1.Join) (start broker.Start, err error) {
	given := 0
	if join.HasAfterSequence() {
		given++
		start.After = &broker.Position{Sequence: join.GetAfterSequence()}
	}
	if join.HasAfter() {
		given++
		start.After = &broker.Position{History: join.GetAfter().GetHistory(), Sequence: join.GetAfter().GetSequence()}
		if join.GetAfter().HasCreateTime() {
			start.After.Time = join.GetAfter().GetCreateTime().AsTime()
		}
	}
	if join.HasFromSequence() {
		given++
		start.From = max(1, join.GetFromSequence())
	}
	if given > 1 {
		return broker.Start{}, errAmbiguousStart
	}
	return start, nil
}

func joined(s *broker.Subscription) *quartetv1.ExchangeResponse {
	after := quartetv1.Position_builder{History: s.After().History, Sequence: s.After().Sequence}.Build()
	if !s.After().Time.IsZero() {
		after.SetCreateTime(timestamppb.New(s.After().Time))
	}
	return quartetv1.ExchangeResponse_builder{Joined: quartetv1.Joined_builder{
		LastSequence:  s.Last(),
		AfterSequence: s.After().Sequence,
		After:         after,
	}.Build()}.Build()
}

func channelMessage(m broker.Message) *quartetv1.ExchangeResponse {
	message := quartetv1.ChannelMessage_builder{
		Sequence:         m.Sequence,
		PreviousSequence: m.Previous,
		Participant:      m.Participant,
		MessageId:        m.ID,
		Body:             m.Body,
		CreateTime:       timestamppb.New(m.Time),
	}.Build()
	if m.Traceparent != "" {
		message.SetTraceContext(quartetv1.TraceContext_builder{Traceparent: m.Traceparent, Tracestate: m.Tracestate}.Build())
	}
	return quartetv1.ExchangeResponse_builder{Message: message}.Build()
}

func goodbye() *quartetv1.ExchangeResponse {
	return quartetv1.ExchangeResponse_builder{Goodbye: quartetv1.Goodbye_builder{
		RetryDelay: durationpb.New(rejoinDelay),
	}.Build()}.Build()
}
