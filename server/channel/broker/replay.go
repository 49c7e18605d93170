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
	// batchMessages and batchBytes bound what a subscriber that reads the stream holds in memory: the
	// broker ends a batch at the first of them, with the message that passes batchBytes.
	batchMessages = 1024
	batchBytes    = 256 << 10

	// directGet is JetStream's subject to ask any replica for messages, followed by the stream.
	directGet = "$JS.API.DIRECT.GET."
)

// position is how far a subscriber has come. The zero value is the beginning: all that is kept.
type position struct {
	// last is the sequence of the last message that the subscriber has received. No other message was
	// in its channel up to the sequence through; that was so at the time at.
	last, through uint64
	at            time.Time
	// stored is when the message last was stored; zero if there is none.
	stored time.Time
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

// replay reads the stream after p: the next messages, the first with p.last as its Previous, and
// how many are left behind them. There are none if the replica that answers is behind. A long
// replay is read with a consumer.
//
// What it returns has no gap. It fails with ErrSequenceGone if something after p may have been
// discarded, and with a *BreakError if something may be damaged; messages before the damage are
// returned first. So the order is: read, then look for damage, then ask the leader what had been
// discarded by then.
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
	// After the reading, see intact.
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

// count finds damage that nothing has told of. The broker counts messages that it cannot read, but
// skips them in reading. So if fewer messages are behind a batch than left said before, some in the
// range of the batch may be missing, and count verifies that range. Messages that are said
// meanwhile can hide that.
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

// untilDamage returns the part of a batch that is before the first known hole after p. If nothing
// is before the hole it fails with ErrDamaged, so that readers get all that is certain first.
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

// fromBeginning leaves out messages at the front that were being discarded while the batch was
// read, as others may be missing behind them. A reader that asked for all that is kept begins with
// the first message that was still kept afterwards.
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
// are left behind them. The Previous of each is the message before it in the batch, 0 for the
// first. It waits while readsAtOnce others read.
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

// request asks for several messages and calls each with every one and its subject, in their order.
// It fails if one is lost on the way, after it has handed out those before it.
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
		// JetStream tells with each message which one it has sent before.
		if m.Previous != last {
			return 0, errors.New("a reply was lost")
		}
		last = m.Sequence
		b.lineage.noteSeen(m.Sequence, m.Time)
		each(reply.Header.Get(jetstream.SubjectHeader), m)
	}
}

// endOfBatch says whether a reply is the end of a batch, which has a status and no message. A
// status that stands for an error is an error.
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

// remaining is how many messages are left behind a batch, as its end tells.
func remaining(end *nats.Msg) int64 {
	left, err := strconv.ParseInt(end.Header.Get("Nats-Num-Pending"), 10, 64)
	if err != nil {
		return 0 // There is no such header where there is no message.
	}
	return left
}
