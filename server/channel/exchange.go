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
	// rejoinDelay is the retry_delay of a goodbye: how long participants are asked to wait before they
	// join again.
	rejoinDelay = 500 * time.Millisecond
	// busyDelay is how long, on average, a participant is asked to wait that was refused because there
	// are too many. Each gets a random delay around it, so that they do not all come back at once.
	busyDelay = time.Second
)

// Exchange (bidirectional) carries the conversation of one participant. Three goroutines work on
// it: one receives what the participant says (speak), one sends what is said in the channel
// (listen), and the handler's own waits for what ends the conversation: the participant has left,
// has not read for too long, or the server drains. When the handler returns, gRPC cancels the
// stream's context, which ends the other two.
func (s *service) Exchange(stream exchangeStream) error {
	caller := rpc.CallerOf(stream.Context())
	pace, err := s.participants.enter(caller)
	if err != nil {
		return err
	}
	defer s.participants.leave(caller)
	// gRPC's Recv cannot be given a deadline. So it runs in a goroutine from the beginning, and
	// awaitJoin can stop waiting for the join. The goroutine goes on with speak once there is a
	// conversation; if there will be none, begin is closed and it ends.
	first, begin := make(chan received, 1), make(chan *conversation, 1)
	defer close(begin)
	go func() {
		var r received
		r.Err = rpc.Recovered(stream.Context(), func() (err error) {
			r.Message, err = stream.Recv()
			return err
		})
		first <- r
		if c := <-begin; c != nil {
			c.run(c.speak)
		}
	}()
	join, err := s.awaitJoin(stream.Context(), first)
	if err != nil {
		return err
	}
	// Before the broker is asked, so that a caller is not told whether there is such a channel.
	if err := permit(stream.Context(), join); err != nil {
		return err
	}
	start, err := startOf(join)
	if err != nil {
		return err
	}
	// The memory for messages that were read and not sent yet is bounded by caller.
	start.Reader = caller
	b := s.brokers.Of(join.GetChannel())
	subscription, err := b.Subscribe(stream.Context(), join.GetChannel(), start)
	if err != nil {
		return err
	}
	defer subscription.Close()
	// Nothing else sends yet, so that joined is the first reply, as the contract says.
	if err := stream.Send(joined(subscription)); err != nil {
		return err
	}
	c := &conversation{
		broker:       b,
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
	c.unread = sendTimer{after: s.config.SendTimeout, expired: make(chan struct{}, 1)}
	c.seenSoFar.Store(c.seen)
	// From here on two goroutines may send, which c.sending puts in order.
	begin <- c
	go c.run(c.listen)
	return c.wait(s.host.Draining)
}

// exchangeStream is the server's side of the RPC, and received what one Recv of it returned.
type (
	exchangeStream = grpc.BidiStreamingServer[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]
	received       = rpc.Received[quartetv1.ExchangeRequest]
)

// awaitJoin returns the join, which has to be the first message. A stream that does not send it
// within JoinTimeout is ended with ErrIdle, because an open stream costs memory; one that comes
// while the server drains is sent to another replica.
func (s *service) awaitJoin(ctx context.Context, first <-chan received) (*quartetv1.Join, error) {
	timeout := time.NewTimer(s.config.JoinTimeout)
	defer timeout.Stop()
	select {
	case r := <-first:
		if r.Err != nil {
			return nil, rpc.FirstMessage(r.Err)
		}
		if !r.Message.HasJoin() {
			return nil, fmt.Errorf("%w: the first message of an exchange is its join", rpc.ErrMessageOrder)
		}
		join := r.Message.GetJoin()
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

// permit is the error for a caller that may not use the channel, or not under this name. One rule
// has to permit both.
func permit(ctx context.Context, join *quartetv1.Join) error {
	if err := rpc.PermitName(ctx, channelKind, join.GetChannel()); err != nil {
		return err
	}
	return rpc.PermitName(ctx, participantKind, join.GetParticipant())
}

// conversation is one participant in one channel. Up to ended, nothing but unread changes once the
// conversation has begun.
type conversation struct {
	broker      *broker.Broker
	stream      exchangeStream
	pace        *broker.Pace
	channel     string
	participant string
	// owner is the identity in the client's token or certificate, empty without one. It is part of
	// what a repeated message_id is recognized by: no other client can make this one's messages look
	// repeated.
	owner string
	// subscription delivers what is said in the channel, to listen only.
	subscription *broker.Subscription
	telemetry    *telemetry.Telemetry
	// messages makes the short span of each message.
	messages *telemetry.Messages
	// unread notices that the participant does not read. It is guarded by sending.
	unread sendTimer
	// ended has room for one error, the first that ends the conversation; nil ends it with OK.
	ended chan error

	// seenSoFar is a copy of seen for wait, which cannot wait for sending: a sender that is blocked,
	// because the participant does not read, holds it.
	seenSoFar atomic.Uint64

	// sending is a lock with room for one, held while a reply is sent, because gRPC allows one Send at
	// a time. It is a channel and not a mutex, so that waiting for it ends with the stream. It guards
	// the fields below.
	sending chan struct{}
	// over says that the last reply has been sent. What still wants to send gets errOver.
	over bool
	// seen is the sequence of the last message sent to the participant.
	seen uint64
	// leaving says that the participant has half-closed: the stream ends once it has the message with
	// the sequence last, which was the channel's last at that moment.
	leaving bool
	last    uint64
}

// wait returns what the RPC ends with. It runs in the handler's goroutine, and never sends itself:
// a participant that does not read blocks whichever goroutine sends.
//
// A participant that reads slowly holds up only its own messages, which wait in the store and not
// in memory. One that reads nothing for SendTimeout is sent away.
func (c *conversation) wait(draining <-chan struct{}) error {
	for {
		select {
		case err := <-c.ended:
			return err
		case <-draining:
			// A closed channel is ready for ever: nil is never ready, so that goodbye is said once.
			draining = nil
			go c.run(c.sayGoodbye)
		case <-c.unread.expired:
			return &notReadingError{c.seenSoFar.Load()}
		case <-c.stream.Context().Done():
			return c.stream.Context().Err()
		}
	}
}

// run runs a part of the conversation in a goroutine of its own. What it returns ends the
// conversation, and so does a panic.
func (c *conversation) run(part func() error) {
	c.end(rpc.Recovered(c.stream.Context(), part))
}

// end makes wait return err, if it is the first; nil is the end without an error. Later ones are
// dropped, since what comes after the first is mostly a consequence of it.
func (c *conversation) end(err error) {
	if errors.Is(err, errOver) {
		return // It has ended with something else.
	}
	select {
	case c.ended <- err:
	default:
	}
}

// send sends one reply, and then calls sent, if it is not nil, while it still holds sending. It
// fails with errOver if the last reply has been sent already.
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

// listen sends the channel's messages to the participant until one of them is the last that it
// waits for, or it fails. It runs in a goroutine of its own.
func (c *conversation) listen() error {
	for {
		message, err := c.subscription.Next(c.stream.Context())
		if err != nil {
			return err
		}
		complete := false
		// seen changes together with the sending, under the same lock: leave relies on it to decide
		// whether the participant has all, or listen has still to send some.
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
			// What is stored behind the last message may be damaged: then this is an error instead of OK.
			return c.subscription.End(c.stream.Context(), message.Sequence)
		}
	}
}

// speak keeps what the participant says until it half-closes. It takes one message at a time: the
// next one is received after the receipt for this one was sent, so a participant that sends faster
// than messages can be kept is held back by gRPC's flow control. It runs in the goroutine that
// received the join.
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

// publish keeps one message and sends its receipt. An error ends the conversation: the participant
// learns from it that the message has no receipt, and may send it again with the same id.
func (c *conversation) publish(r *quartetv1.ExchangeRequest) error {
	if !r.HasMessage() {
		return fmt.Errorf("%w: after the join of an exchange come messages", rpc.ErrMessageOrder)
	}
	m := r.GetMessage()
	carried := telemetry.TraceContext{Traceparent: m.GetTraceContext().GetTraceparent(),
		Tracestate: m.GetTraceContext().GetTracestate()}
	ctx, span := c.messages.Start(c.messages.From(carried), telemetry.KeepMessage, m.GetMessageId(),
		len(m.GetBody()))
	// Subscribers get the context of this span and not the sender's, so that their spans are below it.
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

// keep keeps a message once it is the caller's turn: all participants of one caller share one pace.
func (c *conversation) keep(ctx context.Context, m broker.Message) (broker.Receipt, error) {
	if err := c.pace.Wait(ctx, m); err != nil {
		return broker.Receipt{}, err
	}
	return c.broker.Publish(ctx, c.channel, m)
}

// endKeep ends the span of a message with its sequence, or with the status that the participant
// gets.
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

// leave is called when the participant has half-closed. Its receipts have been sent by then; what
// it still gets are the messages that are in the channel at this moment. If it has them already,
// the conversation ends here, otherwise listen ends it after the last of them.
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
	// Under the lock listen either has sent the last message already, or will see leaving when it
	// does.
	seen := c.seen
	// It may be over already, with a goodbye, which is the last reply.
	c.leaving, c.last, c.over = true, last, c.over || seen >= last
	<-c.sending
	if seen >= last {
		return c.subscription.End(c.stream.Context(), seen)
	}
	// Returning would end the conversation too early; it is over when the handler returns.
	<-c.stream.Context().Done()
	return c.stream.Context().Err()
}

// sayGoodbye sends goodbye and makes it the last reply. Messages that the participant has sent
// meanwhile get no receipt, and are sent again to another replica.
func (c *conversation) sayGoodbye() error {
	return c.send(goodbye(), func() { c.over = true })
}

// sendTimer says so when a reply could not be sent within a time: gRPC's Send blocks when the
// participant does not read. start and stop are called by the goroutine that holds sending.
type sendTimer struct {
	// after is how long one Send may take.
	after time.Duration
	// expired has something when one took longer.
	expired chan struct{}
	// timer is made by the first Send and reused by all others; nil before.
	timer *time.Timer
}

// start begins the time of one Send.
func (t *sendTimer) start() {
	if t.timer == nil {
		t.timer = time.AfterFunc(t.after, t.expire)
	} else {
		t.timer.Reset(t.after)
	}
}

// stop ends it. A Send that has just taken too long may have been reported all the same.
func (t *sendTimer) stop() { t.timer.Stop() }

// expire runs in the timer's goroutine.
func (t *sendTimer) expire() {
	select {
	case t.expired <- struct{}{}:
	default:
	}
}

// startOf is where a participant wants to begin, as the broker takes it. Without any of the three
// fields that is what is said from now on. It fails with errAmbiguousStart if more than one is set.
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
		// 0 means to the broker that From is not set. No message has the sequence 0, so that 1 is as
		// good.
		start.From = max(1, join.GetFromSequence())
	}
	if given > 1 {
		return broker.Start{}, errAmbiguousStart
	}
	return start, nil
}

// joined is the first reply: where the channel stands, and what previous_sequence of the first
// message will be.
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

// channelMessage is a message of the channel as its participants get it.
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

// goodbye is the reply that ends a stream when the server drains.
func goodbye() *quartetv1.ExchangeResponse {
	return quartetv1.ExchangeResponse_builder{Goodbye: quartetv1.Goodbye_builder{
		RetryDelay: durationpb.New(rejoinDelay),
	}.Build()}.Build()
}
