package channel

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	quartetv1 "example.com/quartet/gen/quartet/v1"
	"example.com/quartet/internal/cli"
	"example.com/quartet/internal/traffic"
)

// traffic is this service's part of the steady traffic.
func (c Config) traffic(s cli.Connection) traffic.Source {
	t := newSpeaker(s)
	return traffic.Source{
		Service:    descriptor,
		Operations: []traffic.Operation{{Method: "Exchange", Rate: c.Messages, Do: t.say}},
		CleanUp:    t.leave,
		IsWrong:    isDamage,
	}
}

// newSpeaker makes a speaker that has not joined yet.
func newSpeaker(s cli.Connection) *speaker {
	return &speaker{client: connect(s), instance: s.Instance, run: uuid.NewString()}
}

// speaker talks to itself through a channel. It says the next thing once it has heard the last, and
// so knows exactly which message has to come. A conversation in which anything went wrong is
// replaced by a new one. It belongs to one goroutine.
type speaker struct {
	client       *Client
	instance     string
	conversation *Conversation
	// end cancels the context of the conversation.
	end context.CancelFunc
	// run makes what this process says different from what an earlier one of the same name said.
	run string
	// said numbers the messages; those up to abandoned belong to conversations that were given up.
	said, abandoned int
}

// say is the operation of the bidirectional mode.
func (s *speaker) say(ctx context.Context) error {
	if err := s.join(ctx); err != nil {
		return fmt.Errorf("join: %w", err)
	}
	// Counted before it is sent: a message whose outcome is not known must not be said twice.
	s.said++
	err := s.exchange(ctx, fmt.Sprintf("%s %d", s.run, s.said))
	if err != nil {
		s.close()
		s.abandoned = s.said
	}
	return err
}

// join enters the channel, from now on, unless a conversation is going on. The conversation
// outlives ctx, but entering has to be done in its time.
func (s *speaker) join(ctx context.Context) error {
	if s.conversation != nil {
		return nil
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	// The context of an operation ends with it, and that of a conversation must not.
	inTime := context.AfterFunc(ctx, end)
	conversation, err := s.client.Join(life, JoinOptions{
		Channel:     "traffic-" + s.instance,
		Participant: s.instance,
	})
	if !inTime() {
		err = context.Cause(ctx)
	}
	if err != nil {
		end()
		return err
	}
	s.conversation, s.end = conversation, end
	return nil
}

// exchange says something, and waits until it has come back and has its receipt, in any order. It
// fails with traffic.ErrWrong if something else has come, or the receipt is for another message.
func (s *speaker) exchange(ctx context.Context, body string) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	receipts := make(chan *quartetv1.Receipt, 1)
	conversation := s.conversation
	go func() {
		receipt, err := conversation.Send(ctx, []byte(body))
		if err != nil {
			cancel(fmt.Errorf("send: %w", err)) // There is nothing to be heard then.
		}
		receipts <- receipt
	}()
	message, err := s.hear(ctx)
	if err != nil {
		return unheard(ctx, body, err, receipts)
	}
	if got := string(message.GetBody()); got != body {
		return fmt.Errorf("%w: message %d says %q, expected %q", traffic.ErrWrong, message.GetSequence(),
			got, body)
	}
	receipt := <-receipts
	// Sending has failed after the message was kept: the cause says why.
	if receipt == nil {
		return context.Cause(ctx)
	}
	if receipt.GetSequence() != message.GetSequence() {
		return fmt.Errorf("%w: message %d has a receipt for %d", traffic.ErrWrong, message.GetSequence(),
			receipt.GetSequence())
	}
	return nil
}

// unheard is why a message was not heard. One that has a receipt was promised to all participants,
// so that it is a wrong answer and not an outage.
func unheard(ctx context.Context, body string, err error,
	receipts <-chan *quartetv1.Receipt) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	select {
	// The receipt may be here although the message did not come.
	case receipt := <-receipts:
		if receipt != nil {
			return fmt.Errorf("%w: message %q has receipt %d and did not come: %w", traffic.ErrWrong, body,
				receipt.GetSequence(), err)
		}
	default:
	}
	return err
}

// hear waits for the next message of our own. Other participants may say what they like, and a
// message that was given up may still come late.
func (s *speaker) hear(ctx context.Context) (*quartetv1.ChannelMessage, error) {
	for {
		message, err := s.conversation.Receive(ctx)
		if err != nil || message.GetParticipant() == s.instance &&
			!s.isAbandoned(string(message.GetBody())) {
			return message, err
		}
	}
}

// isAbandoned tells whether this process has said something in a conversation that it gave up.
func (s *speaker) isAbandoned(body string) bool {
	text, ours := strings.CutPrefix(body, s.run+" ")
	number, err := strconv.Atoi(text)
	return ours && err == nil && number <= s.abandoned
}

// leave ends the conversation when the traffic stops: it half-closes and receives what is left, as
// far as ctx allows.
func (s *speaker) leave(ctx context.Context) error {
	if s.conversation == nil {
		return nil
	}
	s.conversation.Leave()
	for {
		if _, err := s.conversation.Receive(ctx); err != nil {
			break
		}
	}
	s.close()
	return nil // A participant whose stream has ended leaves nothing that has to be removed.
}

// close ends the conversation at once.
func (s *speaker) close() {
	s.end()
	s.conversation.Close()
	s.conversation = nil
}
