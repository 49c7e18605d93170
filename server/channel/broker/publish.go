package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// publishPatience is how long Publish tries. It outlasts a restart of a server and the election of a leader.
	publishPatience = 10 * time.Second
	publishRetry    = 100 * time.Millisecond
	// publishAttempt is how long it waits for one acknowledgement, which may have been lost with a connection.
	publishAttempt = 2 * time.Second
)

// Receipt confirms that a message is kept.
type Receipt struct {
	Sequence uint64
	// Duplicate says that the participant used the id before in this channel: Sequence is the first message's, and
	// nothing new was kept.
	Duplicate bool
}

// Publish keeps a message in a channel: its Participant, ID, Body, Traceparent and Tracestate. When it returns a
// Receipt, the message is stored (on most replicas, if there are several) and will reach every subscriber.
//
// An unreachable broker is tried for 10 seconds, which the id makes safe, and then gives ErrUnavailable. After that, or
// an error of ctx, the message may have been kept all the same: publish it again with the same id. Other errors are
// ErrInvalidName, ErrInvalidMessageID, ErrBodyTooLarge and ErrClosed.
func (b *Broker) Publish(ctx context.Context, channel string, m Message) (Receipt, error) {
	msg, err := b.names.encode(channel, m)
	if err != nil {
		return Receipt{}, err
	}
	if err := b.enter(); err != nil {
		return Receipt{}, err
	}
	defer b.tasks.Done()
	patience, cancel := context.WithTimeout(ctx, publishPatience)
	defer cancel()
	for tried := false; ; tried = true {
		ack, err := b.publish(patience, msg)
		if err == nil {
			// A repetition of our own is none to the caller.
			receipt := Receipt{Sequence: ack.Sequence, Duplicate: ack.Duplicate && !tried}
			b.metrics.said(receipt)
			return receipt, nil
		}
		if refused(err) && !inProgress(err) {
			return Receipt{}, fmt.Errorf("publishing: %w", err)
		}
		select {
		case <-b.closed:
			return Receipt{}, ErrClosed
		case <-patience.Done():
			return Receipt{}, b.explain(ctx, err)
		case <-time.After(publishRetry):
		}
	}
}

func (b *Broker) publish(ctx context.Context, msg *nats.Msg) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, publishAttempt)
	defer cancel()
	return b.js.PublishMsg(ctx, msg)
}

// inProgress says that the same message is on its way in another request, whose outcome the cluster does not know yet.
func inProgress(err error) bool {
	const duplicateInProgress = 10158
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == duplicateInProgress
}
