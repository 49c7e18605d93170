package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// longReplay is how many messages have to be left for a reader to get a consumer: creating one
	// takes as long as reading some hundred messages.
	longReplay = 4096
	// consumersAtOnce bounds the consumers, each of which takes some 50 KB of memory. Other readers do
	// without.
	consumersAtOnce = 32
	// consumerPause is how long no consumer is created after one could not be: the user of a cluster
	// may lack permissions.
	consumerPause = 10 * time.Minute
	// consumerLife is how long JetStream keeps a consumer of which nothing is asked, as that of a
	// replica that was killed.
	consumerLife = 30 * time.Second

	// consumerNext is JetStream's subject to pull from a consumer, followed by stream and consumer.
	consumerNext = "$JS.API.CONSUMER.MSG.NEXT."
)

// consumer is a pull consumer of JetStream that reads a channel for one subscriber with much to
// read. It takes half the time of batches from fetch, for which JetStream writes headers with the
// sequence and the time into each message; a consumer has them in the subject for replies. Nothing
// relies on it: a subscriber whose consumer fails reads with fetch, and what either has read is
// checked by replay in the same way. Not safe for concurrent use.
type consumer struct {
	broker *Broker
	name   string
	// inbox is where JetStream sends the messages to.
	inbox *nats.Subscription
	// delivered counts messages of the consumer, which JetStream numbers: a difference shows that one
	// was lost on the way.
	delivered uint64
	// last is the sequence of the last message it has returned, or that it starts after.
	last uint64
	// left is how many messages are behind last, at least: the number that JetStream tells leaves out
	// those that it cannot read and skips.
	left int64
}

// startConsumer creates a consumer that begins after the sequence last, behind which left messages
// are. It returns nil if there are consumersAtOnce already, or none could be created lately or now;
// the subscriber then reads with fetch.
func (b *Broker) startConsumer(ctx context.Context, subject string, last uint64,
	left int64) *consumer {
	if b.pausesConsumers() || !b.places.TryAcquire(1) {
		return nil
	}
	attempt, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	created, err := b.js.CreateConsumer(attempt, b.names.stream, jetstream.ConsumerConfig{
		FilterSubject: subject, DeliverPolicy: jetstream.DeliverByStartSequencePolicy,
		OptStartSeq: last + 1,
		AckPolicy:   jetstream.AckNonePolicy, MaxDeliver: 1, InactiveThreshold: consumerLife, Replicas: 1,
		MemoryStorage: true,
	})
	// From here on c has one of the places, which stop gives back.
	c := &consumer{broker: b, last: last, left: left}
	if err == nil {
		c.name = created.CachedInfo().Name
		c.inbox, err = b.nc.SubscribeSync(b.nc.NewInbox())
	}
	if err != nil {
		c.stop()
		// An error that has another explanation, the end of the caller or of the connection, says nothing
		// about whether consumers can be created.
		if ctx.Err() == nil && b.lineage.isSettled() {
			until := time.Now().Add(consumerPause)
			b.consumers.pausedUntil.Store(&until)
			b.log.Warn("long replays take longer: there is no consumer for them", "error", err)
		}
		return nil
	}
	return c
}

// pausesConsumers tells whether no consumer is created now.
func (b *Broker) pausesConsumers() bool {
	until := b.consumers.pausedUntil.Load()
	return until != nil && time.Now().Before(*until)
}

// next reads several messages, each with the Previous of the batch, and learns how many are left
// behind them. After an error the consumer is of no use. Like fetch it counts among the reads that
// are under way at once.
func (c *consumer) next(ctx context.Context) (batch []Message, left int64, err error) {
	if err := c.broker.reads.Acquire(ctx, 1); err != nil {
		return nil, 0, err
	}
	defer c.broker.reads.Release(1)
	if batch, left, err = c.pull(ctx); err != nil {
		return nil, 0, c.broker.explain(ctx, err)
	}
	// If messages were skipped, the own count is higher than JetStream's, which makes count in replay
	// look for them.
	c.left = max(left, c.left-int64(len(batch)))
	return batch, c.left, nil
}

// pull asks for one batch and returns it, without waiting for messages that are not there yet.
func (c *consumer) pull(ctx context.Context) (batch []Message, left int64, err error) {
	b := c.broker
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := json.Marshal(map[string]any{"batch": batchMessages, "max_bytes": batchBytes,
		"no_wait": true})
	if err != nil {
		return nil, 0, err
	}
	if err := b.nc.PublishRequest(consumerNext+b.names.stream+"."+c.name, c.inbox.Subject,
		request); err != nil {
		return nil, 0, err
	}
	for previous := uint64(0); len(batch) < batchMessages; {
		msg, err := c.inbox.NextMsgWithContext(ctx)
		if err != nil {
			return nil, 0, err
		}
		if status := msg.Header.Get("Status"); status != "" {
			// A batch without a message is an error: the consumer was created because there are some.
			if len(batch) == 0 {
				return nil, 0, fmt.Errorf("reading with a consumer: %s %s", status,
					msg.Header.Get("Description"))
			}
			return batch, left, nil // The batch has max_bytes, or there are no more.
		}
		at, err := msg.Metadata()
		if err != nil {
			return nil, 0, err
		}
		// Messages come over the connection without acknowledgement, so that one can be lost when a
		// buffer overflows.
		if c.delivered++; at.Sequence.Consumer != c.delivered {
			return nil, 0, errors.New("a message was lost")
		}
		m := b.names.content(msg)
		m.Sequence, m.Previous, m.Time = at.Sequence.Stream, previous, at.Timestamp.UTC()
		// What this process has read has to be there after the next connection, too.
		b.lineage.noteSeen(m.Sequence, m.Time)
		batch, left = append(batch, m), int64(at.NumPending)
		if previous, c.last = m.Sequence, m.Sequence; left == 0 {
			break
		}
	}
	return batch, left, nil
}

// stop deletes the consumer, for which it does not wait: JetStream deletes it after a while in any
// case.
func (c *consumer) stop() {
	b := c.broker
	b.places.Release(1)
	if c.inbox != nil {
		_ = c.inbox.Unsubscribe() // fails only if the connection is closed
	}
	if c.name != "" {
		_ = b.nc.Publish("$JS.API.CONSUMER.DELETE."+b.names.stream+"."+c.name, nil)
	}
}
