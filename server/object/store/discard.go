package store

import (
	"context"
	"errors"
	"sync/atomic"
)

// discard removes blobs that nothing refers to any more, as far as it can: what stays is waste, not damage, and found
// again by Expire or Sweep. It goes on when the caller has gone.
func (s *Store) discard(ctx context.Context, blobs ...entry) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if err := s.dispose(ctx, blobs); err != nil {
		s.log.WarnContext(ctx, "what is no longer needed was left behind", "error", err)
	}
}

// dispose removes blobs, all that it can unless ctx ends or the bucket cannot be reached, and returns the first failure.
func (s *Store) dispose(ctx context.Context, blobs []entry) error {
	var failure atomic.Pointer[error]
	err := parallel(ctx, parallelism, len(blobs), func(ctx context.Context, i int) error {
		err := during("remove "+blobs[i].key, s.disposeOne(ctx, blobs[i]))
		if err == nil || hopeless(ctx, err) {
			return err
		}
		failure.CompareAndSwap(nil, &err)
		return nil
	})
	if first := failure.Load(); err == nil && first != nil {
		return *first
	}
	return err
}

func (s *Store) disposeOne(ctx context.Context, blob entry) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	err := s.bucket.discard(ctx, blob.key)
	switch {
	case errors.Is(err, errNoKey): // Somebody else has removed it, and counted that.
		return nil
	case err == nil:
		s.quota.give(contentSize(blob))
	}
	return err
}

// hopeless tells whether whatever is tried next would fail as well.
func hopeless(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, ErrUnavailable)
}
