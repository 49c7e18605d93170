package broker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// syncer makes what the embedded server has written survive a crash of the machine. When the server
// acknowledges a message it has written it to the file of its newest block, but not flushed it. It
// could flush each message by itself; here one flush serves all publishers that wait for one.
type syncer struct {
	// dir is the folder of the blocks 1.blk, 2.blk, …
	dir string
	// flush flushes a file or a folder to the disk; tests replace it.
	flush func(string) error

	mu sync.Mutex
	// open is the round that publishers join; nil if the next one begins it. It is guarded by mu.
	open *round
	// turn is held by the publisher that flushes. It may take mu, and not the other way round.
	turn sync.Mutex
	// block is the number of the newest block in the last round, before which all is on the disk; 0
	// before the first round. It is guarded by turn.
	block int
}

// round is one flush and the publishers that it is for.
type round struct {
	done bool // guarded by turn, like err
	err  error
}

func newSyncer(storeDir, stream string) *syncer {
	return &syncer{dir: blocksDir(storeDir, stream), flush: flush}
}

// commit returns when all that was acknowledged before it was called is on the disk. It joins the
// round that has not begun to flush; the first of its publishers that gets its turn flushes for all
// of them, and the others find it done.
func (s *syncer) commit() error {
	s.mu.Lock()
	if s.open == nil {
		s.open = &round{}
	}
	mine := s.open
	s.mu.Unlock()

	// While the round before is being flushed, other publishers join this one.
	s.turn.Lock()
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

// flushBlocks flushes the block that was the newest in the last round, and those that have come
// since, each after the folder that has its name.
func (s *syncer) flushBlocks() error {
	if s.block == 0 {
		newest, err := s.newestBlock()
		if err != nil {
			return err
		}
		s.block = max(newest-1, 1) // The server may have begun the newest a moment ago.
	}
	for {
		err := s.flush(s.path(s.block))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // It has been discarded, with all in it.
			return err
		}
		next, err := nextBlock(s.dir, s.block)
		if err != nil || next == 0 {
			return err
		}
		if err := s.flush(s.dir); err != nil { // So that the next one is in it.
			return err
		}
		s.block = next
	}
}

// path is the file of a block.
func (s *syncer) path(block int) string { return blockPath(s.dir, block) }

// blockPath is where the server keeps a block.
func blockPath(dir string, block int) string {
	return filepath.Join(dir, strconv.Itoa(block)+".blk")
}

// newestBlock returns the number of the newest block and flushes the folder. It fails if there is
// no block: messages would be somewhere else than expected, and not flushed.
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

// nextBlock is the number of the block after another one; 0 if that is the newest. If that is gone,
// others behind it may be, too: then it is the first that is left.
func nextBlock(dir string, block int) (int, error) {
	if there, err := exists(blockPath(dir, block+1)); there || err != nil {
		return block + 1, err
	}
	if there, err := exists(blockPath(dir, block)); there || err != nil {
		return 0, err
	}
	blocks, err := blockNumbers(dir)
	if err != nil {
		return 0, err
	}
	if next, _ := slices.BinarySearch(blocks, block+1); next < len(blocks) {
		return blocks[next], nil
	}
	return 0, nil
}

// exists says whether there is a file.
func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// newestBlock is the number of the newest block in a folder; 0 if there is none.
func newestBlock(dir string) (int, error) {
	blocks, err := blockNumbers(dir)
	if err != nil || len(blocks) == 0 {
		return 0, err
	}
	return blocks[len(blocks)-1], nil
}

// blockNumbers are the numbers of the blocks in a folder, in order.
func blockNumbers(dir string) (blocks []int, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if number, found := strings.CutSuffix(entry.Name(), ".blk"); found {
			if n, err := strconv.Atoi(number); err == nil {
				blocks = append(blocks, n)
			}
		}
	}
	slices.Sort(blocks)
	return blocks, nil
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

// flush flushes a file or a folder, for which it suffices to open it for reading.
func flush(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}
