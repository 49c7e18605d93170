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

// releaser has the embedded server let go of blocks that it has written, so that readers of old
// messages cannot make it keep the whole stream in memory. A block has 8 MiB, and the server keeps
// one that is read while it is written for as long as it is read now and then.
//
// The server drops such a block when its last write was long ago and its first message is read
// after its second one, which is how a reader that goes backwards leaves a block. What it loads
// again to read it, the garbage collector may take. See fetchMsg and tryForceExpireCache in
// server/filestore.go of nats-server 2.15.
type releaser struct {
	broker *Broker
	// dir is the folder of the blocks 1.blk, 2.blk, …
	dir string
	// next is the number of the first block that the server may still hold.
	next int
}

// newReleaser begins with the newest block: the server has not written the older ones since its
// start.
func (b *Broker) newReleaser() (*releaser, error) {
	dir := blocksDir(b.opts.Dir, b.names.stream)
	newest, err := newestBlock(dir)
	return &releaser{b, dir, max(newest, 1)}, err // This process has not written those before it.
}

// run releases blocks every half blockAge until the Broker is closed. An error is tried again.
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

// release has all blocks released that are full, which is when there is a next one, and were last
// written longer than blockAge ago.
func (r *releaser) release(ctx context.Context) error {
	for next := r.next; ; {
		r.next = next
		var err error
		if next, err = nextBlock(r.dir, r.next); err != nil || next == 0 {
			return err // It is still written.
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
		// In this order, see releaser. What is read does not matter, nor whether it is still there.
		for _, sequence := range []uint64{first + 1, first} {
			if _, err := r.broker.find(ctx, query{Sequence: sequence}); err != nil {
				return err
			}
		}
	}
}

// firstSequence is the sequence of the first record of a block, whatever kind of record it is.
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

// blocksDir is where the server keeps the blocks of a stream of its only account, $G.
func blocksDir(storeDir, stream string) string {
	return filepath.Join(storeDir, "jetstream", "$G", "streams", stream, "msgs")
}
