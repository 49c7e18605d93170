package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// verifyMessages and verifyBytes are how much of the stream is verified with one request.
	verifyMessages = 1024
	verifyBytes    = 1 << 20
	// maxListed is how many missing messages the broker is asked to list; it does so in one message.
	// More are looked for.
	maxListed = 50_000
)

// span is a run of sequences of which no message can be read.
type span struct{ first, last uint64 }

// damage is what is known to be missing inside the stream. No client may delete messages there, so
// a hole is damage to what is stored. The broker tells of those that it finds when it starts. Those
// that it would only skip in reading are found by verifying: the embedded one is read once after
// its start, others where a reader finds fewer messages than were counted.
type damage struct {
	mu    sync.Mutex
	holes []span // in order, apart
	// reportedDeleted is the number of deleted messages in the last answer of the broker, which lists
	// them only when it has changed.
	reportedDeleted int

	// verified and until say what is still to be read once: the sequences after verified, up to until.
	// There is nothing if verified has come to until.
	verified, until uint64
	// progress is closed and replaced when verified has moved; nil if nothing ever had to be verified.
	progress chan struct{}
}

// add notes a hole, and says whether it was not known. One that touches others is joined with them.
func (d *damage) add(hole span) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	// i is the first hole that ends behind the new one's begin, or right before it.
	i, _ := slices.BinarySearchFunc(d.holes, hole.first,
		func(h span, first uint64) int { return cmp.Compare(h.last+1, first) })
	j := i
	for ; j < len(d.holes) && d.holes[j].first <= hole.last+1; j++ {
		if d.holes[j].first <= hole.first && hole.last <= d.holes[j].last {
			return false
		}
		hole = span{min(hole.first, d.holes[j].first), max(hole.last, d.holes[j].last)}
	}
	d.holes = slices.Replace(d.holes, i, j, hole)
	return true
}

// forget drops holes that end before a sequence, as those are no longer inside the stream.
func (d *damage) forget(before uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holes = slices.DeleteFunc(d.holes, func(h span) bool { return h.last < before })
}

// reset forgets everything, which is about another history, and ends the verifying of that one:
// what it would not find up to until is in this history still to come.
func (d *damage) reset() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holes, d.reportedDeleted = nil, 0
	d.verified, d.until = 0, 0
	if d.progress != nil {
		close(d.progress)
		d.progress = make(chan struct{})
	}
}

// between returns the first hole that has a sequence in (after, through].
func (d *damage) between(after, through uint64) (span, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, hole := range d.holes {
		if hole.last > after && hole.first <= through {
			return hole, true
		}
	}
	return span{}, false
}

// count is how many messages are missing, for the metric.
func (d *damage) count() (messages int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, hole := range d.holes {
		messages += int64(hole.last - hole.first + 1)
	}
	return messages
}

// deletedChanged notes how many deleted messages the broker tells of, and says whether that is
// another number than the last time.
func (d *damage) deletedChanged(deleted int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	changed := deleted != d.reportedDeleted
	d.reportedDeleted = deleted
	return changed
}

// foundHole notes a hole, and logs it for the operator if it is new.
func (b *Broker) foundHole(hole span) {
	if b.damage.add(hole) {
		b.log.Error("messages are missing inside the stream: what is stored is damaged, and participants that read there are told",
			"stream", b.names.stream, "first", hole.first, "last", hole.last)
	}
}

// inspect notes what the broker tells of holes in the stream. It is called with each state of the
// stream that was asked for, and mostly finds that the number of deleted messages has not changed,
// which costs no request.
func (b *Broker) inspect(ctx context.Context, state jetstream.StreamState) error {
	b.damage.forget(state.FirstSeq)
	if !b.damage.deletedChanged(state.NumDeleted) || state.NumDeleted == 0 {
		return nil
	}
	// A list of so many would be too long for one message, so they are found by reading.
	if state.NumDeleted > maxListed {
		b.damage.verifyAgain(state.FirstSeq, state.LastSeq)
		b.startVerifying()
		return nil
	}
	attempt, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	info, err := b.stream.Info(attempt, jetstream.WithDeletedDetails(true))
	if err != nil {
		b.damage.deletedChanged(-1) // Ask again.
		return b.explain(ctx, err)
	}
	// The list has single sequences in order. Each run of successive ones is one hole.
	deleted := info.State.Deleted
	for len(deleted) > 0 {
		n := 1
		for n < len(deleted) && deleted[n] == deleted[0]+uint64(n) {
			n++
		}
		b.foundHole(span{deleted[0], deleted[n-1]})
		deleted = deleted[n:]
	}
	return nil
}

// verifyAgain makes the sequences from first to last be read once. It does not begin to: that is
// startVerifying.
func (d *damage) verifyAgain(first, last uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.progress == nil {
		d.progress = make(chan struct{})
	}
	d.verified, d.until = first-1, last
}

// unverified returns the sequences that are to be read next, none if next is greater than until,
// and a channel that is closed when some of them have been.
func (d *damage) unverified() (next, until uint64, progress <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.verified + 1, d.until, d.progress
}

// verifiedThrough notes how far has been read, and wakes the readers that wait for it.
func (d *damage) verifiedThrough(sequence uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.verified = min(max(d.verified, sequence), d.until)
	close(d.progress)
	d.progress = make(chan struct{})
}

// startVerifying starts a goroutine that reads what is to be verified. It does nothing once the
// Broker is closed.
func (b *Broker) startVerifying() {
	if b.enter() != nil {
		return
	}
	go func() {
		defer b.tasks.Done()
		b.verifyAll(context.Background())
	}()
}

// verifyAll reads what is to be verified until nothing is left. It tries again after errors, and
// returns early when ctx is done or the Broker is closed.
func (b *Broker) verifyAll(ctx context.Context) {
	for {
		next, until, _ := b.damage.unverified()
		if next > until {
			return
		}
		through, err := b.verify(ctx, next, until)
		if err != nil {
			b.log.Debug("verifying the stream", "error", err)
			if ctx.Err() != nil || errors.Is(err, ErrClosed) {
				return
			}
			select {
			case <-time.After(openRetry):
			case <-b.closed:
			}
			continue
		}
		b.damage.verifiedThrough(through)
	}
}

// verify reads the messages from next on, whatever their channel, and notes which are missing up to
// until. It returns the sequence up to which it is certain now, after one batch. It fails with
// ErrUnavailable if the history is in doubt, or was changed meanwhile.
func (b *Broker) verify(ctx context.Context, next, until uint64) (through uint64, err error) {
	settled := b.lineage.settled.Load()
	batch, _, err := b.fetch(ctx,
		query{Sequence: next, NextIn: b.names.subject + "*", Messages: verifyMessages,
			Bytes: verifyBytes})
	if err != nil {
		return 0, err
	}
	// Asked after the reading: what had been discarded by then may be missing in the batch for that
	// reason, what is missing behind it cannot.
	now, err := b.state(ctx)
	if err != nil {
		return 0, err
	}
	if b.lineage.doubts.Load() != settled {
		return 0, fmt.Errorf("%w: the history is in doubt", ErrUnavailable)
	}
	through = max(next, now.first) - 1 // Before that, messages are discarded and not missing.
	for _, m := range batch {
		if m.Sequence > until {
			break
		}
		if m.Sequence > through+1 {
			b.foundHole(span{through + 1, m.Sequence - 1})
		}
		through = max(through, m.Sequence)
	}
	// Nothing is left up to until, so that the rest of it is missing.
	if len(batch) == 0 || batch[len(batch)-1].Sequence > until {
		if through < until {
			b.foundHole(span{through + 1, until})
		}
		through = until
	}
	return through, nil
}

// awaitVerified waits until the stream has been verified up to a sequence, and returns at once if
// there is nothing to verify that far. Readers call it before they take what they have read for
// complete.
func (b *Broker) awaitVerified(ctx context.Context, through uint64) error {
	for {
		next, until, progress := b.damage.unverified()
		if next > until || next > through {
			return nil
		}
		select {
		case <-progress:
		case <-ctx.Done():
			return ctx.Err()
		case <-b.closed:
			return ErrClosed
		}
	}
}

// damaged is what a reader gets that would cross a hole.
func damaged(hole span) error {
	cause := fmt.Errorf("%w: of the sequences %d to %d", ErrDamaged, hole.first, hole.last)
	return &BreakError{First: hole.last + 1, cause: cause}
}
