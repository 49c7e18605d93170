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
	// all bounds what all callers hold together; nil if something else bounds it.
	all *semaphore.Weighted
	// each is what one caller may hold, in the unit of Take's n, for example bytes or calls.
	each int64
	// maxWaiting is how many calls of one caller may wait for its share, 0 for any number. Each is a
	// goroutine and a request that the process keeps.
	maxWaiting int
	// waiting counts the calls that wait, for the caller's share or for the whole.
	waiting atomic.Int64

	mu       sync.Mutex
	byCaller map[any]*share // of callers that hold some, or wait
}

// share is what one caller holds. It leaves the map with its last user, so that callers that come
// once, each with an address of its own, leave no memory behind.
type share struct {
	*semaphore.Weighted
	// users are the calls that hold some or wait; waiting are those of them that wait for the share.
	users, waiting int // guarded by Shares.mu
}

// New returns an amount, 0 for any, of which a caller can hold each. Of one caller, maxWaiting
// calls may wait for its share; 0 for any number.
func New(all, each int64, maxWaiting int) *Shares {
	s := &Shares{each: each, maxWaiting: maxWaiting, byCaller: map[any]*share{}}
	if all > 0 {
		s.all = semaphore.NewWeighted(all)
	}
	return s
}

// Take waits until a caller can hold n more, and returns the function that gives them back. caller
// is comparable. It fails with ErrTooManyWait, or with the error of ctx; always, if n is more than
// a share.
func (s *Shares) Take(ctx context.Context, caller any, n int64) (giveBack func(), err error) {
	return s.take(ctx, caller, n, s.maxWaiting)
}

// Retake is Take for a call that has held some before: it waits, however many others do.
func (s *Shares) Retake(ctx context.Context, caller any, n int64) (giveBack func(), err error) {
	return s.take(ctx, caller, n, 0)
}

// take fails if maxWaiting calls of the caller wait already, unless that is 0.
func (s *Shares) take(
	ctx context.Context, caller any, n int64, maxWaiting int,
) (giveBack func(), err error) {
	// The own share comes first: a caller that has used it up waits at its own share, and not in the
	// queue for the whole, where it would hold up the others.
	own, err := s.takeOwn(ctx, caller, n, maxWaiting)
	if err != nil {
		return nil, err
	}
	if s.all != nil {
		if err := s.acquire(ctx, s.all, n); err != nil {
			// Without its part of the whole the call has nothing, so that its own share is free again.
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

// done is a context that is done.
var done = func() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}()

// Try is Take without a wait. ok is false if the caller cannot hold n more now.
func (s *Shares) Try(caller any, n int64) (giveBack func(), ok bool) {
	giveBack, err := s.Take(done, caller, n)
	return giveBack, err == nil
}

// takeOwn takes n from the share of a caller.
func (s *Shares) takeOwn(ctx context.Context, caller any, n int64, maxWaiting int) (*share, error) {
	s.mu.Lock()
	own := s.byCaller[caller]
	if own == nil {
		own = &share{Weighted: semaphore.NewWeighted(s.each)}
		s.byCaller[caller] = own
	}
	// From here on leave has to be called, on every path: by Take's giveBack or on failure below.
	own.users++
	// TryAcquire does not jump the queue: it fails also while earlier calls of the caller wait.
	if own.TryAcquire(n) {
		s.mu.Unlock()
		return own, nil
	}
	if maxWaiting > 0 && own.waiting >= maxWaiting {
		s.mu.Unlock()
		s.leave(caller, own)
		return nil, ErrTooManyWait
	}
	own.waiting++
	s.mu.Unlock()
	// The lock is not held here, since other callers must be able to take and give back meanwhile.
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

// acquire takes n from one semaphore and counts the call as waiting only if it has to wait.
func (s *Shares) acquire(ctx context.Context, from *semaphore.Weighted, n int64) error {
	if from.TryAcquire(n) {
		return nil
	}
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	return from.Acquire(ctx, n)
}

// leave ends one use of a caller's share, and forgets the caller after the last.
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
