package folder

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// syncer makes the names in a folder durable: a file that was renamed, created or removed is so
// after a crash only if the folder was synced. Those that wait while a sync is under way share the
// next one, so that many uploads that finish at once cost few syncs.
type syncer struct {
	path string

	// syncing is held during a sync. mu may be taken with it held, and not the other way round.
	syncing sync.Mutex
	mu      sync.Mutex
	// next is the sync that has not begun; nil if the next caller makes it. It is guarded by mu.
	next *round
}

// round is one sync, and what became of it, for all that wait for it.
type round struct {
	once sync.Once
	err  error
}

// do returns when a sync has succeeded that began after the call.
func (s *syncer) do() error {
	s.mu.Lock()
	if s.next == nil {
		s.next = &round{}
	}
	r := s.next
	s.mu.Unlock()
	s.syncing.Lock()
	defer s.syncing.Unlock()
	r.once.Do(func() {
		s.mu.Lock()
		s.next = nil // What is renamed from now on may not be in this one.
		s.mu.Unlock()
		r.err = s.sync()
	})
	return r.err
}

// sync syncs the folder now.
func (s *syncer) sync() error {
	dir, err := os.Open(s.path)
	if err != nil {
		return err
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync folder: %w", err)
	}
	return nil
}
