package folder

import (
	"errors"
	"fmt"
	"os"
	"sync"
)

// syncer makes the names in a folder durable. Those that wait while a sync is under way share the
// next one.
type syncer struct {
	path string

	syncing sync.Mutex // held during a sync
	mu      sync.Mutex
	next    *round // the sync that has not begun
}

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
