package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/server/channel"
)

// rejoinDelay is what goodbye asks participants to wait.
const rejoinDelay = 500 * time.Millisecond

// Exchange carries the conversation of one participant.
func (s *channelService) Exchange(stream grpc.BidiStreamingServer[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return firstMessageError(err)
	}
	if !first.HasJoin() {
		return fmt.Errorf("%w: the first message of an exchange is its join", errMessageOrder)
	}
	join := first.GetJoin()
	if err := channel.CheckName(join.GetParticipant()); err != nil {
		return fmt.Errorf("participant: %w", err)
	}
	subscription, err := s.broker.Subscribe(stream.Context(), join.GetChannel(), afterSequence(join))
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
		session:      newSession(stream.Context(), s.tracer, join),
		seen:         subscription.After(),
	}
	return c.run(s.draining)
}

// conversation is one participant in one channel. All replies are sent by one goroutine, as gRPC wants it.
type conversation struct {
	broker       *channel.Broker
	stream       grpc.BidiStreamingServer[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]
	channel      string
	participant  string
	subscription *channel.Subscription
	session      *session
	// seen is the sequence of the last message sent to the participant.
	seen uint64
}

// run serves both directions until the participant has left, the stream breaks or the server drains. A participant that
// reads slowly holds up its own messages and nobody else's: they wait in the store, not in memory.
func (c *conversation) run(draining <-chan struct{}) error {
	requests := receive(c.stream.Context(), c.stream.Recv)
	deliveries := receive(c.stream.Context(), c.next)
	for {
		select {
		case r := <-requests:
			if errors.Is(r.err, io.EOF) {
				return c.leave(deliveries)
			}
			if r.err != nil {
				return r.err
			}
			if err := c.publish(r.message); err != nil {
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
func (c *conversation) next() (*channel.Message, error) {
	message, err := c.subscription.Next(c.stream.Context())
	return &message, err
}

// publish keeps one message and confirms it.
func (c *conversation) publish(r *quartetv1.ExchangeRequest) error {
	if !r.HasMessage() {
		return fmt.Errorf("%w: after the join of an exchange come messages", errMessageOrder)
	}
	m := r.GetMessage()
	ctx, span, envelope := c.session.keep(m)
	receipt, err := c.broker.Publish(ctx, c.channel, channel.Message{
		Participant: c.participant,
		ID:          m.GetMessageId(),
		Body:        m.GetBody(),
		Traceparent: envelope.traceparent,
		Tracestate:  envelope.tracestate,
	})
	endKeep(span, receipt, err)
	if err != nil {
		return err
	}
	return c.stream.Send(quartetv1.ExchangeResponse_builder{Receipt: quartetv1.Receipt_builder{
		MessageId: m.GetMessageId(),
		Sequence:  receipt.Sequence,
		Duplicate: receipt.Duplicate,
	}.Build()}.Build())
}

// forward sends one message to the participant.
func (c *conversation) forward(d received[channel.Message]) error {
	if d.err != nil {
		return d.err
	}
	c.seen = d.message.Sequence
	return c.stream.Send(channelMessage(*d.message))
}

// leave sends what is in the channel at this moment, for a participant that has nothing more to say.
func (c *conversation) leave(deliveries <-chan received[channel.Message]) error {
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
	return nil
}

func afterSequence(join *quartetv1.Join) *uint64 {
	if !join.HasAfterSequence() {
		return nil
	}
	return new(join.GetAfterSequence())
}

func joined(s *channel.Subscription) *quartetv1.ExchangeResponse {
	return quartetv1.ExchangeResponse_builder{Joined: quartetv1.Joined_builder{
		LastSequence:  s.Last(),
		AfterSequence: s.After(),
	}.Build()}.Build()
}

func channelMessage(m channel.Message) *quartetv1.ExchangeResponse {
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
