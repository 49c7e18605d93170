package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// releaser has the embedded server let go of blocks that it has written. The server keeps a block
// that is read while it is written in memory as long as it is read now and then, all of 8 MiB, so
// that readers of old messages could have it keep the whole stream. When the block's first message
// is read after its second one, which is how a reader that goes backwards leaves a block, and its
// last write was long ago, the server drops it; what it loads again to read it, the garbage
// collector may take. See fetchMsg and tryForceExpireCache in server/filestore.go of nats-server
// 2.15.
type releaser struct {
	broker *Broker
	dir    string // of the blocks, 1.blk, 2.blk, …
	next   int    // the first block that may be held
}

func (b *Broker) newReleaser() (*releaser, error) {
	dir := blocksDir(b.opts.Dir, b.names.stream)
	newest, err := newestBlock(dir)
	return &releaser{b, dir, max(newest, 1)}, err // This process has not written those before it.
}

// run works until the Broker is closed.
func (r *releaser) run() {
	for {
		select {
		case <-r.broker.closed:
			return
		case <-time.After(blockAge / 2):
		}
		ctx, cancel := context.WithTimeout(context.Background(), pollTimeout)
		if err := r.release(ctx); err != nil && !r.broker.isClosed() {
			r.broker.log.Debug("releasing blocks of the stream", "error", err)
		}
		cancel()
	}
}

// release has all blocks released that are full, and old enough.
func (r *releaser) release(ctx context.Context) error {
	for ; ; r.next++ {
		if _, err := os.Stat(blockPath(r.dir, r.next+1)); err != nil {
			return ignoreMissing(err) // It is still written.
		}
		block, err := os.Stat(blockPath(r.dir, r.next))
		if errors.Is(err, fs.ErrNotExist) { // It has been discarded.
			continue
		}
		if err != nil {
			return err
		}
		if time.Since(block.ModTime()) < blockAge {
			return nil
		}
		first, err := firstSequence(blockPath(r.dir, r.next))
		if err != nil {
			return err
		}
		for _, sequence := range []uint64{first + 1, first} {
			if _, err := r.broker.find(ctx, query{Sequence: sequence}); err != nil {
				return err
			}
		}
	}
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// firstSequence is that of the first record of a block.
func firstSequence(path string) (uint64, error) {
	block, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = block.Close() }() // It is only read.
	header := make([]byte, recordHeader)
	if _, err := block.ReadAt(header, 0); err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(header[4:]) &^ (erasedMessage | tombstone), nil
}

func blocksDir(storeDir, stream string) string {
	return filepath.Join(storeDir, "jetstream", "$G", "streams", stream, "msgs")
}
