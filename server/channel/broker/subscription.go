package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// readRetry is the pause before the stream is read again, after an error or if the answering
// replica was behind.
const readRetry = 50 * time.Millisecond

// Subscription receives the messages of one channel. Next is for one goroutine at a time; Close and
// End may be called from others meanwhile. A field that is not atomic belongs to the goroutine of
// Next, or does not change after Subscribe.
type Subscription struct {
	// reader is Start.Reader.
	reader any
	// reserved gives back the memory that was taken for pending; nil if there is none to give back.
	reserved atomic.Pointer[func()]
	// consumer reads a long replay; nil in all other cases.
	consumer atomic.Pointer[consumer]
	hub      *hub
	// after and last are what After and Last return.
	after Position
	last  uint64
	// position is that behind the last message that Next has returned.
	position position
	// pending has messages that were read from the stream, to be returned next.
	pending []Message
	// streamEnd is the last sequence that the stream had when the Subscription was opened; 0 if it
	// begins there and reads nothing older.
	streamEnd uint64
	// ended says that Next has found no damage up to streamEnd.
	ended bool
	// waiting says that it had all there was when it was opened or last looked, so that the next
	// message is one that it waits for.
	waiting bool
	// had is how many of the hub's known messages it has.
	had     atomic.Int64
	closing sync.Once
	// life ends with Close.
	life   context.Context
	end    context.CancelFunc
	closed <-chan struct{} // when life ends
}

// Start is where in a channel a Subscription begins. The zero value is what is said from now on.
type Start struct {
	// After begins after a position, which has to be in the channel: sequence 0 for all that is kept.
	After *Position
	// From, unless it is 0, begins with the first message that has this sequence or a greater one,
	// whatever was before it.
	From uint64
	// Reader is whose share of the memory the Subscription takes: the caller, say. It is comparable,
	// and the same for all Subscriptions of one caller.
	Reader any
}

// Subscribe returns the messages of a channel from start on. If that is a position after which
// messages may be missing, it fails with a *BreakError. Other errors are ErrInvalidName,
// ErrTooManyChannels, ErrUnavailable and ErrClosed. The caller must Close the Subscription.
func (b *Broker) Subscribe(
	ctx context.Context, channel string, start Start,
) (*Subscription, error) {
	if err := CheckName(channel); err != nil {
		return nil, fmt.Errorf("channel: %w", err)
	}
	joined, err := b.joins.Take(ctx, start.Reader, 1)
	if err != nil {
		return nil, err
	}
	// Only the opening counts as a join, which is over when Subscribe returns.
	defer joined()
	// Announcements are received from here on, before it is asked where the channel stands: a message
	// that is said in between is announced or in the answer.
	h, err := b.acquire(channel)
	if err != nil {
		return nil, err
	}
	s := &Subscription{hub: h, reader: start.Reader}
	s.life, s.end = context.WithCancel(context.Background())
	s.closed = s.life.Done()
	if err := s.locate(ctx, start); err != nil {
		s.Close()
		return nil, b.broken(ctx, h.subject, err)
	}
	s.had.Store(h.known.Load())
	b.enlist(s)
	return s, nil
}

// enlist counts a subscription in the metrics.
func (b *Broker) enlist(s *Subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subscriptions[s] = struct{}{}
}

// dismiss undoes enlist.
func (b *Broker) dismiss(s *Subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subscriptions, s)
}

// locate finds the position to start from, and what After and Last return.
func (s *Subscription) locate(ctx context.Context, start Start) error {
	b := s.hub.broker
	if err := b.checkHistory(ctx); err != nil {
		return err
	}
	// The state comes first: what is the last message after it was so at the time of the state, or is
	// later.
	before, err := b.recentState(ctx)
	if err != nil {
		return err
	}
	switch {
	case start.From != 0:
		err = s.startFrom(ctx, start.From)
	case start.After != nil:
		err = s.resume(ctx, *start.After)
	}
	if err != nil {
		return err
	}
	last, err := b.last(ctx, s.hub.subject)
	if err != nil {
		return err
	}
	front := position{last: last.Sequence, through: max(last.Sequence, before.last), at: before.at,
		stored: last.Time}
	// What is said from now on begins behind the channel's last message.
	if s.streamEnd = before.last; start.After == nil && start.From == 0 {
		s.position, s.streamEnd = front, 0
	}
	s.after = Position{History: b.history(), Sequence: s.position.last, Time: s.position.stored}
	switch {
	case start.After != nil && start.After.History != "":
		s.after.History = start.After.History // A reader compares it with the one it had.
	case s.after.Sequence == 0 && start.From == 0:
		if err := s.proveOrigin(ctx, front); err != nil {
			return err
		}
	}
	s.last = front.last
	s.waiting = s.after.Sequence == s.last
	s.hub.observe(front)
	return nil
}

// resume starts after a message that has to be there, and has to be the one that was seen. If it is
// not, resume says why, as far as it can: the history is another one, the message is damaged, or it
// was discarded or never was in this channel.
func (s *Subscription) resume(ctx context.Context, after Position) error {
	b := s.hub.broker
	created, origin, hasOrigin := strings.Cut(after.History, originSeparator)
	if after.History != "" && created != b.history() {
		return ErrHistoryChanged
	}
	switch {
	case after.Sequence == 0 && hasOrigin:
		return s.resumeOrigin(ctx, origin)
	case after.Sequence == 0:
		return nil // The zero position: all that is kept.
	}
	if there, err := s.resumeAt(ctx, after); there || err != nil {
		return err
	}
	now, err := b.state(ctx)
	if err != nil {
		return err
	}
	// A leader that has just been elected may not have it yet.
	if after.Sequence > now.last && after.History != "" && now.replicated {
		if now, err = b.stateWith(ctx, after.Sequence); err != nil {
			return err
		}
		if there, err := s.resumeAt(ctx, after); there || err != nil {
			return err
		}
	}
	if hole, found := b.damage.between(after.Sequence-1, after.Sequence); found {
		return damaged(hole)
	}
	// It has not been discarded. A position with proof says that it was there, so that it is another
	// history; a sequence alone may be a mistake.
	if after.Sequence >= now.first && (after.History != "" || !after.Time.IsZero()) {
		return fmt.Errorf("%w: message %d is not there or is another one", ErrHistoryChanged,
			after.Sequence)
	}
	return fmt.Errorf("%w: no message %d", ErrSequenceGone, after.Sequence)
}

// resumeAt starts after a message if it is there and is the one that was seen.
func (s *Subscription) resumeAt(ctx context.Context, after Position) (there bool, err error) {
	m, err := s.hub.broker.find(ctx, query{Sequence: after.Sequence})
	if err != nil || m.Subject != s.hub.subject || !after.Time.IsZero() && !m.Time.Equal(after.Time) {
		return false, err
	}
	s.position = m.position()
	return true, nil
}

// originSeparator is between the name of a history and an origin.
const originSeparator = "."

// proveOrigin appends an origin to the history of what After returns, for a reader that has no
// message yet to prove where it stands: the through and the at of its position, to base 36. Of all
// that is kept that is the position before the channel's first message. Otherwise a reader whose
// stream breaks before its first message would not be told what was discarded meanwhile.
func (s *Subscription) proveOrigin(ctx context.Context, front position) error {
	origin := front
	if s.position == (position{}) && front.last != 0 {
		first, err := s.hub.broker.find(ctx, query{Sequence: 1, NextIn: s.hub.subject})
		if err != nil {
			return err
		}
		if first.Sequence != 0 {
			origin = position{through: first.Sequence - 1, at: first.Time}
		}
	}
	s.after.History += originSeparator + strconv.FormatUint(origin.through, 36) +
		originSeparator + strconv.FormatInt(origin.at.UnixNano(), 36)
	return nil
}

// resumeOrigin starts after the position that proveOrigin has written.
func (s *Subscription) resumeOrigin(ctx context.Context, origin string) error {
	sequence, nanoseconds, _ := strings.Cut(origin, originSeparator)
	through, err := strconv.ParseUint(sequence, 36, 64)
	if err != nil {
		return fmt.Errorf("%w: there is no such one", ErrHistoryChanged)
	}
	at, err := strconv.ParseInt(nanoseconds, 36, 64)
	if err != nil {
		return fmt.Errorf("%w: there is no such one", ErrHistoryChanged)
	}
	now, err := s.hub.broker.stateWith(ctx, through)
	if err != nil {
		return err
	}
	if through > now.last {
		return fmt.Errorf("%w: message %d is not there", ErrHistoryChanged, through)
	}
	s.position = position{through: through, at: time.Unix(0, at)}
	if !s.position.intact(now) {
		return fmt.Errorf("%w: messages after %d may have been discarded", ErrSequenceGone, through)
	}
	return nil
}

// startFrom starts with the first message that has a sequence or a greater one. There may be none
// yet, but a sequence that is further ahead than the stream's next one would leave out what is said
// until then.
func (s *Subscription) startFrom(ctx context.Context, from uint64) error {
	if from == 1 {
		return nil // All that is kept, which is the zero position.
	}
	b := s.hub.broker
	now, err := b.state(ctx)
	if err != nil {
		return err
	}
	if from > now.last+1 {
		return fmt.Errorf("%w: sequence %d is not there yet", ErrSequenceGone, from)
	}
	next, err := b.find(ctx, query{Sequence: from, NextIn: s.hub.subject})
	if err != nil {
		return err
	}
	s.position = position{last: from - 1, through: max(from, now.first) - 1, at: now.at}
	if next.Sequence != 0 {
		s.position.at = next.Time
	}
	return nil
}

// After returns the position that the Subscription starts after.
func (s *Subscription) After() Position { return s.after }

// Last returns the sequence of the last message in the channel when the Subscription was opened; 0
// if there was none.
func (s *Subscription) Last() uint64 { return s.last }

// Next returns the next message of the channel and blocks until there is one, also through an
// outage of the broker.
//
// It fails with the error of ctx; with ErrClosed; or with a *BreakError if messages that it has not
// returned yet were discarded, because the caller was slower than the retention, if they are
// damaged, or if the stream has another history than the one it read.
//
// It takes messages from the hub as long as they follow the last one, and otherwise from the
// stream, of which it reads a batch at a time. While the history is in doubt it returns none that
// it does not have already.
func (s *Subscription) Next(ctx context.Context) (Message, error) {
	for {
		select {
		case <-s.closed:
			s.giveBack() // It may have been taken after Close has looked.
			s.stopConsumer()
			return Message{}, ErrClosed
		case <-ctx.Done():
			return Message{}, ctx.Err()
		default:
		}
		if m, ok := s.take(); ok {
			return s.hand(m), nil
		}
		if !s.hub.broker.lineage.isSettled() {
			if err := s.awaitHistory(ctx); err != nil {
				return Message{}, err
			}
			continue
		}
		// Without an error look has a message, or a reason to wait, or neither: then the stream is read.
		next, err := s.hub.look(&s.position)
		if next.found || next.changed != nil {
			s.stopConsumer() // The stream need not be read.
		}
		switch {
		case err != nil:
			return Message{}, s.hub.broker.broken(ctx, s.hub.subject, err)
		case next.found:
			s.had.Store(next.had)
			return s.hand(next.message), nil
		// It has all there is for the first time: what is stored up to the end may be damaged behind its
		// last message.
		case next.changed != nil && !s.ended:
			if err := s.End(ctx, s.position.last); err != nil {
				return Message{}, err
			}
			s.ended = true
		case next.changed != nil:
			s.had.Store(next.had)
			s.waiting = true
			s.wait(ctx, next.changed)
		default:
			if err := s.read(ctx); err != nil {
				return Message{}, s.hub.broker.broken(ctx, s.hub.subject, err)
			}
		}
	}
}

// End tells a reader that has received all there is, up to the message with the sequence last,
// whether others may be missing behind it. It fails with a *BreakError if there is damage before
// the end that the stream had when the Subscription was opened, and waits until that part has been
// verified. It may be called while Next runs.
func (s *Subscription) End(ctx context.Context, last uint64) error {
	b := s.hub.broker
	if last >= s.streamEnd {
		return nil
	}
	if err := b.awaitVerified(ctx, s.streamEnd); err != nil {
		return err
	}
	if hole, found := b.damage.between(last, s.streamEnd); found {
		return damaged(hole)
	}
	return nil
}

// take returns the next message of those that were read from the stream, if one is left. With the
// last one it gives back the memory.
func (s *Subscription) take() (m Message, ok bool) {
	if len(s.pending) == 0 {
		return m, false
	}
	m, s.pending[0] = s.pending[0], m
	if s.pending = s.pending[1:]; len(s.pending) == 0 {
		s.giveBack()
	}
	s.had.Add(1)
	return m, true
}

// hand moves the position behind a message that Next returns, and counts it.
func (s *Subscription) hand(m Message) Message {
	s.position = after(m)
	s.hub.broker.metrics.handed(m, s.waiting)
	s.waiting = false
	return m
}

// read fills pending with what comes next in the stream. If the broker is unavailable or the
// replica that has answered is behind, it pauses and returns nil: Next tries again. An error ends
// the reader.
func (s *Subscription) read(ctx context.Context) (err error) {
	b := s.hub.broker
	if err := s.reserve(ctx); err != nil {
		return err
	}
	defer func() {
		if len(s.pending) == 0 {
			s.giveBack()
		}
	}()
	// Both are compared with what is there after the reading.
	known, doubts := s.hub.known.Load(), b.lineage.doubts.Load()
	var left int64
	c := s.consumer.Load()
	if c != nil && c.last != s.position.last {
		s.stopConsumer() // Something that it has read was left out.
		c = nil
	}
	replayed, err := b.replays.Take(ctx, s.reader, 1)
	if err != nil {
		return err
	}
	s.pending, left, err = b.replay(ctx, c, s.hub.subject, s.position)
	replayed()
	if left == 0 {
		s.stopConsumer() // There is no more, or it is of no use: the stream is read without it.
	}
	if b.lineage.doubts.Load() != doubts {
		s.pending = nil // It may be of another history.
		return nil
	}
	if len(s.pending) > 0 {
		if c == nil && left > b.consumers.worthwhile {
			s.consumer.Store(b.startConsumer(ctx, s.hub.subject, s.pending[len(s.pending)-1].Sequence, left))
		}
		s.had.Store(known - left - int64(len(s.pending)))
		return nil
	}
	// Nothing is there for a reader from the beginning, although the hub has seen something: either
	// the replica is behind or all was discarded, which only the leader knows.
	if err == nil && s.position == (position{}) {
		err = s.skipDiscarded(ctx)
	}
	if err != nil && !errors.Is(err, ErrUnavailable) {
		return err
	}
	s.pause(ctx)
	return nil
}

// reserve waits until the reader's share has memory for a batch. Close ends the waiting.
func (s *Subscription) reserve(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	giveBack, err := s.hub.broker.batches.Take(ctx, s.reader, batchRoom)
	if err != nil {
		return err
	}
	s.reserved.Store(&giveBack)
	return nil
}

// giveBack gives back what reserve has taken. It may be called from Next and Close at once.
func (s *Subscription) giveBack() {
	if giveBack := s.reserved.Swap(nil); giveBack != nil {
		(*giveBack)()
	}
}

// stopConsumer stops the consumer, if there is one. It may be called from Next and Close at once.
func (s *Subscription) stopConsumer() {
	if c := s.consumer.Swap(nil); c != nil {
		c.stop()
	}
}

// awaitHistory waits until it is certain that the stream has the history that was read, or another
// one. While the broker is unavailable it pauses and returns nil, and Next calls it again.
func (s *Subscription) awaitHistory(ctx context.Context) error {
	err := s.hub.broker.checkHistory(ctx)
	if err != nil && !errors.Is(err, ErrUnavailable) {
		return err
	}
	if err != nil {
		s.pause(ctx)
	}
	return nil
}

// pause waits a moment before the stream is asked again.
func (s *Subscription) pause(ctx context.Context) {
	pause := make(chan struct{})
	timer := time.AfterFunc(readRetry, func() { close(pause) })
	defer timer.Stop()
	s.wait(ctx, pause)
}

// skipDiscarded moves a reader that is at the beginning to the end of the stream if its channel has
// no message any more: otherwise it would read the stream again and again, as the hub has seen
// some.
func (s *Subscription) skipDiscarded(ctx context.Context) error {
	b := s.hub.broker
	now, err := b.state(ctx)
	if err != nil {
		return err
	}
	first, err := b.find(ctx, query{Sequence: 1, NextIn: s.hub.subject})
	if err == nil && first.Sequence == 0 {
		s.position = position{through: now.last, at: now.at}
	}
	return err
}

// wait returns when something has changed, ctx is done or the Subscription is closed.
func (s *Subscription) wait(ctx context.Context, changed <-chan struct{}) {
	select {
	case <-changed:
	case <-ctx.Done():
	case <-s.closed:
	}
}

// Close ends the Subscription and wakes a Next that is waiting. It may be called more than once.
func (s *Subscription) Close() {
	s.closing.Do(func() {
		s.end()
		s.hub.broker.dismiss(s)
		s.hub.broker.release(s.hub)
		s.giveBack()
		s.stopConsumer()
	})
}
