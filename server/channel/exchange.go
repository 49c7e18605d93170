package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
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

const (
	// rejoinDelay is what goodbye asks participants to wait.
	rejoinDelay = 500 * time.Millisecond
	// busyDelay is what a participant for which there is no room is asked to wait.
	busyDelay = time.Second
)

// Exchange (bidirectional) carries the conversation of one participant. One goroutine speaks for
// the participant, one listens, and this one ends both: when the participant has left or does not
// read, and when the server drains.
func (s *service) Exchange(stream exchangeStream) error {
	caller := rpc.CallerOf(stream.Context())
	pace, err := s.participants.enter(caller)
	if err != nil {
		return err
	}
	defer s.participants.leave(caller)
	first, begin := make(chan received, 1), make(chan *conversation, 1)
	defer close(begin)
	go func() {
		request, err := stream.Recv()
		first <- received{request, err}
		if c := <-begin; c != nil {
			c.end(c.speak())
		}
	}()
	join, err := s.awaitJoin(stream.Context(), first)
	if err != nil {
		return err
	}
	start, err := startOf(join)
	if err != nil {
		return err
	}
	start.Reader = caller
	subscription, err := s.broker.Subscribe(stream.Context(), join.GetChannel(), start)
	if err != nil {
		return err
	}
	defer subscription.Close()
	if err := stream.Send(joined(subscription)); err != nil {
		return err
	}
	c := &conversation{
		broker:       s.broker,
		stream:       stream,
		pace:         pace,
		channel:      join.GetChannel(),
		participant:  join.GetParticipant(),
		owner:        caller.Identity(),
		subscription: subscription,
		telemetry:    s.host.Telemetry,
		messages: s.host.Telemetry.NewMessages(stream.Context(), join.GetChannel(),
			join.GetParticipant()),
		sending: make(chan struct{}, 1),
		ended:   make(chan error, 1),
		seen:    subscription.After().Sequence,
	}
	c.unread = watchdog{after: s.config.SendTimeout, barks: make(chan struct{}, 1)}
	c.seenSoFar.Store(c.seen)
	begin <- c
	go func() { c.end(c.listen()) }()
	return c.wait(s.host.Draining)
}

type exchangeStream = grpc.BidiStreamingServer[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]

type received struct {
	request *quartetv1.ExchangeRequest
	err     error
}

// awaitJoin takes the first message, and does not wait long for it.
func (s *service) awaitJoin(ctx context.Context, first <-chan received) (*quartetv1.Join, error) {
	timeout := time.NewTimer(s.config.JoinTimeout)
	defer timeout.Stop()
	select {
	case r := <-first:
		if r.err != nil {
			return nil, rpc.FirstMessage(r.err)
		}
		if !r.request.HasJoin() {
			return nil, fmt.Errorf("%w: the first message of an exchange is its join", rpc.ErrMessageOrder)
		}
		join := r.request.GetJoin()
		if err := broker.CheckName(join.GetParticipant()); err != nil {
			return nil, fmt.Errorf("participant: %w", err)
		}
		return join, nil
	case <-timeout.C:
		return nil, fmt.Errorf("before the join: %w", rpc.ErrIdle)
	case <-s.host.Draining:
		return nil, rpc.Stopping("the server is stopping; join another")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// conversation is one participant in one channel.
type conversation struct {
	broker       *broker.Broker
	stream       exchangeStream
	pace         *broker.Pace
	channel      string
	participant  string
	owner        string // identity of the client, empty if it has none
	subscription *broker.Subscription
	telemetry    *telemetry.Telemetry
	messages     *telemetry.Messages
	unread       watchdog
	ended        chan error

	// seenSoFar is seen, for the one that does not send.
	seenSoFar atomic.Uint64

	// sending is held by the one that sends. It guards what follows.
	sending chan struct{}
	// over says that nothing may be sent any more.
	over bool
	// seen is the sequence of the last message sent to the participant.
	seen uint64
	// leaving says that the participant gets the messages up to last, and then the end.
	leaving bool
	last    uint64
}

// wait ends the conversation. A participant that reads slowly holds up its own messages only: they
// wait in the store, not in memory. One that does not read at all does not stay.
func (c *conversation) wait(draining <-chan struct{}) error {
	for {
		select {
		case err := <-c.ended:
			return err
		case <-draining:
			draining = nil
			go func() { c.end(c.sayGoodbye()) }()
		case <-c.unread.barks:
			return &notReadingError{c.seenSoFar.Load()}
		case <-c.stream.Context().Done():
			return c.stream.Context().Err()
		}
	}
}

// end ends the conversation with the first error, or without one.
func (c *conversation) end(err error) {
	if errors.Is(err, errOver) {
		return // It has ended with something else.
	}
	select {
	case c.ended <- err:
	default:
	}
}

// send sends one reply, unless the conversation is over.
func (c *conversation) send(reply *quartetv1.ExchangeResponse, sent func()) error {
	select {
	case c.sending <- struct{}{}:
	case <-c.stream.Context().Done():
		return c.stream.Context().Err()
	}
	defer func() { <-c.sending }()
	if c.over {
		return errOver
	}
	c.unread.start()
	defer c.unread.stop()
	if err := c.stream.Send(reply); err != nil {
		return err
	}
	if sent != nil {
		sent()
	}
	return nil
}

// listen sends what is said in the channel.
func (c *conversation) listen() error {
	for {
		message, err := c.subscription.Next(c.stream.Context())
		if err != nil {
			return err
		}
		complete := false
		err = c.send(channelMessage(message), func() {
			c.seen = message.Sequence
			c.seenSoFar.Store(message.Sequence)
			complete = c.leaving && c.seen >= c.last
			c.over = complete
		})
		if err != nil {
			return err
		}
		if complete {
			return c.subscription.End(c.stream.Context(), message.Sequence)
		}
	}
}

// speak keeps what the participant says, until it leaves.
func (c *conversation) speak() error {
	for {
		request, err := c.stream.Recv()
		if errors.Is(err, io.EOF) {
			return c.leave()
		}
		if err != nil {
			return err
		}
		if err := c.publish(request); err != nil {
			return err
		}
	}
}

// publish keeps one message and confirms it.
func (c *conversation) publish(r *quartetv1.ExchangeRequest) error {
	if !r.HasMessage() {
		return fmt.Errorf("%w: after the join of an exchange come messages", rpc.ErrMessageOrder)
	}
	m := r.GetMessage()
	carried := telemetry.TraceContext{Traceparent: m.GetTraceContext().GetTraceparent(),
		Tracestate: m.GetTraceContext().GetTracestate()}
	ctx, span := c.messages.Start(c.messages.From(carried), telemetry.KeepMessage, m.GetMessageId(),
		len(m.GetBody()))
	carried = telemetry.TraceContextOf(ctx)
	receipt, err := c.keep(ctx, broker.Message{
		Participant: c.participant,
		Owner:       c.owner,
		ID:          m.GetMessageId(),
		Body:        m.GetBody(),
		Traceparent: carried.Traceparent,
		Tracestate:  carried.Tracestate,
	})
	c.endKeep(span, receipt, err)
	if err != nil {
		return err
	}
	return c.send(quartetv1.ExchangeResponse_builder{Receipt: quartetv1.Receipt_builder{
		MessageId: m.GetMessageId(),
		Sequence:  receipt.Sequence,
		Duplicate: receipt.Duplicate,
	}.Build()}.Build(), nil)
}

// keep keeps a message once it is the caller's turn, which shares one pace among all its
// participants.
func (c *conversation) keep(ctx context.Context, m broker.Message) (broker.Receipt, error) {
	if err := c.pace.Wait(ctx, m); err != nil {
		return broker.Receipt{}, err
	}
	return c.broker.Publish(ctx, c.channel, m)
}

// endKeep ends the span of a message, with what became of it.
func (c *conversation) endKeep(span trace.Span, receipt broker.Receipt, err error) {
	switch {
	case err != nil:
		err = status.Error(errorTable.Status(err).Code(), err.Error())
	case span.IsRecording():
		span.SetAttributes(c.telemetry.Key("sequence").Int64(int64(receipt.Sequence)),
			c.telemetry.Key("duplicate").Bool(receipt.Duplicate))
	}
	rpc.EndSpan(span, err)
}

// leave has the participant get what is in the channel at this moment. If that is still to come,
// listen ends the conversation.
func (c *conversation) leave() error {
	last, err := c.broker.LastSequence(c.stream.Context(), c.channel)
	if err != nil {
		return err
	}
	select {
	case c.sending <- struct{}{}:
	case <-c.stream.Context().Done():
		return c.stream.Context().Err()
	}
	seen := c.seen
	c.leaving, c.last, c.over = true, last, seen >= last
	<-c.sending
	if seen >= last {
		return c.subscription.End(c.stream.Context(), seen)
	}
	<-c.stream.Context().Done()
	return c.stream.Context().Err()
}

// sayGoodbye sends the last reply.
func (c *conversation) sayGoodbye() error {
	return c.send(goodbye(), func() { c.over = true })
}

// watchdog barks when a reply could not be sent in time: the participant does not read. It is
// started and stopped by the one that sends.
type watchdog struct {
	after time.Duration
	barks chan struct{}
	timer *time.Timer
}

func (w *watchdog) start() {
	if w.timer == nil {
		w.timer = time.AfterFunc(w.after, w.bark)
	} else {
		w.timer.Reset(w.after)
	}
}

func (w *watchdog) stop() { w.timer.Stop() }

func (w *watchdog) bark() {
	select {
	case w.barks <- struct{}{}:
	default:
	}
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
		start.After = &broker.Position{History: join.GetAfter().GetHistory(),
			Sequence: join.GetAfter().GetSequence()}
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
	after := quartetv1.Position_builder{History: s.After().History,
		Sequence: s.After().Sequence}.Build()
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
		message.SetTraceContext(quartetv1.TraceContext_builder{Traceparent: m.Traceparent,
			Tracestate: m.Tracestate}.Build())
	}
	return quartetv1.ExchangeResponse_builder{Message: message}.Build()
}

func goodbye() *quartetv1.ExchangeResponse {
	return quartetv1.ExchangeResponse_builder{Goodbye: quartetv1.Goodbye_builder{
		RetryDelay: durationpb.New(rejoinDelay),
	}.Build()}.Build()
}
