package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

const (
	// proofs and proofPause bound how long a leader of a cluster may be behind what this process has
	// seen: it has been elected a moment ago, and has still to apply what is committed.
	proofs     = 8
	proofPause = time.Second
)

// Position is a place in a channel that a reader has come to, and the proof of it: Sequence alone
// would also fit into a history that has replaced the reader's.
type Position struct {
	// History names the incarnation of the stream, see Subscription.After. If empty, it is not
	// checked.
	History string
	// Sequence is that of the last message seen; 0 if there was none.
	Sequence uint64
	// Time is that message's. If zero, it is not checked.
	Time time.Time
}

// BreakError says that a reader cannot go on where it was, and from where it can. It wraps
// ErrSequenceGone, ErrHistoryChanged or ErrDamaged.
type BreakError struct {
	// First is the sequence to read from, for all that the channel has: that of its first message, or
	// of its next one. Of ErrDamaged it is the one behind the damage.
	First uint64
	cause error
}

// Error implements error.
func (e *BreakError) Error() string {
	return fmt.Sprintf("%v; read from sequence %d", e.cause, e.First)
}

// Unwrap returns what happened.
func (e *BreakError) Unwrap() error { return e.cause }

// lineage is what a Broker knows of the history that the stream has: when it was created, and the
// latest message in it. The history is in doubt after every connection, since the store behind the
// new one may be another, and whenever something contradicts what was seen. While it is in doubt no
// reader moves, until checkHistory has compared.
type lineage struct {
	// doubts counts what has put the history in doubt, settled is what it was when that was last
	// settled: equal if there is no doubt. A doubt that comes while another is being settled is kept
	// that way.
	doubts, settled atomic.Int64
	// settling is a lock with room for one, so that one goroutine asks the broker and the others wait
	// for what it finds.
	settling chan struct{}
	// changes counts how often the stream had another history, and changed is when that was found
	// last, in seconds since 1970, 0 if never. Both are for metrics.
	changes, changed atomic.Int64

	mu sync.Mutex
	// created is when the stream was created: another time is another stream.
	created time.Time
	// lastSeen is the latest message that this process has seen. A store that does not have it has
	// another history.
	lastSeen found
	// odd is the latest time of a message that was a doubt because of it, see noteSeen.
	odd time.Time
}

// newLineage has doubts = settled = 0. The first connection adds a doubt, which open settles.
func newLineage() *lineage { return &lineage{settling: make(chan struct{}, 1)} }

func (l *lineage) doubt()          { l.doubts.Add(1) }
func (l *lineage) isSettled() bool { return l.doubts.Load() == l.settled.Load() }

// change counts that the stream has another history than before.
func (l *lineage) change() {
	l.changes.Add(1)
	l.changed.Store(time.Now().Unix())
}

// known is what compare compares with.
func (l *lineage) known() (created time.Time, lastSeen found) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.created, l.lastSeen
}

// set takes what the stream has now for what is to be compared with.
func (l *lineage) set(created time.Time, lastSeen found) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.created, l.lastSeen, l.odd = created, lastSeen, time.Time{}
}

// see takes a message for the last one seen.
func (l *lineage) see(last found) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastSeen = last
}

// noteSeen notes a message as the last one seen if it is later than that. One with a lower sequence
// and a later time puts the history in doubt, but once only: the clocks of two leaders may differ,
// and the message is read again. While there is a doubt it notes nothing, as the message may be of
// another history.
func (l *lineage) noteSeen(sequence uint64, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !l.isSettled():
	case sequence > l.lastSeen.Sequence:
		l.lastSeen = found{Sequence: sequence, Time: at}
	case sequence < l.lastSeen.Sequence && at.After(l.lastSeen.Time) && at.After(l.odd):
		l.odd = at
		l.doubt()
	}
}

// contradict puts the history in doubt because a message was announced that does not follow the
// last one that its channel has seen. That one counts as the last one seen then: if it is still in
// the stream, the history is the same. A hub that has ended knows the history before, and
// contradicts nothing.
func (b *Broker) contradict(h *hub, seen position) {
	b.mu.Lock()
	current := b.hubs[h.channel] == h
	if current && seen.last != 0 && !seen.stored.IsZero() {
		b.lineage.see(found{Sequence: seen.last, Time: seen.stored})
	}
	b.mu.Unlock()
	if current {
		b.doubt()
		b.checkHistorySoon()
	}
}

// doubt is called before the first message of a new connection can arrive.
func (b *Broker) doubt() {
	b.lineage.doubt()
}

// checkHistorySoon settles doubts that no reader may be waiting for, and has all channels polled.
// While open still waits for the stream there is nothing to ask: the doubt stays then, and Check or
// the first join settles it.
func (b *Broker) checkHistorySoon() {
	if created, _ := b.lineage.known(); created.IsZero() {
		return
	}
	// One goroutine is enough for all that come while it is under way.
	if b.checks.Add(1) > 1 || b.enter() != nil {
		return
	}
	go func() {
		defer b.tasks.Done()
		for more := true; more; {
			asked := b.checks.Load()
			ctx, cancel := context.WithTimeout(context.Background(), proofs*(proofPause+2*requestTimeout))
			if err := b.checkHistory(ctx); err != nil {
				b.log.Debug("checking the history of the stream", "error", err)
			}
			cancel()
			b.pollHubs()
			more = !b.checks.CompareAndSwap(asked, 0)
		}
	}()
}

// checkHistory finds out whether the stream still has the history that this process has read. If
// not, all subscriptions end with ErrHistoryChanged. If there is no stream any more, it creates
// one.
func (b *Broker) checkHistory(ctx context.Context) error {
	select {
	case b.lineage.settling <- struct{}{}:
		defer func() { <-b.lineage.settling }()
	case <-ctx.Done():
		return ctx.Err()
	case <-b.closed:
		return ErrClosed
	}
	// Loaded before anything is asked: what is in doubt from here on is not settled by the answers.
	doubts := b.lineage.doubts.Load()
	if doubts == b.lineage.settled.Load() {
		return nil
	}
	stream, err := b.streamInfo(ctx)
	if err != nil {
		return err
	}
	stream, why, err := b.compare(ctx, stream)
	if err != nil {
		return err
	}
	if why != "" {
		if err := b.replace(ctx, stream, why); err != nil {
			return err
		}
	}
	b.lineage.settled.Store(doubts)
	return nil
}

// replace takes the history of the stream for another one than before, and ends all subscriptions
// with ErrHistoryChanged.
func (b *Broker) replace(ctx context.Context, stream *jetstream.StreamInfo, why string) error {
	// What was known of holes and messages was true of the other history only. The hubs are forgotten
	// before the new one begins, so that none contradicts it, and end afterwards, when their
	// subscribers can be told where to go on.
	b.damage.reset()
	for _, h := range b.forgetHubs() {
		defer h.fail(ErrHistoryChanged)
	}
	if err := b.begin(ctx, stream); err != nil {
		return err
	}
	b.lineage.change()
	b.log.Error("the stream has another history than before: messages may be lost, and every participant is told",
		"stream", b.names.stream, "reason", why, "created", stream.Created, "last_sequence", stream.State.LastSeq)
	return nil
}

// compare says in which way the stream contradicts what was seen; empty if it does not. It also
// returns the stream as it was asked for last. A replica that has just become the leader may have
// still to apply the latest messages, so in a cluster a message that is missing at the end is asked
// for several times before it counts as gone. One that is missing elsewhere may have been discarded
// since the stream was asked for, so that is asked for again.
func (b *Broker) compare(
	ctx context.Context, stream *jetstream.StreamInfo,
) (latest *jetstream.StreamInfo, why string, err error) {
	created, lastSeen := b.lineage.known()
	for tries := 1; ; tries++ {
		certain := stream.Config.Replicas <= 1 || tries == proofs
		switch {
		case !stream.Created.Equal(created):
			return stream, "it was created anew", nil
		case lastSeen.Sequence == 0 || lastSeen.Sequence < stream.State.FirstSeq:
			return stream, "", nil // What was seen has been discarded.
		case lastSeen.Sequence <= stream.State.LastSeq:
			have, err := b.find(ctx, query{Sequence: lastSeen.Sequence})
			if err != nil || have.Time.Equal(lastSeen.Time) {
				return stream, "", err
			}
			if have.Sequence != 0 {
				return stream, fmt.Sprintf("message %d is another one", lastSeen.Sequence), nil
			}
			certain = certain && tries > 1
		}
		if certain {
			return stream, fmt.Sprintf("message %d is gone", lastSeen.Sequence), nil
		}
		select {
		case <-time.After(proofPause):
		case <-ctx.Done():
			return nil, "", ctx.Err()
		}
		if stream, err = b.streamInfo(ctx); err != nil {
			return nil, "", err
		}
	}
}

// begin takes the history that the stream has now for the one that later ones are compared with.
// The last message that is there counts as the last one seen.
func (b *Broker) begin(ctx context.Context, stream *jetstream.StreamInfo) error {
	var last found
	if stream.State.Msgs > 0 {
		var err error
		if last, err = b.find(ctx, query{Sequence: stream.State.LastSeq}); err != nil {
			return err
		}
	}
	b.confirmed.Store(0)
	b.lineage.set(stream.Created, last)
	return nil
}

// streamInfo asks the leader for the state and the configuration of the stream. If an operator has
// deleted it, streamInfo creates it again; that is another history, which the doubt tells.
func (b *Broker) streamInfo(ctx context.Context) (*jetstream.StreamInfo, error) {
	attempt, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	info, err := b.stream.Info(attempt)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		b.log.Error("the stream is gone, creating it anew", "stream", b.names.stream)
		b.doubt()
		var stream jetstream.Stream
		if stream, err = b.tryStream(attempt); err == nil {
			info = stream.CachedInfo()
		}
	}
	return info, b.explain(ctx, err)
}

// history is the name of the history that the stream has, for positions: its creation in
// nanoseconds since 1970, to base 36.
func (b *Broker) history() string {
	created, _ := b.lineage.known()
	return strconv.FormatInt(created.UnixNano(), 36)
}

// forgetHubs returns all hubs. The next subscriber of a channel starts with a new one, in which
// nothing of the other history is left.
func (b *Broker) forgetHubs() []*hub {
	b.mu.Lock()
	defer b.mu.Unlock()
	hubs := slices.Collect(maps.Values(b.hubs))
	for _, h := range hubs {
		b.forget(h)
	}
	return hubs
}

// broken makes a *BreakError of an error that says that a reader cannot go on, with the sequence of
// the first message that the channel has, or the stream's next one if it has none. If that cannot
// be asked for, the failure takes the place of the error. Other errors are returned as they are;
// damaged has made its BreakError itself.
func (b *Broker) broken(ctx context.Context, subject string, err error) error {
	if !errors.Is(err, ErrSequenceGone) && !errors.Is(err, ErrHistoryChanged) {
		return err
	}
	now, stateErr := b.state(ctx)
	first, findErr := b.find(ctx, query{Sequence: 1, NextIn: subject})
	// The reader joins again, and is told then.
	if failed := cmp.Or(stateErr, findErr); failed != nil {
		return failed
	}
	if first.Sequence == 0 {
		first.Sequence = now.last + 1
	}
	return &BreakError{First: first.Sequence, cause: err}
}
