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
	// publishTimeout is how long Publish tries. It outlasts a restart of a server and the election of
	// a leader.
	publishTimeout = 10 * time.Second
	// publishRetry is the pause between two attempts.
	publishRetry = 100 * time.Millisecond
	// publishAttempt is how long it waits for one acknowledgement, which may have been lost with a
	// connection.
	publishAttempt = 2 * time.Second
	// countAge is how old the number of channels with messages may be that mayBegin compares.
	countAge = 10 * time.Second
	// writeTest is the subject's last token of messages that only find out whether they are stored. No
	// channel has it.
	writeTest = "~probe"
)

// Receipt confirms that a message is kept, and has the sequence it got.
type Receipt struct {
	Sequence uint64
	// Duplicate says that the participant used the id before in this channel: Sequence is the first
	// message's, and nothing new was kept.
	Duplicate bool
}

// Publish keeps a message in a channel: its Participant, ID, Body, Traceparent and Tracestate. When
// it returns a Receipt, the message is stored (on most replicas, if there are several) and will
// reach every subscriber.
//
// An unreachable broker is tried for 10 seconds, which the id makes safe, and then gives
// ErrUnavailable. After that, or an error of ctx, the message may have been kept all the same:
// publish it again with the same id. Other errors are ErrStoreFull, ErrInvalidName,
// ErrInvalidMessageID, ErrBodyTooLarge and ErrClosed.
func (b *Broker) Publish(ctx context.Context, channel string, m Message) (Receipt, error) {
	msg, err := b.names.encode(channel, m)
	if err != nil {
		return Receipt{}, err
	}
	if err := b.enter(); err != nil {
		return Receipt{}, err
	}
	// Close waits for the acknowledgement of what is on its way, so that a drain loses no receipt.
	defer b.tasks.Done()
	if err := b.pace.Wait(ctx, m); err != nil {
		return Receipt{}, err
	}
	if err := b.mayBegin(ctx, channel); err != nil {
		return Receipt{}, err
	}
	limited, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	size := int64(len(m.Body) + messageOverhead)
	if err := b.sending.Acquire(limited, size); err != nil {
		return Receipt{}, b.explain(ctx, err)
	}
	defer b.sending.Release(size)
	// Each attempt has the same message id: if the one before was kept and its answer lost, the broker
	// says that this one is a duplicate, with the first one's sequence.
	for tried := false; ; tried = true {
		if err := b.room(); err != nil {
			return Receipt{}, err
		}
		ack, err := b.publish(limited, msg)
		b.refusesMessages.Store(isFull(err))
		if err == nil {
			// A repetition of our own is none to the caller.
			receipt := Receipt{Sequence: ack.Sequence, Duplicate: ack.Duplicate && !tried}
			b.metrics.said(receipt)
			// Publishers end in any order; confirmed only grows.
			for newest := b.confirmed.Load(); newest < ack.Sequence &&
				!b.confirmed.CompareAndSwap(newest, ack.Sequence); {
				newest = b.confirmed.Load()
			}
			return receipt, nil
		}
		if isFull(err) {
			return Receipt{}, fmt.Errorf("%w: %w", ErrStoreFull, err)
		}
		// In no table of errors, so that the client gets INTERNAL and the log the reason.
		if refused(err) && !inProgress(err) {
			return Receipt{}, fmt.Errorf("publishing: %w", err)
		}
		select {
		case <-b.closed:
			return Receipt{}, ErrClosed
		case <-limited.Done():
			return Receipt{}, b.explain(ctx, err)
		case <-time.After(publishRetry):
		}
	}
}

// publish makes one attempt, and returns when the message is acknowledged and, with SyncAlways, on
// the disk.
func (b *Broker) publish(ctx context.Context, msg *nats.Msg) (*jetstream.PubAck, error) {
	ctx, cancel := context.WithTimeout(ctx, publishAttempt)
	defer cancel()
	if b.embedded == nil {
		return b.js.PublishMsg(ctx, msg)
	}
	ctx, cancel = b.embedded.untilFailure(ctx)
	defer cancel()
	ack, err := b.js.PublishMsg(ctx, msg)
	if err == nil {
		err = b.embedded.commit()
	}
	return ack, err
}

// mayBegin fails with ErrTooManyKept if a message would be the first one in its channel, and as
// many channels as may be have messages. Only a channel that is not known to have messages costs
// more than a look at its hub.
func (b *Broker) mayBegin(ctx context.Context, channel string) error {
	b.mu.Lock()
	h := b.hubs[channel]
	b.mu.Unlock()
	if h != nil && h.hasMessages() {
		return nil
	}
	// What other Brokers of this process have counted is as old as their last Check.
	if now := b.recent.Load(); now == nil || time.Since(now.at) > countAge {
		if _, err := b.state(ctx); err != nil {
			return nil // Publishing is more patient, or fails as well.
		}
	}
	if b.kept.Load() < b.opts.MaxKept {
		// Without a hub it is not known whether the channel has messages already, and is in the count.
		if h != nil {
			b.kept.Add(1)
			b.counted.Add(1)
		}
		return nil
	}
	// There is no room for another channel: only one that has messages already may go on.
	if last, err := b.LastSequence(ctx, channel); err == nil && last == 0 {
		return ErrTooManyKept
	}
	return nil
}

// room fails with ErrStoreFull if the embedded server would have no room for a message.
func (b *Broker) room() error {
	switch {
	case b.embedded == nil:
		return nil
	case b.embedded.full.Load():
		return ErrStoreFull
	default:
		return b.embedded.room()
	}
}

// checkWriting finds out whether messages can be stored, for Check. In the embedded server's folder
// it writes a small file. In a cluster only a message can show it, so that one is sent, and only
// after another has been refused; it is stored under a subject of no channel.
func (b *Broker) checkWriting(ctx context.Context) error {
	if b.embedded != nil {
		return b.embedded.tryWrite()
	}
	if !b.refusesMessages.Load() {
		return nil
	}
	_, err := b.publish(ctx, &nats.Msg{Subject: b.names.subject + writeTest})
	b.refusesMessages.Store(isFull(err))
	if isFull(err) {
		return fmt.Errorf("%w: %w", ErrStoreFull, err)
	}
	return b.explain(ctx, err)
}

// isFull says that the broker has no room: the disk of the server is full, or a limit of the
// account or of the stream is reached. The numbers are error codes of JetStream.
func isFull(err error) bool {
	const (
		accountLimits, insufficientResources = 10002, 10023
		storageLimits, streamLimits          = 10047, 10077
	)
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return false
	}
	switch api.ErrorCode {
	case insufficientResources, accountLimits, streamLimits, storageLimits:
		return true
	default:
		return false
	}
}

// inProgress says that the same message is on its way in another request, whose outcome the cluster
// does not know yet.
func inProgress(err error) bool {
	const duplicateInProgress = 10158
	var api *jetstream.APIError
	return errors.As(err, &api) && api.ErrorCode == duplicateInProgress
}
