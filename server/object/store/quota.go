package store

import (
	"context"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
)

// countPage is how many entries a count looks at together. S3 gives no more than 1000 at once.
const countPage = 10_000

// quota knows how many bytes the parts in the bucket hold, those of objects and those of uploads under way, and keeps
// them below a limit. Manifests and records are not counted.
//
// In a folder, which has one owner, it is exact: counted when the folder is opened, and from then on kept up. On a shared
// bucket it is what the last count found, with what this store has committed and removed since; so replicas together
// may exceed the limit by what the others took in since then. What is committed while a count goes on may be in it
// twice, until the next one: it errs towards too much.
type quota struct {
	limit int64 // 0: there is none
	gauge prometheus.Gauge

	mu    sync.Mutex
	held  int64
	fresh int64 // what was committed since the count under way began
}

// check returns ErrQuotaExceeded if size more bytes do not fit.
func (q *quota) check(size int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.fits(size)
}

func (q *quota) fits(size int64) error {
	if free := max(0, q.limit-q.held); q.limit > 0 && size > free {
		return fmt.Errorf("%w: there is room for %d bytes, not for %d more", ErrQuotaExceeded, free, size)
	}
	return nil
}

// commit commits a part that was counted. One that cannot be committed is taken off the count.
func (q *quota) commit(begun *begunPart) error {
	if err := begun.commit(); err != nil {
		q.give(begun.Size)
		return err
	}
	begun.counted = begun.Size
	return nil
}

// entry is what there is to remove of the part.
func (b *begunPart) entry() entry { return entry{b.Key, b.counted} }

// take counts a part that is about to be committed, unless it does not fit.
func (q *quota) take(size int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.fits(size); err != nil {
		return err
	}
	q.fresh += size
	q.set(q.held + size)
	return nil
}

// give takes a part off the count that was removed, or not committed after all.
func (q *quota) give(size int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.set(max(0, q.held-size))
}

func (q *quota) set(held int64) {
	q.held = held
	q.gauge.Set(float64(held))
}

func (q *quota) beginCount() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fresh = 0
}

func (q *quota) endCount(found int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.set(found + q.fresh)
}

// Count finds out anew how much a shared bucket holds, by one request for every 1000 parts. It should be called at the
// start and from time to time, by one goroutine. A folder knows already, and is not looked at.
func (s *Store) Count(ctx context.Context) error {
	if _, owned := s.bucket.(*fileBucket); owned {
		return nil
	}
	return s.count(ctx)
}

func (s *Store) count(ctx context.Context) error {
	var found int64
	s.quota.beginCount()
	err := s.eachEntry(ctx, partsFolder, countPage, func(entries []entry) error {
		for _, e := range entries {
			found += contentSize(e)
		}
		return nil
	})
	if err == nil {
		s.quota.endCount(found)
	}
	return err
}

// contentSize returns how much of a quota a blob takes.
func contentSize(e entry) int64 {
	if _, isPart := parseKey(partsFolder, e.key); isPart && !isOwnerKey(e.key) {
		return e.size
	}
	return 0
}

// checkRoom refuses an upload whose size is known and does not fit.
func (s *Store) checkRoom(h *uploadHeader, committed int64) error {
	if h.Expect.Size == nil {
		return nil
	}
	return s.quota.check(*h.Expect.Size - committed)
}
