package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// readRetry is the pause before the stream is read again, after an error or if the answering
// replica was behind.
const readRetry = 50 * time.Millisecond

// Subscription receives the messages of one channel. Next is for one goroutine at a time.
type Subscription struct {
	reader    any
	reserved  atomic.Pointer[func()]   // gives back what pending has taken
	consumer  atomic.Pointer[consumer] // of a long replay, or nil
	hub       *hub
	after     Position
	last      uint64
	position  position  // of what Next has returned
	pending   []Message // read from the stream, to be returned next
	streamEnd uint64    // of the stream when it was opened; 0 if it began there
	ended     bool      // nothing is missing up to streamEnd
	// it had all there was when it was opened or last looked: it waits for the next message
	waiting bool
	had     atomic.Int64 // how many of the hub's known messages it has
	closing sync.Once
	life    context.Context // until Close
	end     context.CancelFunc
	closed  <-chan struct{} // when life ends
}

// Start is where in a channel a Subscription begins. The zero value is what is said from now on.
type Start struct {
	// After begins after a position, which has to be in the channel: sequence 0 for all that is kept.
	After *Position
	// From, unless it is 0, begins with the first message that has this sequence or a greater one,
	// whatever was before it.
	From uint64
	// Reader is whose memory it is that the Subscription takes: comparable, the same for all of one
	// caller.
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
	defer joined()
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

// enlist makes a subscription count, and dismiss ends that.
func (b *Broker) enlist(s *Subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subscriptions[s] = struct{}{}
}

func (b *Broker) dismiss(s *Subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.subscriptions, s)
}

// locate finds the position to start from.
func (s *Subscription) locate(ctx context.Context, start Start) error {
	b := s.hub.broker
	if err := b.settle(ctx); err != nil {
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
	if s.streamEnd = before.last; start.After == nil && start.From == 0 {
		s.position, s.streamEnd = front, 0
	}
	s.after = Position{History: b.history(), Sequence: s.position.last, Time: s.position.stored}
	s.last = front.last
	s.waiting = s.after.Sequence == s.last
	s.hub.observe(front)
	return nil
}

// resume starts after a message that has to be there, and has to be the one that was seen.
func (s *Subscription) resume(ctx context.Context, after Position) error {
	b := s.hub.broker
	if after.History != "" && after.History != b.history() {
		return ErrHistoryChanged
	}
	if after.Sequence == 0 {
		return nil
	}
	m, err := b.find(ctx, query{Sequence: after.Sequence})
	if err != nil {
		return err
	}
	same := m.Subject == s.hub.subject && (after.Time.IsZero() || m.Time.Equal(after.Time))
	if same {
		s.position = m.position()
		return nil
	}
	now, err := b.state(ctx)
	if err != nil {
		return err
	}
	if hole, found := b.damage.between(after.Sequence-1, after.Sequence); found {
		return damaged(hole)
	}
	if after.Sequence >= now.first && (after.History != "" || !after.Time.IsZero()) {
		return fmt.Errorf("%w: message %d is not there or is another one", ErrHistoryChanged,
			after.Sequence)
	}
	return fmt.Errorf("%w: no message %d", ErrSequenceGone, after.Sequence)
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

// Next returns the next message of the channel and blocks until there is one, through an outage of
// the broker, too.
//
// It fails with the error of ctx; with ErrClosed; or with a *BreakError: messages that it has not
// returned yet were discarded, because the caller was slower than the retention, or the stream has
// another history than the one it read.
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
			if err := s.settle(ctx); err != nil {
				return Message{}, err
			}
			continue
		}
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

// End says of a reader that has received all there is, last of which is a message with the sequence
// last, whether others may be missing behind it: it fails with a *BreakError if there is damage
// before the end that the stream had when the Subscription was opened. It may be called while Next
// runs.
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

// take returns a message that was read from the stream, if there is one left.
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

// hand moves on behind a message that goes to the caller.
func (s *Subscription) hand(m Message) Message {
	s.position = after(m)
	s.hub.broker.metrics.handed(m, s.waiting)
	s.waiting = false
	return m
}

// read fetches what comes next from the stream, or pauses if that does not succeed just now.
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
	if err == nil && s.position == (position{}) {
		err = s.skipDiscarded(ctx)
	}
	if err != nil && !errors.Is(err, ErrUnavailable) {
		return err
	}
	s.pause(ctx)
	return nil
}

// reserve waits for memory for a batch.
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

// giveBack gives back what reserve has taken, once.
func (s *Subscription) giveBack() {
	if giveBack := s.reserved.Swap(nil); giveBack != nil {
		(*giveBack)()
	}
}

// stopConsumer stops the consumer, once.
func (s *Subscription) stopConsumer() {
	if c := s.consumer.Swap(nil); c != nil {
		c.stop()
	}
}

// settle waits until it is certain that the stream has the history that was read, or another one.
func (s *Subscription) settle(ctx context.Context) error {
	err := s.hub.broker.settle(ctx)
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

// skipDiscarded moves on from the beginning if nothing is kept any more of what the hub has seen.
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
