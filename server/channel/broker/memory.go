package broker

import (
	"cmp"
	"context"
	"math"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"example.com/quartet/internal/shares"
)

const (
	// ringsBytes bounds the rings of all channels together. What does not fit is read from the stream.
	ringsBytes = 8 << 20
	// batchesBytes bounds what all readers of the stream have read and not taken yet, half of it for
	// one caller.
	batchesBytes = 16 << 20
	// batchRoom is what a batch can take: the broker ends it with the message that passes batchBytes.
	batchRoom = batchBytes + MaxBody + maxHeaders
	// readsAtOnce bounds the requests for batches under way, for each of which the broker loads a
	// block of 8 MiB. Readers of one caller make half of them, so that other readers do not wait
	// behind all of them.
	readsAtOnce = 4
	// joinsAtOnce bounds the subscriptions that are opened at once, half of them of one caller: some
	// requests to the broker for each. In a cluster most of that is the way there and back; the
	// embedded server needs this process's processors for it, which other callers would wait for.
	joinsAtOnce, joinsAtOnceEmbedded = 256, 4
	// publishingBytes bounds the messages on their way to the broker, of which it makes several
	// copies.
	publishingBytes = 2 << 20
	// blocksPart is which part of Go's memory limit the embedded server's blocks may take, about, that
	// it has written lately: it keeps a block that is read while it is written, see releaser.
	blocksPart = 4
	// blockBytes is the size of a block.
	blockBytes = 8 << 20
	// blockAge is how long the server keeps a block in memory after its last use: 10 s, by a clock
	// that it looks at now and then.
	blockAge = 11 * time.Second
	// rememberedIDs is how many message ids the embedded server may have to remember. Each costs it
	// about 200 bytes of memory for the whole DedupWindow.
	rememberedIDs = 200_000
)

// memory bounds the memory that channels take, also those of several Brokers together. What is
// beyond a bound waits, each caller for its own share where there is one.
type memory struct {
	// brokers is how many there are.
	brokers int
	// rings is how many bytes are in the rings of all hubs. It may pass ringsBytes for a moment: a hub
	// makes room after it has put in a message.
	rings atomic.Int64
	// batches are the bytes in batches of readers, by caller.
	batches *shares.Shares
	// reads are the requests for batches under way, of all and, as replays, of the subscriptions by
	// caller.
	reads   *semaphore.Weighted
	replays *shares.Shares // reads of subscriptions
	// joins are the subscriptions that are being opened, by caller.
	joins *shares.Shares
	// sending are the bytes of messages that are being published.
	sending *semaphore.Weighted
	// pace is that of all messages together.
	pace *Pace
	// places are those of consumers for long replays.
	places *semaphore.Weighted
	// channels is how many have subscribers here.
	channels atomic.Int64
	// kept is how many channels have messages: those that the streams had when they were last asked,
	// and one for each message since then that may have been the first of its channel.
	kept atomic.Int64
}

// newMemory asks the runtime for Go's memory limit (GOMEMLIMIT), of which blocks may take a part.
// Each embedded server may hold the block that it writes, whatever is in it, so that all but one of
// several take that from the part.
func newMemory(isEmbedded bool, opts Options, brokers int) *memory {
	limit := debug.SetMemoryLimit(-1)
	if limit < math.MaxInt64 {
		limit -= blocksPart * blockBytes * int64(brokers-1)
	}
	joins := int64(joinsAtOnce)
	if isEmbedded {
		joins = joinsAtOnceEmbedded
	}
	return &memory{
		brokers: brokers,
		batches: shares.New(batchesBytes, batchesBytes/2, 0),
		reads:   semaphore.NewWeighted(readsAtOnce),
		replays: shares.New(0, readsAtOnce/2, 0),
		joins:   shares.New(joins, joins/2, 0),
		sending: semaphore.NewWeighted(publishingBytes),
		pace:    newPace(isEmbedded, opts.DedupWindow, limit),
		places:  semaphore.NewWeighted(consumersAtOnce),
	}
}

// Pace is how fast messages are kept, in messages and in bytes. What comes faster waits: the
// embedded server remembers the ids of messages for the DedupWindow, and keeps in memory what it
// has written a moment ago. There is no limit for a cluster, whose servers have memory of their
// own.
type Pace struct{ messages, bytes *rate.Limiter }

// newPace takes the memory limit in bytes; math.MaxInt64 is none, and then bytes have no pace.
func newPace(isEmbedded bool, window time.Duration, limit int64) *Pace {
	p := &Pace{rate.NewLimiter(rate.Inf, 1), rate.NewLimiter(rate.Inf, 1)}
	if !isEmbedded {
		return p
	}
	p.messages = rate.NewLimiter(rate.Limit(rememberedIDs/window.Seconds()), rememberedIDs)
	if limit < math.MaxInt64 {
		// Half of the blocks' memory at once, and the other half by the time that the server lets go of
		// the first.
		blocks := max(limit/blocksPart, 16*MaxBody)
		p.bytes = rate.NewLimiter(rate.Limit(float64(blocks/2)/blockAge.Seconds()), int(blocks/2))
	}
	return p
}

// Half returns another Pace, half as fast, for one caller.
func (p *Pace) Half() *Pace {
	half := func(l *rate.Limiter) *rate.Limiter {
		return rate.NewLimiter(l.Limit()/2,
			max(1, l.Burst()/2))
	}
	return &Pace{half(p.messages), half(p.bytes)}
}

// IsIdle tells whether it lets as much through at once as when it was new.
func (p *Pace) IsIdle() bool {
	idle := func(l *rate.Limiter) bool { return l.Tokens() >= float64(l.Burst()) }
	return idle(p.messages) && idle(p.bytes)
}

// Wait waits until a message may be kept. It fails with the error of ctx, or at once with
// context.DeadlineExceeded if the deadline of ctx would pass first.
func (p *Pace) Wait(ctx context.Context, m Message) error {
	err := p.messages.Wait(ctx)
	if err == nil {
		err = p.bytes.WaitN(ctx, min(len(m.Body)+messageOverhead, p.bytes.Burst()))
	}
	if err != nil {
		return cmp.Or(ctx.Err(), context.DeadlineExceeded) // The limiter's own error is no other's.
	}
	return nil
}
