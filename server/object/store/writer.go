package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/quartet/internal/crc32c"
)

// grace is how long a writer may go on with what it is doing after its sender has gone: long enough to commit what
// arrived.
const grace = 10 * time.Second

var errClosedWriter = errors.New("writer is closed")

// Writer receives an upload, from where it was committed. It belongs to one goroutine, except for Replaced.
//
// While parts are committed the next one is received, so that neither the sender nor the store waits for the other.
//
// After an error from the store every call returns this error; what was committed stays, and the upload continues
// with a new Writer.
type Writer struct {
	store    *Store
	ctx      context.Context
	cancel   context.CancelFunc
	turn     *turn
	progress *progress
	begun    *begunPart // nil between parts
	behind   []*behind  // the parts before, oldest first, while they are committed
	spares   int        // how many parts may be in memory besides one
	err      error
	closed   bool
}

// begunPart is a part on its way into the bucket.
type begunPart struct {
	blobWriter
	part
	counted int64 // what the quota counts of it
}

// OpenWriter begins an upload or continues it. A writer of the same upload in this process is told that it is replaced,
// and OpenWriter waits until it is closed; the work of a writer in another process is fenced off when either commits.
//
// The writer outlives ctx only by a short time for committing what arrived. It must be closed.
func (s *Store) OpenWriter(ctx context.Context, h Header) (*Writer, error) {
	if err := s.checkHeader(&h); err != nil {
		return nil, err
	}
	turn, err := s.turns.take(ctx, h.UploadID)
	if err != nil {
		return nil, err
	}
	p, err := s.begin(ctx, h.UploadID, s.newUploadHeader(h))
	if err != nil {
		turn.end()
		return nil, err
	}
	if p.size > 0 && p.seal == nil {
		s.metrics.resumedUploads.Inc()
	}
	w := &Writer{store: s, turn: turn, progress: p}
	w.ctx, w.cancel = withGrace(ctx)
	return w, nil
}

// Committed returns how many bytes are committed. The first chunk begins there.
func (w *Writer) Committed() int64 { return w.progress.size }

// Replaced is closed when a newer writer takes the upload over. The owner must then call Close, for which the newer
// one waits.
func (w *Writer) Replaced() <-chan struct{} { return w.turn.replaced }

// usable returns why the writer cannot go on, if so.
func (w *Writer) usable() error {
	switch {
	case w.closed:
		return errClosedWriter
	case w.err != nil:
		return w.err
	case w.turn.isReplaced():
		return ErrWriterReplaced
	}
	return nil
}

// WriteChunk takes the next bytes, in pieces, and is done with them when it returns. A chunk that begins anywhere else
// than at the end of what arrived is an OffsetError, with what arrived committed, so that the offset in the error
// holds; a chunk with another checksum than stated is an ErrChecksumMismatch. Neither is taken, and the right chunk may
// still follow.
func (w *Writer) WriteChunk(offset int64, sum uint32, pieces ...[]byte) error {
	if err := w.usable(); err != nil {
		return err
	}
	if offset != w.received() || w.progress.seal != nil {
		return w.refuseOffset()
	}
	c := newRun(pieces)
	if c.crc32c != sum {
		w.store.metrics.badChunks.Inc()
		return fmt.Errorf("%w: CRC-32C of the chunk at %d is %08x, want %08x", ErrChecksumMismatch, offset, c.crc32c, sum)
	}
	if err := w.checkSize(offset + c.size); err != nil {
		return err
	}
	w.err = w.write(c)
	return w.err
}

// received returns how many bytes have arrived, committed or not.
func (w *Writer) received() int64 {
	_, size := w.following()
	if w.begun != nil {
		size += w.begun.Size
	}
	return size
}

func (w *Writer) refuseOffset() error {
	if w.err = w.commit(); w.err != nil {
		return w.err
	}
	return &OffsetError{Committed: w.progress.size}
}

func (w *Writer) checkSize(size int64) error {
	if expected := w.progress.header.Expect.Size; expected != nil && size > *expected {
		return fmt.Errorf("%w: at least %d bytes, want %d", ErrSizeMismatch, size, *expected)
	}
	if size > w.store.opts.MaxObjectSize {
		return w.store.tooLarge()
	}
	return nil
}

// write puts bytes into the begun part, and commits it if that fills it. What does not fit goes into the next one.
func (w *Writer) write(r run) error {
	if r.size == 0 {
		return nil
	}
	if w.begun == nil {
		if err := w.begin(); err != nil {
			return err
		}
	}
	rest := run{}
	if room := w.store.opts.PartSize - w.begun.Size; r.size > room {
		r, rest = r.divide(room)
	}
	if err := w.begun.write(r.pieces); err != nil {
		w.drop()
		return during("write a part", err)
	}
	w.begun.Size += r.size
	w.begun.CRC32C = crc32c.Combine(w.begun.CRC32C, r.crc32c, r.size)
	if w.begun.Size == w.store.opts.PartSize {
		w.commitBehind()
		if err := w.settle(w.mayBehind()); err != nil {
			return err
		}
	}
	return w.write(rest)
}

func (w *Writer) begin() error {
	p := w.progress
	index, offset := w.following()
	if index >= maxParts {
		return fmt.Errorf("%w: an upload has at most %d parts", ErrTooLarge, maxParts)
	}
	key := newPartKey(p.id, p.header.Generation, index)
	blob, err := w.store.bucket.writer(w.ctx, key, w.partSize(offset))
	if err != nil {
		return during("begin a part", err)
	}
	w.begun = &begunPart{blobWriter: blob, part: part{Key: key}}
	return nil
}

// partSize is how large the part at an offset will be, or 0 if nobody knows: an upload that has filled a part is likely
// to fill another.
func (w *Writer) partSize(offset int64) int64 {
	most := w.store.opts.PartSize
	if size := w.progress.header.Expect.Size; size != nil {
		return max(0, min(most, *size-offset))
	}
	if offset > 0 {
		return most
	}
	return 0
}

func (w *Writer) drop() {
	w.begun.abort()
	w.begun = nil
}

// Pause commits all that arrived and returns how many bytes are committed.
func (w *Writer) Pause() (committed int64, err error) {
	if err := w.usable(); err != nil {
		return w.progress.size, err
	}
	w.err = w.commit()
	return w.progress.size, w.err
}

// Close ends the writer. Without Pause or Finish before, it keeps what arrived of a part if that is at least an
// eighth of one, and drops it otherwise, because small parts stay small. Closing again does nothing.
func (w *Writer) Close() error {
	if w.closed {
		return nil
	}
	w.closed = true
	defer w.turn.end()
	defer w.cancel()
	defer w.giveSpares()
	if w.begun != nil && (w.err != nil || w.begun.Size < w.store.opts.PartSize/8) {
		w.drop()
	}
	return w.commit()
}
