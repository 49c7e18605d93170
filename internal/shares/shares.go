// Package shares bounds how much of something all callers hold together, and how much of it one
// caller holds, so that none can take it from all others.
package shares

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"
)

// ErrTooManyWait means that as many calls of a caller as may wait for its share do so already.
var ErrTooManyWait = errors.New("too many calls of one caller wait")

// Shares is an amount of which each caller can hold a part. It is safe for concurrent use.
type Shares struct {
	all     *semaphore.Weighted // nil if something else bounds it
	each    int64
	most    int
	waiting atomic.Int64

	mu       sync.Mutex
	byCaller map[any]*share // of callers that hold some, or wait
}

type share struct {
	*semaphore.Weighted
	users, waiting int // guarded by Shares.mu
}

// New returns an amount, 0 for any, of which a caller can hold each. Of one caller, most calls may
// wait for its share; 0 for any number.
func New(all, each int64, most int) *Shares {
	s := &Shares{each: each, most: most, byCaller: map[any]*share{}}
	if all > 0 {
		s.all = semaphore.NewWeighted(all)
	}
	return s
}

// Take waits until a caller can hold n more, and returns the function that gives them back. caller
// is comparable. It fails with ErrTooManyWait, or with the error of ctx; always, if n is more than
// a share.
func (s *Shares) Take(ctx context.Context, caller any, n int64) (giveBack func(), err error) {
	own, err := s.takeOwn(ctx, caller, n)
	if err != nil {
		return nil, err
	}
	if s.all != nil {
		if err := s.acquire(ctx, s.all, n); err != nil {
			own.Release(n)
			s.leave(caller, own)
			return nil, err
		}
	}
	return func() {
		if s.all != nil {
			s.all.Release(n)
		}
		own.Release(n)
		s.leave(caller, own)
	}, nil
}

// takeOwn takes n from the share of a caller.
func (s *Shares) takeOwn(ctx context.Context, caller any, n int64) (*share, error) {
	s.mu.Lock()
	own := s.byCaller[caller]
	if own == nil {
		own = &share{Weighted: semaphore.NewWeighted(s.each)}
		s.byCaller[caller] = own
	}
	own.users++
	if own.TryAcquire(n) {
		s.mu.Unlock()
		return own, nil
	}
	if s.most > 0 && own.waiting >= s.most {
		s.mu.Unlock()
		s.leave(caller, own)
		return nil, ErrTooManyWait
	}
	own.waiting++
	s.mu.Unlock()
	err := s.acquire(ctx, own.Weighted, n)
	s.mu.Lock()
	own.waiting--
	s.mu.Unlock()
	if err != nil {
		s.leave(caller, own)
		return nil, err
	}
	return own, nil
}

func (s *Shares) acquire(ctx context.Context, from *semaphore.Weighted, n int64) error {
	if from.TryAcquire(n) {
		return nil
	}
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	return from.Acquire(ctx, n)
}

func (s *Shares) leave(caller any, own *share) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if own.users--; own.users == 0 {
		delete(s.byCaller, caller)
	}
}

// Waiting is how many calls wait.
func (s *Shares) Waiting() int64 { return s.waiting.Load() }

// Callers is how many callers hold some, or wait.
func (s *Shares) Callers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.byCaller)
}
