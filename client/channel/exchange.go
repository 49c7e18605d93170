package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/rpc"
	"example.com/quartet/internal/telemetry"
)

// minRejoinDelay is the least time between a goodbye and the next join, so that a server that
// always says goodbye is not called all the time.
const minRejoinDelay = 100 * time.Millisecond

// JoinOptions say which participant joins which channel, and where in it.
type JoinOptions struct {
	// Channel and Participant are names by the rules of the contract: 1 to 128 bytes of UTF-8 without
	// control characters.
	Channel     string
	Participant string
	// Where to begin, by one of the next three at most: none for what is said from now on.
	//
	// After is the sequence to begin after, 0 for all that is kept. It does not prove that the channel
	// still has the history in which the sequence was seen; Position does.
	After *uint64
	// Position is the position to begin after, see Conversation.Position.
	Position *quartetv1.Position
	// From is the sequence to begin with, whatever was before it, as First says it of an error.
	From uint64
}

// Conversation is one participant in one channel, over as many streams as it takes. Send and
// Receive may be called concurrently, and Receive has to be: receipts come in between the messages,
// so that a conversation from which nothing is received cannot send either. After a break a message
// that has no receipt waits until Receive has taken what was in the channel at the rejoin.
type Conversation struct {
	client  *Client
	options JoinOptions
	// messages hands each message over to Receive. It has no room, so that a program that does not
	// receive holds the stream back, and nothing is kept in memory.
	messages chan delivery
	// outbox has what was said and has no receipt.
	outbox *outbox

	// ended is closed when the conversation is over, and err then says why.
	ended chan struct{}
	err   error
	// cancel ends the streams at once.
	cancel context.CancelFunc

	// joined is closed when the channel was first entered.
	joined chan struct{}
	// stream makes the spans of messages on the latest stream; nil before the first join.
	stream atomic.Pointer[telemetry.Messages]

	// position is what Position returns: that of the last message which Receive has returned, or where
	// the conversation began.
	position atomic.Pointer[quartetv1.Position]

	// seen is the position of the last message handed over, once it is known, and proven says that it
	// can be joined after: it is that of a message, or of none. They belong to the goroutine that runs
	// the streams.
	seen   *quartetv1.Position
	proven bool
	// last is the sequence of the last message in the channel when the stream joined, and caughtUp is
	// closed, and nil from then on, when the participant has been sent that one. They belong to the
	// same goroutine.
	last     uint64
	caughtUp chan struct{}
}

// delivery is a message on its way to Receive, and the position that it is.
type delivery struct {
	message  *quartetv1.ChannelMessage
	position *quartetv1.Position
}

// Join enters a channel and returns when the server has confirmed it. The conversation ends with
// ctx, with Leave, or when it cannot be resumed.
//
// It fails with the server's status, whose reasons are in the contract; with ErrHistoryChanged if
// Position is not in the history of the channel; with rpc.ErrGaveUp after Resumption.MaxTries; or,
// if ctx ends, with its error or the status CANCELLED or DEADLINE_EXCEEDED.
func (c *Client) Join(ctx context.Context, options JoinOptions) (*Conversation, error) {
	ctx, cancel := context.WithCancel(ctx)
	v := &Conversation{
		client:   c,
		options:  options,
		messages: make(chan delivery),
		outbox:   newOutbox(),
		ended:    make(chan struct{}),
		joined:   make(chan struct{}),
		cancel:   cancel,
	}
	go v.run(ctx)
	select {
	// Receive has to be called soon: until then the stream is held back.
	case <-v.joined:
		return v, nil
	case <-v.ended:
		return nil, v.err
	}
}

// Send says something and waits for the receipt, or for the message itself to come from the
// channel: it is kept then, once, whatever happened in between. The trace in ctx goes along.
//
// It fails with the error of ctx, after which the message may have been kept already, or with what
// has ended the conversation, as Receive.
func (v *Conversation) Send(
	ctx context.Context, body []byte,
) (receipt *quartetv1.Receipt, err error) {
	message := quartetv1.SendMessage_builder{MessageId: uuid.NewString(), Body: body}.Build()
	ctx, span := v.stream.Load().Start(ctx, telemetry.SendMessage, message.GetMessageId(), len(body))
	defer func() {
		if receipt != nil && span.IsRecording() {
			span.SetAttributes(v.sequence(receipt.GetSequence()))
		}
		rpc.EndSpan(span, err, ErrGap, ErrLeft)
	}()
	if carried := telemetry.TraceContextOf(ctx); carried.Traceparent != "" {
		message.SetTraceContext(quartetv1.TraceContext_builder{Traceparent: carried.Traceparent,
			Tracestate: carried.Tracestate}.Build())
	}
	// From here on the message is sent over each stream until it has its receipt, always with the same
	// message_id, by which the server drops repetitions.
	entry := v.outbox.add(message)
	select {
	case <-entry.done:
		return entry.receipt, nil
	case <-ctx.Done():
		// It is not sent again, but may have been kept already.
		v.outbox.remove(message.GetMessageId())
		return nil, ctx.Err()
	case <-v.ended:
		return nil, v.err
	}
}

// Receive waits for the next message of the channel; one's own are among them. After Leave it
// returns what is left, and then ErrLeft.
//
// It fails with the error of ctx, or with what has ended the conversation: ErrLeft; ErrGap;
// ErrHistoryChanged; rpc.ErrProtocol; rpc.ErrGaveUp after Resumption.MaxTries without progress; the
// server's status, that of a message that it refuses for example; or the end of Join's ctx and
// Close, as its error or the status CANCELLED or DEADLINE_EXCEEDED.
func (v *Conversation) Receive(ctx context.Context) (*quartetv1.ChannelMessage, error) {
	select {
	case d := <-v.messages:
		v.position.Store(d.position)
		return d.message, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-v.ended:
		return nil, v.err
	}
}

// Position is how far Receive has come: JoinOptions.Position of a conversation that goes on from
// there. It proves what it stands on, so keep all of it. It is nil if the conversation began with
// From and has received nothing yet.
func (v *Conversation) Position() *quartetv1.Position { return v.position.Load() }

// Leave ends the conversation once all that was sent has its receipt. Messages that are in the
// channel already are still to be received.
func (v *Conversation) Leave() { v.outbox.close() }

// Close ends the conversation at once and waits until it has.
func (v *Conversation) Close() {
	v.cancel()
	<-v.ended
}

// run uses one stream after another until the conversation is over, and then sets err. It runs in a
// goroutine of its own.
func (v *Conversation) run(ctx context.Context) {
	defer close(v.ended)
	defer v.cancel()
	v.err = v.client.options.Resumption.Resume(ctx, "exchange", v.attempt)
	switch {
	case v.err == nil:
		v.err = ErrLeft
	case rpc.Reason(v.err) == "HISTORY_CHANGED":
		v.err = fmt.Errorf("%w: %w", ErrHistoryChanged, v.err)
	}
}

// exchangeStream is the client's side of the RPC.
type exchangeStream = grpc.BidiStreamingClient[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]

// attempt talks over one stream until it breaks or the participant has left. A goodbye is no break:
// the server asked to join again, most likely on another replica.
func (v *Conversation) attempt(ctx context.Context, a *rpc.Attempt) error {
	for {
		retry, err := v.talk(ctx, a)
		if err != nil || retry == nil {
			return err
		}
		a.Ready()
		// The server has asked for this delay; other replicas are there already.
		if err := rpc.Sleep(ctx, max(minRejoinDelay, rpc.Delay(retry.GetRetryDelay()))); err != nil {
			return err
		}
	}
}

// talk uses one stream: a goroutine sends, and this one receives. It returns the goodbye that ended
// the stream, or neither a goodbye nor an error if the participant has left.
func (v *Conversation) talk(ctx context.Context, a *rpc.Attempt) (*quartetv1.Goodbye, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a.Wait()
	stream, err := v.client.channels.Exchange(ctx)
	if err != nil {
		return nil, err
	}
	sent, caughtUp := make(chan struct{}), make(chan struct{})
	v.caughtUp = caughtUp
	go func() {
		defer close(sent)
		v.send(ctx, stream, a, caughtUp)
	}()
	goodbye, err := v.receiveAll(ctx, stream, a)
	cancel() // It ends the sender too.
	<-sent
	return goodbye, err
}

// send sends the join, then everything without a receipt, oldest first, and half-closes once the
// participant leaves. It does not wait for joined: the server reads messages only after it. It
// returns no error, since the receiving side has the one with the reason.
//
// A message that was sent over an earlier stream may be kept, and the server may have forgotten its
// message_id by now. So it is sent again only if it is not among the messages that were in the
// channel when this stream joined.
func (v *Conversation) send(ctx context.Context, stream exchangeStream, a *rpc.Attempt,
	caughtUp <-chan struct{}) {
	if stream.Send(v.join()) != nil {
		return
	}
	for after := 0; ; {
		entry, err := v.outbox.next(ctx, after)
		switch {
		case errors.Is(err, io.EOF):
			a.Wait()               // Until the server has ended the stream.
			_ = stream.CloseSend() // It never fails.
			return
		case err != nil:
			return
		}
		if entry.sent && caughtUp != nil {
			select {
			case <-caughtUp:
			case <-ctx.Done():
				return
			}
			caughtUp = nil
			continue // It may not be in the outbox any more.
		}
		after, entry.sent = entry.number, true
		a.Wait() // Until the receipt is there.
		if stream.Send(quartetv1.ExchangeRequest_builder{Message: entry.message}.Build()) != nil {
			return
		}
	}
}

// join is the first request of a stream. After a message was received that is the position behind
// it; before that, what the program asked for.
func (v *Conversation) join() *quartetv1.ExchangeRequest {
	join := quartetv1.Join_builder{Channel: v.options.Channel,
		Participant: v.options.Participant}.Build()
	switch {
	case v.proven:
		join.SetAfter(v.seen)
	case v.options.From != 0:
		join.SetFromSequence(v.options.From)
	case v.options.Position != nil:
		join.SetAfter(v.options.Position)
	case v.options.After != nil:
		join.SetAfterSequence(*v.options.After)
	}
	return quartetv1.ExchangeRequest_builder{Join: join}.Build()
}

// receiveAll takes replies until the stream ends. A channel may be silent for hours, and the
// transport's keepalive finds a peer that is gone. So the guard against servers that do not answer
// runs only while the server owes something: joined, a receipt, or the end of the stream.
func (v *Conversation) receiveAll(ctx context.Context, stream exchangeStream,
	a *rpc.Attempt) (*quartetv1.Goodbye, error) {
	a.Wait()
	var goodbye *quartetv1.Goodbye
	for {
		reply, err := stream.Recv()
		switch {
		case err != nil && goodbye != nil:
			return goodbye, nil // The server ended the stream, as it had said.
		case errors.Is(err, io.EOF):
			return nil, v.endOfStream()
		case err != nil:
			return nil, err
		case reply.HasGoodbye():
			goodbye = reply.GetGoodbye()
			a.Wait()
			continue
		}
		a.Ready()
		if reply.HasJoined() {
			if err := v.enter(stream.Context(), reply.GetJoined()); err != nil {
				return nil, err
			}
		} else if err := v.take(ctx, reply, a); err != nil {
			return nil, err
		}
		if v.outbox.owed() {
			a.Wait()
		}
	}
}

// enter notes that the stream is in the channel; ctx is the stream's. It fails with
// ErrHistoryChanged if the channel has another history than on the stream before, where sequences
// say nothing.
func (v *Conversation) enter(ctx context.Context, joined *quartetv1.Joined) error {
	after := joined.GetAfter()
	if after == nil { // A server that knows no positions.
		after = quartetv1.Position_builder{Sequence: joined.GetAfterSequence()}.Build()
	}
	switch {
	case v.seen == nil:
		v.seen = after
		// With From the position stands on no message: only the first message that is received proves
		// one.
		if v.proven = v.options.From == 0; v.proven {
			v.position.Store(after)
		}
	case v.seen.GetHistory() != after.GetHistory():
		return fmt.Errorf("%w: it was %q and is %q", ErrHistoryChanged, v.seen.GetHistory(),
			after.GetHistory())
	}
	v.last = joined.GetLastSequence()
	v.catchUp(v.seen.GetSequence())
	if v.stream.Swap(v.client.options.Telemetry.NewMessages(ctx, v.options.Channel,
		v.options.Participant)) == nil {
		close(v.joined)
	} else {
		v.client.rejoins.Inc()
	}
	return nil
}

// catchUp notes that the message with a sequence has come, after which send may send again what was
// sent before, if it is the last one that was in the channel when the stream joined.
func (v *Conversation) catchUp(sequence uint64) {
	if sequence >= v.last && v.caughtUp != nil {
		close(v.caughtUp)
		v.caughtUp = nil
	}
}

// take handles a reply that is not joined or goodbye. It counts as progress: the tries that a break
// has begin again from none.
func (v *Conversation) take(ctx context.Context, reply *quartetv1.ExchangeResponse,
	a *rpc.Attempt) error {
	a.Progress()
	switch {
	case v.stream.Load() == nil:
		return fmt.Errorf("%w: a message before the join", rpc.ErrProtocol)
	case reply.HasMessage():
		return v.deliver(ctx, reply.GetMessage())
	case reply.HasReceipt():
		v.outbox.confirm(reply.GetReceipt())
	default:
		return fmt.Errorf("%w: a message that does not belong here", rpc.ErrProtocol)
	}
	return nil
}

// deliver hands a message over, if its previous_sequence is that of the last one, which proves that
// none was missed. Otherwise it fails with ErrGap, which ends the conversation.
func (v *Conversation) deliver(ctx context.Context, message *quartetv1.ChannelMessage) (err error) {
	if v.seen == nil || message.GetPreviousSequence() != v.seen.GetSequence() {
		return fmt.Errorf("%w: message %d follows %d", ErrGap, message.GetSequence(),
			message.GetPreviousSequence())
	}
	// A message of one's own is kept when it comes, also if its receipt was lost with a stream. Only
	// the name is compared with it: no other participant of that name can know a message_id, which is
	// random, before the message is in the channel.
	if message.GetParticipant() == v.options.Participant {
		v.outbox.confirm(quartetv1.Receipt_builder{MessageId: message.GetMessageId(),
			Sequence: message.GetSequence()}.Build())
	}
	v.catchUp(message.GetSequence())
	carried := telemetry.TraceContext{Traceparent: message.GetTraceContext().GetTraceparent(),
		Tracestate: message.GetTraceContext().GetTracestate()}
	stream := v.stream.Load()
	_, span := stream.Start(stream.From(carried), telemetry.ReceiveMessage, message.GetMessageId(),
		len(message.GetBody()))
	if span.IsRecording() {
		span.SetAttributes(v.sequence(message.GetSequence()))
	}
	defer func() { rpc.EndSpan(span, err, ErrGap, ErrLeft) }()
	position := quartetv1.Position_builder{
		History: v.seen.GetHistory(), Sequence: message.GetSequence(),
		CreateTime: message.GetCreateTime(),
	}.Build()
	select {
	// Only what was handed over counts as seen: otherwise it comes again over the next stream.
	case v.messages <- delivery{message, position}:
		v.seen, v.proven = position, true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// sequence is the attribute of spans.
func (v *Conversation) sequence(n uint64) attribute.KeyValue {
	return v.client.options.Telemetry.Key("sequence").Int64(int64(n))
}

// endOfStream is nil if the participant has left and all has its receipt. Otherwise something
// between client and server has ended the stream without a goodbye, and it is resumed.
func (v *Conversation) endOfStream() error {
	if v.outbox.finished() {
		return nil
	}
	return rpc.ErrEnded
}
