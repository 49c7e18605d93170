package broker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// batchMessages and batchBytes bound what a subscriber that reads the stream holds in memory.
	batchMessages = 1024
	batchBytes    = 256 << 10

	directGet = "$JS.API.DIRECT.GET."
)

// position is how far a subscriber has come: last is the sequence of the last message it received,
// and nothing else was said in its channel up to the sequence through, which was so at the time at.
// The zero value is the beginning.
type position struct {
	last, through uint64
	at            time.Time
	stored        time.Time // when the message last was; zero if there is none
}

// after is the position of a subscriber that has received m.
func after(m Message) position {
	return position{last: m.Sequence, through: m.Sequence, at: m.Time, stored: m.Time}
}

// intact says that what was read from the stream after this position cannot have a hole, if the
// stream is in state now after the reading. Messages are discarded from the front, so the leader
// still having the message after through (or expecting it) proves that it has all the following
// ones. Other replicas discard by size after the leader, but by age on their own, possibly before
// it: what came after at is younger than at, and not discarded anywhere before at has come of age.
func (p position) intact(now state) bool {
	return now.first <= p.through+1 && (now.retention == 0 || time.Since(p.at) < now.retention)
}

// replay reads the stream after p: the next messages, each Previous leading back to p.last, and how
// many are left behind them. There are none if the answering replica is behind. It fails with
// ErrSequenceGone if something after p may be missing. A long replay is read with a consumer.
func (b *Broker) replay(ctx context.Context, c *consumer, subject string,
	p position) (batch []Message, left int64, err error) {
	if c != nil {
		batch, left, err = c.next(ctx)
	} else {
		batch, left, err = b.fetch(ctx,
			query{Sequence: p.last + 1, NextIn: subject, Messages: batchMessages, Bytes: batchBytes})
	}
	if err != nil {
		return nil, 0, err
	}
	if len(batch) > 0 {
		if err := b.count(ctx, subject, p, batch, left); err != nil {
			return nil, 0, err
		}
	}
	now, err := b.state(ctx)
	if err != nil {
		return nil, 0, err
	}
	if batch, err = b.untilDamage(p, batch, now); err != nil {
		return nil, 0, err
	}
	if p == (position{}) {
		return fromBeginning(batch, now), left, nil
	}
	if !p.intact(now) {
		return nil, 0, fmt.Errorf("%w: messages after %d may have been discarded", ErrSequenceGone,
			p.last)
	}
	if len(batch) > 0 {
		batch[0].Previous = p.last
	}
	return batch, left, nil
}

// count verifies the range of a batch if the stream has fewer messages behind it than it counted.
// It skips those that it cannot read, but counts them. What is said meanwhile may hide that.
func (b *Broker) count(ctx context.Context, subject string, p position, batch []Message,
	left int64) error {
	last := batch[len(batch)-1].Sequence
	if err := b.awaitVerified(ctx, last); err != nil || left == 0 {
		return err
	}
	next, behind, err := b.fetch(ctx,
		query{Sequence: last + 1, NextIn: subject, Messages: 1, Bytes: 1})
	if err != nil || int64(len(next))+behind >= left {
		return err
	}
	for through := p.last; through < last; {
		if through, err = b.verify(ctx, through+1, last); err != nil {
			return err
		}
	}
	return nil
}

// untilDamage leaves out what is behind a hole in the stream: readers get what is before it, and
// then ErrDamaged.
func (b *Broker) untilDamage(p position, batch []Message, now state) ([]Message, error) {
	if len(batch) == 0 {
		return batch, nil
	}
	hole, found := b.damage.between(max(p.through, now.first-1), batch[len(batch)-1].Sequence)
	if !found {
		return batch, nil
	}
	before, _ := slices.BinarySearchFunc(batch, hole.first,
		func(m Message, sequence uint64) int { return cmp.Compare(m.Sequence, sequence) })
	if before == 0 {
		return nil, damaged(hole)
	}
	return batch[:before], nil
}

// fromBeginning leaves out messages that were being discarded while the batch was read, as others
// may be missing behind them.
func fromBeginning(batch []Message, now state) []Message {
	for len(batch) > 0 && !after(batch[0]).intact(now) {
		batch = batch[1:]
	}
	if len(batch) > 0 {
		batch[0].Previous = 0
	}
	return batch
}

// fetch reads several messages with one request from whichever replica answers, and learns how many
// are left. Each has the Previous of the batch.
func (b *Broker) fetch(ctx context.Context, q query) (batch []Message, left int64, err error) {
	if err := b.reads.Acquire(ctx, 1); err != nil {
		return nil, 0, err
	}
	defer b.reads.Release(1)
	left, err = b.request(ctx, q, func(_ string, m Message) { batch = append(batch, m) })
	if err != nil {
		return nil, 0, b.explain(ctx, err)
	}
	return batch, left, nil
}

// request asks for several messages and hands out each with its subject.
func (b *Broker) request(ctx context.Context, q query,
	each func(subject string, m Message)) (left int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request, err := json.Marshal(q)
	if err != nil {
		return 0, err
	}
	replies, err := b.nc.SubscribeSync(b.nc.NewInbox())
	if err != nil {
		return 0, err
	}
	defer func() { _ = replies.Unsubscribe() }() // fails only if the connection is closed
	if err := b.nc.PublishRequest(directGet+b.names.stream, replies.Subject, request); err != nil {
		return 0, err
	}
	for last := uint64(0); ; {
		reply, err := replies.NextMsgWithContext(ctx)
		if err != nil {
			return 0, err
		}
		if end, err := endOfBatch(reply); end || err != nil {
			return remaining(reply), err
		}
		m, err := b.names.decode(reply)
		if err != nil {
			return 0, err
		}
		if m.Previous != last {
			return 0, errors.New("a reply was lost")
		}
		last = m.Sequence
		b.lineage.saw(m.Sequence, m.Time)
		each(reply.Header.Get(jetstream.SubjectHeader), m)
	}
}

// endOfBatch reads the status that only replies without a message have.
func endOfBatch(reply *nats.Msg) (bool, error) {
	switch status := reply.Header.Get("Status"); status {
	case "":
		return false, nil
	case "204", "404": // end of batch, no such message
		return true, nil
	default:
		return true, fmt.Errorf("reading the stream: %s %s", status, reply.Header.Get("Description"))
	}
}

// remaining is how many messages are left behind a batch, which its end tells.
func remaining(end *nats.Msg) int64 {
	left, err := strconv.ParseInt(end.Header.Get("Nats-Num-Pending"), 10, 64)
	if err != nil {
		return 0 // There is no such header where there is no message.
	}
	return left
}
