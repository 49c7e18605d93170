package broker

import (
	"context"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
)

const (
	// ringsBytes bounds the rings of all channels together. What does not fit is read from the stream.
	ringsBytes = 16 << 20
	// batchesBytes bounds what all readers of the stream have read and not taken yet, half of it for one caller.
	batchesBytes = 24 << 20
	// batchRoom is what a batch can take: the broker ends it with the message that passes batchBytes.
	batchRoom = batchBytes + MaxBody + maxHeaders
	// readsAtOnce bounds the requests for batches under way, for each of which the broker loads a block of 8 MiB.
	readsAtOnce = 4
	// rememberedIDs is how many message ids the embedded server may have to remember. Each costs it about 200 bytes of memory
	// for the whole DedupWindow.
	rememberedIDs = 200_000
)

// memory is what bounds the memory that channels take.
type memory struct {
	rings   atomic.Int64 // bytes in all rings
	batches *shares
	reads   *semaphore.Weighted
	pace    *rate.Limiter // of messages, which the embedded server remembers
	begun   atomic.Int64  // channels that got their first message since the stream was last asked how many there are
}

func newMemory(isEmbedded bool, opts Options) *memory {
	m := &memory{batches: newShares(batchesBytes), reads: semaphore.NewWeighted(readsAtOnce), pace: rate.NewLimiter(rate.Inf, 1)}
	if isEmbedded {
		m.pace = rate.NewLimiter(rate.Limit(rememberedIDs/opts.DedupWindow.Seconds()), rememberedIDs)
	}
	return m
}

// Pace is how many messages a second are kept in the long run, and how many at once. What comes faster waits: the embedded
// server has to remember their ids. Servers of a cluster have memory of their own.
func (b *Broker) Pace() (rate.Limit, int) { return b.pace.Limit(), b.pace.Burst() }

// shares is an amount of memory of which one caller can have half.
type shares struct {
	all     *semaphore.Weighted
	perEach int64

	mu sync.Mutex
	by map[any]*callerShare // of those that have or want some
}

type callerShare struct {
	sem  *semaphore.Weighted
	uses int
}

func newShares(amount int64) *shares {
	return &shares{all: semaphore.NewWeighted(amount), perEach: amount / 2, by: map[any]*callerShare{}}
}

// take waits for an amount, and returns the function that gives it back.
func (s *shares) take(ctx context.Context, caller any, amount int64) (giveBack func(), err error) {
	s.mu.Lock()
	own := s.by[caller]
	if own == nil {
		own = &callerShare{sem: semaphore.NewWeighted(s.perEach)}
		s.by[caller] = own
	}
	own.uses++
	s.mu.Unlock()
	if err := own.sem.Acquire(ctx, amount); err != nil {
		s.forget(caller, own)
		return nil, err
	}
	if err := s.all.Acquire(ctx, amount); err != nil {
		own.sem.Release(amount)
		s.forget(caller, own)
		return nil, err
	}
	return func() {
		s.all.Release(amount)
		own.sem.Release(amount)
		s.forget(caller, own)
	}, nil
}

func (s *shares) forget(caller any, own *callerShare) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if own.uses--; own.uses == 0 {
		delete(s.by, caller)
	}
}
