package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"

	quartetv1 "example.com/quartet/gen/quartet/v1"
)

// minRejoinDelay keeps a server that says goodbye all the time from being called all the time.
const minRejoinDelay = 100 * time.Millisecond

// JoinOptions say who joins which channel, and where in it.
type JoinOptions struct {
	Channel     string
	Participant string
	// After is the sequence to begin after: nil for what is said from now on, 0 for all that is kept.
	After *uint64
}

// Conversation is one participant in one channel, over as many streams as it takes. Send and Receive may be called
// concurrently, and Receive has to be: receipts come in between the messages, so that a conversation nobody receives
// from cannot send either.
type Conversation struct {
	client   *Client
	options  JoinOptions
	messages chan *quartetv1.ChannelMessage
	outbox   *outbox

	// ended is closed when the conversation is over, and err then says why.
	ended  chan struct{}
	err    error
	cancel context.CancelFunc

	// joined is closed when the channel was first entered; session is that of the latest stream.
	joined  chan struct{}
	session atomic.Pointer[session]

	// seen is the sequence of the last message received, once it is known; moved counts whatever the streams brought.
	// Both belong to the goroutine that runs the streams.
	seen  *uint64
	moved int64
}

// Join enters a channel and returns when the server has confirmed it. The conversation ends with ctx, with Leave, or
// when it cannot be resumed.
func (c *Client) Join(ctx context.Context, options JoinOptions) (*Conversation, error) {
	ctx, cancel := context.WithCancel(ctx)
	v := &Conversation{
		client:   c,
		options:  options,
		messages: make(chan *quartetv1.ChannelMessage),
		outbox:   newOutbox(),
		ended:    make(chan struct{}),
		joined:   make(chan struct{}),
		cancel:   cancel,
		seen:     options.After,
	}
	go v.run(ctx)
	select {
	case <-v.joined:
		return v, nil
	case <-v.ended:
		return nil, v.err
	}
}

// Send says something and waits for the receipt: the message is kept then, once, whatever happened in between. The
// trace in ctx goes along.
func (v *Conversation) Send(ctx context.Context, body []byte) (receipt *quartetv1.Receipt, err error) {
	message := quartetv1.SendMessage_builder{MessageId: uuid.NewString(), Body: body}.Build()
	span := v.session.Load().send(ctx, message)
	defer func() { endSend(span, receipt, err) }()
	entry := v.outbox.add(message)
	select {
	case <-entry.done:
		return entry.receipt, nil
	case <-ctx.Done():
		v.outbox.remove(message.GetMessageId())
		return nil, ctx.Err()
	case <-v.ended:
		return nil, v.err
	}
}

// Receive waits for the next message of the channel; one's own are among them. After Leave it returns what is left,
// and then ErrLeft.
func (v *Conversation) Receive(ctx context.Context) (*quartetv1.ChannelMessage, error) {
	select {
	case message := <-v.messages:
		return message, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-v.ended:
		return nil, v.err
	}
}

// Leave ends the conversation once all that was sent has its receipt. Messages that are in the channel already are
// still to be received.
func (v *Conversation) Leave() { v.outbox.close() }

// Close ends the conversation at once and waits until it has.
func (v *Conversation) Close() {
	v.cancel()
	<-v.ended
}

func (v *Conversation) run(ctx context.Context) {
	defer close(v.ended)
	defer v.cancel()
	v.err = v.client.resume(ctx, "exchange", v)
	if v.err == nil {
		v.err = ErrLeft
	}
}

type exchangeStream = grpc.BidiStreamingClient[quartetv1.ExchangeRequest, quartetv1.ExchangeResponse]

func (v *Conversation) progress() int64 { return v.moved }

// resuming has nothing to note: what counts is the next join.
func (v *Conversation) resuming(error) {}

// attempt talks over one stream until it breaks or the participant has left. A goodbye is no break: the server asked to
// join again, most likely on another replica.
func (v *Conversation) attempt(ctx context.Context) error {
	for {
		retry, err := v.talk(ctx)
		if err != nil || retry == nil {
			return err
		}
		if err := sleep(ctx, max(minRejoinDelay, sane(retry.GetRetryDelay()))); err != nil {
			return err
		}
	}
}

// talk uses one stream. It returns the goodbye that ended it, and neither that nor an error once the participant left.
func (v *Conversation) talk(ctx context.Context) (*quartetv1.Goodbye, error) {
	ctx, guard, release := guarded(ctx, v.client.options.StallTimeout)
	stream, err := v.client.channels.Exchange(ctx)
	if err != nil {
		release()
		return nil, cause(ctx, err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		v.send(ctx, stream, guard)
	}()
	goodbye, err := v.receiveAll(ctx, stream, guard)
	release() // which ends the sender too
	<-sent
	return goodbye, cause(ctx, err)
}

// send sends the join, then everything without a receipt, oldest first. An error shows on the receiving side.
func (v *Conversation) send(ctx context.Context, stream exchangeStream, guard *guard) {
	if stream.Send(v.join()) != nil {
		return
	}
	for after := 0; ; {
		entry, err := v.outbox.next(ctx, after)
		switch {
		case errors.Is(err, io.EOF):
			guard.arm()            // Until the server has ended the stream.
			_ = stream.CloseSend() // It never fails.
			return
		case err != nil:
			return
		}
		after = entry.number
		guard.arm() // Until the receipt is there.
		if stream.Send(quartetv1.ExchangeRequest_builder{Message: entry.message}.Build()) != nil {
			return
		}
	}
}

func (v *Conversation) join() *quartetv1.ExchangeRequest {
	return quartetv1.ExchangeRequest_builder{Join: quartetv1.Join_builder{
		Channel:       v.options.Channel,
		Participant:   v.options.Participant,
		AfterSequence: v.seen,
	}.Build()}.Build()
}

// receiveAll takes replies until the stream ends. A channel may be silent for hours, and the transport's keepalive
// finds a peer that is gone; the guard is for a server that leaves the join or a message without an answer.
func (v *Conversation) receiveAll(ctx context.Context, stream exchangeStream, guard *guard) (*quartetv1.Goodbye, error) {
	guard.arm()
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
			guard.arm()
			continue
		}
		guard.disarm()
		if reply.HasJoined() {
			v.enter(stream.Context(), reply.GetJoined())
		} else if err := v.take(ctx, reply); err != nil {
			return nil, err
		}
		if v.outbox.owed() {
			guard.arm()
		}
	}
}

// enter notes that the stream is in the channel; ctx is the stream's. It is an answer, but brings nothing new.
func (v *Conversation) enter(ctx context.Context, joined *quartetv1.Joined) {
	if v.seen == nil {
		v.seen = new(joined.GetAfterSequence())
	}
	if v.session.Swap(newSession(ctx, v.client.options.Tracer, v.options)) == nil {
		close(v.joined)
	} else {
		v.client.metrics.rejoins.Inc()
	}
}

func (v *Conversation) take(ctx context.Context, reply *quartetv1.ExchangeResponse) error {
	v.moved++
	switch {
	case v.session.Load() == nil:
		return fmt.Errorf("%w: a message before the join", ErrProtocol)
	case reply.HasMessage():
		return v.deliver(ctx, reply.GetMessage())
	case reply.HasReceipt():
		v.outbox.confirm(reply.GetReceipt())
	default:
		return fmt.Errorf("%w: a message that does not belong here", ErrProtocol)
	}
	return nil
}

// deliver hands a message over, if the chain of sequences proves that none was missed.
func (v *Conversation) deliver(ctx context.Context, message *quartetv1.ChannelMessage) (err error) {
	if v.seen == nil || message.GetPreviousSequence() != *v.seen {
		return fmt.Errorf("%w: message %d follows %d", ErrGap, message.GetSequence(), message.GetPreviousSequence())
	}
	span := v.session.Load().receive(message)
	defer func() { endSpan(span, err) }()
	select {
	case v.messages <- message:
		v.seen = new(message.GetSequence())
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endOfStream tells leaving from a stream that something in between ended.
func (v *Conversation) endOfStream() error {
	if v.outbox.finished() {
		return nil
	}
	return errEnded
}
