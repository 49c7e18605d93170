package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// syncer makes what the embedded server has written survive a crash of the machine. The server
// could do so by itself for each message; here one flush serves all publishers that wait for one.
// The server has written a message to the file of its newest block when it acknowledges it, but not
// flushed it.
type syncer struct {
	dir   string             // of the blocks, 1.blk, 2.blk, …
	flush func(string) error // a file, or a folder

	mu    sync.Mutex
	open  *round // what publishers join; nil if the next one begins it
	turn  sync.Mutex
	block int // the newest that was there in the last round; 0 before the first; guarded by turn
}

// round is one flush and the publishers that it is for.
type round struct {
	done bool // guarded by turn, like err
	err  error
}

func newSyncer(storeDir, stream string) *syncer {
	return &syncer{dir: blocksDir(storeDir, stream), flush: flush}
}

// commit returns when all that was acknowledged before it was called is on the disk.
func (s *syncer) commit() error {
	s.mu.Lock()
	if s.open == nil {
		s.open = &round{}
	}
	mine := s.open
	s.mu.Unlock()

	s.turn.Lock() // Others join the round as long as the one before it is under way.
	defer s.turn.Unlock()
	if mine.done {
		return mine.err
	}
	s.mu.Lock()
	s.open = nil
	s.mu.Unlock()
	mine.done, mine.err = true, s.flushBlocks()
	return mine.err
}

// flushBlocks flushes the block that was the newest, and those that have come since.
func (s *syncer) flushBlocks() error {
	if s.block == 0 {
		newest, err := s.newestBlock()
		if err != nil {
			return err
		}
		s.block = max(newest-1, 1) // The server may have begun the newest a moment ago.
	}
	for ; ; s.block++ {
		err := s.flush(s.path(s.block))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // It has been discarded, with all in it.
			return err
		}
		if _, err := os.Stat(s.path(s.block + 1)); errors.Is(err, fs.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.flush(s.dir); err != nil { // So that the next one is in it.
			return err
		}
	}
}

func (s *syncer) path(block int) string { return blockPath(s.dir, block) }

func blockPath(dir string, block int) string {
	return filepath.Join(dir, strconv.Itoa(block)+".blk")
}

// newestBlock fails if there is none: messages would be somewhere else than expected.
func (s *syncer) newestBlock() (int, error) {
	newest, err := newestBlock(s.dir)
	if err != nil {
		return 0, err
	}
	if newest == 0 {
		return 0, fmt.Errorf("no messages in %s", s.dir)
	}
	return newest, s.flush(s.dir)
}

// newestBlock is 0 if there is none.
func newestBlock(dir string) (newest int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		if number, found := strings.CutSuffix(entry.Name(), ".blk"); found {
			if n, err := strconv.Atoi(number); err == nil {
				newest = max(newest, n)
			}
		}
	}
	return newest, nil
}

// flushAll flushes a folder with all in it: what the server wrote when it created the stream.
func flushAll(dir string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() && !entry.Type().IsRegular() {
			return err
		}
		return flush(path)
	})
}

func flush(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
