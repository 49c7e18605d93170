// Package broker is the domain of ChannelService: channels of messages with sequences, kept in NATS
// JetStream.
//
// All channels of a Broker live in one stream, one subject each, and a message's sequence is the
// stream's. Brokers (brokers.go) are several, for channels that are kept apart. Two paths lead to a
// subscriber: announcements (hub.go) and reading the stream (replay.go, catchup.go; poll.go for
// lost announcements). JetStream announces what it has stored together with the sequence of the
// message before it on the same subject, so each announcement proves by itself whether something is
// missing. A subscriber takes announcements as long as the proof holds, and reads the stream
// otherwise, so a lost announcement, a reconnect or a slow reader costs time and never a message.
package broker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
)

var (
	// ErrInvalidName says that a channel or participant is not 1 to 128 bytes of UTF-8 without control
	// characters.
	ErrInvalidName = errors.New("name must be 1 to 128 bytes of UTF-8 without control characters")
	// ErrInvalidMessageID says that a message id is not 1 to 64 of the characters A-Z, a-z, 0-9, - and
	// _.
	ErrInvalidMessageID = errors.New("message id must be 1 to 64 of the characters A-Z, a-z, 0-9, - and _")
	// ErrBodyTooLarge says that a body is longer than MaxBody.
	ErrBodyTooLarge = fmt.Errorf("body must be at most %d bytes", MaxBody)
	// ErrSequenceGone says that messages after the given sequence may have been discarded, or that
	// there never was a message with that sequence in the channel.
	ErrSequenceGone = errors.New("sequence is not in the channel")
	// ErrHistoryChanged says that the stream does not have the history that a position is from: it was
	// created anew, or has lost what came last.
	ErrHistoryChanged = errors.New("the history of the channel is not the one that was read")
	// ErrDamaged says that messages are missing inside the stream, perhaps of the channel: what is
	// stored is damaged.
	ErrDamaged = errors.New("messages are missing because the store is damaged")
	// ErrStoreFull says that there is no room for a message.
	ErrStoreFull = errors.New("there is no room for more messages")
	// ErrTooManyChannels says that Options.MaxChannels are open already.
	ErrTooManyChannels = errors.New("too many open channels")
	// ErrTooManyKept says that Options.MaxKept channels have messages already.
	ErrTooManyKept = errors.New("too many channels have messages")
	// ErrUnavailable says that the broker does not answer, or not in time. Whatever was asked may have
	// happened.
	ErrUnavailable = errors.New("message broker is unavailable")
	// ErrClosed says that the Broker or the Subscription has been closed.
	ErrClosed = errors.New("closed")
)

// MaxBody is the size in bytes of the largest body.
const MaxBody = 64 << 10

// Options adjust a Broker. The zero value of each field means its default.
type Options struct {
	// Name is what the process calls itself at the broker. The names of the stream, of subjects and of
	// headers begin with it, so it is of letters, digits, - and _. Default "broker".
	Name string
	// Prefix is what the names of the channels begin with, if this Broker has only those; see OpenAll.
	Prefix string
	// Dir is the folder of the embedded server. Only one process at a time may use it.
	Dir string
	// Retention is how long messages are kept. Default 7 days.
	Retention time.Duration
	// MaxBytes is how much is kept, all channels together; the oldest messages go first. Default 1
	// GiB.
	MaxBytes int64
	// DedupWindow is how long a message id is remembered. Default 2 minutes.
	DedupWindow time.Duration
	// Replicas is on how many servers of a cluster a message is kept. Default 1, as in the embedded
	// server always.
	Replicas int
	// SyncAlways makes the embedded server flush messages to the disk before Publish returns their
	// receipts. Otherwise a crash of the process loses nothing, but a crash of the machine up to
	// syncInterval.
	SyncAlways bool
	// Reserve is how much of the disk the embedded server leaves free, in bytes. Default 2 MiB.
	Reserve int64
	// MaxChannels is how many channels may have subscribers at once, in all Brokers that OpenAll has
	// opened. Default 20,000.
	MaxChannels int
	// MaxKept is how many channels may have messages, about, in all Brokers that OpenAll has opened:
	// all replicas count for themselves what comes within a second. Each costs the broker about a
	// kilobyte of memory. Default 50,000.
	MaxKept int64
	// Log receives what the broker has to say. Default: nothing is logged.
	Log *slog.Logger
	// Registerer takes the metrics of the package, and is used once. Default: they are registered
	// nowhere.
	Registerer prometheus.Registerer
	// memory is what Brokers of OpenAll have in common. Default: the Broker has one of its own.
	memory *memory
}

// withDefaults replaces zero values, so that the rest of the package need not know of them.
func (o Options) withDefaults() Options {
	o.Retention = cmp.Or(o.Retention, 7*24*time.Hour)
	o.MaxBytes = cmp.Or(o.MaxBytes, 1<<30)
	o.DedupWindow = cmp.Or(o.DedupWindow, 2*time.Minute)
	o.Reserve = cmp.Or(o.Reserve, 2<<20)
	o.Replicas = cmp.Or(o.Replicas, 1)
	o.MaxChannels = cmp.Or(o.MaxChannels, 20_000)
	o.MaxKept = cmp.Or(o.MaxKept, 50_000)
	o.Name = cmp.Or(o.Name, "broker")
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return o
}

// Broker publishes to channels and subscribes to them. It is safe for concurrent use.
type Broker struct {
	opts    Options
	names   names
	log     *slog.Logger
	metrics *metrics
	// embedded is the NATS server inside this process; nil if messages are kept in a cluster.
	embedded *embedded
	nc       *nats.Conn
	js       jetstream.JetStream
	stream   jetstream.Stream

	// tasks are publishers and the goroutines of the Broker, for which Close waits. They enter.
	tasks sync.WaitGroup

	mu sync.Mutex
	// closed ends everything that waits. It is closed with mu held, so that no task enters afterwards.
	closed chan struct{}
	// hubs are those of the channels that have subscribers here, by the channel's name. With mu held a
	// hub's own mu may be taken, and not the other way round.
	hubs map[string]*hub
	// subscriptions are the open ones, for the metrics.
	subscriptions map[*Subscription]struct{}

	// announcements has what the stream announces of all channels, for the goroutine of announce.
	announcements chan *nats.Msg
	// urgent asks watch for a poll now, because announcements may have been lost.
	urgent chan struct{}
	// recent is the last state of the stream that was asked for.
	recent recent
	// lineage is what is known of the stream's history, and damage of its holes.
	lineage *lineage
	damage  damage
	// checks is how often checkHistorySoon was called while its goroutine runs; 0 if there is none.
	checks atomic.Int64

	*memory
	// counted is what of memory.kept are this Broker's channels.
	counted atomic.Int64
	// consumers says when startConsumer creates one.
	consumers struct {
		// worthwhile is longReplay, which tests make smaller.
		worthwhile int64
		// pausedUntil is until when no consumer is created; nil if none ever failed.
		pausedUntil atomic.Pointer[time.Time]
	}

	// confirmed is the highest sequence of a receipt in this history. The embedded server's folder has
	// it in a file, remembered is what was last written there.
	confirmed  atomic.Uint64
	remembered atomic.Uint64
	// refusesMessages says that the cluster had no room for the last message: Check then asks with one
	// whether it has again.
	refusesMessages atomic.Bool

	// unconnected is why the last attempt to connect failed.
	unconnected atomic.Pointer[error]
}

// Open connects to the broker and sees to it that the stream exists. The url "embedded:" starts a
// server inside this process, which listens on no port; "nats://host:4222[,nats://...]" names
// servers of a cluster, with credentials as user information. Open waits for a cluster that is not
// there yet until ctx is done.
func Open(ctx context.Context, url string, opts Options) (*Broker, error) {
	opts = opts.withDefaults()
	// What the handlers of the connection use has to be there before connect.
	b := &Broker{
		opts: opts, names: namesOf(opts.Name, opts.Prefix), log: opts.Log, closed: make(chan struct{}),
		urgent: make(chan struct{}, 1),
		hubs:   map[string]*hub{}, subscriptions: map[*Subscription]struct{}{}, lineage: newLineage(),
		memory: opts.memory,
	}
	if b.memory == nil {
		b.memory = newMemory(url == embeddedURL, opts, 1)
	}
	b.announcements = make(chan *nats.Msg, pendingAnnouncements/b.brokers)
	b.consumers.worthwhile = longReplay
	b.metrics = newMetrics(b)
	if err := b.open(ctx, url); err != nil {
		// Close stops what was started. It gets no deadline: there is no work yet that it could wait for.
		return nil, errors.Join(err, b.Close(context.WithoutCancel(ctx)))
	}
	return b, nil
}

// open starts the server if it is the embedded one, connects, finds or creates the stream, and
// starts the goroutines that Close waits for. What fails here keeps the process from starting.
func (b *Broker) open(ctx context.Context, url string) (err error) {
	if url == embeddedURL {
		b.opts.Replicas = 1
		if b.embedded, err = startEmbedded(ctx, b.opts, b.names.stream); err != nil {
			return err
		}
	}
	if b.nc, err = b.connect(url); err != nil {
		return err
	}
	if b.js, err = jetstream.New(b.nc); err != nil {
		return err
	}
	if b.stream, err = b.ensureStream(ctx); err != nil {
		return err
	}
	// The stream as it is now has the history that all later ones are compared with. A connection that
	// is made from here on is a new doubt, and not settled by this.
	doubts := b.lineage.doubts.Load()
	stream := b.stream.CachedInfo()
	if err = b.begin(ctx, stream); err != nil {
		return err
	}
	b.lineage.settled.Store(doubts)
	if b.embedded != nil {
		// Receipts promise that messages are on the disk, which is only true if the stream's own files
		// and folders are, too: the server has written them and not flushed them.
		if b.opts.SyncAlways {
			if err := flushAll(b.opts.Dir); err != nil {
				return err
			}
		}
		// After a crash the server drops what it cannot read at the end of the last block, and does not
		// report it.
		if had := b.embedded.had(stream.Created); had > stream.State.LastSeq {
			b.lineage.change()
			b.log.Error("the end of the stream is gone: messages are lost, and participants that have seen them are told",
				"stream", b.names.stream, "last_sequence", stream.State.LastSeq, "was", had)
		}
	}
	// Damage in the middle shows only when it is read. That takes a while, so it is done in the
	// background, and readers wait for the part that they are at.
	if b.embedded != nil && stream.State.Msgs > 0 {
		b.damage.verifyAgain(stream.State.FirstSeq, stream.State.LastSeq)
		b.startVerifying()
	}
	// The server itself knows of some holes since its start.
	if err = b.inspect(ctx, stream.State); err != nil {
		return err
	}
	if b.embedded != nil {
		releaser, err := b.newReleaser()
		if err != nil {
			return err
		}
		b.tasks.Go(releaser.run)
	}
	b.tasks.Go(b.watch)
	b.tasks.Go(b.announce)
	return nil
}

// Check returns nil if the broker answers, the stream exists and messages can be stored, which is
// what clients ask the health of the service for. It also settles doubts about the history, so that
// subscribers are told within seconds even if no message comes.
func (b *Broker) Check(ctx context.Context) error {
	if err := b.checkWriting(ctx); err != nil {
		return err
	}
	if err := b.checkHistory(ctx); err != nil {
		return err
	}
	_, err := b.state(ctx)
	if err != nil && !b.lineage.isSettled() {
		return b.checkHistory(ctx) // The stream has just been found to be another one, or was created.
	}
	return err
}

// Close ends all subscriptions, waits for the acknowledgements of messages that are being
// published, disconnects, and stops the embedded server, so that its folder is free when Close
// returns nil. Once ctx is done it waits no longer and returns the context's error.
func (b *Broker) Close(ctx context.Context) error {
	b.refuse()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.tasks.Wait()
		b.disconnect()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("closing the message broker: %w", ctx.Err())
	}
}

// refuse makes everything from now on fail with ErrClosed, and wakes all subscribers. It may be
// called again.
func (b *Broker) refuse() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.isClosed() {
		close(b.closed)
	}
	for _, h := range b.hubs {
		h.fail(ErrClosed)
	}
}

// isClosed says whether Close was called.
func (b *Broker) isClosed() bool {
	select {
	case <-b.closed:
		return true
	default:
		return false
	}
}

// disconnect undoes open in the opposite order. Any part may be missing, if open has failed.
func (b *Broker) disconnect() {
	if b.embedded != nil {
		b.remember()
	}
	if b.nc != nil {
		b.nc.Close()
	}
	if b.embedded != nil {
		b.embedded.stop()
	}
}

// remember writes down how far the embedded stream has come, if it has moved since the last time,
// so that the next start notices if its end is gone. watch calls it after each poll, disconnect at
// the end.
func (b *Broker) remember() {
	created, lastSeen := b.lineage.known()
	// Without subscribers this process sees no messages, but it has given receipts for them.
	newest := max(lastSeen.Sequence, b.confirmed.Load())
	if created.IsZero() || newest == b.remembered.Swap(newest) {
		return
	}
	if err := b.embedded.remember(created, newest); err != nil {
		b.log.Warn("noting how far the stream has come", "error", err)
	}
}

// enter registers a task that Close waits for; the caller must call b.tasks.Done. It fails with
// ErrClosed once Close was called: a WaitGroup must not grow while it is waited for.
func (b *Broker) enter() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.isClosed() {
		return ErrClosed
	}
	b.tasks.Add(1)
	return nil
}

// explain turns the error of a request that had a deadline of its own into the one that the caller
// of the package should see: that the Broker is closed, that the caller's own ctx is done, or else
// that the broker is unavailable.
func (b *Broker) explain(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case b.isClosed():
		return ErrClosed
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		return fmt.Errorf("%w: %w", ErrUnavailable, b.reason(err))
	}
}
