package engine

import (
	"fmt"
	"sync"
)

// FileOverhead is what the quota counts for each file or key besides its bytes. It is the space for
// which file systems such as ext4 have one inode, so that a volume runs out of neither before the
// other.
const FileOverhead = 16 << 10

// Quota knows how many bytes are stored, and keeps them below a limit. It is safe for concurrent
// use.
type Quota struct {
	// Limit is the most bytes that may be stored; 0 is none.
	Limit int64

	mu   sync.Mutex
	held int64
}

// Held is how many bytes are stored.
func (q *Quota) Held() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.held
}

// Fits returns an ErrQuotaExceeded if so many more bytes do not fit.
func (q *Quota) Fits(size int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.fits(size)
}

// fits is called with mu held.
func (q *Quota) fits(size int64) error {
	if free := max(0, q.Limit-q.held); q.Limit > 0 && size > free {
		return fmt.Errorf("%w: there is room for %d bytes, not for %d more", ErrQuotaExceeded, free, size)
	}
	return nil
}

// Take counts bytes that are about to be stored, unless they do not fit.
func (q *Quota) Take(size int64) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if err := q.fits(size); err != nil {
		return err
	}
	q.held += size
	return nil
}

// Give takes bytes off the count that are stored no more, or, if negative, adds some that are
// stored in any case.
func (q *Quota) Give(size int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held = max(0, q.held-size)
}

// Set says how many bytes are stored.
func (q *Quota) Set(held int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.held = held
}
