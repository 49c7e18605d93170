package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// readRetry is the pause before the stream is read again, after an error or if the answering replica was behind.
const readRetry = 50 * time.Millisecond

// Subscription receives the messages of one channel. Next is for one goroutine at a time.
type Subscription struct {
	hub         *hub
	after, last uint64
	position    position     // of what Next has returned
	pending     []Message    // read from the stream, to be returned next
	waiting     bool         // it had all there was when it was opened or last looked: it waits for the next message
	had         atomic.Int64 // how many of the hub's known messages it has
	closing     sync.Once
	closed      chan struct{}
}

// Subscribe returns the messages of a channel after a sequence: nil for what is said from now on, 0 for all that is kept,
// otherwise that of a message in the channel, or it fails with ErrSequenceGone. Other errors are ErrInvalidName,
// ErrTooManyChannels, ErrUnavailable and ErrClosed. The caller must Close the Subscription.
func (b *Broker) Subscribe(ctx context.Context, channel string, after *uint64) (*Subscription, error) {
	if err := CheckName(channel); err != nil {
		return nil, fmt.Errorf("channel: %w", err)
	}
	h, err := b.acquire(channel)
	if err != nil {
		return nil, err
	}
	s := &Subscription{hub: h, closed: make(chan struct{})}
	if err := s.locate(ctx, after); err != nil {
		s.Close()
		return nil, err
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
func (s *Subscription) locate(ctx context.Context, after *uint64) error {
	b := s.hub.broker
	// The state comes first: what is the last message after it was so at the time of the state, or is later.
	before, err := b.recentState(ctx)
	if err != nil {
		return err
	}
	if after != nil && *after != 0 {
		if err := s.resume(ctx, *after); err != nil {
			return err
		}
	}
	last, err := b.find(ctx, query{LastIn: s.hub.subject})
	if err != nil {
		return err
	}
	front := position{last: last.Sequence, through: max(last.Sequence, before.last), at: before.at}
	if after == nil {
		s.position = front
	}
	s.after, s.last = s.position.last, front.last
	s.waiting = s.after == s.last
	s.hub.observe(front)
	return nil
}

func (s *Subscription) resume(ctx context.Context, after uint64) error {
	m, err := s.hub.broker.find(ctx, query{Sequence: after})
	if err != nil {
		return err
	}
	if m.Subject != s.hub.subject {
		return fmt.Errorf("%w: no message %d", ErrSequenceGone, after)
	}
	s.position = m.position()
	return nil
}

// After returns the sequence that the Subscription starts after.
func (s *Subscription) After() uint64 { return s.after }

// Last returns the sequence of the last message in the channel when the Subscription was opened; 0 if there was none.
func (s *Subscription) Last() uint64 { return s.last }

// Next returns the next message of the channel and blocks until there is one, through an outage of the broker, too.
//
// It fails with the error of ctx; with ErrClosed; or with ErrSequenceGone if messages that it has not returned yet were
// discarded, because the caller was slower than the retention: the next Subscription must start with 0.
func (s *Subscription) Next(ctx context.Context) (Message, error) {
	for {
		select {
		case <-s.closed:
			return Message{}, ErrClosed
		case <-ctx.Done():
			return Message{}, ctx.Err()
		default:
		}
		if m, ok := s.take(); ok {
			return s.hand(m), nil
		}
		next, err := s.hub.look(&s.position)
		switch {
		case err != nil:
			return Message{}, err
		case next.found:
			s.had.Store(next.had)
			return s.hand(next.message), nil
		case next.changed != nil:
			s.had.Store(next.had)
			s.waiting = true
			s.wait(ctx, next.changed)
		default:
			if err := s.read(ctx); err != nil {
				return Message{}, err
			}
		}
	}
}

// take returns a message that was read from the stream, if there is one left.
func (s *Subscription) take() (m Message, ok bool) {
	if len(s.pending) == 0 {
		return m, false
	}
	m, s.pending[0] = s.pending[0], m
	s.pending = s.pending[1:]
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
	known := s.hub.known.Load()
	var left int64
	s.pending, left, err = b.replay(ctx, s.hub.subject, s.position)
	if len(s.pending) > 0 {
		s.had.Store(known - left - int64(len(s.pending)))
		return nil
	}
	if err == nil && s.position == (position{}) {
		err = s.skipDiscarded(ctx)
	}
	if err != nil && !errors.Is(err, ErrUnavailable) {
		return err
	}
	pause := make(chan struct{})
	timer := time.AfterFunc(readRetry, func() { close(pause) })
	defer timer.Stop()
	s.wait(ctx, pause)
	return nil
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
		close(s.closed)
		s.hub.broker.dismiss(s)
		s.hub.broker.release(s.hub)
	})
}
