package bulk

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

// ErrBudget means that there is no memory for another transfer now.
var ErrBudget = errors.New("too many transfers at once")

// Budget bounds the memory of all transfers of a process. Each of them reserves, before it begins,
// all that it can come to hold; what it reserved it never has to wait for again, so that transfers
// cannot block each other.
type Budget struct {
	limit   int64
	timeout time.Duration
	// most bounds how many may wait, because a sender may fill its window while it does.
	most int64

	all *semaphore.Weighted
	// extra is for those that take more than they need: the rest is for later ones.
	extra             *semaphore.Weighted
	reserved, waiting atomic.Int64
}

// NewBudget returns a budget of so many bytes, of which extra may be taken by those that need less;
// fewer than none are none. A transfer that finds it used up waits for timeout, unless there are
// already as many others that wait.
func NewBudget(bytes, extra int64, timeout time.Duration, most int) *Budget {
	bytes, extra = max(bytes, 0), max(extra, 0)
	return &Budget{
		limit: bytes, timeout: timeout, most: int64(most),
		all: semaphore.NewWeighted(bytes), extra: semaphore.NewWeighted(extra),
	}
}

// Reserve reserves most bytes if there is plenty, and least otherwise, as soon as there are so
// many. It returns how many it reserved and the function that gives them back. It gives up with
// ErrBudget, or with the cause of ctx.
func (b *Budget) Reserve(
	ctx context.Context,
	least, most int64,
) (bytes int64, release func(), err error) {
	if more := most - least; more > 0 && b.extra.TryAcquire(more) {
		if b.all.TryAcquire(most) {
			return most, b.took(most, more), nil
		}
		b.extra.Release(more)
	}
	if !b.all.TryAcquire(least) {
		if err := b.wait(ctx, least); err != nil {
			return 0, nil, err
		}
	}
	return least, b.took(least, 0), nil
}

func (b *Budget) took(bytes, extra int64) (release func()) {
	b.reserved.Add(bytes)
	return func() {
		b.reserved.Add(-bytes)
		b.all.Release(bytes)
		b.extra.Release(extra)
	}
}

func (b *Budget) wait(ctx context.Context, bytes int64) error {
	defer b.waiting.Add(-1)
	if b.waiting.Add(1) > b.most {
		return ErrBudget
	}
	waiting, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	if b.all.Acquire(waiting, bytes) == nil {
		return nil
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return ErrBudget
}

// Limit is the size of the budget in bytes.
func (b *Budget) Limit() int64 { return b.limit }

// Reserved is how many bytes of it are reserved.
func (b *Budget) Reserved() int64 { return b.reserved.Load() }

// Waiting is how many transfers wait for memory.
func (b *Budget) Waiting() int64 { return b.waiting.Load() }
