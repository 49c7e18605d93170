package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"time"

	"example.com/quartet/internal/crc32c"
	"example.com/quartet/server/object/engine"
)

const (
	// pieceBytes is how much is read at a time, so that it is still in the processor's cache when
	// its checksum is made, and how much is verified at a time where there is no memory for a
	// block.
	pieceBytes = 64 << 10
	// blocksAtOnce is how many blocks one request asks for. Each request has the condition that the
	// object is still the same one, so that a download of an object that is gone ends after that many.
	blocksAtOnce = 4
)

// reader is an engine.Reader. A block is a part of the upload, and is verified as a whole before
// any byte of it leaves. With memory for it (fast), a block is held and the next one is fetched
// meanwhile by a goroutine. Without, it is read twice: the first time for the checksums of its
// pieces, which are verified together, and the second time a piece at a time, each compared with
// its checksum.
type reader struct {
	s *S3
	// ctx ends with that of the call, or with Close.
	ctx    context.Context
	cancel context.CancelFunc
	// tag is the ETag of the object at the beginning, which each request names as its condition.
	key, tag string
	footer   engine.Footer
	// blockSums is the table of the trailer.
	blockSums []uint32
	// tail is what the first request has brought: the last bytes of the object. Its data are nil
	// unless they are the object as a whole.
	tail found
	// offset is that of the next byte to give out, and end where to stop.
	offset, end int64

	// data is verified content, which begins at at.
	data []byte
	// sums are those of the pieces of data; nil if data is no block.
	sums []uint32
	at   int64
	// buffer has data, and goes back to the engine with recycle; nil if data is no block.
	buffer *[]byte
	// ahead will have the block that a goroutine is fetching; nil if none is. Until then blocks
	// belongs to that goroutine.
	ahead chan fetched
	// blocks is the answer to a request for several blocks, of which some are still to be read; nil
	// between two requests.
	blocks io.ReadCloser
	// body is the rest of a block that is read for the second time, and pieces are the checksums for
	// that rest.
	body   io.ReadCloser
	pieces []uint32 // of this block, from the next one on
}

// fetched is a block in a buffer, verified unless there is an error.
type fetched struct {
	buffer *[]byte
	sums   []uint32 // of its pieces
	err    error
}

// Open implements engine.Engine by one request, which brings the trailer, and with it a small
// object as a whole.
func (s *S3) Open(
	ctx context.Context, name string, generation, offset, limit int64,
) (engine.Reader, error) {
	// tailBytes have the longest trailer that there can be, so that no second request is needed for
	// its table.
	footer, f, err := s.stat(ctx, name, tailBytes)
	if generation != 0 && errors.Is(err, engine.ErrNotFound) {
		return nil, engine.ErrGenerationGone
	}
	if err != nil {
		return nil, err
	}
	end, err := footer.Range(generation, offset, limit)
	if err != nil {
		return nil, err
	}
	// The table may then not be in what was read.
	if footer.Sums > MaxParts {
		return nil, fmt.Errorf("%w: %q has %d checksums", engine.ErrCorrupt, name, footer.Sums)
	}
	table := f.data[:len(f.data)-engine.FooterBytes]
	sums, err := footer.ParseTable(table[len(table)-int(footer.Sums)*engine.SumBytes:])
	if err != nil {
		return nil, err
	}
	if f.size > tailBytes {
		f.data = nil // It has no block as a whole.
	}
	r := &reader{
		s: s, key: objectKey(name), tag: f.tag, footer: footer, blockSums: sums, tail: f,
		offset: offset, end: end,
	}
	r.ctx, r.cancel = context.WithCancel(ctx)
	return r, nil
}

// Object implements engine.Reader.
func (r *reader) Object() engine.Object { return r.footer.Object }

// Remaining implements engine.Reader.
func (r *reader) Remaining() int64 { return r.end - r.offset }

// Memory implements engine.Reader: at least a piece, at best the block that is given out and the
// one that is fetched.
func (r *reader) Memory() (least, most int64) {
	least = int64(len(r.blockSums)*engine.SumBytes+len(r.tail.data)) + min(r.Remaining(), pieceBytes)
	if r.tail.data != nil {
		return least, least
	}
	return least, least + min(2*r.footer.BlockBytes, r.footer.Size)
}

// Next implements engine.Reader.
func (r *reader) Next(p []byte, fast bool) (n int, sum uint32, err error) {
	if r.offset == r.end {
		return 0, 0, io.EOF
	}
	if r.offset < r.at || r.offset >= r.at+int64(len(r.data)) {
		if err := r.load(fast); err != nil {
			return 0, 0, err
		}
	}
	from := r.offset - r.at
	n = copy(p, r.data[from:min(int64(len(r.data)), r.end-r.at)])
	r.offset += int64(n)
	// Whole pieces have a checksum already, so that the bytes need not be gone through again.
	if to := from + int64(n); from%pieceBytes == 0 &&
		(to%pieceBytes == 0 || to == int64(len(r.data))) && r.sums != nil {
		for at := from; at < to; at += pieceBytes {
			sum = crc32c.Combine(sum, r.sums[at/pieceBytes], min(pieceBytes, to-at))
		}
		return n, sum, nil
	}
	return n, crc32c.Checksum(p[:n]), nil
}

// load has data cover the offset: with the object itself if it is small, with a piece if memory is
// short, and else with a block.
func (r *reader) load(fast bool) error {
	r.recycle()
	block := r.offset / r.footer.BlockBytes
	start := block * r.footer.BlockBytes
	size := min(r.footer.BlockBytes, r.footer.Size-start)
	switch {
	case r.tail.data != nil:
		r.data, r.at = r.tail.data[start:start+size], start
		return r.compare(block, crc32c.Checksum(r.data))
	// There is memory for a piece only.
	case !fast:
		return r.loadPiece(block, start, size)
	}
	if r.ahead == nil {
		r.fetch(block)
	}
	f := <-r.ahead
	r.ahead = nil
	if f.err != nil {
		return f.err
	}
	r.buffer, r.data, r.sums, r.at = f.buffer, *f.buffer, f.sums, start
	// The next block is fetched while this one is sent.
	if (block+1)*r.footer.BlockBytes < r.end {
		r.fetch(block + 1)
	}
	return nil
}

// recycle gives the buffer of data back.
func (r *reader) recycle() {
	if r.buffer != nil {
		r.s.buffers.Put(r.buffer)
		r.buffer = nil
	}
	r.data, r.sums = nil, nil
}

// fetch starts a goroutine that fetches a block: the one after the block that was fetched before,
// or any if there was none.
func (r *reader) fetch(block int64) {
	r.ahead = make(chan fetched, 1)
	go func(done chan<- fetched) {
		f := fetched{buffer: r.s.buffer()}
		f.err = engine.CatchPanic(func() (err error) {
			f.sums, err = r.fetchInto(block, f.buffer)
			return err
		})
		done <- f
	}(r.ahead)
}

// fetchInto reads a block into a buffer and verifies it, in the goroutine of fetch.
func (r *reader) fetchInto(block int64, buffer *[]byte) (sums []uint32, err error) {
	size := int(min(r.footer.BlockBytes, r.footer.Size-block*r.footer.BlockBytes))
	if cap(*buffer) < size {
		*buffer = make([]byte, size, size+tailBytes)
	}
	*buffer = (*buffer)[:size]
	// The request may have been under way for long, since a peer that reads slowly holds it up, and a
	// service may have ended it. Then it is made again, once.
	again := r.blocks != nil
	sums, whole, err := r.fill(block, *buffer)
	if err != nil && again && !errors.Is(err, engine.ErrGenerationGone) && r.ctx.Err() == nil {
		sums, whole, err = r.fill(block, *buffer)
	}
	if err == nil {
		err = r.compare(block, whole)
	}
	return sums, err
}

// fill reads a block from the request that is under way, or makes a new one that goes up to the
// next multiple of blocksAtOnce, or the end of the range. After the last of its blocks it closes
// the request.
func (r *reader) fill(block int64, buffer []byte) (sums []uint32, whole uint32, err error) {
	start := block * r.footer.BlockBytes
	if r.blocks == nil {
		last := min((r.end-1)/r.footer.BlockBytes, block-block%blocksAtOnce+blocksAtOnce-1)
		end := min((last+1)*r.footer.BlockBytes, r.footer.Size)
		if r.blocks, err = r.open(start, end-start); err != nil {
			return nil, 0, err
		}
	}
	sums, whole, err = readPieces(r.blocks, slices.Chunk(buffer, pieceBytes))
	if err != nil || block%blocksAtOnce == blocksAtOnce-1 || start+int64(len(buffer)) >= r.end {
		err = r.explain(err, r.blocks.Close())
		r.blocks = nil
	}
	return sums, whole, err
}

// open requests a range of the object, unless it was replaced or deleted: then it is an
// ErrGenerationGone. The whole may take as long as the client does; S3 has to answer within idle,
// and to send something within idle in each Read.
func (r *reader) open(offset, size int64) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(r.ctx)
	b := &body{cancel: cancel, idle: r.s.idle,
		timer: time.AfterFunc(r.s.idle, func() { cancel(errSlow) })}
	out, err := r.s.open(ctx, r.key, fmt.Sprintf("%d-%d", offset, offset+size-1), r.tag)
	b.timer.Stop()
	if errors.Is(err, errNoKey) || errors.Is(err, errChanged) {
		err = engine.ErrGenerationGone
	}
	if err != nil {
		cancel(nil)
		return nil, err
	}
	b.ReadCloser, b.ctx = out.Body, ctx
	return b, nil
}

// body is the answer to a request, of which something has to come within idle while it is waited
// for.
type body struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	idle   time.Duration
	timer  *time.Timer
}

// Read implements io.Reader. After the timer has cancelled the request, its error is errSlow.
func (b *body) Read(p []byte) (int, error) {
	b.timer.Reset(b.idle)
	n, err := b.ReadCloser.Read(p)
	b.timer.Stop()
	if err != nil && !errors.Is(err, io.EOF) && errors.Is(context.Cause(b.ctx), errSlow) {
		err = errSlow
	}
	return n, err
}

// Close implements io.Closer.
func (b *body) Close() error {
	b.timer.Stop()
	b.cancel(nil)
	return b.ReadCloser.Close()
}

// explain explains the first of two errors, of reading and of closing an answer.
func (r *reader) explain(err, closed error) error {
	if err == nil {
		err = closed
	}
	return explain(r.ctx, err)
}

// loadPiece loads the piece at the offset. The first piece of a block, or of a range in it, has the
// whole block read and verified first, for the checksums of its pieces.
func (r *reader) loadPiece(block, start, size int64) (err error) {
	buffer := make([]byte, min(pieceBytes, size))
	if r.body == nil {
		if r.pieces, err = r.readThrough(block, start, size, buffer); err != nil {
			return err
		}
		skip := (r.offset - start) / pieceBytes
		r.pieces, r.at = r.pieces[skip:], start+skip*pieceBytes
		if r.body, err = r.open(r.at, start+size-r.at); err != nil {
			return err
		}
	} else {
		r.at = r.offset
	}
	r.data = buffer[:min(pieceBytes, start+size-r.at)]
	err = readFull(r.body, r.data)
	if err == nil && crc32c.Checksum(r.data) != r.pieces[0] {
		err = r.corrupt(block)
	}
	if r.pieces = r.pieces[1:]; len(r.pieces) == 0 || err != nil {
		err = r.explain(err, r.body.Close())
		r.body = nil
	}
	if err != nil {
		r.data = nil
	}
	return err
}

// readFull is io.ReadFull of an answer that must have more bytes: that it ends is never the end of
// the object.
func readFull(body io.Reader, p []byte) error {
	_, err := io.ReadFull(body, p)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readPieces fills pieces, and returns their checksums and that of all of them together.
func readPieces(body io.Reader, pieces iter.Seq[[]byte]) (sums []uint32, whole uint32, err error) {
	for piece := range pieces {
		if err = readFull(body, piece); err != nil {
			return nil, 0, err
		}
		sum := crc32c.Checksum(piece)
		sums, whole = append(sums, sum), crc32c.Combine(whole, sum, int64(len(piece)))
	}
	return sums, whole, nil
}

// readThrough reads a block and returns the checksums of its pieces, if together they are that of
// the block.
func (r *reader) readThrough(block, start, size int64, buffer []byte) (pieces []uint32, err error) {
	body, err := r.open(start, size)
	if err != nil {
		return nil, err
	}
	pieces, whole, err := readPieces(body, func(yield func([]byte) bool) {
		for left := size; left > 0 && yield(buffer[:min(int64(len(buffer)), left)]); {
			left -= pieceBytes
		}
	})
	if err = r.explain(err, body.Close()); err == nil {
		err = r.compare(block, whole)
	}
	return pieces, err
}

// compare returns an ErrCorrupt unless a block has the checksum that the table says.
func (r *reader) compare(block int64, sum uint32) error {
	if r.blockSums[block] != sum {
		return r.corrupt(block)
	}
	return nil
}

// corrupt is the error for a block, which is a part of the upload; S3 counts those from 1.
func (r *reader) corrupt(block int64) error {
	return fmt.Errorf("%w: %q, part %d", engine.ErrCorrupt, r.footer.Name, block+1)
}

// fetched waits for the block that is being fetched, which ends with the context, and returns what
// is left to close.
func (r *reader) fetched() io.ReadCloser {
	if r.ahead != nil {
		r.s.buffers.Put((<-r.ahead).buffer)
		r.ahead = nil
	}
	return r.blocks
}

// Close implements engine.Reader.
func (r *reader) Close() error {
	r.cancel()
	r.recycle()
	// fetched has waited for the goroutine, so that nothing else reads them.
	for _, body := range []io.ReadCloser{r.body, r.fetched()} {
		if body != nil {
			_ = body.Close()
		}
	}
	r.body = nil
	return nil
}
